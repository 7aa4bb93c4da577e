"""Plans and their approval, without Spark: what may ship, what is refused, and with which words."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import stored
from toiletspark.config import Config
from toiletspark.errors import AuditError, OutputError, UserError
from toiletspark.jobs import build_feed, publish_exclusions, run_chain, score_catalog, write_report
from toiletspark.launch.job import Job
from toiletspark.publishing import approvals, publication
from toiletspark.publishing.audits import checks
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import History
from toiletspark.tables import runs, schemas, storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

COUNTS = {"images": 9, "kept": 6, "excluded": 3, "unscored": 0, "no_score": 0, "policy": 0}
PASSED = Check("size", "9", "9", True)
FAILED = Check("share.excluded", "at most 10 %", "33 %", False)
GONE = "make one with `toiletspark publish plan`, look at its diff page, and approve its id"


def written(
    store: Store,
    *,
    head: str = "H",
    threshold: float = 0.5,
    catalog: str = "C",
    check: Check = PASSED,
) -> Run:
    """A version as `publication.make` leaves it, against the one that is live."""
    run_id = runs.new_run_id()
    live = log.live(store)
    inputs = {
        **{"head_id": head, "operating_threshold": threshold, "catalog": catalog},
        "last_version": live.number if live else None,
        "last_run": live.run_id if live else None,
    }
    if store.run(schemas.CATALOG, catalog) is None:
        stored(store, schemas.CATALOG, [], run_id=catalog)
    told = {"audits": [asdict(check)], "drift": None, "alarms": [], **COUNTS}
    for table in (schemas.DECISIONS, schemas.UNSCORED, schemas.STRATA):
        stored(store, table, [], run_id=run_id, inputs=inputs)
    excluded = [{"image_id": f"{run_id}/{number}", "run_id": run_id} for number in range(3)]
    return stored(
        store, schemas.EXCLUSION_LIST, excluded, run_id=run_id, inputs=inputs, counts=told
    )


def planned(store: Store, **how: Any) -> Run:
    return approvals.plan(store, written(store, **how), "reports/page.html")


def publishing(config: Config, **changed: Any) -> Config:
    return config.model_copy(update={"publish": config.publish.model_copy(update=changed)})


def approve(store: Store, config: Config, plan_id: str, **changed: Any) -> log.Version:
    return approvals.approve(store, publishing(config, approve=plan_id, **changed)).version


def pointer(store: Store) -> bytes | None:
    path = Path(store.root) / "exclusion_list" / "_current.json"
    return path.read_bytes() if path.exists() else None


def refused(store: Store, config: Config, plan_id: str) -> OutputError:
    """The refusal, which changes nothing."""
    before = pointer(store)
    entries = log.read_all(store)
    with pytest.raises(OutputError) as stopped:
        approve(store, config, plan_id)
    assert (pointer(store), log.read_all(store)) == (before, entries)
    assert stopped.value.doing.startswith(f"approving the plan {plan_id}")
    assert stopped.value.exit_code == 2
    return stopped.value


# What is approved


def test_what_is_approved_is_what_was_planned(
    store: Store, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "marta")
    log.publish(store, written(store, threshold=0.4))
    plan = planned(store)
    files = {path: path.stat().st_mtime_ns for path in Path(store.root).rglob("*.parquet")}
    before = pointer(store)
    version = approve(store, config, plan.run_id, because="all toilets")
    assert pointer(store) != before
    assert log.live(store) == version
    assert (version.number, version.run_id, version.counts) == (2, plan.run_id, COUNTS)
    assert {path: path.stat().st_mtime_ns for path in Path(store.root).rglob("*.parquet")} == files
    assert log.current(store.root).run_id == plan.run_id
    said = version.as_json()
    assert {name: said[name] for name in ("head_id", "operating_threshold", "catalog")} == {
        "head_id": "H",
        "operating_threshold": 0.5,
        "catalog": "C",
    }
    assert said["approval"] == {
        "who": "marta",
        "when": said["approval"]["when"],
        "because": "all toilets",
    }
    assert said["approval"]["when"].endswith("+00:00")


def test_a_user_without_a_name_approves_by_number(
    store: Store, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    said = approve(store, config, planned(store).run_id).approval
    assert said["who"].startswith("uid ")
    assert said["because"] is None


def test_a_publisher_that_was_killed_before_the_pointer_moved_is_brought_to_its_end(
    store: Store, config: Config
) -> None:
    log.publish(store, written(store))
    plan = planned(store)
    before = pointer(store)
    committed = log.commit(store, plan)
    assert pointer(store) == before
    assert approve(store, config, plan.run_id) == committed
    assert log.live(store) == committed
    assert len(log.read_all(store)) == 2


def test_two_who_approve_at_once_publish_it_once(store: Store, config: Config) -> None:
    plan = planned(store)

    def one(_: int) -> bool:
        try:
            approve(store, config, plan.run_id)
        except OutputError as error:
            assert "version 1 of" in error.found
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(one, range(8))) == 1
    assert [version.run_id for version in log.read_all(store)] == [plan.run_id]


# What is refused


def test_an_unknown_plan_is_refused(store: Store, config: Config) -> None:
    # a name like a run id would, at some hours, be taken for a typing error
    nobody = "nobody-has-planned-this"
    first = refused(store, config, nobody)
    assert first.expected == f"a plan in {store.root}; none is waiting"
    assert (
        first.found
        == "none of this name; plans are removed after 7 days (publish.keep_unpublished_days)"
    )
    assert first.todo == GONE
    plan = planned(store)
    wrong = refused(store, config, plan.run_id[:-1] + "x")
    assert wrong.expected == f"a plan in {store.root}: '{plan.run_id}'"
    assert wrong.found.startswith(f"none of this name (did you mean '{plan.run_id}'?)")
    assert refused(store, config, f"../exclusion_list/{plan.run_id}").found.startswith(
        "none of this name"
    )
    kept = publishing(config, keep_unpublished_days=0.0)
    assert refused(store, kept, nobody).found == "none of this name"


def test_a_list_that_nobody_has_looked_at_is_no_plan(store: Store, config: Config) -> None:
    made = written(store)
    assert (
        refused(store, config, made.run_id).found == f"a list that was never planned, {made.run_id}"
    )


def test_a_plan_that_was_published_is_not_published_again(store: Store, config: Config) -> None:
    old = log.publish(store, written(store))
    plan = planned(store)
    version = approve(store, config, plan.run_id)
    again = refused(store, config, plan.run_id)
    assert again.expected == "a plan that was not published yet"
    assert again.found == f"version 2 of {version.published_at}, which shows it; version 2 is live"
    back = store.run(schemas.EXCLUSION_LIST, old.run_id)
    assert back is not None
    log.publish(store, back, rolled_back_to=old.number)
    later = refused(store, config, plan.run_id)
    assert later.found.endswith("; version 3 is live")
    assert later.todo == (
        "nothing, if it is live; to return to it, `toiletspark publish rollback 2`; "
        "for other decisions, `toiletspark publish plan`"
    )


def test_a_plan_against_another_version_than_the_live_one_is_made_again(
    store: Store, config: Config
) -> None:
    first = written(store)
    plan = planned(store)
    log.publish(store, first)
    other = refused(store, config, plan.run_id)
    assert other.expected == "the version that it was compared with to be live: none"
    assert other.found == f"{first.run_id}, published since; the diff page is out of date"
    assert other.todo == "run `toiletspark publish plan` again, and look at the new page"
    against_first = planned(store)
    assert approvals.waiting(History.read(store)) == [against_first.run_id]
    second = written(store)
    log.publish(store, second)
    assert second.run_id in refused(store, config, against_first.run_id).found
    assert approvals.waiting(History.read(store)) == []
    log.publish(store, first, rolled_back_to=1)  # what it was compared with is live again
    assert approve(store, config, against_first.run_id).number == 4


@pytest.mark.parametrize("table", log.TABLES, ids=lambda table: table.name)
def test_a_plan_whose_files_are_others_is_refused(
    store: Store, config: Config, table: schemas.Table
) -> None:
    plan = planned(store)
    (file,) = Path(store.folder(table, plan.run_id)).glob("*.parquet")
    file.write_bytes(file.read_bytes() + b"x")
    stopped = refused(store, config, plan.run_id)
    assert stopped.doing == f"approving the plan {plan.run_id} ({table.name})"
    assert stopped.expected == f"the 1 files of the manifest of {plan.run_id}, unchanged"


def test_a_plan_without_one_of_its_tables_is_refused(store: Store, config: Config) -> None:
    plan = planned(store)
    (Path(store.folder(schemas.STRATA, plan.run_id)) / "_manifest.json").unlink()
    stopped = refused(store, config, plan.run_id)
    assert (
        stopped.expected
        == "all tables of the plan: 'decisions', 'exclusion_list', 'unscored', 'strata'"
    )
    assert stopped.found == f"no complete strata/{plan.run_id}"


def test_a_plan_that_has_failed_its_audits_is_refused_unless_somebody_has_accepted_it(
    store: Store, config: Config
) -> None:
    plan = planned(store, check=FAILED)
    with pytest.raises(AuditError) as stopped:
        approve(store, config, plan.run_id)
    assert stopped.value.expected == "share.excluded: at most 10 %"
    assert stopped.value.exit_code == 3
    assert log.read_all(store) == []
    (accepted,) = checks.accepted([FAILED], ["share.excluded"], "a new city")
    assert approve(store, config, planned(store, check=accepted).run_id).number == 1


def grow_old(store: Store) -> None:
    """The catalog C is from long ago."""
    seen = store.run(schemas.CATALOG, "C")
    assert seen is not None
    storage.replace_json(
        f"{seen.folder}/_manifest.json",
        {**seen.as_json(), "made_at": "2020-01-01T00:00:00+00:00"},
    )


def test_a_plan_whose_catalog_has_grown_old_meanwhile_is_refused(
    store: Store, config: Config
) -> None:
    plan = planned(store)
    grow_old(store)
    with pytest.raises(AuditError) as stopped:
        approve(store, config, plan.run_id)
    assert log.read_all(store) == []
    assert stopped.value.doing == f"approving the plan {plan.run_id}"
    assert stopped.value.expected.startswith("freshness: a catalog of the last 168 hours")
    assert stopped.value.found == "freshness: one of 2020-01-01T00:00:00+00:00"
    assert stopped.value.todo == (
        "the last version stays in force; run `toiletspark rescore`, which looks at the images "
        "anew, and plan again; or, if it is right as it is, "
        '`toiletspark publish plan --accept freshness --because "..."`, and '
        "approve that plan"
    )


def test_a_plan_of_an_old_catalog_that_somebody_has_accepted_stays_accepted(
    store: Store, config: Config
) -> None:
    (accepted,) = checks.accepted(
        [Check("freshness", "new", "old", False)], ["freshness"], "nothing moves in August"
    )
    plan = planned(store, check=accepted)
    grow_old(store)
    assert approve(store, config, plan.run_id).number == 1


def test_a_plan_whose_catalog_is_gone_is_refused(store: Store, config: Config) -> None:
    plan = planned(store)
    (Path(store.folder(schemas.CATALOG, "C")) / "_manifest.json").unlink()
    stopped = refused(store, config, plan.run_id)
    assert stopped.found == "no complete catalog/C"


# When it is needed


@pytest.mark.parametrize(
    ("required", "live", "new", "needed"),
    [
        (False, None, {}, False),
        (False, {}, {"head": "another"}, False),
        (True, None, {}, True),
        (True, {}, {}, False),
        (True, {}, {"head": "another"}, True),
        (True, {}, {"threshold": 0.500001}, True),
        (True, {"head": "another", "threshold": 0.2}, {"head": "another", "threshold": 0.2}, False),
    ],
)
def test_another_head_or_threshold_must_be_looked_at_where_the_conf_says_so(
    store: Store,
    config: Config,
    required: bool,
    live: dict[str, Any] | None,
    new: dict[str, Any],
    needed: bool,
) -> None:
    if live is not None:
        run = written(store, **live)
        log.publish(store, run, **run.inputs.model_dump(include={"head_id", "operating_threshold"}))
    made = written(store, **new)
    asking = publishing(config, require_approval=required)
    assert publication.needs_approval(asking, made, log.live(store)) is needed


def chain(
    monkeypatch: pytest.MonkeyPatch, published: dict[str, Any]
) -> tuple[Callable[[Any, Any], Any], list[str]]:
    """The end of the chain, with steps that only say that they ran."""
    ran: list[str] = []

    def stub(module: Any, summary: dict[str, Any]) -> None:
        name = module.JOB.name

        def step(*_: Any, **__: Any) -> dict[str, Any]:
            ran.append(name)
            return summary

        monkeypatch.setattr(module, "step", step)
        monkeypatch.setattr(module, "JOB", Job(name, step))

    for module, summary in (
        (score_catalog, {}),
        (publish_exclusions, published),
        (build_feed, {}),
        (write_report, {}),
    ):
        stub(module, summary)
    return lambda spark, config: run_chain.to_feed(Workspace.open(spark, config), {}), ran


def test_the_chain_goes_on_with_the_live_version_while_a_plan_waits(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_feed, ran = chain(monkeypatch, {"version": 4, "plan": "P", "waits_for_approval": "say so"})
    assert to_feed(None, config)["waits_for_approval"] == "say so"
    assert ran == ["score_catalog", "publish_exclusions", "build_feed", "write_report"]


def test_the_chain_stops_where_a_plan_is_all_there_is(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_feed, ran = chain(monkeypatch, {"version": None, "plan": "P"})
    with pytest.raises(OutputError) as stopped:
        to_feed(None, config)
    assert str(stopped.value) == (
        "while going on from the plan to the feed\n"
        "  expected: a version of the exclusion list that is live\n"
        "  found:    none yet; the plan P waits for its approval\n"
        "  do:       look at its page, run `toiletspark publish approve P`, "
        "then `toiletspark feed` and `toiletspark report`"
    )
    assert ran == ["score_catalog", "publish_exclusions"]


# A configuration that would decide otherwise


def planned_by(store: Store, config: Config) -> Run:
    """A plan that records the configuration which decided it."""
    plan = planned(store)
    inputs = plan.inputs
    return store.commit(
        schemas.EXCLUSION_LIST,
        plan.run_id,
        config=config.recorded(),
        inputs=inputs,
        counts=plan.counts,
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"operating_threshold": 0.8}, "publish.operating_threshold = 0.8 in the plan, 0.5 here"),
        ({"hysteresis": 0.2}, "publish.hysteresis = 0.2 in the plan"),
        ({"policy.name": "min_recall"}, "publish.policy.name = 'min_recall' in the plan, "),
        ({"failures.gone": "exclude"}, "publish.failures.gone = 'exclude' in the plan"),
    ],
)
def test_a_plan_that_the_next_run_would_undo_is_refused(
    store: Store, config: Config, changed: dict[str, Any], words: str
) -> None:
    (name, value), *_ = changed.items()
    section, _, part = name.partition(".")
    if part:
        value = getattr(config.publish, section).model_copy(update={part: value})
    plan = planned_by(store, publishing(config, **{section: value}))
    with pytest.raises(UserError) as stopped:
        approve(store, config, plan.run_id)
    assert words in stopped.value.found
    assert f"toiletspark publish approve {plan.run_id} --once" in stopped.value.todo
    assert log.read_all(store) == []
    assert approve(store, publishing(config, **{section: value}), plan.run_id).number == 1


def test_a_plan_that_is_approved_once_is_taken_back_aloud(store: Store, config: Config) -> None:
    decided_by = publishing(config, operating_threshold=0.8)
    plan = planned_by(store, decided_by)
    version = approve(store, config, plan.run_id, once=True)
    words = "publish.operating_threshold = 0.8 in the plan, 0.5 here"
    assert version.approval is not None
    assert version.approval["once"] == words
    history = History.read(store)
    assert approvals.taken_back(config, history) == (
        f"version 1 was approved with --once and is taken back: {words}"
    )
    assert approvals.taken_back(decided_by, history) == ""
    assert approvals.taken_back(config, History(store, [], None)) == ""


def test_keys_that_decide_nothing_do_not_hinder_an_approval(store: Store, config: Config) -> None:
    plan = planned_by(store, publishing(config, keep_days=99.0, plan=True, valid_for_h=7.0))
    assert approve(store, config, plan.run_id).approval == {
        **{"who": getpass.getuser(), "because": None},
        "when": log.live(store).approval["when"],  # type: ignore[union-attr, index]
    }
