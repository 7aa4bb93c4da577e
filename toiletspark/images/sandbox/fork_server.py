"""The fork server: a process that has Pillow loaded, and forks and ends decode children on demand.

A fork takes milliseconds, starting Python a third of a second; so every suspicious file can have a
fresh child. This process never reads image data, and has a single thread, else forking would not be
safe. It ends when the worker closes the connection, and its children end with it.
"""

import contextlib
import gc
import os
import runpy
import signal
import socket

from PIL import Image

from toiletspark.images.sandbox import child

FORK, KILL = b"f", b"k"  # requests, alternately: there is one child at a time
READY, ENDED = b"r", b"e"  # responses
HOOK = "TOILETSPARK_DECODE_HOOK"  # tests name a file here, which makes some files poisonous


def main(handle: int, timeout_s: float, max_memory_bytes: int) -> None:
    """Serves requests over the worker's connection until the worker has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Image.init()  # loads all of Pillow's plugins, because a child may open only few files
    if hook := os.environ.get(HOOK):
        runpy.run_path(hook)
    gc.freeze()  # else garbage collection in a child would copy all shared memory
    control = socket.socket(fileno=handle)
    control.sendall(READY)
    process = 0
    while request := control.recv(1):
        if request == FORK:
            process = _fork(control, timeout_s, max_memory_bytes)
        else:
            number = _kill(process) if process else 0
            control.sendall(ENDED + bytes([number]))
            process = 0


def _fork(control: socket.socket, timeout_s: float, max_memory_bytes: int) -> int:
    """Forks a child, and sends the worker its end of the child's connection."""
    workers_end, childs_end = socket.socketpair()
    parent = os.getpid()
    process = os.fork()
    if not process:
        status = 1
        try:
            control.close()
            workers_end.close()
            child.serve(childs_end, timeout_s, max_memory_bytes, parent)
            status = 0
        finally:
            os._exit(status)
    childs_end.close()
    socket.send_fds(control, [READY], [workers_end.fileno()])
    workers_end.close()
    return process


def _kill(process: int) -> int:
    """Kills a child unless it is dead already; returns the signal that ended it, or 0."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
