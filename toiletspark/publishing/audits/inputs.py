"""What a version is made from must be sound before anything is decided: files, schemas, rows, head, age. Without Spark.

Spark reads what it is told to read: a column that a file lacks is null to it, a lost file is lost rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from toiletspark.config import Config
from toiletspark.errors import HeadError, shown
from toiletspark.model import registry
from toiletspark.model.head import Head
from toiletspark.publishing.audits import rescoring as canaries
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.versions import log as versions
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import schemas as tables
from toiletspark.tables import storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import Table

_RESCORE = "run `toiletspark score` again; runs are never changed in place, so find out what has changed this one"
_SCORE = "run `toiletspark score`, which scores with that head, or set score.head to the head that has scored"
_EMBED = "run `toiletspark rescore`; runs are never changed in place, so find out what has changed this one"
_ROLL_BACK = "roll back to a sound version first: `toiletspark publish rollback`"
_UNREADABLE = "not looked at, as its files are not sound"


@dataclass(frozen=True)
class _Source:
    """A run that a version is made from."""

    name: str
    run: Run
    table: Table
    todo: str


def judge(
    store: Store, config: Config, scores: Run, seen: Run, live: Version | None, last: Run | None
) -> list[Check]:
    """The rules about what a version is made from.

    Args:
        store: where all of it lies.
        config: publish.audits and score.head.
        scores: that are to be decided on.
        seen: the catalog.
        live: the version that counts now, or None.
        last: its decisions, or None.

    Cost: the footers of all files; see `canaries.compared` for the rest.
    """
    sources = [
        _Source("scores", scores, tables.SCORES, _RESCORE),
        _Source("catalog", seen, tables.CATALOG, _EMBED),
    ]
    if last:
        sources.append(_Source("last_version", last, tables.DECISIONS, _ROLL_BACK))
    files = {source.name: _files(source, scores) for source in sources}
    strata = store.run(tables.STRATA, last.run_id) if last else None
    if strata and files["last_version"].passed:  # a small table; its schema is that of its one file
        files["last_version"] = _files(
            _Source("last_version", strata, tables.STRATA, _ROLL_BACK), scores
        )
    if lost := _lost(store, live):
        files["last_version"] = lost
    head, of_head = _head(store, config, scores, seen)
    columns = tables.probability_columns(head.classes) if head else {}
    schemas = {
        source.name: _schema(
            source, columns if source.table is tables.SCORES else {}, files[source.name]
        )
        for source in sources
    }
    sound = {name: files[name].passed and schemas[name].passed for name in schemas}
    return [
        *files.values(),
        *schemas.values(),
        _size(scores, seen),
        of_head
        if of_head.passed is False or not sound["scores"]
        else _with_column(of_head, scores),
        _golden(store, scores, head, of_head, readable=bool(sound["scores"])),
        freshness(store, config, seen, live),
    ]


def catalog_of(store: Store, version: Version) -> str | None:
    """The catalog that a version was made from; early pointers did not tell it."""
    if "catalog" in version.said:
        found: str | None = version.said["catalog"]
        return found
    listed = store.run(tables.EXCLUSION_LIST, version.run_id)
    return listed.inputs.catalog if listed else None


def _files(source: _Source, scores: Run) -> Check:
    run, rule = source.run, f"files.{source.name}"
    expected = f"the {len(run.files)} files of the manifest of {run.table} {run.run_id}, unchanged"
    wanted = scores.inputs.catalog or run.run_id
    if source.table is tables.CATALOG and run.run_id != wanted:
        return Check(
            rule,
            f"the catalog {wanted}, to which the scores belong",
            "no such run",
            False,
            source.todo,
        )
    found = _amiss(run)
    return Check(rule, expected, found or "they are", not found, source.todo)


def _lost(store: Store, live: Version | None) -> Check | None:
    """A table of the live version without its manifest; whoever took that for a first version would compare nothing.

    Versions of before there was such a table do not name it.
    """
    for table in (tables.DECISIONS, tables.STRATA):
        if live and table.name in live.said and store.run(table, live.run_id) is None:
            expected = f"{table.name} {live.run_id} of version {live.number}, which is live"
            todo = f"take its _manifest.json from its backup, or {_ROLL_BACK}"
            return Check("files.last_version", expected, "no manifest of it", False, todo)
    return None


def _amiss(run: Run) -> str:
    """What is wrong with the files of a run; "" if nothing is."""
    listed = {file.name: file.bytes for file in run.files}
    there = {name for name in storage.entries(run.folder) if name.endswith(".parquet")}
    if set(listed) - there:
        return f"{shown(sorted(set(listed) - there), 3)}: missing"
    if there - set(listed):
        return f"{shown(sorted(there - set(listed)), 3)}: in no manifest"
    filesystem, path = storage.open_filesystem(run.folder)
    sizes = {name: int(filesystem.size(f"{path}/{name}")) for name in listed}
    other = [
        f"{name}: {sizes[name]} bytes of {size}"
        for name, size in listed.items()
        if sizes[name] != size
    ]
    if other:
        return f"{shown(other, 3)}"
    return "" if versions.unchanged(run) else "other contents than then, or no Parquet"


def _schema(source: _Source, more: Mapping[str, str], files: Check) -> Check:
    """The manifest's columns and those of each file, since one of them alone may lie."""
    table, run, rule = source.table, source.run, f"schema.{source.name}"
    wanted = {**table.columns, **more}
    expected = f"the {len(wanted)} columns of {table.name}, version {table.schema_version}, with their types"
    version, columns = run.manifest.schema_version, run.columns
    if version != table.schema_version:
        todo = f"read it with the toiletspark that wrote it ({run.manifest.code_version}), or {source.todo}"
        return Check(rule, expected, f"version {version}", False, todo)
    odd = [
        f"{name}: {columns.get(name)}" for name, kind in wanted.items() if columns.get(name) != kind
    ]
    if odd:
        return Check(rule, expected, f"in the manifest {shown(odd, 3)}", False, source.todo)
    if not files.passed:
        return Check(rule, expected, _UNREADABLE, None)
    for name, schema in zip([file.name for file in run.files], _schemas(run), strict=True):
        odd = [
            f"{column}: {_kind(schema, column)}"
            for column, kind in wanted.items()
            if not _is(schema, column, kind)
        ]
        if odd:
            return Check(rule, expected, f"in {name} {shown(odd, 3)}", False, source.todo)
    return Check(rule, expected, "they are, in the manifest and in each file", True)


