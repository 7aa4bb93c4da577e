"""Each sound image has the heads' scores of its own embedding, wherever that lies: against one
image after another.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import vector
from toiletspark.model.head import Head
from toiletspark.scoring import pipeline
from toiletspark.tables import schemas, storage

CONTENTS, FILES = 60, 4
_EMBEDDED = pa.schema(
    [("content_digest", pa.string()), ("backbone_id", pa.string()), ("embedding", pa.binary())]
)


def made_head(*classes: str) -> Head:
    rng = np.random.default_rng(len(classes))
    weight = rng.normal(scale=0.1, size=(len(classes), 512)).astype(np.float32)
    return Head(
        classes, classes[:2], "ours", weight, rng.normal(size=len(classes)).astype(np.float32)
    )


HEADS = [made_head("kitchen", "toilet", "bathroom"), made_head("toilet", "other")]


@pytest.fixture
def embeddings(tmp_path: Path) -> list[str]:
    """Files of several row groups, the last of them empty; contents are named by the seed of their
    vector.
    """
    files = []
    for number in range(FILES):
        rows = [
            {"content_digest": f"d{one}", "backbone_id": "ours", "embedding": vector(one)}
            for one in range(number, CONTENTS, FILES - 1)
            if number < FILES - 1
        ]
        files.append(str(tmp_path / f"embeddings-{number}.parquet"))
        pq.write_table(pa.Table.from_pylist(rows, _EMBEDDED), files[-1], row_group_size=7)
    return files


def image(number: int, content: int, **other: Any) -> dict[str, Any]:
    """A row of the catalog."""
    location = {"embedding_file": content % (FILES - 1), "embedding_row": content // (FILES - 1)}
    named = {
        "image_id": f"i{number}",
        "listing_id": f"L{number // 3}",
        "status": "ok",
        "content_digest": f"d{content}",
    }
    return {**named, **location, **other}


def catalog(folder: Path, images: list[dict[str, Any]]) -> str:
    kinds = {"string": pa.string(), "int": pa.int32(), "boolean": pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in schemas.CATALOG.columns.items()])
    full = [{name: row.get(name) for name in schemas.CATALOG.columns} for row in images]
    pq.write_table(
        pa.Table.from_pylist(full, schema), folder / "catalog.parquet", row_group_size=50
    )
    return str(folder / "catalog.parquet")


def scored(file: str, embeddings: list[str], rows_per_batch: int = 16) -> pd.DataFrame:
    batches = list(pipeline.score_file(file, embeddings, HEADS, rows_per_batch))
    return pa.Table.from_batches(batches).to_pandas().set_index("image_id")


def slowly(head: Head, content: int) -> list[float]:
    """Exclusion score and probabilities of one content, one number after another."""
    embedding = np.frombuffer(vector(content), dtype="<f2").astype(float)
    logits = [
        sum(w * e for w, e in zip(row, embedding, strict=True)) for row in head.weight.astype(float)
    ]
    powers = [
        np.exp(logit + bias) for logit, bias in zip(logits, head.bias.astype(float), strict=True)
    ]
    shares = [power / sum(powers) for power in powers]
    return [
        sum(
            share
            for share, name in zip(shares, head.classes, strict=True)
            if name in head.exclude_classes
        ),
        *shares,
    ]


@pytest.mark.parametrize(("rows_per_batch", "images_at_once"), [(1, 32768), (4096, 13), (5, 1)])
def test_each_image_has_the_scores_of_its_content(
    tmp_path: Path,
    embeddings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    rows_per_batch: int,
    images_at_once: int,
) -> None:
    monkeypatch.setattr(pipeline, "_IMAGES_AT_ONCE", images_at_once)
    contents = np.random.default_rng(5).integers(0, CONTENTS, 150).tolist()
    failed = [image(1000 + number, number, status="missing") for number in range(5)]
    rows = [*(image(number, content) for number, content in enumerate(contents)), *failed]
    result = scored(catalog(tmp_path, rows), embeddings, rows_per_batch)
    # in order, each once, the failed ones left out
    assert list(result.index) == [f"i{number}" for number in range(150)]
    assert list(result["listing_id"]) == [f"L{number // 3}" for number in range(150)]
    assert list(result["content_digest"]) == [f"d{content}" for content in contents]
    names = [pipeline.score_columns(number, head) for number, head in enumerate(HEADS)]
    assert names[1] == ["h1_exclusion_score", "h1_p_toilet", "h1_p_other"]
    for head, columns in zip(HEADS, names, strict=True):
        right = [slowly(head, content) for content in contents]
        np.testing.assert_allclose(result[columns], right, atol=2e-5)
        assert result[columns].dtypes.eq(np.float32).all()


WRONG = {
    "no location": {"embedding_file": None, "embedding_row": None},
    "no row": {"embedding_row": None},
    "another content's row": {"embedding_row": 1},
    "another file": {"embedding_file": 1},
    "an empty file": {"embedding_file": FILES - 1},
    "a row beyond the last": {"embedding_row": 20},
    "a row far beyond": {"embedding_row": 2**31 - 1},
    "no content": {"content_digest": None},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_embedding_that_is_not_where_it_should_be_is_nobodys(
    tmp_path: Path, embeddings: list[str], wrong: dict[str, Any]
) -> None:
    rows = [image(0, 0), image(1, 0, **wrong), image(2, 59)]
    result = scored(catalog(tmp_path, rows), embeddings)
    scores = result.drop(columns=["listing_id", "content_digest"])
    assert scores.loc["i1"].isna().all()
    assert scores.loc[["i0", "i2"]].notna().all(axis=None)


def test_a_file_that_is_gone_takes_only_its_own_scores_with_it(
    tmp_path: Path, embeddings: list[str]
) -> None:
    file = catalog(tmp_path, [image(number, number) for number in range(6)])
    Path(embeddings[1]).unlink()
    result = scored(file, embeddings)
    assert list(result.index[result["h0_exclusion_score"].isna()]) == ["i1", "i4"]


def test_a_file_of_embeddings_is_read_once_and_only_if_it_is_named(
    tmp_path: Path, embeddings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_filesystem = storage.open_filesystem

    def counted(location: str) -> Any:
        opened.append(location)
        return open_filesystem(location)

    monkeypatch.setattr(storage, "open_filesystem", counted)
    monkeypatch.setattr(pipeline, "_IMAGES_AT_ONCE", 4)
    rows = [
        image(number, content)
        for number, content in enumerate(itertools.chain.from_iterable([(0, 1)] * 10))
    ]
    file = catalog(tmp_path, rows)
    assert scored(file, embeddings)["h0_exclusion_score"].nunique() == 2
    assert sorted(opened) == sorted([file, *embeddings[:2]])


def test_a_catalog_of_failures_reads_no_embeddings(tmp_path: Path) -> None:
    file = catalog(tmp_path, [image(0, 0, status="timeout"), image(1, 1, status=None)])
    assert len(scored(file, ["nowhere"])) == 0
