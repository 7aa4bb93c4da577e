"""Files that crash, hang or eat memory, in a real run: one row each, and no task is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import drawn_images, read_table
from tests.support import poison
from toiletspark.config import Config
from toiletspark.jobs import embed_images
from toiletspark.tables import schemas as tables
from toiletspark.tables.workspace import Workspace

POISONS = {
    **dict.fromkeys(("segfault 1", "segfault 2", "abort"), "crashed"),
    **dict.fromkeys(("allocate 1", "allocate 2"), "out_of_memory"),
    "loop": "decode_timeout",
    **dict.fromkeys(("sleep_in_c", "loop_unheard"), "busy"),  # by the clock
}


@pytest.fixture
def poisonous_workers(spark: SparkSession) -> Iterator[None]:
    environment = spark.sparkContext.environment
    environment["TOILETSPARK_DECODE_HOOK"] = poison.__file__
    yield
    del environment["TOILETSPARK_DECODE_HOOK"]


def with_poisons(folder: Path) -> pd.DataFrame:
    """Poisons of every kind between 18 sound pictures, each alone in its content."""
    sound = drawn_images(folder)
    rows = []
    for number, name in enumerate(POISONS):
        path = folder / f"{number}.jpg"
        path.write_bytes(
            poison.MARK + name.partition(" ")[0].encode() + poison.PICTURE + name.encode()
        )
        rows.append((name, "L1", 9, str(path), "v1"))
    mixed = pd.concat([sound, pd.DataFrame(rows, columns=sound.columns)], ignore_index=True)
    return mixed.sample(frac=1, random_state=5)


def failed_tasks(spark: SparkSession) -> int:
    """Failed tasks of all jobs of this session, as Spark counts them."""
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    return sum(executors.apply(number).failedTasks() for number in range(executors.size()))


@pytest.mark.usefixtures("poisonous_workers")
def test_poisonous_files_are_rows_and_no_task_is_lost(
    spark: SparkSession, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    images = with_poisons(tmp_path)
    config = make_config({"decode.timeout_s": 1, "embed.images_per_task": 5}, images=images)
    before = failed_tasks(spark)
    embed_images.step(Workspace.open(spark, config))
    ledger = read_table(spark, config, tables.IMAGE_LEDGER)
    found = dict(zip(ledger["image_id"], ledger["status"], strict=True))
    assert len(ledger) == len(images)
    assert found == {**dict.fromkeys(images["image_id"], "ok"), **POISONS}
    assert failed_tasks(spark) == before