def _footers(run: Run) -> list[pq.FileMetaData]:
    def footer(name: str) -> pq.FileMetaData:
        filesystem, path = storage.open_filesystem(f"{run.folder}/{name}")
        with filesystem.open(path, "rb") as file:
            return pq.ParquetFile(file).metadata

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(footer, [file.name for file in run.files]))


def _schemas(run: Run) -> list[pa.Schema]:
    return [footer.schema.to_arrow_schema() for footer in _footers(run)]


def _is(schema: pa.Schema, name: str, kind: str) -> bool:
    """Whether Spark reads this column of a file as this type."""
    if len(schema.get_all_field_indices(name)) != 1:
        return False
    found = schema.field(name).type
    if kind == "timestamp":
        return bool(pa.types.is_timestamp(found))
    plain = {"string": pa.string(), "boolean": pa.bool_(), "int": pa.int32(), "bigint": pa.int64()}
    return bool(
        found
        == {**plain, "float": pa.float32(), "double": pa.float64(), "binary": pa.binary()}[kind]
    )


def _kind(schema: pa.Schema, name: str) -> str:
    places = schema.get_all_field_indices(name)
    return str(schema.field(places[0]).type) if len(places) == 1 else f"{len(places)} such columns"


def _size(scores: Run, seen: Run) -> Check:
    """As many scores as sound images; which image lacks one, only the decisions show."""
    rule, sound = "size.scores", seen.counts.get("sound")
    if sound is None:
        return Check(
            rule,
            "a score for each sound image",
            "the catalog does not tell how many are sound",
            None,
        )
    return Check(
        rule,
        f"a score for each of {sound} sound images",
        f"{scores.rows}",
        scores.rows == sound,
        _RESCORE,
    )


