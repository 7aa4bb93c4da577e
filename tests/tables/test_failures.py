"""What Spark, Arrow and stores raise becomes four parts: where, first cause, remedy. No Spark."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pyarrow as pa
import pytest

from tests.conftest import literal_config
from toiletspark.config.command_line import reported_errors
from toiletspark.errors import OutputError, TableError, ToiletsparkError, UserError
from toiletspark.tables import arrow_io, failures, schemas, storage
from toiletspark.tables.runs import Run

ROOT, RUN = "/data/out [new]", "20261123T151204123456Z-9f3c"
CONFIG = literal_config(
    {"output.root": ROOT, "images.path": "s3a://lake/photos", "listings.path": "/data/out listings"}
)
TASK = (
    "An error occurred while calling o1.save.\n: org.apache.spark.SparkException: Job aborted due "
    "to stage failure: Task 1 in stage 4.0 failed 4 times, most recent failure: Lost task 1.3 in "
    "stage 4.0 (TID 8) (host executor 2): {0}\n\tat java.base/java.lang.Thread.run(Thread.java)\n"
    "\nDriver stacktrace:\n\tat org.apache.spark.Scheduler.stop(X.scala:1)\nCaused by: {0}\n"
    "\t... 1 more"
)


class JavaError(Exception):
    __module__ = "py4j.protocol"


def explained(error: Exception) -> ToiletsparkError:
    with pytest.raises(ToiletsparkError) as raised, failures.explained(CONFIG, "embed_images"):
        raise error
    assert raised.value.__cause__ is error
    return raised.value


@pytest.mark.parametrize(
    ("text", "expected", "todo"),
    [
        (
            "java.lang.ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem "
            "not found",
            "a connector of Spark",
            "hadoop-aws",
        ),
        (
            'org.apache.hadoop.fs.UnsupportedFileSystemException: No FileSystem for scheme "gs"',
            "a connector of Spark",
            "gcs-connector",
        ),
        (
            "java.nio.file.AccessDeniedException: s3a://lake/photos/a.parquet: getFileStatus: "
            "(Service: Amazon S3; Status Code: 403; Error Code: 403 Forbidden)",
            "the right to read",
            "credentials",
        ),
        (
            "com.amazonaws.services.s3.model.AmazonS3Exception: Please reduce your request rate. "
            "(Service: Amazon S3; Status Code: 503; Error Code: SlowDown)",
            "a store that answers",
            "run this again",
        ),
        ("java.net.UnknownHostException: lake.example", "a store that answers", "address"),
        ("java.io.IOException: No space left on device", "room on the disk", "spark.local.dir"),
        ("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException: x", "quota", "raise the quota"),
        (
            "java.io.FileNotFoundException: /x/part-0 (Permission denied)",
            "the right to read",
            "on the workers",
        ),
        (
            "java.io.FileNotFoundException: File file:/x/part-0 does not exist. It is possible "
            "the underlying files have been updated",
            "the file that was there",
            "run this again",
        ),
        (
            "java.lang.RuntimeException: s3a://lake/photos/a.parquet is not a Parquet file. "
            "Expected magic number at tail, but found [1]",
            "whole files",
            "images.options = { pathGlobFilter",
        ),
    ],
)
def test_a_failed_task(text: str, expected: str, todo: str) -> None:
    error = explained(JavaError(TASK.format(text)))
    assert isinstance(error, UserError) and error.exit_code == 2
    assert expected in error.expected and todo in error.todo
    message = text.partition(": ")[2]
    assert message in error.found or text.rpartition(".")[2] in error.found
    assert "\n" not in error.found and "executor" not in error.found


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "room on the disk"),
        (errno.EDQUOT, "room within the quota"),
        (errno.EACCES, "the right to read and write there"),
        (errno.EROFS, "a location that can be written and read"),
        (errno.ENAMETOOLONG, "a location that can be written and read"),
        (errno.ETIMEDOUT, "a store that answers"),
    ],
)
def test_the_driver_s_own_file_system(number: int, expected: str) -> None:
    error = explained(OSError(number, os.strerror(number), f"{ROOT}/scores/x/part-0.parquet"))
    assert isinstance(error, OutputError)
    assert error.doing == f"running the step embed_images in the output root {ROOT}"
    assert error.expected == expected and "part-0.parquet" in error.found


@pytest.mark.parametrize(
    ("path", "doing", "file"),
    [
        ("s3a://lake/photos/day=1/a.parquet", "reading the images table s3a://lake/photos", "a.p"),
        ("file:/data/out%20listings/b.csv", "reading the listings table /data/out listings", "b.c"),
        (f"file:{ROOT}/_work/{RUN}/x/c.parquet", "running the step embed_images in the", "c.p"),
        ("file:/data/elsewhere/d.parquet", "running the step embed_images", "d.p"),
    ],
)
def test_the_table_is_that_whose_path_stands_in_the_text(path: str, doing: str, file: str) -> None:
    text = f"org.apache.spark.SparkException: Encountered error while reading file {path}. Details:"
    error = explained(JavaError(TASK.format(text)))
    assert error.doing.startswith(doing) and file in error.found


def test_a_file_that_is_not_named_is_searched_for() -> None:
    asked: list[str] = []

    def damaged_file(table: object) -> str:
        asked.append(table.path)
        return "b.csv.gz" if len(asked) == 2 else ""

    text = "java.io.EOFException: Unexpected end of input stream"
    with (
        pytest.raises(TableError) as raised,
        failures.explained(CONFIG, "embed", damaged_file),
    ):
        raise JavaError(TASK.format(text))
    assert asked == ["/data/out listings", "s3a://lake/photos"]
    assert raised.value.doing == "reading the images table s3a://lake/photos"
    assert raised.value.found == "b.csv.gz: EOFException: Unexpected end of input stream"


def test_an_unknown_cause_is_told_with_exit_code_1_and_a_bug_stays_a_bug() -> None:
    error = explained(JavaError(TASK.format("java.lang.OutOfMemoryError: Java heap space")))
    assert (error.exit_code, error.found) == (1, "OutOfMemoryError: Java heap space")
    with pytest.raises(KeyError), failures.explained(CONFIG, "embed"):
        raise KeyError("x")
    known = TableError(doing="a", expected="b", found="c", todo="d")
    with pytest.raises(TableError, match="while a") as raised, failures.explained(CONFIG, "embed"):
        raise known
    assert raised.value is known


@pytest.mark.parametrize(
    ("table", "step"),
    [("embeddings", "embed"), ("catalog", "embed"), ("scores", "score"), ("feed", "feed")],
)
def test_a_damaged_file_of_ours_is_made_again(table: str, step: str) -> None:
    path = f"{ROOT}/{table}/{RUN}/part-0.parquet"
    text = f"java.lang.RuntimeException: file:{path} is not a Parquet file (length is too low: 5)"
    error = explained(JavaError(TASK.format(text)))
    todo = f"remove the folder {ROOT}/{table}/{RUN} and run `toiletspark {step}`: it is made again"
    assert (type(error), error.todo) == (OutputError, todo)


def test_what_people_made_is_not_made_again() -> None:
    for table in ("labels", "decisions", "heads", "exclusion_list"):
        assert storage.remedy(f"{ROOT}/{table}/{RUN}/x").startswith("take the file from a backup")
    assert storage.remedy(f"{ROOT}/_work/{RUN}/x").startswith("run the step again")


def test_a_small_file_of_ours_that_is_no_parquet(tmp_path: Path) -> None:
    file = {"name": "part-0.parquet", "bytes": 5, "rows": 1}
    folder = tmp_path / "scores" / RUN
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(b"PAR1x")
    run = Run(folder=str(folder), table="scores", run_id=RUN, files=[file])
    with pytest.raises(OutputError, match="ArrowInvalid: Parquet") as raised:
        arrow_io.read(run)
    assert raised.value.doing == f"reading {folder}/part-0.parquet"
    assert raised.value.todo.startswith(f"remove the folder {folder} and run `toiletspark score`")
    assert schemas.SCORES.name == "scores"


def test_the_trace_goes_to_a_file_that_the_message_names(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(SystemExit) as ended,
        caplog.at_level(logging.ERROR, "toiletspark"),
        reported_errors(check_packages=False),
        failures.explained(CONFIG, "embed"),
    ):
        raise pa.ArrowInvalid("Parquet magic bytes not found in footer")
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed and "found:    ArrowInvalid: Parquet magic" in printed
    trace = Path(printed.rpartition("trace:")[2].strip())
    assert trace.read_text().startswith("Traceback (most recent call last)")
    trace.unlink()
