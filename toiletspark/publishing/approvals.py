"""Plans: versions that were decided, written and audited, and that wait for approval. No Spark.

<root>/exclusion_list/<run_id>/_plan.json makes a plan of a version that was never published. It is
published exactly as it was looked at: as the difference to the version that was live when it was
made. If another version is live, the plan must be made again.
"""

import getpass
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from toiletspark.config import Config
from toiletspark.errors import AuditError, OutputError, UserError, nearest, shown
from toiletspark.publishing import publication
from toiletspark.publishing.audits import checks, inputs
from toiletspark.publishing.publication import Shipped
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import History, Version
from toiletspark.tables import storage
from toiletspark.tables.runs import RUN_ID, Run, Store
from toiletspark.tables.schemas import CATALOG, EXCLUSION_LIST

_DECIDING = (
    *("score.head", "publish.operating_threshold", "publish.policy", "publish.hysteresis"),
    *("publish.failures", "publish.keep_score_days"),
    *("overrides.path", "overrides.table", "overrides.query", "overrides.where"),
)


def plan(store: Store, exclusion_list: Run, page: str) -> Run:
    """Makes a plan of a written version, after its page was written."""
    run_id = exclusion_list.run_id
    now = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"plan": run_id, "planned_at": now, "planned_by": _user(), "diff_page": page}
    storage.create_json(_plan_file(store, run_id), content)
    return exclusion_list


def command(plan_id: str) -> str:
    """The command that publishes a plan."""
    return f"toiletspark publish approve {plan_id}"


def waits(plan_id: str, live: Version | None) -> str:
    """The warning for people whose publication has become a plan."""
    now = f"version {live.number} stays live" if live else "there is no version yet"
    return (
        "NOT PUBLISHED: publish.require_approval is set, and head or operating threshold are not "
        f"those of the live version; {now}. Look at the page, and publish it by "
        f"`{command(plan_id)}`."
    )


def require_live(plan_id: str | None, live: int | None) -> None:
    """Stops with an OutputError if a step needs a live version, and there is only a plan."""
    if plan_id and live is None:
        raise OutputError(
            doing="going on from the plan to the feed",
            expected="a version of the exclusion list that is live",
            found=f"none yet; the plan {plan_id} waits for its approval",
            todo=f"look at its page, run `{command(plan_id)}`, then `toiletspark feed` and "
            "`toiletspark report`",
        )


def approve(store: Store, config: Config) -> Shipped:
    """Publishes the plan publish.approve; the log keeps who, when and publish.because.

    Raises:
        UserError: the keys of the configuration would decide otherwise than the plan, so that the
            next run would take it back, and publish.once is not set.
        OutputError: there is no such plan, it was published already, another version is live than
            the one it was compared with, or its files are not those of its manifests.
        AuditError: it has failed its audits, or its catalog has grown too old meanwhile.
    """
    plan_id = config.publish.approve
    now = datetime.now(UTC).isoformat(timespec="seconds")
    doing = f"approving the plan {plan_id}"
    exclusion_list = _require_plan(store, config, doing)
    approval = {"who": _user(), "when": now, "because": config.publish.because or None}
    if keys := other_keys(config, exclusion_list):
        _require_once(config, keys, doing)
        approval["once"] = "; ".join(keys)
    with log.publishing_lock(store):
        history = History.read(store)
        if unfinished := _require_unpublished(exclusion_list, history, doing):
            log.point(store)
            history = replace(history, live=unfinished)
            return publication.shipped(history, config, exclusion_list)
        _require_same_live(exclusion_list, history.live, doing)
        _require_fresh(config, exclusion_list, history, doing)
        _require_files(store, plan_id, doing)
        return publication.ship_written(history, config, exclusion_list, approval=approval)


def taken_back(config: Config, history: History) -> str:
    """The sentence for people if a publication takes back a live version approved by --once."""
    live, shows = history.live, history.run(EXCLUSION_LIST)
    if live is None or shows is None or not (live.approval or {}).get("once"):
        return ""
    if keys := other_keys(config, shows):
        return (
            f"version {live.number} was approved with --once and is taken back: {'; '.join(keys)}"
        )
    return ""


def other_keys(config: Config, exclusion_list: Run) -> list[str]:
    """The keys that decided a plan and have other values in the configuration, in words."""
    ours, plans = _deciding(config.recorded()), _deciding(exclusion_list.config)
    names = [name for name in plans if plans[name] != ours.get(name)]
    return [f"{name} = {plans[name]!r} in the plan, {ours.get(name)!r} here" for name in names]


def _require_once(config: Config, keys: list[str], doing: str) -> None:
    if not config.publish.once:
        raise UserError(
            doing=doing,
            expected="a configuration that decides like the plan, for the runs that come after it",
            found="; ".join(keys),
            todo="set these keys as in the plan in the file that the schedule uses, and approve "
            f"with it; or `{command(config.publish.approve)} --once`: for this version alone, and "
            "the next run takes it back",
        )


