"""Plans: versions that were decided, written and audited, and that wait for somebody to look at them. No Spark here.

<root>/exclusion_list/<run_id>/_plan.json   makes a plan of a version that was never published: when, by whom, its page

What is approved is published as it lies there: nothing is decided anew, so it is what somebody has looked at. A plan is
the difference to the version that was live when it was made; another live version, and it must be made again.
"""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime

from toiletspark.config import Config
from toiletspark.errors import AuditError, OutputError, nearest, shown
from toiletspark.publishing import publication
from toiletspark.publishing.audits import checks as audits
from toiletspark.publishing.audits import inputs as source_audits
from toiletspark.publishing.versions import log as versions
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import storage
from toiletspark.tables.runs import RUN_ID, Run, Store
from toiletspark.tables.schemas import CATALOG, EXCLUSION_LIST

PLAN = "_plan.json"


def plan(store: Store, listed: Run, page: str) -> Run:
    """Makes a plan of a written version, once its page lies there to be looked at."""
    told = {"plan": listed.run_id, "planned_at": _now(), "planned_by": _who(), "diff_page": page}
    storage.create_json(_place(store, listed.run_id), told)
    return listed


def command(plan_id: str) -> str:
    """What publishes a plan."""
    return f"toiletspark publish approve {plan_id}"


def waits(plan_id: str, live: Version | None) -> str:
    """What everybody must hear whose publication has become a plan."""
    now = f"version {live.number} stays live" if live else "there is no version yet"
    return (
        "NOT PUBLISHED: publish.require_approval is set, and head or operating threshold are not those of the live "
        f"version; {now}. Look at the page, and publish it by `{command(plan_id)}`."
    )


def require_live(plan_id: str | None, live: int | None) -> None:
    """Stops where a step needs a version, and all there is is a plan.

    Args:
        plan_id: of the plan that a publication has become, or None.
        live: the number of the version that is live, or None.

    Raises:
        OutputError: tells how to publish the plan.
    """
    if plan_id and live is None:
        raise OutputError(
            doing="going on from the plan to the feed",
            expected="a version of the exclusion list that is live",
            found=f"none yet; the plan {plan_id} waits for its approval",
            todo=f"look at its page, run `{command(plan_id)}`, then `toiletspark feed` and `toiletspark report`",
        )


def approve(store: Store, config: Config) -> tuple[Run, Version]:
    """Publishes the plan publish.approve, exactly as it was written; who, when and publish.because stand in the log.

    Returns:
        Its exclusion list, and the version that shows it.

    Raises:
        OutputError: there is no such plan, it was published already, another version is live than the one it was
            compared with, or its files are not those of its manifests.
        AuditError: it has failed its audits, or its catalog has grown too old while it waited.
    """
    listed = _require_plan(store, config)
    approval = {"who": _who(), "when": _now(), "because": config.publish.because or None}
    with versions.nothing_is_removed(store):
        if broken_off := _require_unpublished(store, listed):
            versions.point(store)
            return listed, broken_off
        _require_same_live(store, listed)
        _require_fresh(store, config, listed)
        _require_files(store, listed)
        return listed, publication.ship_written(store, config, listed, facts={"approval": approval})


def waiting(store: Store) -> list[str]:
    """The plans that could still be approved, newest first, by their ids: made against the version that is live."""
    runs = [run for run in store.runs(EXCLUSION_LIST) if storage.exists(_place(store, run.run_id))]
    shipped, live = {version.run_id for version in versions.log(store)}, _live_run(store)
    fresh = [run for run in runs if run.run_id not in shipped and run.inputs.last_run == live]
    return [run.run_id for run in reversed(fresh)]


