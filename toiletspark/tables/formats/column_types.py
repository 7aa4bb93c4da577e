"""The types that the user's columns may have: checked when a table is opened, before any row."""

from collections.abc import Mapping

from pyspark.sql import DataFrame

from toiletspark.errors import TableError

_IDS = ("image_id", "listing_id")
_NESTED = ("binary", "array", "map", "struct", "variant")
_MOMENTS = ("date", "timestamp", "interval", "boolean")


def require_types(frame: DataFrame, names: Mapping[str, str], doing: str) -> None:
    """Stops if a column of the user's has a type that would not become what it is mapped to.

    Ids are text or numbers. Inline bytes are binary. Any other column has one value that can be
    written as text.

    Args:
        names: the user's column by the key that maps it, such as "images.columns.image_id"; "" is
            no column, and a column that the table lacks is for others to report.

    Raises:
        TableError: it names the key, the column and its type.
    """
    kinds = dict(frame.dtypes)
    for key, name in names.items():
        ours = key.rpartition(".")[2]
        kind = kinds.get(name, "")
        if not kind or _fits(ours, kind):
            continue
        raise TableError(
            doing=doing,
            expected=f"{_expected(ours)} in the column '{name}' ({key})",
            found=f"{name} is {kind}",
            todo=_remedy(ours, name, kind, key),
        )


def _fits(ours: str, kind: str) -> bool:
    if ours == "content":
        return kind == "binary"
    return not kind.startswith(_NESTED + (_MOMENTS if ours in _IDS else ()))


def _expected(ours: str) -> str:
    if ours == "content":
        return "binary (the bytes of a file)"
    return "text or numbers" if ours in _IDS else "one value a row, that is no bytes"


def _remedy(ours: str, name: str, kind: str, key: str) -> str:
    section = key.partition(".columns")[0] if ".columns" in key else key.rpartition(".")[0]
    if ours == "content" and kind == "string":
        return f"if it is Base64, decode it: unbase64({name}) in {section}.query"
    if kind == "binary":
        return (
            f"map {key} to a column of text or numbers, or write it as text: "
            f"lower(hex({name})) in {section}.query"
        )
    return f"map {key} to another column, or cast this one in {section}.query"
