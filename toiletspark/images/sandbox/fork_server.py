"""The process that a worker starts once: it has Pillow loaded, forks a decode child when asked, and buries it.

Forking takes milliseconds where starting Python takes a third of a second, so that every suspicious file can have a
fresh child. Nothing here reads a stranger's byte, and there is one thread, without which forking would not be safe. It
ends with the worker, whose end of the connection then closes, and its children end with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import runpy
import signal
import socket

from PIL import Image

from toiletspark.images.sandbox import child

FORK, KILL = b"b", b"e"  # what it is asked, in turns: there is one child at a time
READY, ENDED = b"r", b"w"
HOOK = "TOILETSPARK_DECODE_HOOK"  # tests name a file here, which makes some files poisonous


def main(handle: int, timeout_s: float, max_memory_bytes: int) -> None:
    """Waits for wishes until the worker is gone.

    Args:
        handle: of the connection to the worker.
        timeout_s: see `child.serve`, as what follows.
        max_memory_bytes: of a child.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Image.init()  # all of Pillow's plugins, because a child may open only few files
    if hook := os.environ.get(HOOK):
        runpy.run_path(hook)
    gc.freeze()  # else collecting garbage in a child would copy all that it shares
    control = socket.socket(fileno=handle)
    control.sendall(READY)
    process = 0
    while wish := control.recv(1):
        if wish == FORK:
            process = _begin(control, timeout_s, max_memory_bytes)
        else:
            control.sendall(ENDED + bytes([_end(process) if process else 0]))
            process = 0


def _begin(control: socket.socket, timeout_s: float, max_memory_bytes: int) -> int:
    """Forks a child, and sends the worker its end of the child's connection."""
    ours, childs = socket.socketpair()
    parent = os.getpid()
    process = os.fork()
    if not process:
        status = 1
        try:
            control.close()
            ours.close()
            child.serve(childs, timeout_s, max_memory_bytes, parent)
            status = 0
        finally:
            os._exit(status)
    childs.close()
    socket.send_fds(control, [READY], [ours.fileno()])
    ours.close()
    return process


def _end(process: int) -> int:
    """Kills a child, unless it is dead already, and tells by which signal it went; 0 if by none."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
