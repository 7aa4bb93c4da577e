"""Publishes the exclusion list as a new version: decided, written, audited, then shown to readers.

    spark-submit --py-files dist/*.whl jobs/publish_exclusions.py --conf-file mytables.toml

A new threshold or policy needs this step alone. publish.plan writes a version and the page of what
it would change; publish.approve publishes such a plan.
"""

import logging

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from toiletspark.config.command_line import Summary
from toiletspark.errors import ToiletsparkError
from toiletspark.jobs import draw_leaks
from toiletspark.launch.job import Job
from toiletspark.publishing import approvals, overrides, publication
from toiletspark.publishing.publication import Made, Shipped
from toiletspark.publishing.versions import metastore
from toiletspark.reports.plan_page import gather
from toiletspark.tables.workspace import Workspace

_log = logging.getLogger("toiletspark")


def step(work: Workspace) -> Summary:
    """Publishes a version; one that fails its audits is kept for a look and changes nothing.

    `version` in the summary is the version that is live afterwards.
    """
    store, config = work.store, work.config
    metastore.require_ours(work.spark, config.publish.catalog_table, store.root)
    if config.publish.approve:
        return _approve(work)
    made = publication.make(work, publication.newest_sources(store))
    _report(made)
    live = made.sources.history.live
    if config.publish.plan or publication.needs_approval(config, made.exclusion_list, live):
        begun = _plan(work, made)
    else:
        if publication.has_failed(made.exclusion_list):
            publication.require_passed(made.exclusion_list, _page_of_refused(work, made))
        taken_back = approvals.taken_back(config, made.sources.history)
        shipped = publication.ship(store, config, made.exclusion_list)
        begun = {"version": shipped.version.number, **_follow_up(work, shipped)}
        if taken_back:
            _log.warning("ALARM: %s", taken_back)
            begun["taken_back"] = taken_back
    summary = {
        "alarms": made.exclusion_list.counts["alarms"],
        **begun,
        **made.figures.counts,
        "scored": made.sources.scores.rows,
        "unscored": made.figures.statuses,
        "operating_threshold": made.exclusion_list.inputs.operating_threshold,
        "threshold_reason": made.exclusion_list.inputs.threshold_reason,
        "exclusion_list": made.exclusion_list.folder,
        "unscored_table": made.unscored.folder,
        "decisions": made.decisions.folder,
    }
    if made.exclusion_list.counts["overrides"]:
        summary["overrides"] = made.exclusion_list.counts["overrides"]
    return summary


def _report(made: Made) -> None:
    """Logs what people should know at once, also of a plan."""
    counts = made.exclusion_list.counts
    for alarm in counts["alarms"]:
        _log.warning("ALARM: %s", alarm)
    if counts["overrides"].get("unmet"):
        _log.warning(overrides.unmet_sentence(counts["overrides"]))


def _page_of_refused(work: Workspace, made: Made) -> str:
    """Writes the page of a version that its audits refuse; "" if that fails, as for lost images."""
    try:
        return gather.write_page(work, made)
    except (ToiletsparkError, PySparkException, Py4JError, OSError) as error:
        _log.warning("no page shows the refused version: %s", error)
        return ""


def _plan(work: Workspace, made: Made) -> Summary:
    """Makes a plan of a version and writes the page of what it would change."""
    page = gather.write_page(work, made)
    plan_id = approvals.plan(work.store, made.exclusion_list, page).run_id
    _log.info("what plan %s would change: %s", plan_id, page)
    publication.require_passed(made.exclusion_list, page)
    live = made.sources.history.live
    summary = {"version": live.number if live else None, "plan": plan_id, "diff_page": page}
    if work.config.publish.plan:
        return summary
    _log.warning(approvals.waits(plan_id, live))
    return {**summary, "waits_for_approval": approvals.command(plan_id)}


def _approve(work: Workspace) -> Summary:
    """Publishes the plan that publish.approve names."""
    shipped = approvals.approve(work.store, work.config)
    version, exclusion_list = shipped.version, shipped.exclusion_list
    counts = {name: version.counts[name] for name in ("images", "kept", "excluded", "no_score")}
    return {
        "version": version.number,
        "approved": exclusion_list.run_id,
        **counts,
        "operating_threshold": exclusion_list.inputs.operating_threshold,
        "exclusion_list": exclusion_list.folder,
        **_follow_up(work, shipped),
    }


def _follow_up(work: Workspace, shipped: Shipped) -> Summary:
    """Moves the catalog table and draws a leak sample, after readers see the new version."""
    metastore.follow(work.spark, work.config.publish.catalog_table, work.store.root)
    leaks = draw_leaks.step(work.for_next_step()) if work.config.leaks.each_run else {}
    return {**leaks, "removed": shipped.removed}


JOB = Job("publish_exclusions", step, __doc__)

if __name__ == "__main__":
    JOB.submit()
