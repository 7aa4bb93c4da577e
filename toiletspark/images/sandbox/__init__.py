"""Decodes strangers' files in a child process, so that a bad file costs one row at most.

`client` sends requests with a timeout and replaces a child that died. `fork_server` has imported
everything, never reads image data, and forks children on demand, in milliseconds. `child` drops
what decoding does not need, and decodes. `protocol` is lengths and raw bytes; nothing is unpickled.
"""

from toiletspark.images.sandbox.client import (
    decode,
    measure,
    require_children,
    start_children,
    thumbnail,
)

__all__ = ["decode", "measure", "require_children", "start_children", "thumbnail"]
