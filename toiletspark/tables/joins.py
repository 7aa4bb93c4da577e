"""Ids of the user's tables that do not meet: one beside the other, for messages."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

_MOST_COMPARED = 1000  # ids without a partner whose spelling is compared


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
    is_like = alike & (_bare(F.col("id")) != "")
    pairs = others.join(F.broadcast(few), is_like).orderBy("id", "other").limit(1).collect()
    for row in pairs:
        return Neighbours(row["id"], row["other"], differ_in_spelling=True)
    firsts = [frame.limit(1).collect() for frame in (few, others)]
    if not all(firsts):
        return None
    return Neighbours(firsts[0][0][0], firsts[1][0][0], differ_in_spelling=False)


def _bare(column: Column) -> Column:
    """An id without case, blanks, signs, leading zeros and a closing ".0"."""
    whole = F.regexp_replace(F.lower(column), r"\.0+[^\p{L}\p{N}]*$", "")
    return F.regexp_replace(F.regexp_replace(whole, r"[^\p{L}\p{N}]", ""), "^0+", "")
