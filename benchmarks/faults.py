"""Twelve faults in real files, which must be blocked, and clean runs: `make bench-faults`.

A portal (`benchmarks/portal.py`) publishes a version a day, RUNS days with other seeds; then each
fault is put into a copy of its store, and publishing must end with exit code 3, a rule's name, and
nothing changed for readers.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from pyspark.sql import SparkSession

from benchmarks import portal
from benchmarks.measure import ROOT, machine
from benchmarks.portal import Portal
from toiletspark.config import Config, loading
from toiletspark.errors import AuditError
from toiletspark.jobs import publish_exclusions
from toiletspark.launch import session
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

SEED = 7


def lost_partition(shop: Portal) -> None:
    """A file of the scores is gone."""
    _files(shop)[1].unlink()


def truncated_file(shop: Portal) -> None:
    """A file of the scores ends early."""
    file = _files(shop)[1]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def duplicated_rows(shop: Portal) -> None:
    """Thirty images stand in the catalog twice, and in the scores."""
    seen = shop.catalog()
    twice = pd.concat([seen, seen.iloc[:30]], ignore_index=True)
    shop.keep(twice, shop.scores(twice))


def null_ids(shop: Portal) -> None:
    """Thirty images have lost their id."""
    seen = shop.catalog()
    seen.loc[seen.index[:30], "image_id"] = None
    shop.keep(seen, shop.scores(seen))


def all_excluded(shop: Portal) -> None:
    """A new head that says toilet to everything."""
    _biased(shop, 50.0)


def none_excluded(shop: Portal) -> None:
    """A new head that says toilet to nothing."""
    _biased(shop, -50.0)


def half_unscored(shop: Portal) -> None:
    """Half of the images were not delivered in time."""
    seen = shop.catalog()
    seen.loc[seen.index[::2], "status"] = "timeout"
    shop.keep(seen, shop.scores(seen))


def wrong_head(shop: Portal) -> None:
    """Another head's scores under the right head's id."""
    noise = shop.rng.normal(0, 0.3, shop.head.weight.shape).astype(np.float32)
    seen = shop.catalog()
    shop.keep(seen, shop.scores(seen, replace(shop.head, weight=shop.head.weight + noise)))


def nan_scores(shop: Portal) -> None:
    """Thirty scores are no numbers; not those of the canaries, which would tell it too."""
    seen = shop.catalog()
    scores = shop.scores(seen)
    scores.loc[scores.index[:30], "exclusion_score"] = np.nan
    shop.keep(seen, scores)


def stratum_missing(shop: Portal) -> None:
    """One stratum is not in the images table any more."""
    seen = shop.catalog()
    rest = seen[seen["stratum"] != seen["stratum"].iloc[0]].reset_index(drop=True)
    shop.keep(rest, shop.scores(rest))


def stale_input(shop: Portal) -> None:
    """Scores of a catalog that is older than the published one."""
    oldest = shop.store.runs(schemas.CATALOG)[0]
    seen = pq.read_table(oldest.folder).to_pandas()
    shop.keep_scores(shop.scores(seen), oldest.run_id)


def foreign_schema(shop: Portal) -> None:
    """The scores are texts, and the manifest does not say so."""
    seen = shop.catalog()
    _, scores = shop.keep(seen, shop.scores(seen))
    for file in sorted(Path(scores.folder).glob("*.parquet")):
        table = pq.read_table(file)
        place = table.schema.get_field_index("exclusion_score")
        texts = table["exclusion_score"].cast(pa.string())
        pq.write_table(table.set_column(place, "exclusion_score", texts), file)
    shop.store.commit(
        scoring_table(shop), scores.run_id, config={}, inputs=scores.inputs, counts=scores.counts
    )


def scoring_table(shop: Portal) -> schemas.Table:
    """`schemas.SCORES` of the portal's head."""
    return schemas.SCORES.with_columns(schemas.probability_columns(shop.head.classes))


# which rule must be among those that stop it
FAULTS: dict[Callable[[Portal], None], str] = {
    lost_partition: "files.scores",
    duplicated_rows: "uniqueness.image_id",
    null_ids: "completeness.image_id",
    all_excluded: "share.excluded",
    none_excluded: "rate_of_change.excluded",
    half_unscored: "share.unscored",
    wrong_head: "golden_images",
    nan_scores: "containment.exclusion_score",
    stratum_missing: "containment.strata",
    stale_input: "freshness",
    truncated_file: "files.scores",
    foreign_schema: "schema.scores",
}


