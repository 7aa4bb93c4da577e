"""Shared by the Spark tests: one session, small catalogs in literal rows, runs without Spark."""

from __future__ import annotations

import functools
import io
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark import SparkContext
from pyspark.sql import SparkSession
from xdist.scheduler import LoadScopeScheduling

from tests.support.clusters import QUICK_JAVA
from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.demo.rooms import draw_room
from toiletspark.launch import session
from toiletspark.model import bundle
from toiletspark.model.head import Head
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id

REPOSITORY = Path(__file__).resolve().parent.parent
# the Python of the other environment: with Spark 3.5 for tests on Spark 4, and the other way round
OTHER_PYTHON = os.environ.get("TOILETSPARK_OTHER_PYTHON", "")
LOCAL_CONF = REPOSITORY / "conf" / "local.toml"
# embedding takes milliseconds, and each picture still has its own vector; torch, because a program
# for OpenVINO takes seconds to convert
TINY_BACKBONE = {
    "backbone.weights": "random",
    "backbone.resize_px": 40,
    "backbone.crop_px": 32,
    "backbone.runtime": "torch",
}
# where the tests' images lie: in temporary folders, on servers on this machine
NEARBY = {
    "fetch.allow": json.dumps([tempfile.gettempdir(), "http://*", "https://*", "s3://*"]),
    "fetch.allow_private": '["127.0.0.0/8"]',
}
# the scores of a network without weights are no probabilities
FIXED = {"publish.policy.name": "fixed"}
SMALL_SPARK = (
    'spark.settings={ "spark.driver.memory" = "1g", "spark.sql.shuffle.partitions" = "4", '
    f'"spark.driver.extraJavaOptions" = "{QUICK_JAVA}" }}'
)
ROOMS = ("exterior", "kitchen", "toilet")
LISTINGS = [
    ("L1", "Harbour", "rent", True),
    ("L2", "Harbour", "rent", True),
    ("L3", "Harbour", "sale", False),
    ("L4", "Old Mill", "rent", True),
    ("L5", "Old Mill", "sale", True),
    ("L6", None, "sale", False),
]


