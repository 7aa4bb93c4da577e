"""Digests of contents and settings, and choices by hash."""

import hashlib
import json
from typing import Any


def content_digest(content: bytes) -> str:
    """SHA-256 of an image's bytes, 64 hexadecimal digits: the key of its embedding."""
    return hashlib.sha256(content).hexdigest()


def settings_digest(settings: Any) -> str:
    """SHA-256 of a JSON value, 64 hexadecimal digits; the order of keys does not matter.

    >>> settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def hash_fraction(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on seed and key alone, on every machine.

    Comparing it with a share draws by hash: a key that is drawn at 20 % is drawn at 30 % too.
    """
    first_bytes = hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8]
    return (int.from_bytes(first_bytes, "big") >> 11) / 2**53  # 53 bits: more would round up to 1
