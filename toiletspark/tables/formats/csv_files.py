"""The user's CSV files by RFC 4180, and errors where Spark would take rows and bytes as they fall.

Spark moves the values of a row that does not fit its header to other columns, and puts U+FFFD where
bytes are not of the encoding. So the files are read once before they are used.
"""

import csv
import re
import textwrap
from collections.abc import Callable, Collection, Sequence

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import StringType, StructField, StructType

from toiletspark.config import Table
from toiletspark.errors import TableError, shown
from toiletspark.tables import spark_io, storage
from toiletspark.tables.schemas import quoted

OPTIONS = {
    "header": "true",
    "escape": '"',  # a quote inside quotes is doubled
    "multiLine": "true",  # a text in quotes may have line breaks
    "unescapedQuoteHandling": "RAISE_ERROR",
    "mode": "FAILFAST",
}
# the characters of UTF-8 beyond ASCII, read as Latin-1; windows-1252 has others below 0xA0
_LATIN1 = r"\x80-\xbf"
_CP1252 = _LATIN1 + bytes(range(0x80, 0xA0)).decode("cp1252", errors="ignore")
_CHARACTER = "[\\xc2-\\xdf][{0}]|[\\xe0-\\xef][{0}]{{2}}|[\\xf0-\\xf4][{0}]{{3}}"
_BEYOND_ASCII = r"[^\x00-\x7f]"
_LOST = "\ufffd"  # in place of bytes that are not of the encoding
_LOST_IN_LATIN1 = _LOST.encode().decode("latin-1")
_OTHER_HEADER = re.compile(r"CSV header does not conform.*?Header: (.*?)\n.*?CSV file: (\S+)", re.S)
_LONE_QUOTE = re.compile(r"Unescaped quote character.*?content parsed=(.*?)\n", re.S)
_MAX_CHARS = 200


def is_csv(table: Table) -> bool:
    """Returns True for a table of CSV files."""
    return bool(table.path) and table.format.lower() == "csv"


def check(frame: DataFrame, table: Table, name: str, mapped: Collection[str]) -> None:
    """Raises TableError at a row that does not fit the header, or a text of another encoding.

    The user's own option `mode` switches the check off. Cost: one pass over the files, and a second
    one if U+FFFD stands in a column that is not mapped.

    Args:
        frame: the table as Spark reads it, with all columns.
        name: the table's section in the configuration, for messages.
        mapped: the columns that must not hold U+FFFD or UTF-8 read as Latin-1, even if the file
            itself holds it. Elsewhere such a text is the user's; only lost bytes are an error.
    """
    if _option(table, "mode"):
        return
    if unclear := [column for column in frame.columns if _LOST in column]:
        raise _garbled(table, name, unclear[0], "as a column's name")
    row_text = f"{max(frame.columns, key=len)} row"  # longer than all names of the user's
    rows = _with_row_text(frame, table, row_text)
    texts = [field.name for field in frame.schema if isinstance(field.dataType, StringType)]
    does_not_fit = F.col(quoted(row_text)).isNotNull()
    last = F.col(quoted(frame.columns[-1])).cast("string")
    result = rows.agg(
        F.count_if(does_not_fit).alias("count"),
        F.min(F.when(does_not_fit, F.col(quoted(row_text)))).alias("misfit"),
        _first([column for column in texts if column in mapped], _is_garbled).alias("garbled"),
        _first(texts, lambda text: text.contains(_LOST)).alias("lost"),
        _occurrences(texts, _LOST).alias("times_lost"),
        F.min(F.when(last.endswith("\r"), last)).alias("carriage_return"),
    ).collect()[0]
    if result["misfit"]:
        raise _does_not_fit(table, name, frame.columns, result)
    if result["garbled"]:
        raise _garbled(table, name, *result["garbled"])
    if result["lost"] and result["times_lost"] != _times_in_file(frame, table, texts):
        raise _garbled(table, name, *result["lost"])
    if result["carriage_return"]:
        raise TableError(
            doing=f"reading the {name} table {table.label}",
            expected="lines that all end in the same way",
            found=f"a carriage return at the end of {_short(result['carriage_return'])}",
            todo=f'set {name}.options = {{ multiLine = "false" }}, which takes any line end, or '
            "write the file with one type of line ends",
        )


def explained(table: Table, name: str, error: Exception) -> TableError | None:
    """The errors that Spark itself raises while it reads CSV, in our words; None for others."""
    message = f"{error}\n"
    if header := _OTHER_HEADER.search(message):
        return TableError(
            doing=f"reading the {name} table {table.label}",
            expected="one header in all files: the same columns in the same order",
            found=f"the header {header[1]!r} in {header[2]}, unlike that of another file",
            todo=f"write the files with one header, or name one of them in {name}.path",
        )
    if content := _LONE_QUOTE.search(message):
        return TableError(
            doing=f"reading the {name} table {table.label}",
            expected='doubled quotes inside quoted texts, as in "So called ""spa"", new"',
            found=f"a single quote after {_short(content[1])}",
            todo=f"set {name}.options = {{ escape = '\\' }} if the file has \\\" inside texts, as "
            "Spark writes them; otherwise correct the text",
        )
    return None


