"""Turns what Spark, Arrow and file systems raise, at any moment of a step, into four parts.

A failed task arrives as Java's text, with the causes one below the other. Rules know the causes for
which there is a remedy. Without Spark: the same rules serve programs that have no session.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa

from toiletspark.config import Config, Table
from toiletspark.errors import OutputError, TableError, ToiletsparkError, UserError
from toiletspark.tables import storage

DamagedFile = Callable[[Table], str]  # the file of a table that cannot be read; "" if all can

_SPARK = ("py4j.", "pyspark.")
_LIBRARIES = (*_SPARK, "botocore.", "aiobotocore.")
_MOST_CHARS = 400
_TASK_FAILED = re.compile(r"^.*most recent failure: .*? executor [\w-]+\): ")
_CAUSE = re.compile(r"Caused by: |: ")
_CLASS = re.compile(r"^(?:Caused by: )?(?:[a-z_$][\w$]*\.)*(?=[A-Z]\w*(?:Error|Exception)\b)")
_NO_INFORMATION = re.compile(r"^(?:Analysis|Parse|Spark|Runtime|SQL|IO|Py4JJava)E\w+: ")
_GENERAL = ("Driver stacktrace:", "Traceback (most recent call last)", "An error occurred while")


@dataclass(frozen=True)
class _Rule:
    """A cause for which there is a remedy."""

    cause: re.Pattern[str]
    expected: str
    todo: str  # may name {section}, the table's section in the configuration
    is_of_file: bool = False  # the file must be mended; one of ours is made again


def _rule(cause: str, expected: str, todo: str, *, is_of_file: bool = False) -> _Rule:
    return _Rule(re.compile(cause), expected, todo, is_of_file)


# fmt: off
_RULES = (
    _rule(r"cannot be converted in file|DATA_TYPE_MISMATCH|ColumnConvertNotSupported"
          r"|Failed merging schemas|FAILED_MERGE_SCHEMA|CANNOT_MERGE_SCHEMAS",
          "one type for a column in all files",
          "write that file again with the type of the others, or bring both to one type with "
          "CAST and UNION ALL in {section}.query", is_of_file=True),
    _rule(r"LogicalType.*getSetField|LogicalType that is not recognized",
          "columns of types that this version of Spark knows",
          "write the file again without that column or with another type for it: it is newer than "
          "this Spark, as FLOAT16 is for Spark 3.5", is_of_file=True),
    _rule(r"No space left on device|ENOSPC|[Dd]isk full",
          "room on the disk",
          "make room there, or move it (output.root; for Spark's own files spark.local.dir), and "
          "run this again: what is complete stays"),
    _rule(r"\b[Qq]uota\b|Quota[A-Z]|EDQUOT",
          "room within the quota",
          "raise the quota or remove files, and run this again: what is complete stays"),
    _rule(r"Read-only file system|File name too long|ParentNotDirectory|Not a directory"
          r"|Too many open files",
          "a location that can be written and read",
          "correct the location in the configuration, or the system's limit"),
    _rule(r"Class org\.apache\.hadoop\.\S* not found|No FileSystem for scheme"
          r"|ClassNotFoundException: \S*(?:fs|hadoop)",
          "a connector of Spark for this kind of location",
          "give Spark the connector: spark.jars.packages, or --packages of spark-submit, with "
          "org.apache.hadoop:hadoop-aws (s3a), hadoop-azure (abfss) or gcs-connector (gs), in the "
          "version of Spark's own Hadoop"),
    _rule(r"Permission denied|PermissionError|Access ?Denied|AccessControlException|Forbidden"
          r"|[Ss]tatus ?[Cc]ode:? 403|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken"
          r"|[Cc]redentials|NoAuthWithAWS|Operation not permitted",
          "the right to read and write there",
          "give the account of this job, on the driver and on the workers, that right or valid "
          "credentials"),
    _rule(r"Slow ?Down|reduce your request rate|[Ss]tatus ?[Cc]ode:? 5\d\d"
          r"|ServiceUnavailable|TooManyRequests|[Tt]hrottl"
          r"|Connection refused|Connection reset|ConnectException|[Tt]imed ?[Oo]ut"
          r"|UnknownHost|NoRouteToHost|EndpointConnectionError|Name or service not known",
          "a store that answers",
          "run this again later: what is complete stays; if it goes on, check the address and "
          "use fewer tasks at once"),
    _rule(r"codec can't decode|UnicodeDecode|not valid UTF-8|Wrapping .* failed|MalformedInput",
          "text in UTF-8",
          "write the text again in UTF-8, or set {section}.options = {{ encoding = ... }} for CSV"),
    _rule(r"not a Parquet file|[Rr]ead footer|FILE_FOOTER|error while reading file|FAILED_READ_FILE"
          r"|could not decode|UNCOMPRESS|[Uu]nexpected end|EOFException|ZipException|ZlibError"
          r"|header check|Can not read value|Parquet magic|deserialize thrift|InvalidProtocolBuffer"
          r"|Malformed ORC|FileFormatException|[Cc]hecksum|[Cc]orrupt|ArrowInvalid|not a gzip",
          "whole files of one format",
          "check {section}.format; or copy or write that file again; if it is no part of the "
          'table, leave it out: {section}.options = {{ pathGlobFilter = "*.parquet" }}',
          is_of_file=True),
)
# fmt: on
# not of a table that is opened: there the path is a mistake, which has a message of its own
_GONE = _rule(
    r"FileNotFound(?!.*Permission denied)|does not exist|PATH_NOT_FOUND|FILE_NOT_EXIST",
    "the file that was there when this began",
    "run this again when nobody writes there; if it is gone for good, correct the path",
    is_of_file=True,
)


@contextmanager
def explained(
    config: Config, step: str, damaged_file: DamagedFile = lambda table: ""
) -> Iterator[None]:
    """Raises what the body lets through of Spark, Arrow and file systems in four parts.

    The trace is the cause of the error that is raised.

    Args:
        step: the name of the step, for errors that name no location.
        damaged_file: asked for each table if the text names no file, as for a cut .gz.
    """
    # its text is a whole trace, and the error itself comes after it
    warnings.filterwarnings("ignore", "toPandas attempted Arrow optimization", UserWarning)
    try:
        yield
    except ToiletsparkError:
        raise
    except Exception as error:
        if not _is_known(error):
            raise
        raise _in_four_parts(error, config, step, damaged_file) from error


def of_table(
    error: Exception, table: Table, name: str, damaged_file: DamagedFile
) -> TableError | None:
    """The error of one of the user's tables by path, if a rule knows its cause.

    `name` is the table's section in the configuration; for the rest see `explained`.
    """
    text = causes(error)
    rule = _rule_of(text, _RULES)
    if rule is None:
        return None
    where = _located(text, {name: table}, root="")
    if rule.is_of_file and (where is None or not where.file):
        where = _searched({name: table}, damaged_file)
    return TableError(
        doing=f"reading the {name} table {table.label}",
        expected=rule.expected,
        found=_found(rule, text, where.file if where else ""),
        todo=rule.todo.format(section=name),
    )


def of_own_file(error: Exception, location: str) -> OutputError:
    """The error of a file in the output root that was cut or altered since it was written."""
    return OutputError(
        doing=f"reading {location}",
        expected="the file as it was written",
        found=causes(error)[-1],
        todo=storage.remedy(location),
    )


def causes(error: Exception) -> list[str]:
    """The messages of an error and of its causes, the first cause last; without traces."""
    if not type(error).__module__.startswith(_SPARK):
        return [_plain(f"{type(error).__name__}: {error}")]
    text = getattr(error, "_stackTrace", None) or str(error)  # Java's trace
    lines = [line for line in text.splitlines() if line[:1].strip()]
    if "from the Python worker" not in text:  # else its trace ends with the cause
        lines = [line for line in lines if _CAUSE.match(line) or line is lines[0]]
    messages = [_plain(line) for line in lines if not line.startswith(_GENERAL)]
    return [message for message in messages if message] or [type(error).__name__]


def _plain(line: str) -> str:
    """A message without the words about the task that failed, and without Java's packages."""
    plain = _CLASS.sub("", _TASK_FAILED.sub("", line.removeprefix(": ")).strip())
    return textwrap.shorten(_NO_INFORMATION.sub("", plain), _MOST_CHARS, placeholder=" ...")


