"""Words of the user's tables outside of a closed list: an error, or counted where they are few."""

import logging
from collections.abc import Mapping, Sequence

from toiletspark.errors import UserError, nearest

_log = logging.getLogger("toiletspark")
_MOST_UNKNOWN = 0.01  # share of the rows
_SHOWN_WORDS = 5


def require_few_unknown(
    counts: Mapping[str, int],
    rows: int,
    known: Sequence[str],
    error: type[UserError],
    *,
    doing: str,
    expected: str,
    todo: str,
) -> None:
    """Raises `error` if more than 1 row in 100 has an unknown word; a note in the log for fewer.

    `counts` has the rows of each unknown word, `rows` counts all, `known` is the closed list.
    """
    unknown = sum(counts.values())
    if not unknown:
        return
    found = f"{shown_words(counts, known)} in {unknown} of {rows} rows"
    if unknown > rows * _MOST_UNKNOWN:
        raise error(doing=doing, expected=expected, found=found, todo=todo)
    _log.warning("%s: unknown words count as no: %s", doing, found)


def shown_words(counts: Mapping[str, int], known: Sequence[str]) -> str:
    """Shows words with their rows, the most frequent first, and the known word that one is near to.

    >>> shown_words({"yess": 1, "ONLINE": 3}, ["yes", "no"])
    "'ONLINE' 3, 'yess' 1 (did you mean 'yes'?)"
    """
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    texts = [f"{word!r} {counts[word]}" for word in ordered[:_SHOWN_WORDS]]
    rest = len(ordered) - len(texts)
    spelled = [word for word in ordered if word.lower() != word.upper()]  # not a number
    hints = (nearest(word.strip().lower(), known) for word in spelled)
    return ", ".join(texts) + (f" and {rest} more" if rest else "") + next(filter(None, hints), "")
