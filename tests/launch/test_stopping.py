"""Ctrl-C and SIGTERM end a program with one sentence, its exit code, and no child left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import LOCAL_CONF, REPOSITORY

# a program with a child, and a trainer's child in a group of its own
PLAIN = """
import subprocess, sys, time
from toiletspark.config import command_line
from toiletspark.errors import UserError

def program() -> None:
    with command_line.reported_errors():
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        children = [subprocess.Popen(sleep), subprocess.Popen(sleep, process_group=0)]
        print(*[child.pid for child in children], flush=True)
        time.sleep(60)

command_line.run_program(program)
"""
# a program whose Python workers sleep in the middle of a write; the main thread waits for Java
ON_SPARK = f"""
import time
from toiletspark.config import command_line, loading
from toiletspark.launch import session
from toiletspark.progress import watch

def program(folder: str) -> None:
    def slowly(batches):
        open(folder + "/working", "w").close()
        time.sleep(60)
        yield from batches

    with command_line.reported_errors():
        sets = ["images.path=none", "spark.master=local[1]"]
        spark = session.start(loading.load([{str(LOCAL_CONF)!r}], sets).spark)
        java = spark.sparkContext._gateway.proc.pid
        print(java, flush=True)
        with watch(spark, "working", 10):
            spark.range(10).mapInPandas(slowly, "id long").write.parquet(folder + "/written")

command_line.run_program(program)
"""


def started(code: str, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def has_ended(process: int) -> bool:
    """Waits a while for a process to be gone, or to be a zombie for which nobody waits."""
    for _ in range(100):
        status = Path(f"/proc/{process}/status")
        try:
            if "\nState:\tZ" in status.read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


def sentence(name: str) -> str:
    return f"toiletspark: stopped by {name}: whatever was complete is kept ("


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_program_ends_with_a_sentence_and_its_children(number: signal.Signals, name: str) -> None:
    program = started(PLAIN)
    assert program.stdout
    children = list(map(int, program.stdout.readline().split()))
    program.send_signal(number)
    _, messages = program.communicate(timeout=60)
    assert program.returncode == 128 + number
    assert messages.strip().startswith(sentence(name))
    assert len(messages.strip().splitlines()) == 1
    assert all(map(has_ended, children))


def test_spark_ends_without_a_trace_amid_a_task(tmp_path: Path) -> None:
    program = started(ON_SPARK, tmp_path)
    assert program.stdout
    java = int(program.stdout.readline())
    while not (tmp_path / "working").exists() and program.poll() is None:
        time.sleep(0.1)
    program.send_signal(signal.SIGINT)
    _, messages = program.communicate(timeout=120)
    assert program.returncode == 130, messages
    assert sentence("Ctrl-C") in messages
    after = messages.partition(sentence("Ctrl-C"))[2]
    assert len(after.strip().splitlines()) == 1
    assert "Traceback" not in messages
    assert "\tat " not in messages
    assert has_ended(java)