def _deciding(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys that decide, of a recorded configuration, by their dotted names."""
    values: dict[str, Any] = {}
    for name in _DECIDING:
        section, _, key = name.partition(".")
        value = recorded.get(section, {}).get(key)
        parts = value.items() if isinstance(value, dict) else ()
        values |= {f"{name}.{part}": item for part, item in parts}
        if key in recorded.get(section, {}) and not parts:
            values[name] = value
    return values


def waiting(history: History) -> list[str]:
    """The ids of the plans that can still be approved, newest first."""
    store, live = history.store, history.live
    published = {version.run_id for version in history.versions}
    runs = [
        run for run in store.runs(EXCLUSION_LIST) if run.inputs.last_run == (live and live.run_id)
    ]
    unpublished = [run.run_id for run in reversed(runs) if run.run_id not in published]
    return [run_id for run_id in unpublished if storage.exists(_plan_file(store, run_id))]


def _require_plan(store: Store, config: Config, doing: str) -> Run:
    plan_id = config.publish.approve
    exclusion_list = store.run(EXCLUSION_LIST, plan_id) if RUN_ID.fullmatch(plan_id) else None
    if exclusion_list and storage.exists(_plan_file(store, plan_id)):
        return exclusion_list
    plans, days = waiting(History.read(store)), config.publish.keep_unpublished_days
    found = f"none of this name{nearest(plan_id, plans)}"
    if days:
        found += f"; plans are removed after {days:g} days (publish.keep_unpublished_days)"
    if exclusion_list:
        found = f"a list that was never planned, {plan_id}"
    raise OutputError(
        doing=doing,
        expected=f"a plan in {store.root}{f': {shown(plans)}' if plans else '; none is waiting'}",
        found=found,
        todo="make one with `toiletspark publish plan`, look at its diff page, and approve its id",
    )


def _require_unpublished(exclusion_list: Run, history: History, doing: str) -> Version | None:
    """The version that shows the list already, if its publisher died before the pointer moved."""
    versions, live = history.versions, history.live
    of_plan = [version for version in versions if version.run_id == exclusion_list.run_id]
    if not of_plan:
        return None
    first, last = of_plan[0], of_plan[-1]
    if last is versions[-1] and (live is None or live.number < last.number):
        return last
    now = f"version {live.number} is live" if live else "no version is live"
    raise OutputError(
        doing=doing,
        expected="a plan that was not published yet",
        found=f"version {first.number} of {first.published_at}, which shows it; {now}",
        todo=f"nothing, if it is live; to return to it, `toiletspark publish rollback "
        f"{first.number}`; for other decisions, `toiletspark publish plan`",
    )


def _require_same_live(exclusion_list: Run, live: Version | None, doing: str) -> None:
    before, now = exclusion_list.inputs.last_run, live.run_id if live else None
    if before != now:
        raise OutputError(
            doing=doing,
            expected=f"the version that it was compared with to be live: {before or 'none'}",
            found=f"{now or 'none'}, published since; the diff page is out of date",
            todo="run `toiletspark publish plan` again, and look at the new page",
        )


def _require_fresh(config: Config, exclusion_list: Run, history: History, doing: str) -> None:
    """Judges freshness again: a plan may wait for weeks, and no other audit depends on time."""
    catalog_id = exclusion_list.inputs.catalog
    catalog = history.store.run(CATALOG, catalog_id)
    if catalog is None:
        raise OutputError(
            doing=doing,
            expected=f"the catalog that it was made from, {catalog_id}",
            found=f"no complete {CATALOG.name}/{catalog_id}",
            todo="run `toiletspark rescore`, and plan again",
        )
    check = inputs.freshness(config, catalog, history.live)
    accepted = {check.rule for check in publication.checks_of(exclusion_list) if check.accepted}
    if not check.passed and check.rule not in accepted:
        raise AuditError(
            doing=doing,
            expected=f"{check.rule}: {check.expected}",
            found=f"{check.rule}: {check.found}",
            todo=f"{checks.LAST_STAYS}{check.todo}, and plan again; or, if it is right as it is, "
            f'`toiletspark publish plan --accept {check.rule} --because "..."`, '
            "and approve that plan",
        )


def _require_files(store: Store, plan_id: str, doing: str) -> None:
    for table in log.TABLES:
        run = store.run(table, plan_id)
        if run is None:
            raise OutputError(
                doing=doing,
                expected=f"all tables of the plan: {shown(table.name for table in log.TABLES)}",
                found=f"no complete {table.name}/{plan_id}",
                todo="run `toiletspark publish plan` again; a part of this one was removed",
            )
        run.verify(doing=f"{doing} ({table.name})")


def _plan_file(store: Store, run_id: str) -> str:
    return f"{store.folder(EXCLUSION_LIST, run_id)}/_plan.json"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return f"uid {os.getuid()}"
