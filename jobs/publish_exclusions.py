"""Publishes the exclusion list as a new version: decided, written, audited, and only then shown to readers.

    spark-submit --py-files dist/*.whl jobs/publish_exclusions.py --conf-file mytables.toml

Another operating threshold, or another policy that settles it, needs this step alone. publish.plan writes a version and
a page that shows what it would change; publish.approve publishes what was planned.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.jobs import draw_leaks
from toiletspark.launch import job as entry
from toiletspark.publishing import approvals, origins, overrides, publication
from toiletspark.publishing.publication import Made
from toiletspark.publishing.versions import metastore as catalog_table
from toiletspark.publishing.versions import retention
from toiletspark.reports.plan_page import gather as differences
from toiletspark.tables.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """What fails its audits is kept for a look and changes nothing; `version` is the one that is live afterwards."""
    store = Store.open(config.output.root)
    catalog_table.require_ours(spark, config.publish.catalog_table, store.root)
    if config.publish.approve:
        return {**_approve(store, config), **_afterwards(spark, store, config)}
    made = publication.make(spark, store, config, origins.newest(store))
    _tell(made)
    if config.publish.plan or publication.needs_approval(store, config, made.listed):
        begun = _plan(spark, store, config, made)
    else:
        begun = {
            "version": publication.ship(store, config, made).number,
            **_afterwards(spark, store, config),
        }
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
        "alarms": made.alarms,
        **({"overrides": made.overrides} if made.overrides else {}),
    }


def _tell(made: Made) -> None:
    """What people should know at once, of plans too."""
    for alarm in made.alarms:
        print(f"toiletspark: ALARM: {alarm}", file=sys.stderr)
    if made.overrides.get("unmet"):
        print(f"toiletspark: {overrides.shown_unmet(made.overrides)}", file=sys.stderr)


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
    told = {
        "version": version.number,
        "approved": listed.run_id,
        **counts,
        "operating_threshold": threshold,
    }
    return {**told, "exclusion_list": listed.folder}


def _afterwards(spark: SparkSession, store: Store, config: Config) -> Summary:
    """What follows once readers see the new version."""
    catalog_table.follow(spark, config.publish.catalog_table, store.root)
    leaks = draw_leaks.step(spark, config) if config.leaks.each_run else {}
    return {**leaks, "removed": retention.clean(store, config.publish)}


if __name__ == "__main__":
    entry.submit(step)
