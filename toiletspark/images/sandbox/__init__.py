"""Decoding strangers' files: what `images` does to them, done in a child process: a file costs one row at most.

`decode`, `measure` and `thumbnail` are what others use. `isolated` is the worker's side: it asks, waits no longer than
allowed, and buries what died. `nursery` is the process that the worker starts; it has all loaded, never sees a
stranger's byte, and forks a child when asked, in a few milliseconds. `child` gives up what decoding does not need, and
decodes. `messages` is what they say to each other: lengths and raw bytes, nothing that is executed.
"""

from toiletspark.images.sandbox.client import (
    decode,
    measure,
    require_children,
    start_children,
    thumbnail,
)

__all__ = ["decode", "measure", "require_children", "start_children", "thumbnail"]
