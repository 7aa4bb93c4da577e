"""One images table whose images are on every kind of store, through Spark."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from tests.conftest import picture
from tests.support.object_store import ObjectStore
from toiletspark.config import Config
from toiletspark.hashing import content_digest
from toiletspark.jobs import embed_images
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))
    ) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def urls_by_store(content: bytes, folder: Path, site: str, store: ObjectStore) -> dict[str, str]:
    """The same bytes on all kinds of stores; their URLs by kind."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("kitchen/a.jpg")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    (folder / "a.jpg").write_bytes(content)
    (folder / "site" / "a.jpg").write_bytes(content)
    pq.write_table(pa.table({"key": ["a"], "content": [content]}), folder / "1.parquet")
    return {
        "path": str(folder / "a.jpg"),
        "file": f"file://{folder}/a.jpg",
        "http": f"{site}/a.jpg",
        "s3": store.put("a.jpg", content),
        "s3a": store.put("a.jpg", content).replace("s3://", "s3a://"),
        "tar on s3": f"tar://kitchen/a.jpg::{store.put('1.tar', packed.getvalue())}",
        "parquet": f"parquet://a::{folder}/1.parquet",
    }


def test_images_come_from_everywhere(
    spark: SparkSession,
    make_config: Callable[..., Config],
    site: str,
    store: ObjectStore,
    tmp_path: Path,
) -> None:
    content = picture("toilet", 3)
    urls = urls_by_store(content, tmp_path, site, store)
    gone = {
        "no object": "s3://photos/b.jpg",
        "denied": store.put("denied/a.jpg", content),
        "no member": urls["tar on s3"].replace("a.jpg", "b.jpg"),
    }
    rows = [(name, "L1", 1, url, "v1") for name, url in {**urls, **gone}.items()]
    images = pd.DataFrame(
        rows, columns=["image_id", "listing_id", "position", "image_url", "image_version"]
    )
    text = ", ".join(
        f'{key} = "{value}"' for key, value in store.options.items() if isinstance(value, str)
    )
    allow = json.dumps([str(tmp_path), f"{site}/", "s3://photos/"])
    config = make_config(
        {"fetch.allow": allow, "fetch.storage_options.s3": f"{{ {text} }}"}, images=images
    )

    summary = embed_images.step(Workspace.open(spark, config))

    kept = Store(config.output.root)
    ledger = spark_io.read_all(spark, kept, schemas.IMAGE_LEDGER).toPandas().set_index("image_id")
    assert dict(ledger["status"]) == {
        **dict.fromkeys(urls, "ok"),
        "no object": "missing",
        "denied": "denied",
        "no member": "missing",
    }
    assert set(ledger.loc[list(urls), "content_digest"]) == {content_digest(content)}
    embeddings = spark_io.read_all(spark, kept, schemas.EMBEDDINGS).toPandas()
    assert list(embeddings["content_digest"]) == [content_digest(content)]
    assert summary["attempted"] == len(rows)
    manifests = "".join(path.read_text() for path in (tmp_path / "output").rglob("_manifest.json"))
    assert "(redacted)" in manifests
    assert store.options["secret"] not in manifests
