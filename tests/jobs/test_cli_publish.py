"""`toiletspark publish` as people meet it: what it asks of the step, the way back and the list."""

import json
import re
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from tests.conftest import REPOSITORY
from tests.support import small_versions
from tests.support.small_versions import killed_before_the_pointer, published
from toiletspark.config import loading
from toiletspark.jobs import cli
from toiletspark.launch.job import Job
from toiletspark.publishing.versions import log
from toiletspark.reports import versions_table
from toiletspark.tables import storage
from toiletspark.tables.runs import Store


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The steps that were started; none is."""
    started: list[Any] = []
    monkeypatch.setattr(Job, "run", lambda *arguments: started.append(arguments))
    return started


def publish(*said: str, store: Store | None = None) -> Result:
    root = ["--set", f"output.root={store.root}"] if store else []
    return CliRunner().invoke(cli.app, ["publish", *said, *root])


def mistake(done: Result) -> list[str]:
    """The parts of a four-part message; nothing else was said."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line[:12] for line in lines] == [
        "toiletspark:",
        "  expected: ",
        "  found:    ",
        "  do:       ",
    ]
    return [line[12:].strip() for line in lines]


# What the step is asked


@pytest.mark.parametrize(
    ("said", "set_to"),
    [
        ([], []),
        (["plan"], ["publish.plan=true"]),
        (["approve", "20261125T1-9f3c"], ['publish.approve="20261125T1-9f3c"']),
        (["approve", "P", "--because", "seen"], ['publish.approve="P"', 'publish.because="seen"']),
        (
            [
                *("--accept", "size.images", "--accept", "change.excluded"),
                *("--because", 'ä "portal" = left, C:\\x'),
            ],
            [
                'publish.accept=["size.images", "change.excluded"]',
                'publish.because="ä \\"portal\\" = left, C:\\\\x"',
            ],
        ),
        (
            ["plan", "--accept", "r", "--because", "b", "--set", "publish.hysteresis=0"],
            [
                *("publish.hysteresis=0", "publish.plan=true"),
                *('publish.accept=["r"]', 'publish.because="b"'),
            ],
        ),
    ],
)
def test_the_options_set_keys(ran: list[Any], said: list[str], set_to: list[str]) -> None:
    done = publish(*said, "--json")
    assert done.exit_code == 0, done.output
    ((job, files, sets, as_json),) = ran
    assert (job.name, files, sets, as_json) == ("publish_exclusions", [], set_to, True)
    section = loading.load([], sets).publish
    assert section.because == next(
        (said[at + 1] for at, word in enumerate(said) if word == "--because"), ""
    )


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (["--set", "publish.hysteresis=0", "plan"], "options before `plan`"),
        (["--accept", "r", "--because", "b", "rollback"], "options before `rollback`"),
        (["--json", "list"], "options before `list`"),
        (["--accept", "r"], "no reason"),
        (["plan", "--accept", "r"], "no reason"),
        (["--because", "b"], "no --accept"),
        (["plan", "--because", "b"], "no --accept"),
        (["--accept", "r", "--because", " "], "an empty text"),
        (["--accept", " ", "--because", "b"], "an empty text"),
        (["approve", ""], "an empty text"),
        (["approve", "P", "--because", ""], "an empty text"),
    ],
)
def test_options_that_do_not_go_together_are_an_error(
    ran: list[Any], said: list[str], found: str
) -> None:
    parts = mistake(publish(*said))
    assert (parts[0], parts[2]) == ("while reading the options of publish", found)
    assert ran == []


@pytest.mark.parametrize(
    "said", [["7"], ["rollback", "--accept", "r"], ["approve"], ["list", "--because", "b"]]
)
def test_sub_commands_take_only_their_own_options(ran: list[Any], said: list[str]) -> None:
    assert publish(*said).exit_code == 2
    assert ran == []


@pytest.mark.parametrize("number", ["0", "-1", "newest"])
def test_a_version_is_a_number_from_one_on(number: str) -> None:
    assert publish("rollback", "--", number).exit_code == 2


# The way back


def test_a_rollback_tells_what_it_did_and_what_the_next_publication_does(store: Store) -> None:
    first = published(store, 1, "good", 0.4)
    published(store, 9, "bad", 0.6)
    done = publish("rollback", "--because", "kitchens were gone", "--json", store=store)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    live = log.live(store)
    assert live is not None
    assert {
        name: told[name] for name in ("version", "rolled_back_to", "run_id", "head_id", "because")
    } == {
        "version": 3,
        "rolled_back_to": 1,
        "run_id": first.run_id,
        "head_id": "good",
        "because": "kitchens were gone",
    }
    assert told["valid_until"] == live.valid_until is not None
    assert told["exclusion_list"] == f"{store.root}/exclusion_list/{first.run_id}"
    settings = "publish.policy.name=fixed, publish.operating_threshold=0.4"
    assert f"score.head to the folder of head good, {settings}" in told["next"]
    assert "catalog_table" not in told
    assert publish("rollback", "2", store=store).stdout.splitlines()[:2] == [
        f"{'version':20} 4",
        f"{'rolled_back_to':20} 2",
    ]


