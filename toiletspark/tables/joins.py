"""Ids and words of the user's tables that nothing knows: how many, and two ids side by side."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.errors import UserError

_log = logging.getLogger("toiletspark")
_MOST_COMPARED = 1000  # ids without a partner whose spelling is compared
_MOST_UNKNOWN = 0.01  # share of the rows whose word may be outside of a closed list
_SHOWN_WORDS = 5


@dataclass(frozen=True)
class Neighbours:
    """An id without a partner, and an id of the other table.

    `differ_in_spelling`: they are the same but for case, blanks, signs and zeros.
    """

    id: str
    other: str
    differ_in_spelling: bool

    def __str__(self) -> str:
        return f"{self.id!r} here and {self.other!r} there"


def neighbours(ids: DataFrame, others: DataFrame) -> Neighbours | None:
    """Returns two ids that show why no more of them meet; None if there is none on either side.

    Both frames have one column of text. Cost: a pass over `others`; for messages only.
    """
    few = ids.toDF("id").where("id is not null").limit(_MOST_COMPARED)
    others = others.toDF("other").where("other is not null")
    alike = _bare(F.col("id")) == _bare(F.col("other"))
    pair = others.join(F.broadcast(few), alike & (_bare(F.col("id")) != "")).limit(1).collect()
    if pair:
        return Neighbours(pair[0]["id"], pair[0]["other"], differ_in_spelling=True)
    firsts = [frame.limit(1).collect() for frame in (few, others)]
    if not all(firsts):
        return None
    return Neighbours(firsts[0][0][0], firsts[1][0][0], differ_in_spelling=False)


def require_few_unknown(
    counts: Mapping[str, int],
    rows: int,
    error: type[UserError],
    *,
    doing: str,
    expected: str,
    todo: str,
) -> None:
    """Stops if more than 1 row in 100 holds a word outside of a closed list; a note for fewer.

    `counts` has the rows of each unknown word, `rows` counts all; `error` is what is raised.
    """
    unknown = sum(counts.values())
    if not unknown:
        return
    found = f"{shown_words(counts)} in {unknown} of {rows} rows"
    if unknown > rows * _MOST_UNKNOWN:
        raise error(doing=doing, expected=expected, found=found, todo=todo)
    _log.warning("%s: unknown words count as no: %s", doing, found)


def shown_words(counts: Mapping[str, int]) -> str:
    """Shows words and their rows, the most frequent first.

    >>> shown_words({"sold": 1, "ONLINE": 3})
    "'ONLINE' 3, 'sold' 1"
    """
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    texts = [f"{word!r} {counts[word]}" for word in ordered[:_SHOWN_WORDS]]
    rest = len(ordered) - len(texts)
    return ", ".join(texts) + (f" and {rest} words more" if rest else "")


def _bare(column: Column) -> Column:
    """An id without case, blanks, signs, leading zeros and a closing ".0"."""
    whole = F.regexp_replace(F.lower(column), r"\.0+[^\p{L}\p{N}]*$", "")
    return F.regexp_replace(F.regexp_replace(whole, r"[^\p{L}\p{N}]", ""), "^0+", "")