class TwoSessions(LoadScopeScheduling):  # type: ignore[misc]
    """Gives the files that need a Spark session to two processes, a half each.

    The other files go one by one to whichever process is free. pytest-xdist's own groups
    (`loadgroup`) are named in node ids, which pytest no longer lets it change.
    """

    def _split_scope(self, nodeid: str) -> str:
        return part_of(nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoSessions:
    return TwoSessions(config, log)


@functools.cache
def needs_session(file: str) -> bool:
    """Returns True if tests of a file use the session."""
    return "spark: SparkSession" in (REPOSITORY / file).read_text()


def part_of(file: str) -> str:
    """The files that stay together: "spark 0" or "spark 1" for those of the session."""
    return f"spark {zlib.crc32(file.encode()) % 2}" if needs_session(file) else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that need a session, the longest part; then those that take long."""
    parts = {item: part_of(item.nodeid.partition("::")[0]) for item in items}
    slow = {parts[item] for item in items if item.get_closest_marker("slow")}

    def order(item: pytest.Item) -> tuple[bool, bool, str]:
        part = parts[item]
        return not part.startswith("spark "), part not in slow, part

    items.sort(key=order)
    # it is missing with Spark 4, and the marked tests would only say so
    if find_spec("petastorm") is None:
        for item in items:
            if item.get_closest_marker("petastorm"):
                item.add_marker(pytest.mark.skip(reason="petastorm is not installed"))


@pytest.fixture(scope="session", autouse=True)
def spark_local_dirs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Puts what a killed JVM leaves behind among the other files of the tests."""
    os.environ["SPARK_LOCAL_DIRS"] = str(tmp_path_factory.mktemp("spark-local-dirs"))


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session of a test process: two cores, four attempts a task, no UI, torch preloaded."""
    before = dict(os.environ)
    section = conf_files.load([LOCAL_CONF], ["images.path=none", SMALL_SPARK]).spark
    assert section.master == "local[2,4]"
    settings = {**section.settings, "spark.python.daemon.module": "tests.support.warm_daemon"}
    started = session.start(section.model_copy(update={"settings": settings}))
    yield started
    started.stop()
    # a task that was called off may still run there, and its folder goes soon
    java = SparkContext._gateway.proc
    java.stdin.close()
    java.wait(timeout=60)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """conf/base.toml with its own output root; a file that needs more overrides this fixture."""
    return conf_files.load([], [f"output.root={tmp_path / 'output'}", "publish.policy.name=fixed"])


@pytest.fixture
def store(config: Config) -> Store:
    """The store of `config`."""
    return Store.open(config.output.root)


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Makes a Config for literal rows: `make_config({"sample.size": 4}, images=[...])`.

    The tables are written to tmp_path/tables; without `images`, 18 drawn pictures of 6 listings.
    Whatever a test does not say is conf/base.toml with conf/local.toml, the tiny backbone, images
    that lie nearby, and tmp_path/output.
    """

    def make(
        sets: Mapping[str, Any] | None = None,
        *,
        images: pd.DataFrame | None = None,
        listings: pd.DataFrame | None = None,
    ) -> Config:
        folder = tmp_path / "tables"
        folder.mkdir(exist_ok=True)
        images = drawn_images(tmp_path / "pictures") if images is None else images
        listings = listings_frame() if listings is None else listings
        images.to_parquet(folder / "images.parquet", index=False)
        listings.to_parquet(folder / "listings.parquet", index=False)
        settings = {
            "images.path": folder / "images.parquet",
            "listings.path": folder / "listings.parquet",
            "images.columns.image_version": "image_version" if "image_version" in images else "",
            "output.root": tmp_path / "output",
            **TINY_BACKBONE,
            **NEARBY,
            **FIXED,
            **(sets or {}),
        }
        return conf_files.load(
            [LOCAL_CONF], [SMALL_SPARK, *(f"{key}={value}" for key, value in settings.items())]
        )

    return make


def training_python() -> str:
    """`train.python` for a whole chain: if this Python has no SciPy, another one trains."""
    if find_spec("scipy") is not None:
        return ""
    if not OTHER_PYTHON:
        pytest.skip("SciPy is missing, and TOILETSPARK_OTHER_PYTHON names no Python that has it")
    return OTHER_PYTHON


def literal_config(sets: Mapping[str, Any] | None = None) -> Config:
    """A Config without tables: conf/base.toml, the tiny backbone, images nearby, and `sets`."""
    settings = {**TINY_BACKBONE, **NEARBY, **FIXED, **(sets or {})}
    return conf_files.load([], [f"{key}={value}" for key, value in settings.items()])


def listings_frame() -> pd.DataFrame:
    return pd.DataFrame(LISTINGS, columns=["listing_id", "location", "listing_type", "active"])


def drawn_images(folder: Path) -> pd.DataFrame:
    """Three small pictures for each of the six listings."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number, (listing, *_) in enumerate(LISTINGS):
        for position, room in enumerate(ROOMS, start=1):
            path = folder / f"{listing}-{position}.jpg"
            path.write_bytes(picture(room, number))
            rows.append((f"{listing}-{position}", listing, position, str(path), "v1"))
    return pd.DataFrame(
        rows, columns=["image_id", "listing_id", "position", "image_url", "image_version"]
    )


def picture(room: str = "kitchen", seed: int = 0, size_px: tuple[int, int] = (64, 48)) -> bytes:
    """A small drawn JPEG; another seed is another file."""
    return encoded(draw_room(room, seed, size_px))


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def stored(
    store: Store,
    table: tables.Table,
    rows: list[dict[str, Any]],
    *,
    run_id: str | None = None,
    inputs: dict[str, Any] | None = None,
    counts: dict[str, Any] | None = None,
) -> Run:
    """A complete run of one of our tables, written by pyarrow; a row's missing columns are null."""
    run_id = run_id or new_run_id()
    folder = Path(store.folder(table, run_id))
    folder.mkdir(parents=True)
    full = [{name: row.get(name) for name in table.columns} for row in rows]
    pq.write_table(pa.Table.from_pylist(full, table.arrow_schema), folder / "part-0.parquet")
    return store.commit(table, run_id, config={}, inputs=Inputs(**(inputs or {})), counts=counts)


def stored_catalog(store: Store, rows: list[dict[str, Any]], backbone_id: str) -> Run:
    """A catalog as `embed` leaves it."""
    sound = sum(row["status"] == "ok" for row in rows)
    inputs = {"backbone_id": backbone_id}
    return stored(store, tables.CATALOG, rows, inputs=inputs, counts={"sound": sound})


def read_table(spark: SparkSession, config: Config, table: tables.Table) -> pd.DataFrame:
    """All complete runs of one of our tables."""
    return frames.read_all(spark, Store(config.output.root), table).toPandas()


def head_of_chance(config: Config, backbone_id: str) -> Config:
    """The configuration with a head that nobody trained."""
    folder = f"{config.output.root}/head of chance"
    weight = np.random.default_rng(1).normal(size=(2, 512)).astype(np.float32)
    bundle.write(
        folder, Head(("toilet", "other"), ("toilet",), backbone_id, weight, np.zeros(2, np.float32))
    )
    return config.model_copy(update={"score": config.score.model_copy(update={"head": folder})})


def vector(seed: int, length: int = 512) -> bytes:
    """A stored embedding: little-endian float16, >= 0 as after average pooling."""
    return np.abs(np.random.default_rng(seed).normal(size=length)).astype("<f2").tobytes()