def test_the_table_of_the_catalog_is_not_moved_and_the_sql_for_it_is_told(store: Store) -> None:
    first = published(store)
    published(store)
    name = "publish.catalog_table=portal.order"
    told = json.loads(publish("rollback", "--json", "--set", name, store=store).stdout)[
        "catalog_table"
    ]
    assert told == (
        "portal.order still shows what was live before: no Spark was started. Run: "
        "ALTER TABLE `portal`.`order` SET LOCATION "
        f"'file://{store.root}/exclusion_list/{first.run_id}'; REFRESH TABLE `portal`.`order`"
    )
    parts = mistake(
        publish("rollback", "1", "--set", "publish.catalog_table=order; DROP", store=store)
    )
    assert parts[2] == "'order; DROP'"
    assert len(log.read_all(store)) == 3


def test_a_rollback_that_is_refused_changes_nothing(store: Store) -> None:
    published(store)
    assert mistake(publish("rollback", "2", store=store))[2] == "no version 2"
    assert len(log.read_all(store)) == 1


WITHOUT_SPARK = """
import sys
from toiletspark.jobs import cli
for said in (["rollback", "--json"], ["list", "--json"]):
    try:
        cli.app(["publish", *said, "--set", f"output.root={sys.argv[1]}"])
    except SystemExit as ended:
        assert not ended.code
print(sorted({name.split(".")[0] for name in sys.modules} & {"pyspark", "py4j", "torch", "pandas"}))
"""


def test_neither_the_way_back_nor_the_list_load_spark(store: Store) -> None:
    for _ in range(2):
        published(store)
    command = [sys.executable, "-c", WITHOUT_SPARK, store.root]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    rollback, versions_table, loaded = done.stdout.splitlines()
    assert json.loads(rollback)["version"] == json.loads(versions_table)["current"] == 3
    assert loaded == "[]"


# The list


def test_the_list_tells_all_that_was_live_and_what_became_of_it(store: Store) -> None:
    first = published(store, 1, "good", 0.4, valid_for_h=1e-9)
    gone = published(store, 9, "bad", 0.6)
    storage.remove_file(f"{store.root}/exclusion_list/{gone.run_id}/_manifest.json")
    publish("rollback", "1", "--because", "why", store=store)
    killed_before_the_pointer(store)
    told = json.loads(publish("list", "--json", store=store).stdout)
    assert told["current"] == 3
    assert told["versions"][2] == {
        "version": 3,
        "run_id": first.run_id,
        "published_at": told["versions"][2]["published_at"],
        "head_id": "good",
        "operating_threshold": 0.4,
        "images": 10,
        "kept": 9,
        "excluded": 1,
        "unscored": 0,
        "rolled_back_to": 1,
        "because": "why",
        "valid_until": told["versions"][2]["valid_until"],
        "current": True,
        "shown": True,
        "files_removed": False,
        "expired": False,
    }
    states = ("current", "shown", "files_removed", "expired")
    assert [tuple(row[name] for name in states) for row in told["versions"]] == [
        (False, True, False, True),
        (False, True, True, False),
        (True, True, False, False),
        (False, False, False, False),
    ]
    lines = [
        line for line in publish("list", store=store).stdout.splitlines() if line.startswith("│")
    ]
    cells = [re.split(r" *│ *", line.strip("│").strip()) for line in lines]
    assert [row[:2] for row in cells] == [
        ["1", ""],
        ["2", "files removed"],
        ["3", "current"],
        ["4", "never shown"],
    ]
    assert cells[2][3:10] == ["good", "0.4", "10", "9", "1", "0", "1"]
    assert cells[2][-1] == first.run_id


def test_a_narrow_terminal_loses_columns_and_no_figure_is_cut(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published(store, 1, "a-head-of-some-length", valid_for_h=24.0)
    monkeypatch.setattr(
        versions_table,
        "Console",
        partial(Console, width=130, force_terminal=True, color_system=None),
    )
    versions_table.show(versions_table.history(store), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "too narrow for run, kept, valid until: --json has all columns"
    assert max(len(line) for line in lines) <= 130
    row = [cell.strip() for cell in lines[3].strip("│").split("│")]
    assert (row[0], row[3:]) == ("1", ["a-head-of-some-length", "0.5", "10", "1", "0", ""])


def test_a_live_version_that_readers_refuse_is_seen_in_the_list(store: Store) -> None:
    version = published(store, valid_for_h=1e-9)
    assert "current, expired" in publish("list", store=store).stdout
    storage.remove_file(f"{store.root}/exclusion_list/{version.run_id}/_manifest.json")
    assert "current, files removed" in publish("list", store=store).stdout


def test_a_store_without_versions_has_an_empty_list(store: Store) -> None:
    assert publish("list", store=store).stdout == "no version was published yet\n"
    assert json.loads(publish("list", "--json", store=store).stdout) == {
        "current": None,
        "versions": [],
    }
    small_versions.written(store)
    assert publish("list", store=store).stdout == "no version was published yet\n"
