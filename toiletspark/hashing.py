"""Names that follow from content: digests of bytes and of settings, and choices made by hash instead of by luck."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def content_digest(content: bytes) -> str:
    """SHA-256 of an image's bytes, 64 hexadecimal digits: the identity under which its embedding is kept."""
    return hashlib.sha256(content).hexdigest()


def settings_digest(settings: Any) -> str:
    """SHA-256 of a JSON value, 64 hexadecimal digits, the same whatever the order of the keys.

    >>> settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(
        json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def hash_fraction(seed: int, key: str) -> float:
    """A number in [0, 1) that follows from seed and key alone: the same tomorrow and on another machine.

    Whoever compares it with a share has drawn by hash: 20 % of all keys lie below 0.2, and a key that is
    drawn at 20 % is drawn at 30 % too.
    """
    first_bytes = hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8]
    return (int.from_bytes(first_bytes, "big") >> 11) / 2**53  # 53 bits: more would round up to 1
