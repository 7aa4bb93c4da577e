"""Strategies of hypothesis that alter sound bytes and sound JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]
ODD_NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
ODD_TEXTS = (
    "",
    " ",
    "\0",
    "\u202e",
    "../../etc/passwd",
    "é" * 300,
    "=1+1",
    "<script>",
    "nan",
    "١٢",
    "1e999",
    "\ufeff",
)
HUGE = "9" * 5000  # more digits than Python turns into a number


@st.composite
def data(draw: Draw, seeds: list[bytes], most: int = 6) -> bytes:
    """One of the seeds after a few flips, cuts, splices and overwritten fields."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, most))):
        content = _step(draw, content, seeds)
    return content


def _step(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    offset = draw(st.integers(0, 2**20)) % (len(content) + 1)
    if draw(st.booleans()):
        offset = min(offset % 256, len(content))  # headers decide most
    kind = draw(st.sampled_from(["flip", "field", "cut", "drop", "repeat", "splice", "insert"]))
    length = draw(st.integers(1, 64))
    if kind == "flip" and offset < len(content):
        return (
            content[:offset]
            + bytes([content[offset] ^ (1 << draw(st.integers(0, 7)))])
            + content[offset + 1 :]
        )
    if kind == "field":
        size = draw(st.sampled_from([1, 2, 4]))
        value = draw(st.sampled_from(ODD_NUMBERS)) & (256**size - 1)
        order = draw(st.sampled_from(["big", "little"]))
        return content[:offset] + value.to_bytes(size, order) + content[offset + size :]
    if kind == "cut":
        return content[:offset]
    if kind == "drop":
        return content[:offset] + content[offset + length :]
    if kind == "repeat":
        return content[: offset + length] + content[offset:]
    if kind == "splice":
        other = draw(st.sampled_from(seeds))
        return content[:offset] + other[min(offset, len(other)) :]
    return content[:offset] + draw(st.binary(max_size=32)) + content[offset:]


def values() -> st.SearchStrategy[Any]:
    """Any JSON: odd texts and numbers, null, lists and objects of them."""
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.sampled_from([10**400, -1, 0, 1, 4096]),
        st.floats(),
        st.sampled_from(ODD_TEXTS),
        st.text(max_size=20),
    )
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    )


@st.composite
def document(draw: Draw, sound: Any, most: int = 4) -> Any:
    """A sound document with a few of its parts replaced, removed, repeated or exchanged."""
    changed = {"": copy.deepcopy(sound)}  # so that the whole can be replaced too
    for _ in range(draw(st.integers(0, most))):
        holder, key = _place(draw, changed)
        kind = draw(st.sampled_from(["replace", "remove", "repeat", "twin"]))
        if kind == "remove" and holder is not changed:
            del holder[key]
        elif kind == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif kind == "twin" and isinstance(holder, dict) and holder is not changed:
            holder[draw(st.sampled_from([*map(str, holder), "more"]))] = copy.deepcopy(holder[key])
        else:
            holder[key] = draw(values())
    return changed[""]


def _place(draw: Draw, document: dict[str, Any]) -> tuple[Any, Any]:
    """A position in a document, as container and key; deep ones are as likely as shallow ones."""
    holder = document
    key = ""
    while isinstance(inner := holder[key], (dict, list)) and inner and draw(st.integers(0, 4)):
        holder = inner
        key = draw(st.sampled_from(list(inner) if isinstance(inner, dict) else range(len(inner))))
    return holder, key


@st.composite
def json_bytes(draw: Draw, sound: Any) -> bytes:
    """An altered document as text, which is sometimes no JSON any more."""
    text = json.dumps(draw(document(sound)), ensure_ascii=draw(st.booleans()))
    content = text.encode("utf-8", "surrogatepass")
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return draw(data([content], most=3))
    if kind == 1:
        depth = draw(st.sampled_from([100, 1_000, 100_000]))
        return b"[" * depth + content + b"]" * draw(st.sampled_from([0, depth]))
    if kind == 2:
        return content.replace(b"1", HUGE.encode(), 1)
    if kind == 3:
        return b"\xef\xbb\xbf" + content
    return content
