"""Shards for the tests, and fetchers that lose no time with them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import literal_config
from tests.support.object_store import ObjectStore
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.images.statuses import STATUSES

BASE = literal_config().fetch
QUICK = BASE.model_copy(
    update={
        "allow": [*BASE.allow, "counted://shards/", "s3://photos/"],
        "first_wait_s": 0.001,
        "max_wait_s": 0.002,
        "max_image_bytes": 10_000,
    }
)
CONTENTS = {f"kitchen/{number:03}.jpg": bytes([number]) * (100 + number) for number in range(30)}
SECRET = "s3cr3t-token"


def tar_of(contents: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def parquet_of(
    contents: dict[str, Any], rows_per_group: int = 8, key: str = "key", content: str = "content"
) -> bytes:
    file = io.BytesIO()
    table = pa.table(
        {key: list(contents), "more": [0] * len(contents), content: list(contents.values())}
    )
    pq.write_table(table, file, row_group_size=rows_per_group)
    return file.getvalue()


MAKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {"tar": tar_of, "parquet": parquet_of}


def fetcher(store: ObjectStore | None = None, **limits: Any) -> Fetcher:
    options = {"s3": store.options} if store else {}
    allow = QUICK.allow + ([f"{store.options['endpoint_url']}/"] if store else [])
    return Fetcher(QUICK.model_copy(update={"storage_options": options, "allow": allow, **limits}))


def one(url: str, by: Fetcher | None = None) -> Fetched:
    result = (by or fetcher()).start(url).result()
    assert result.status in STATUSES
    assert (result.content is not None) == (result.status == "ok")
    for summary in (SECRET, "127.0.0.1", "://", "photos", "kitchen"):
        assert summary not in result.detail
    return result