@dataclass(frozen=True)
class Outcome:
    """The result of a faulty publication: the rules that stopped it, and what readers saw."""

    rules: list[str]
    unseen: bool
    exit_code: int
    message: str

    def blocked_by(self, rule: str) -> bool:
        """True if it was stopped as it must be."""
        return rule in self.rules and self.unseen and self.exit_code == AuditError.exit_code


def config_of(root: str) -> Config:
    """conf/base.toml and conf/local.toml with this output root; strata of 200 images are judged."""
    sets = [f"output.root={root}", "publish.policy.name=fixed"]
    return loading.load([ROOT / "conf" / "local.toml"], sets)


def clean_day(spark: SparkSession, shop: Portal) -> dict[str, Any]:
    """Publishes the portal as it is today.

    Raises:
        AuditError: a false alarm.
    """
    seen = shop.catalog()
    shop.keep(seen, shop.scores(seen))
    return publish_exclusions.step(Workspace.open(spark, config_of(shop.store.root)))


def faulty_day(
    spark: SparkSession, shop: Portal, fault: Callable[[Portal], None], root: Path
) -> Outcome:
    """Puts a fault into a copy of the portal's store at `root`, and tries to publish that."""
    copy = copied(shop, root)
    if fault in (lost_partition, truncated_file):
        seen = copy.catalog()
        copy.keep(seen, copy.scores(seen))
    fault(copy)
    before = _readers_see(copy.store)
    try:
        publish_exclusions.step(Workspace.open(spark, config_of(copy.store.root)))
    except AuditError as error:
        rules = [told.partition(":")[0] for told in error.expected.split("; ")]
        return Outcome(rules, _readers_see(copy.store) == before, error.exit_code, str(error))
    return Outcome([], _readers_see(copy.store) == before, 0, "published")


def copied(shop: Portal, root: Path) -> Portal:
    """The portal with a copy of its store at `root`."""
    shutil.copytree(shop.store.root, root)
    return replace(shop.at(root), rng=np.random.default_rng(SEED))


def _readers_see(store: Store) -> dict[str, bytes]:
    """The pointer and the log, to the last bit."""
    listed = Path(store.root) / schemas.EXCLUSION_LIST.name
    return {
        str(path): path.read_bytes()
        for path in [listed / "_current.json", *listed.glob("_versions/*.json")]
    }


def _files(shop: Portal) -> list[Path]:
    return sorted(Path(shop.store.runs(schemas.SCORES)[-1].folder).glob("*.parquet"))


def _biased(shop: Portal, bias: float) -> None:
    shop.promote(replace(shop.head, bias=shop.head.bias + np.array([bias, 0], np.float32)))
    seen = shop.catalog()
    shop.keep(seen, shop.scores(seen))


def main(
    runs: Annotated[int, typer.Option(help="clean ones")] = 20,
    listings: Annotated[int, typer.Option(help="at first, of 5.5 images on average")] = 1000,
) -> None:
    """Measures, and prints one JSON line."""
    started = time.monotonic()
    spark = session.start(config_of("unused").spark)
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as folder:
        shop = portal.opened(Path(folder) / "store", listings, SEED)
        clean_day(spark, shop)
        alarms = []
        for run in range(runs):
            shop.rng = np.random.default_rng(run)
            shop.live_on()
            try:
                clean_day(spark, shop)
            except AuditError as error:
                alarms.append(str(error))
        outcomes = {
            fault.__name__: faulty_day(spark, shop, fault, Path(folder) / fault.__name__)
            for fault in FAULTS
        }
        images = len(shop.images)
    spark.stop()
    print(
        json.dumps(
            {
                "blocked": sum(
                    outcomes[fault.__name__].blocked_by(rule) for fault, rule in FAULTS.items()
                ),
                "of": len(FAULTS),
                "false_alarms": len(alarms),
                "clean_runs": runs,
                "rules": {name: outcome.rules for name, outcome in outcomes.items()},
                "alarms": alarms,
                "images": images,
                "seconds": round(time.monotonic() - started, 1),
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    typer.run(main)
