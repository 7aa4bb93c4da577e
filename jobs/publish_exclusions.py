"""Publishes the exclusion list as a new version: decided, written, audited, and only then shown to readers.

    spark-submit --py-files dist/*.whl jobs/publish_exclusions.py --conf-file mytables.toml

Another operating threshold, or another policy that settles it, needs this step alone. With publish.plan, or where
publish.require_approval asks for it, it ends before the last part, with a page of what would change, until somebody
says publish.approve.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

from toiletspark import approvals, entry, publication
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.publication import Made
from toiletspark.reports import differences
from toiletspark.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """What fails its audits is kept for a look and changes nothing; `version` is the one that is live afterwards."""
    store = Store.open(config.output.root)
    if config.publish.approve:
        return _approve(store, config)
    made = publication.make(spark, store, config, publication.sources(store))
    if config.publish.plan or approvals.needed(store, config, made.listed):
        begun = _plan(spark, store, config, made)
    else:
        begun = {"version": publication.ship(store, config, made).number}
    return {
        **begun,
        **made.figures.counts,
        "scored": made.sources.scores.rows,
        "unscored": made.figures.statuses,
        "operating_threshold": made.settled.operating_threshold,
        "threshold_reason": made.settled.reason,
        "exclusion_list": made.listed.folder,
        "unscored_table": made.unscored.folder,
        "decisions": made.decisions.folder,
    }


def _plan(spark: SparkSession, store: Store, config: Config, made: Made) -> Summary:
    page, live = differences.write_page(spark, store, config, made), made.sources.live
    plan = approvals.plan(store, made.listed, page).run_id
    print(f"toiletspark: what plan {plan} would change: {page}", file=sys.stderr)
    publication.require_passed(made.listed)
    told = {"version": live.number if live else None, "plan": plan, "diff_page": page}
    if config.publish.plan:
        return told
    print(f"toiletspark: {approvals.waits(plan, live)}", file=sys.stderr, flush=True)
    return {**told, "waits_for_approval": approvals.command(plan)}


def _approve(store: Store, config: Config) -> Summary:
    listed, version = approvals.approve(store, config)
    counts = {name: version.counts[name] for name in ("images", "kept", "excluded", "no_score")}
    threshold = listed.manifest["inputs"]["operating_threshold"]
    told = {"version": version.number, "approved": listed.run_id, **counts, "operating_threshold": threshold}
    return {**told, "exclusion_list": listed.folder}


if __name__ == "__main__":
    entry.submit(step)
