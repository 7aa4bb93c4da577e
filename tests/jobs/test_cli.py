"""The command as people meet it: help, mistakes, summaries, exit codes and progress."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import LOCAL_CONF, REPOSITORY, SMALL_SPARK, stored
from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.errors import AuditError, TableError
from toiletspark.jobs import cli, draw_sample
from toiletspark.launch import job as jobs_module
from toiletspark.launch.job import Job, run_in_turn
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

COMMAND = Path(sys.executable).parent / "toiletspark"


def command(*arguments: Any, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *(str(argument) for argument in arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def told_mistake(done: subprocess.CompletedProcess[str]) -> str:
    """The four-part text of a user's mistake; only Spark's own start is printed beside it."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    start = done.stderr.index("toiletspark: while ")
    text = done.stderr[start:].strip()
    parts = [line[:11] for line in text.splitlines()]
    assert parts == ["toiletspark", "  expected:", "  found:   ", "  do:      "]
    return text


# Help


def test_help_starts_neither_spark_nor_torch() -> None:
    script = (
        "import sys\n"
        "from toiletspark.jobs import cli\n"
        "try:\n    cli.app(['--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'pyspark', 'py4j', 'torch', 'PIL', 'pandas', 'petastorm'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    steps = ["run", "sample", "embed", "train", "score", "publish", "rescore", "feed", "report"]
    for step in [*steps, "labels", "leaks", "demo", "doctor", "keys"]:
        assert re.search(rf"\b{step} ", done.stdout), step


def test_every_step_has_a_help_of_its_own() -> None:
    for step in ("run", "rescore"):
        done = command(step, "--help")
        assert done.returncode == 0
        assert all(option in done.stdout for option in ("--conf", "--set", "--json"))


def test_keys_are_the_text_of_the_base_configuration() -> None:
    assert command("keys").stdout.strip() == (REPOSITORY / "conf" / "base.toml").read_text().strip()


# Mistakes


def test_an_unknown_key(tmp_path: Path) -> None:
    text = told_mistake(command("score", "--set", "publish.operating_treshold=0.7", cwd=tmp_path))
    assert text == (
        "toiletspark: while reading the configuration (--set publish.operating_treshold=0.7)\n"
        "  expected: the keys and values that conf/base.toml explains\n"
        "  found:    unknown key 'publish.operating_treshold' "
        "(did you mean 'publish.operating_threshold'?)\n"
        "  do:       correct the keys named above"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    text = told_mistake(command("run", "--conf", tmp_path / "mytables.toml"))
    assert f"while reading the configuration {tmp_path}/mytables.toml" in text
    assert "No such file or directory" in text


@pytest.mark.slow
def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    sets = [
        SMALL_SPARK,
        f"images.path={tmp_path}/nowhere.parquet",
        f"output.root={tmp_path}/output",
    ]
    arguments = [f"--set={text}" for text in sets]
    text = told_mistake(command("sample", "--conf", LOCAL_CONF, *arguments))
    assert text.startswith(
        f"toiletspark: while reading the images table {tmp_path}/nowhere.parquet\n"
    )


# What a step tells; the session is none here


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets run_step work without Spark; names what was stopped."""
    stopped: list[str] = []
    fake = SimpleNamespace(stop=lambda: stopped.append("session"))

    def start(section: Any, beside: Any) -> Any:
        if beside:
            beside()
        return fake

    monkeypatch.setattr(jobs_module.session, "start", start)
    monkeypatch.setattr(jobs_module.session, "require_same_names", lambda spark, config: None)
    return stopped


def succeeds(work: Workspace) -> dict[str, Any]:
    print("a word of Spark's")
    return {"images": 3, "unscored": {"missing": 1}, "folder": Path("/x"), "exclusion_list": "/y"}


def test_json_is_one_object_on_the_last_line(
    stops: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Job("counting", succeeds).run([LOCAL_CONF], ["output.root=/tmp/x"], True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a word of Spark's"
    assert len(lines) == 2
    told = json.loads(lines[-1])
    assert set(told) == {"images", "unscored", "folder", "exclusion_list", "seconds"}
    assert (told["images"], told["unscored"], told["folder"]) == (3, {"missing": 1}, "/x")
    assert list(told["seconds"]) == ["counting"]
    assert stops == ["session"]


def test_without_json_a_line_per_figure(
    stops: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Job("counting", succeeds).run([LOCAL_CONF], [], False)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[:2] == [f"{'images':20} 3", f"{'unscored':20} " + '{"missing": 1}']


@pytest.mark.parametrize(("error", "code"), [(AuditError, 3), (TableError, 2)])
def test_exit_codes(
    stops: list[str], capsys: pytest.CaptureFixture[str], error: Any, code: int
) -> None:
    def stumbles(work: Workspace) -> dict[str, Any]:
        raise error(doing="auditing", expected="as many", found="fewer", todo="look")

    with pytest.raises(SystemExit) as ended:
        Job("stumbles", stumbles).run([LOCAL_CONF], [], True)
    told = capsys.readouterr()
    assert ended.value.code == code
    assert told.out == ""
    assert (
        told.err
        == "toiletspark: while auditing\n  expected: as many\n  found:    fewer\n  do:       look\n"
    )


def test_a_step_begins_while_spark_starts(stops: list[str]) -> None:
    order: list[str] = []

    def prepare(config: Config) -> None:
        order.append(f"begin in {config.output.root}")

    def step(work: Workspace) -> dict[str, Any]:
        order.append("step")
        return {}

    Job("step", step, prepare=prepare).run([LOCAL_CONF], ["output.root=/tmp/x"], True)
    assert order == ["begin in /tmp/x", "step"]


def test_a_mistake_that_needs_no_spark_is_told_before_it_starts(tmp_path: Path) -> None:
    """There is no such master; a session would fail with Java's stack trace."""
    sets = ["spark.master=local[moon]", "images.path=/nowhere", f"output.root={tmp_path}/output"]
    text = told_mistake(command("rescore", "--conf", LOCAL_CONF, *(f"--set={one}" for one in sets)))
    assert text.startswith("toiletspark: while rescoring the catalog\n")
    assert "`toiletspark train`" in text


def test_a_defect_keeps_its_stack_trace(stops: list[str]) -> None:
    def breaks(work: Workspace) -> dict[str, Any]:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        Job("breaks", breaks).run([LOCAL_CONF], [], False)


def test_an_output_folder_of_somebody_else(
    stops: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(SystemExit) as ended:
        draw_sample.JOB.run([LOCAL_CONF], [f"output.root={tmp_path}"], False)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"toiletspark: while opening the output folder {tmp_path}\n"
        "  expected: a new or empty folder, or one with toiletspark's _toiletspark.json\n"
        "  found:    a folder that holds 1 other things, among them 'thesis.txt'\n"
        "  do:       set output.root to a folder of its own; nothing was touched\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_jobs_in_turn_are_named_and_their_summaries_merged(
    config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    run_ids: list[str] = []

    def first(work: Workspace) -> dict[str, Any]:
        run_ids.append(work.run_id)
        return {"images": 1, "sampled": 2}

    def second(work: Workspace) -> dict[str, Any]:
        run_ids.append(work.run_id)
        return {"images": 5}

    work = Workspace(SimpleNamespace(), store, config)  # type: ignore[arg-type]
    told = run_in_turn([Job("draw", first), Job("draw", second), Job("count", second)], work)
    assert (told["images"], told["sampled"], list(told["seconds"])) == (5, 2, ["draw", "count"])
    assert caplog.messages == ["draw ...", "draw ...", "count ..."]
    assert len({*run_ids, work.run_id}) == 4


@pytest.mark.parametrize("step", ["embed", "rescore"])
@pytest.mark.parametrize(
    ("said", "set_to"),
    [
        (["--retry", "transient"], ['embed.only_retry="transient"']),
        (
            ["--set", "embed.retry=none", "--retry", "failed"],
            ["embed.retry=none", 'embed.only_retry="failed"'],
        ),
        ([], []),
    ],
    ids=["transient", "failed", "not asked for"],
)
def test_failures_alone_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, step: str, said: list[str], set_to: list[str]
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(Job, "run", lambda *arguments: ran.append(arguments))
    done = CliRunner().invoke(cli.app, [step, *said])
    assert done.exit_code == 0, done.output
    ((_, _, sets, as_json),) = ran
    assert (sets, as_json) == (set_to, False)


def test_other_images_than_failures_cannot_be_asked_for() -> None:
    done = CliRunner().invoke(cli.app, ["embed", "--retry", "ok"])
    assert done.exit_code == 2
    assert all(word in done.output for word in ("--retry", "transient", "failed"))


@pytest.mark.parametrize(
    ("said", "job", "set_to"),
    [
        (["export"], "export_labels", []),
        (["export", "--presort"], "export_labels", ["labels.presort=true"]),
        (["import"], "import_labels", []),
        (["import", "--file", 'a "b".json'], "import_labels", ['labels.file="a \\"b\\".json"']),
        (
            ["import", "--folder", "/my labels"],
            "import_labels",
            ['labels.folder="/my labels"', 'labels.file=""', 'labels.table.path=""'],
        ),
        (
            ["import", "--reviewed", "toilet", "--reviewed", "other"],
            "import_labels",
            ['labels.reviewed=["toilet", "other"]'],
        ),
        (
            ["suggest", "--n", "50", "--set", "suggest.seed=3"],
            "suggest_labels",
            ["suggest.seed=3", "suggest.size=50"],
        ),
        (["suggest"], "suggest_labels", []),
        (["second-look"], "second_look", []),
        (["tasks"], "write_tasks", []),
        (["tasks", "--queue", "suggest"], "write_tasks", ['labels.of="suggest"']),
        (
            ["export", "--queue", "suggest", "--presort"],
            "export_labels",
            ['labels.of="suggest"', "labels.presort=true"],
        ),
        (["sheet", "--queue", "second_look"], "make_sheet", ['labels.of="second_look"']),
        (
            ["sheet", "--set", "labels.of=sample", "--queue", "suggest"],
            "make_sheet",
            ["labels.of=sample", 'labels.of="suggest"'],
        ),
        (["sheet"], "make_sheet", []),
        (["sheet", "--queue", "leaks"], "make_sheet", ['labels.of="leaks"']),
    ],
)
def test_the_options_of_labels_set_keys(
    monkeypatch: pytest.MonkeyPatch, said: list[str], job: str, set_to: list[str]
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(Job, "run", lambda *arguments: ran.append(arguments))
    done = CliRunner().invoke(cli.app, ["labels", *said])
    assert done.exit_code == 0, done.output
    ((ran_job, _, sets, _),) = ran
    assert (ran_job.name, sets) == (job, set_to)
    conf_files.load([], sets)  # whatever is set is a value that the configuration takes


def test_labels_come_from_one_source_at_a_time() -> None:
    done = CliRunner().invoke(cli.app, ["labels", "import", "--folder", "x", "--file", "y"])
    assert done.exit_code == 2
    assert "found:    --folder and --file" in done.output


@pytest.mark.parametrize(
    ("said", "set_to"),
    [
        (["draw"], []),
        (["draw", "--n", "50", "--set", "leaks.size=3"], ["leaks.size=3", "leaks.size=50"]),
    ],
)
def test_a_leak_sample_may_be_larger_once(
    monkeypatch: pytest.MonkeyPatch, said: list[str], set_to: list[str]
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(Job, "run", lambda *arguments: ran.append(arguments))
    done = CliRunner().invoke(cli.app, ["leaks", *said])
    assert done.exit_code == 0, done.output
    ((job, _, sets, _),) = ran
    assert (job.name, sets) == ("draw_leaks", set_to)
    assert conf_files.load([], sets).leaks.size == (50 if set_to else 300)


def test_the_leak_meter_needs_no_spark(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    inputs = {"kind": "leaks", "version": 4, "head_id": "h", "operating_threshold": 0.5}
    row = {
        "image_id": "i",
        "content_digest": "d",
        "kept": 1,
        "excluded": 0,
        "inclusion_probability": 1.0,
        "rank": 1,
    }
    stored(store, tables.LEAKS, [row], inputs=inputs)
    code = (
        "import sys; from toiletspark.jobs import cli\n"
        f"try:\n    cli.app(['leaks', 'show', '--json', '--set', 'output.root={tmp_path}'])\n"
        "finally:\n    print(sorted({'pyspark', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    told, loaded = done.stdout.splitlines()
    assert (done.returncode, loaded) == (0, "[]"), done.stderr
    (one,) = json.loads(told)["versions"]
    assert (one["version"], one["missing"], one["said"]) == (4, 1, "too few labels to say: 0 of 1")


def test_the_leak_meter_without_a_sample(tmp_path: Path) -> None:
    text = told_mistake(command("leaks", "show", "--set", f"output.root={tmp_path / 'none'}"))
    assert text.startswith("toiletspark: while reading the leak meter\n")
    assert list(tmp_path.iterdir()) == []


# Progress

SHOWS_PROGRESS = """
import sys
from toiletspark.progress import Progress

shown = Progress("embedding", 40, "images", 0.0 if "often" in sys.argv else 3600.0)
for done in range(10, 41, 10):
    shown.at(done, "remark" if done == 40 else "")
shown.close()
"""


def test_progress_in_a_log_is_lines() -> None:
    for arguments, wanted in ((["often"], ["10", "20", "30", "40"]), ([], ["40"])):
        done = subprocess.run(
            [sys.executable, "-c", SHOWS_PROGRESS, *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
        )
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert [
            re.match(r"embedding: (\d+) of 40 images, [\d,.]+ images/s", line)[1] for line in lines
        ] == wanted
        assert lines[-1].endswith("images/s remark")
        assert "left" not in lines[-1]
        assert "\r" not in done.stderr


def test_progress_on_a_terminal_is_a_bar() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOWS_PROGRESS], stderr=theirs, cwd=REPOSITORY
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux's word for the end of a terminal
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    assert b"\r" in shown
    assert re.search(rb"embedding: +\d+%\|", shown)
    assert b"of 40 images," not in shown