def _require_plan(store: Store, config: Config) -> Run:
    plan_id = config.publish.approve
    listed = store.run(EXCLUSION_LIST, plan_id) if RUN_ID.fullmatch(plan_id) else None
    if listed and storage.exists(_place(store, plan_id)):
        return listed
    plans, days = waiting(store), config.publish.keep_unpublished_days
    removed = (
        f"; plans are removed after {days:g} days (publish.keep_unpublished_days)" if days else ""
    )
    raise OutputError(
        doing=_doing(plan_id),
        expected=f"a plan in {store.root}: {shown(plans)}"
        if plans
        else f"a plan in {store.root}; none is waiting",
        found=f"a list that was never planned, {plan_id}"
        if listed
        else f"none of this name{nearest(plan_id, plans)}{removed}",
        todo="make one with `toiletspark publish plan`, look at its diff page, and approve the id that it tells",
    )


def _require_unpublished(store: Store, listed: Run) -> Version | None:
    """The version that shows the list already, where its publisher was killed before the pointer moved to it.

    Raises:
        OutputError: it was published.
    """
    log = versions.log(store)
    found = [version for version in log if version.run_id == listed.run_id]
    if not found:
        return None
    live = versions.live(store)
    if found[-1] is log[-1] and (live is None or live.number < found[-1].number):
        return found[-1]
    first = found[0]
    now = f"version {live.number} is live" if live else "no version is live"
    raise OutputError(
        doing=_doing(listed.run_id),
        expected="a plan that was not published yet",
        found=f"version {first.number} of {first.said['published_at']}, which shows it; {now}",
        todo="nothing, if it is live; to return to it, `toiletspark publish rollback "
        f"{first.number}`; for other decisions, `toiletspark publish plan`",
    )


def _require_same_live(store: Store, listed: Run) -> None:
    before, live = listed.inputs.last_run, _live_run(store)
    if before != live:
        raise OutputError(
            doing=_doing(listed.run_id),
            expected=f"the version that it was compared with to be live: {before or 'none'}",
            found=f"{live or 'none'}, published since; the diff page no longer tells what would change",
            todo="run `toiletspark publish plan` again, and look at the new page",
        )


def _require_fresh(store: Store, config: Config, listed: Run) -> None:
    """A plan may wait for weeks (publish.keep_unpublished_days); of its audits, time alone makes this one another."""
    doing, catalog = _doing(listed.run_id), str(listed.inputs.catalog)
    seen = store.run(CATALOG, catalog)
    if seen is None:
        raise OutputError(
            doing=doing,
            expected=f"the catalog that it was made from, {catalog}",
            found=f"no complete {CATALOG.name}/{catalog}",
            todo="run `toiletspark rescore`, and plan again",
        )
    check = source_audits.freshness(store, config, seen, versions.live(store))
    accepted = {one.rule for one in publication.checks_of(listed) if one.accepted}
    if not check.passed and check.rule not in accepted:
        raise AuditError(
            doing=doing,
            expected=f"{check.rule}: {check.expected}",
            found=f"{check.rule}: {check.found}",
            todo=f"{audits.LAST_STAYS}{check.todo}, and plan again; or, if it is right as it is, `toiletspark publish "
            f'plan --accept {check.rule} --because "..."`, and approve that plan',
        )


def _require_files(store: Store, listed: Run) -> None:
    doing = _doing(listed.run_id)
    runs = {table.name: store.run(table, listed.run_id) for table in versions.TABLES}
    for name, run in runs.items():
        if run is None:
            raise OutputError(
                doing=doing,
                expected=f"all tables of the plan: {shown(runs)}",
                found=f"no complete {name}/{listed.run_id}",
                todo="run `toiletspark publish plan` again; something has removed a part of this one",
            )
        versions.require_unchanged(run, doing=f"{doing} ({name})")


def _live_run(store: Store) -> str | None:
    live = versions.live(store)
    return live.run_id if live else None


def _place(store: Store, run_id: str) -> str:
    return f"{store.folder(EXCLUSION_LIST, run_id)}/{PLAN}"


def _doing(plan_id: str) -> str:
    return f"approving the plan {plan_id}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return f"uid {os.getuid()}"
