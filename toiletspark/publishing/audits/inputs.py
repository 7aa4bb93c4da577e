"""The sources of a version must be sound: files, schemas, rows, head, age.

No Spark, which does not notice: a column that a file lacks is null, a lost file is lost rows.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from toiletspark.config import Config
from toiletspark.errors import HeadError, shown
from toiletspark.model import registry
from toiletspark.model.head import Head
from toiletspark.publishing.audits import rescoring
from toiletspark.publishing.audits.checks import Check, Rule
from toiletspark.publishing.versions.log import History, Version
from toiletspark.tables import schemas, storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import CATALOG, DECISIONS, HEADS, SCORES, STRATA, Table

_UNCHANGED = "runs are never changed in place, so find out what has changed this one"
_RESCORE = f"run `toiletspark score` again; {_UNCHANGED}"
_EMBED = f"run `toiletspark rescore`; {_UNCHANGED}"
_ROLL_BACK = "roll back to a sound version first: `toiletspark publish rollback`"


@dataclass(frozen=True)
class _Source:
    """A run that a version is made from."""

    name: str
    run: Run
    table: Table
    todo: str


def judge(config: Config, scores: Run, catalog: Run, history: History) -> list[Check]:
    """Judges all rules about the sources of a version: scores, and their catalog.

    Cost: the footers of all files; see `rescoring.compare` for the rest.
    """
    store = history.store
    head, head_check = _head(store, config, scores, catalog)
    columns = schemas.probability_columns(head.classes) if head else {}
    sources = [
        _Source("scores", scores, SCORES.with_columns(columns), _RESCORE),
        _Source("catalog", catalog, CATALOG, _EMBED),
    ]
    files = {source.name: _files(source) for source in sources}
    wanted = scores.inputs.catalog or catalog.run_id
    if catalog.run_id != wanted:
        rule = Rule("files.catalog", f"the catalog {wanted}, to which the scores belong", _EMBED)
        files["catalog"] = rule.failed("no such run")
    if history.live:
        files["last_version"] = _last_files(history, history.live)
    if decisions := history.run(DECISIONS):
        sources.append(_Source("last_version", decisions, DECISIONS, _ROLL_BACK))
    schema_checks = {source.name: _schema(source, files[source.name]) for source in sources}
    is_readable = bool(files["scores"].passed and schema_checks["scores"].passed)
    if is_readable and head_check.passed is not False:
        head_check = _with_rows(head_check, scores)
    return [
        *files.values(),
        *schema_checks.values(),
        _size(scores, catalog),
        head_check,
        _golden(store, scores, head if is_readable and head_check.passed is not False else None),
        freshness(config, catalog, history.live),
    ]


def freshness(config: Config, catalog: Run, live: Version | None) -> Check:
    """The catalog is new enough, and not older than the live version's."""
    most, made_at = config.publish.audits.max_catalog_age_h, catalog.made_at
    age = f" of the last {most:g} hours (publish.audits.max_catalog_age_h)" if most else ""
    rule = Rule(
        "freshness",
        f"a catalog{age}, not older than the live version's",
        "run `toiletspark rescore`, which looks at the images anew",
    )
    if most and datetime.fromisoformat(made_at) < datetime.now(UTC) - timedelta(hours=most):
        return rule.failed(f"one of {made_at}")
    if live and live.catalog and catalog.run_id < live.catalog:
        return rule.failed(f"{catalog.run_id}, and the live version was made from {live.catalog}")
    return rule.passed(f"one of {made_at}")


def _files(source: _Source) -> Check:
    run = source.run
    difference = run.difference()
    rule = Rule(
        f"files.{source.name}",
        f"the {len(run.files)} files of the manifest of {run.table} {run.run_id}, unchanged",
        source.todo,
    )
    return rule.judged(difference or "they are", passed=not difference)


def _last_files(history: History, live: Version) -> Check:
    """The live version has its tables; else the new one would be judged as a first version."""
    for table in (DECISIONS, STRATA):
        run = history.run(table)
        if run is None:
            return Rule(
                "files.last_version",
                f"{table.name} {live.run_id} of version {live.number}, which is live",
                f"take its _manifest.json from its backup, or {_ROLL_BACK}",
            ).failed("no manifest of it")
        check = _files(_Source("last_version", run, table, _ROLL_BACK))
        if not check.passed:
            break
    return check


def _schema(source: _Source, files: Check) -> Check:
    """The columns of the manifest and of each file, because one of them alone may be wrong."""
    table, run = source.table, source.run
    version = table.schema_version
    rule = Rule(
        f"schema.{source.name}",
        f"the {len(table.columns)} columns of {table.name}, version {version}, with their types",
        source.todo,
    )
    if run.schema_version != version:
        writer = f"read it with the toiletspark that wrote it ({run.code_version})"
        return rule.failed(f"version {run.schema_version}", f"{writer}, or {source.todo}")
    others = [
        f"{name}: {run.columns.get(name)}"
        for name, kind in table.columns.items()
        if run.columns.get(name) != kind
    ]
    if others:
        return rule.failed(f"in the manifest {shown(others, 3)}")
    if not files.passed:
        return rule.unknown("not looked at, as its files are not sound")
    for file, footer in zip(run.files, _footers(run), strict=True):
        schema = footer.schema.to_arrow_schema()
        others = [
            f"{field.name}: {type_}"
            for field in table.arrow_schema
            if (type_ := _other_type(schema, field))
        ]
        if others:
            return rule.failed(f"in {file.name} {shown(others, 3)}")
    return rule.passed("they are, in the manifest and in each file")