def _head(store: Store, config: Config, scores: Run, seen: Run) -> tuple[Head | None, Check]:
    """The head that the scores name, and whether it is there, the one that score.head names, and fits the catalog."""
    head_id, folder = scores.inputs.head_id, config.score.head
    rule, expected = (
        "containment.head_id",
        f"the head {head_id} in the store or in score.head, sound",
    )
    run, todo = (
        registry.run_of(store, head_id, folder),
        "set score.head to the head that scored, or score again",
    )
    if run is None and not folder:
        there = [one.inputs.head_id for one in store.runs(tables.HEADS)]
        told = (
            f"heads, but not this one: {shown(there, 3)}"
            if there
            else "no head at all, so nothing to compare with"
        )
        return None, Check(rule, expected, told, False if there else None, todo)
    try:
        head = registry.load(folder or (run.folder if run else ""))
    except HeadError as error:
        return None, Check(rule, expected, error.found, False, error.todo)
    if head.head_id != head_id and folder:
        asked = f"scores of the head {head.head_id}, which score.head names"
        return None, Check(rule, asked, f"those of the head {head_id}", False, _SCORE)
    if head.head_id != head_id:
        return None, Check(rule, expected, f"the head {head.head_id}", False, todo)
    kinds = {one.inputs.backbone_id or head.backbone_id for one in (scores, seen)}
    if kinds != {head.backbone_id}:
        told = f"it is for the backbone {head.backbone_id}, and scores and catalog name {shown(sorted(kinds))}"
        return head, Check(
            rule,
            expected,
            told,
            False,
            "train a head on the catalog's backbone, or embed with its own",
        )
    return head, Check(rule, expected, "it is", True)


def _with_column(check: Check, scores: Run) -> Check:
    """Whether the rows name the head that the manifest names, too."""
    head_id, found = scores.inputs.head_id, _head_ids(scores)
    if found <= {head_id}:
        return check
    told = f"rows of {shown(sorted(map(str, found)), 3)}"
    return Check(check.rule, f"scores of the head {head_id} alone", told, False, _RESCORE)


def _head_ids(scores: Run) -> set[str | None]:
    """Every head_id of the rows; from the footers' statistics where they have them."""
    found: set[str | None] = set()
    for footer, file in zip(_footers(scores), scores.files, strict=True):
        place = footer.schema.to_arrow_schema().get_field_index("head_id")
        kept = [
            footer.row_group(number).column(place).statistics
            for number in range(footer.num_row_groups)
        ]
        if all(
            one is not None and one.has_min_max and one.null_count == 0 and one.min == one.max
            for one in kept
        ):
            found.update(one.min for one in kept)
            continue
        filesystem, path = storage.open_filesystem(f"{scores.folder}/{file.name}")
        with filesystem.open(path, "rb") as opened:
            found.update(pq.read_table(opened, columns=["head_id"])["head_id"].unique().to_pylist())
    return found


def _golden(
    store: Store, scores: Run, head: Head | None, of_head: Check, *, readable: bool
) -> Check:
    """The head's golden scores hold, or it would not have been read; and stored embeddings give the scores again."""
    rule = "golden_images"
    expected = f"the head's golden scores, and scores within {canaries.MOST_DIFFERENCE:g} of what it makes of embeddings"
    if head is None or not readable or of_head.passed is False:
        return Check(
            rule, expected, "not looked at: head or scores are not there, or not sound", None
        )
    try:
        found = canaries.compared(store, scores, head)
    except (OSError, pa.ArrowInvalid) as error:
        return Check(
            rule,
            expected,
            f"stored embeddings that cannot be read: {type(error).__name__}",
            False,
            _EMBED,
        )
    golden = f"{len(head.golden)} golden images hold"
    if found is None:
        return Check(
            rule,
            expected,
            f"{golden}; no stored embedding among the scored contents looked at",
            None,
        )
    told = f"{golden}; of {found.count} stored embeddings {found.differing} differ, by {found.worst:.2g} at most"
    return Check(
        rule,
        expected,
        told,
        not found.differing,
        "run `toiletspark score` again: these are not its scores",
    )


def freshness(store: Store, config: Config, seen: Run, live: Version | None) -> Check:
    """The catalog is new enough, and not older than the one that is live."""
    rule, most, made = (
        "freshness",
        config.publish.audits.max_catalog_age_h,
        seen.made_at,
    )
    expected = (
        f"a catalog of the last {most:g} hours (publish.audits.max_catalog_age_h)"
        if most
        else "a catalog"
    )
    expected += ", not older than the live version's"
    todo = "run `toiletspark rescore`, which looks at the images anew"
    if most and datetime.fromisoformat(made) < datetime.now(UTC) - timedelta(hours=most):
        return Check(rule, expected, f"one of {made}", False, todo)
    before = catalog_of(store, live) if live else None
    if before is not None and seen.run_id < before:
        return Check(
            rule,
            expected,
            f"{seen.run_id}, and the live version was made from {before}",
            False,
            todo,
        )
    return Check(rule, expected, f"one of {made}", True)