def _is_known(error: Exception) -> bool:
    is_of_library = type(error).__module__.startswith(_LIBRARIES)
    return is_of_library or isinstance(error, OSError | pa.ArrowException | UnicodeDecodeError)


@dataclass(frozen=True)
class _Where:
    """The table of a failure, or the output root."""

    section: str  # of the configuration; "output" is the root
    label: str
    file: str  # below it; "" if no file is named


def _in_four_parts(
    error: Exception, config: Config, step: str, damaged_file: DamagedFile
) -> ToiletsparkError:
    text = causes(error)
    rule = _rule_of(text, (_GONE, *_RULES))
    tables = _tables(config)
    where = _located(text, tables, config.output.root)
    if where is None and rule is not None and rule.is_of_file:
        where = _searched(tables, damaged_file)
    if rule is None:
        return ToiletsparkError(
            doing=f"running the step {step}" + (f" ({where.label})" if where else ""),
            expected="a step that ends without an error of Spark or of a store",
            found=text[-1],
            todo="read the trace in the file that is named below; what is complete stays, and the "
            "step can be run again",
        )
    found = _found(rule, text, where.file if where else "")
    if where is None:
        todo = rule.todo.format(section="images")
        doing = f"running the step {step}"
        return UserError(doing=doing, expected=rule.expected, found=found, todo=todo)
    if where.section == "output":
        location = f"{where.label}/{where.file}"
        todo = storage.remedy(location) if rule.is_of_file else rule.todo.format(section="images")
        doing = f"running the step {step} in the output root {where.label}"
        return OutputError(doing=doing, expected=rule.expected, found=found, todo=todo)
    return TableError(
        doing=f"reading the {where.section} table {where.label}",
        expected=rule.expected,
        found=found,
        todo=rule.todo.format(section=where.section),
    )


