"""The same catalog through another Python, Spark, pyarrow and numpy: the lists are the same.

TOILETSPARK_OTHER_PYTHON names that Python, as `make test-modern` does; without it there is nothing
to compare with.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import (
    FIXED,
    LOCAL_CONF,
    NEARBY,
    OTHER_PYTHON,
    REPOSITORY,
    SMALL_SPARK,
    TINY_BACKBONE,
    training_python,
)
from toiletspark.demo.catalog import DemoCatalog, draw_catalog
from toiletspark.demo.tour import CLASS_OF_ROOM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not OTHER_PYTHON, reason="TOILETSPARK_OTHER_PYTHON names no other Python"),
]
LISTINGS, IMAGES = 20, 80
KEYS = {
    "sample": "image_id",
    "scores": "image_id",
    "exclusion_list": "image_id",
    "feed": "image_id",
}
KEYS |= {"best_images": "listing_id", "decisions": "image_id", "catalog": "image_id"}
OF_THE_RUN = {"run_id", "head_id", "attempted_at", "scored_at", "since"}


def versions(python: str) -> list[str]:
    code = (
        "import numpy, pyarrow, pyspark; "
        "print(pyspark.__version__, pyarrow.__version__, numpy.__version__)"
    )
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def run(python: str, drawn: DemoCatalog, output: Path) -> dict[str, Any]:
    """The whole chain as a process of its own; returns its summary."""
    settings = {
        "listings.path": drawn.listings,
        "images.path": drawn.images,
        "images.columns.image_version": "image_version",
        "labels.table.path": output.parent / "labels.csv",
        "labels.table.columns.class": "room",
        "labels.labeller": "test",
        "output.root": output,
        "sample.size": 60,
        "sample.min_per_stratum": 1,
        "embed.images_per_batch": 1,  # in a batch, an embedding's last bit hangs on its neighbours
        "train.validation_share": 0.4,
        "train.python": training_python() or sys.executable,
        **TINY_BACKBONE,
        **NEARBY,
        **FIXED,
    }
    command = [
        python,
        "-m",
        "toiletspark.jobs.cli",
        "run",
        "--conf",
        LOCAL_CONF,
        "--json",
        "--set",
        SMALL_SPARK,
    ]
    command += [f"--set={key}={value}" for key, value in settings.items()]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYSPARK", "SPARK"))
    }
    environment = {**kept, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=output.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Output roots of this world and of the other."""
    folder = tmp_path_factory.mktemp("worlds")
    drawn = draw_catalog(folder / "catalog", listings=LISTINGS)
    truth = pd.read_csv(drawn.truth)
    truth.assign(room=truth["room"].map(CLASS_OF_ROOM)).to_csv(folder / "labels.csv", index=False)
    roots = (folder / "this", folder / "other")
    for python, root in zip((sys.executable, OTHER_PYTHON), roots, strict=True):
        told = run(python, drawn, root)
        assert told["images"] == IMAGES
    return roots


def rows(root: Path, table: str) -> pd.DataFrame:
    (folder,) = (path for path in (root / table).iterdir() if (path / "_manifest.json").exists())
    frame = pd.read_parquet(folder).sort_values(KEYS[table]).reset_index(drop=True)
    return frame[sorted(set(frame.columns) - OF_THE_RUN)]


def test_the_worlds_are_two() -> None:
    assert [
        one != other
        for one, other in zip(*map(versions, (sys.executable, OTHER_PYTHON)), strict=True)
    ] == [True] * 3


def test_every_content_has_the_same_embedding(both: tuple[Path, Path]) -> None:
    stored = []
    for root in both:
        frames = [pd.read_parquet(path) for path in (root / "embeddings").glob("*/*.parquet")]
        stored.append(
            pd.concat(frames).sort_values("content_digest").set_index("content_digest")["embedding"]
        )
    assert stored[0].index.tolist() == stored[1].index.tolist()
    ours, others = (
        np.stack([np.frombuffer(one, "<f2") for one in column]).astype("f4") for column in stored
    )
    np.testing.assert_allclose(ours, others, atol=0, rtol=1e-3)  # the last bit of a float16


@pytest.mark.parametrize("table", KEYS)
def test_the_tables_are_the_same(both: tuple[Path, Path], table: str) -> None:
    ours, others = (rows(root, table) for root in both)
    assert len(ours) > 5
    pd.testing.assert_frame_equal(ours, others, atol=1e-5, rtol=0)