def is_utf8_as_latin1(text: Column, second: str = _LATIN1) -> Column:
    """Returns a condition: text beyond ASCII that is UTF-8 if read as bytes, as in "KÃ¶ln".

    `second` are the characters that the second byte of UTF-8 may be.
    """
    rest = F.regexp_replace(text, _CHARACTER.format(second), "")
    return text.rlike(_BEYOND_ASCII) & ~rest.rlike(_BEYOND_ASCII)


def _with_row_text(frame: DataFrame, table: Table, row_text: str) -> DataFrame:
    """The rows of the table, with the text of each that does not fit in a column `row_text`."""
    names = frame.columns[: len(frame.columns) - len(spark_io.folder_columns(frame))]
    cells = StructType([StructField(f"_c{number}", StringType()) for number in range(len(names))])
    first = _load(frame, table, cells, header="false", mode="PERMISSIVE").head()
    # Spark renames columns that have no name or the same name, and then knows its own header not
    is_renamed = first is not None and list(first[: len(names)]) != names
    return _load(
        frame,
        table,
        StructType([*frame.schema.fields, StructField(row_text, StringType())]),
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=row_text,
        enforceSchema=str(is_renamed).lower(),
    )


def _load(frame: DataFrame, table: Table, schema: StructType, **options: str) -> DataFrame:
    reader = frame.sparkSession.read.format("csv").options(**OPTIONS).options(**table.options)
    return reader.schema(schema).options(**options).load(storage.spark_files(table.path))


def _option(table: Table, name: str) -> str:
    options = {key.lower(): value for key, value in table.options.items()}
    return options.get(name.lower(), "")


def _first(columns: Sequence[str], is_bad: Callable[[Column], Column]) -> Column:
    """A text for which `is_bad` is true, and in words where it is; null if there is none."""
    texts = {f"in the column '{column}'": F.col(quoted(column)) for column in columns}
    pairs = [
        F.when(is_bad(text), F.struct(text.alias("text"), F.lit(where).alias("where")))
        for where, text in texts.items()
    ]
    return F.min(F.coalesce(F.lit(None), *pairs))


def _is_garbled(text: Column) -> Column:
    return text.contains(_LOST) | is_utf8_as_latin1(text, _CP1252)


def _occurrences(columns: Sequence[str], text: str) -> Column:
    """The number of times that a text stands in these columns of all rows."""
    whole = F.concat_ws("", *map(quoted, columns))
    without = F.replace(whole, F.lit(text), F.lit(""))
    return F.sum(F.length(whole) - F.length(without)) / len(text)


def _times_in_file(frame: DataFrame, table: Table, texts: Sequence[str]) -> float:
    """The number of times that a file of UTF-8 itself holds U+FFFD; -1 for other encodings."""
    encoding = _option(table, "encoding") or _option(table, "charset") or "UTF-8"
    if encoding.upper() not in ("UTF-8", "UTF8"):
        return -1
    rows = _load(frame, table, frame.schema, encoding="ISO-8859-1", mode="PERMISSIVE")
    return float(rows.agg(_occurrences(texts, _LOST_IN_LATIN1)).collect()[0][0])


def _does_not_fit(table: Table, name: str, columns: Sequence[str], result: Row) -> TableError:
    width = len(_fields(table, result["misfit"]))
    beyond = f"its last is '{columns[-1]}'"
    column = f"it has none for '{columns[width]}'" if width < len(columns) else beyond
    return TableError(
        doing=f"reading the {name} table {table.label}",
        expected=f"rows of {len(columns)} fields, as the header has: {shown(columns, 20)}",
        found=f"{result['count']} rows of more or fewer, among them {_short(result['misfit'])} "
        f"with {width} fields; {column}",
        todo="correct the file: texts with commas, quotes or line breaks stand in quotes, and a "
        f'quote in them is doubled; or set {name}.options, as in {{ sep = ";" }}',
    )


def _fields(table: Table, text: str) -> list[str]:
    separator = _option(table, "sep") or _option(table, "delimiter") or ","
    escape = _option(table, "escape").replace('"', "")
    line = re.sub(r"[\r\n]", " ", text[: csv.field_size_limit()])
    separator = separator.replace("\\t", "\t")[0]
    return next(csv.reader([line], delimiter=separator, escapechar=escape or None), [])


def _garbled(table: Table, name: str, text: str, where: str) -> TableError:
    encoding = _option(table, "encoding") or _option(table, "charset") or "UTF-8"
    remedy = '{ encoding = "ISO-8859-1" }, or to the encoding that the file has'
    if _LOST not in text:
        remedy = '{ encoding = "UTF-8" }; if it is that already, correct the text at its source'
    return TableError(
        doing=f"reading the {name} table {table.label}",
        expected=f"text in {encoding}",
        found=f"{_short(text)} {where}",
        todo=f"set {name}.options = {remedy}",
    )


def _short(text: str) -> str:
    return repr(textwrap.shorten(text, _MAX_CHARS, placeholder=" ..."))
