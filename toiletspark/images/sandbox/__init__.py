"""Decodes strangers' files in a child process, so that a bad file costs one row at most.

`client` sends requests with a timeout and replaces a child that died; `fork_server` forks children
on demand; `child` drops its privileges and decodes. In `protocol` nothing is unpickled.
"""

from toiletspark.images.sandbox.client import (
    decode,
    measure,
    require_children,
    start_children,
    thumbnail,
)

__all__ = ["decode", "measure", "require_children", "start_children", "thumbnail"]