def _footers(run: Run) -> list[pq.FileMetaData]:
    def footer(name: str) -> pq.FileMetaData:
        filesystem, path = storage.open_filesystem(f"{run.folder}/{name}")
        with filesystem.open(path, "rb") as file:
            return pq.ParquetFile(file).metadata

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(footer, [file.name for file in run.files]))


def _other_type(schema: pa.Schema, field: pa.Field) -> str:
    """The type of a column in a file, unless Spark reads it as this field; then ""."""
    indices = schema.get_all_field_indices(field.name)
    if len(indices) != 1:
        return f"{len(indices)} such columns"
    type_ = schema.field(indices[0]).type
    are_times = pa.types.is_timestamp(type_) and pa.types.is_timestamp(field.type)
    return "" if are_times or type_ == field.type else str(type_)


def _size(scores: Run, catalog: Run) -> Check:
    """There are as many scores as sound images; the decisions show which image lacks one."""
    sound = catalog.counts.get("sound")
    each = "each sound image" if sound is None else f"each of {sound} sound images"
    rule = Rule("size.scores", f"a score for {each}", _RESCORE)
    if sound is None:
        return rule.unknown("the catalog's manifest does not count its sound images")
    return rule.judged(f"{scores.rows}", passed=scores.rows == sound)


def _head(store: Store, config: Config, scores: Run, catalog: Run) -> tuple[Head | None, Check]:
    """The head of the scores: it is there, is the one of score.head, and fits the catalog."""
    head_id, folder = scores.inputs.head_id, config.score.head
    rule = Rule(
        "containment.head_id",
        f"the head {head_id} in the store or in score.head, sound",
        "set score.head to the head that scored, or score again",
    )
    run = registry.run_of(store, head_id, folder)
    if run is None and not folder:
        others = [run.inputs.head_id for run in store.runs(HEADS)]
        if others:
            return None, rule.failed(f"heads, but not this one: {shown(others, 3)}")
        return None, rule.unknown("no head at all, so nothing to compare with")
    try:
        head = registry.load(folder or (run.folder if run else ""))
    except HeadError as error:
        return None, rule.failed(error.found, error.todo)
    if head.head_id != head_id and folder:
        wanted = f"scores of the head {head.head_id}, which score.head names"
        todo = "run `toiletspark score`, which scores with that head, or set score.head to the "
        todo += "head that has scored"
        return None, Rule(rule.name, wanted, todo).failed(f"those of the head {head_id}")
    if head.head_id != head_id:
        return None, rule.failed(f"the head {head.head_id}")
    backbones = {run.inputs.backbone_id or head.backbone_id for run in (scores, catalog)}
    if backbones != {head.backbone_id}:
        names = f"and scores and catalog name {shown(sorted(backbones))}"
        todo = "train a head on the catalog's backbone, or embed with its own"
        return head, rule.failed(f"it is for the backbone {head.backbone_id}, {names}", todo)
    return head, rule.passed("it is")


def _with_rows(check: Check, scores: Run) -> Check:
    """The check, unless rows name another head than the manifest."""
    head_id, in_rows = scores.inputs.head_id, _head_ids(scores)
    if in_rows <= {head_id}:
        return check
    rule = Rule(check.rule, f"scores of the head {head_id} alone", _RESCORE)
    return rule.failed(f"rows of {shown(sorted(map(str, in_rows)), 3)}")


def _head_ids(scores: Run) -> set[str | None]:
    """Every head_id of the rows; from the footers' statistics if they have them."""
    head_ids: set[str | None] = set()
    for footer, file in zip(_footers(scores), scores.files, strict=True):
        column = footer.schema.to_arrow_schema().get_field_index("head_id")
        columns = [
            footer.row_group(number).column(column) for number in range(footer.num_row_groups)
        ]
        statistics = [group.statistics for group in columns]
        if all(map(_has_one_value, statistics)):
            head_ids.update(each.min for each in statistics)
            continue
        filesystem, path = storage.open_filesystem(f"{scores.folder}/{file.name}")
        with filesystem.open(path, "rb") as opened:
            values = pq.read_table(opened, columns=["head_id"])["head_id"]
            head_ids.update(values.unique().to_pylist())
    return head_ids


def _has_one_value(statistics: pq.Statistics | None) -> bool:
    if statistics is None or not statistics.has_min_max or statistics.null_count:
        return False
    return bool(statistics.min == statistics.max)


def _golden(store: Store, scores: Run, head: Head | None) -> Check:
    """Stored embeddings give the scores again; a head with other golden scores cannot be loaded."""
    rule = Rule(
        "golden_images",
        "the head's golden scores, and scores within "
        f"{rescoring.MAX_DIFFERENCE:g} of what it makes of embeddings",
        "run `toiletspark score` again: these are not its scores",
    )
    if head is None:
        return rule.unknown("not looked at: head or scores are not there, or not sound")
    try:
        result = rescoring.compare(store, scores, head)
    except (OSError, pa.ArrowInvalid) as error:
        found = f"stored embeddings that cannot be read: {type(error).__name__}"
        return rule.failed(found, _EMBED)
    golden = f"{len(head.golden)} golden images hold"
    if result is None:
        return rule.unknown(f"{golden}; no stored embedding among the scored contents looked at")
    return rule.judged(
        f"{golden}; of {result.count} stored embeddings {result.differing} differ, "
        f"by {result.largest:.2g} at most",
        passed=not result.differing,
    )