def _rule_of(text: list[str], rules: Iterable[_Rule]) -> _Rule | None:
    whole = "\n".join(text)
    return next((rule for rule in rules if rule.cause.search(whole)), None)


def _found(rule: _Rule, text: list[str], file: str) -> str:
    """The file, the deepest message that the rule knows, and the first cause below it."""
    known = [line for line in text if rule.cause.search(line)]
    words = [known[-1] if known else "", text[-1]]
    parts = [file] if file and not any(file in word for word in words) else []
    return ": ".join([*parts, *dict.fromkeys(word for word in words if word)])


def _tables(config: Config) -> dict[str, Table]:
    tables: dict[str, Table] = {
        "listings": config.listings,
        "images": config.images,
        "overrides": config.overrides,
        "feed": config.feed,
        "labels.table": config.labels.table,
    }
    return {name: table for name, table in tables.items() if table.path}


def _located(text: list[str], tables: dict[str, Table], root: str) -> _Where | None:
    """The table or root whose path stands in the text; the one that stands nearest to its end."""
    whole = "\n".join(text)
    paths = {name: (table.path, table.label) for name, table in tables.items()}
    paths |= {"output": (root, root)} if root else {}
    nearest: tuple[int, int, _Where] | None = None
    for name, (path, label) in paths.items():
        base = path.removeprefix("file://").rstrip("/")
        either = f"(?:{re.escape(base)}|{re.escape(quote(base))})"
        for match in re.finditer(rf"{either}(?:/(?P<file>[^\s,;:'\"]*))?(?![\w-])", whole):
            where = _Where(name, label, (match["file"] or "").rstrip("."))
            candidate = (match.start(), len(base), where)
            nearest = max(nearest or candidate, candidate, key=lambda item: item[:2])
    return nearest[2] if nearest else None


def _searched(tables: dict[str, Table], damaged_file: DamagedFile) -> _Where | None:
    for name, table in tables.items():
        if file := damaged_file(table):
            return _Where(name, table.label, file)
    return None
