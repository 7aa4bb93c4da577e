"""Members of shards, on disk and in a store: their bytes, or what became of them."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.support.object_store import ObjectStore
from tests.support.shard_files import CONTENTS, MAKERS, SECRET, fetcher, one, parquet_of, tar_of
from toiletspark.config import Fetch, ShardColumns, loading
from toiletspark.images.fetching import Fetched, shard_of, shards


class Counted(MemoryFileSystem):
    """Counts what is asked of it, by kind and path."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked: ClassVar[Counter[tuple[str, str]]] = Counter()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("counted://").strip("/")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            Counted.asked["open", path] += 1
        return super()._open(path, mode, **options)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        Counted.asked["range", path] += 1
        with MemoryFileSystem._open(self, path, "rb") as file:
            file.seek(start or 0)
            return bytes(file.read(-1 if end is None else end - (start or 0)))


@pytest.fixture
def counted() -> Iterator[Callable[[str, bytes], str]]:
    fsspec.register_implementation("counted", Counted, clobber=True)
    Counted.asked.clear()

    def put(name: str, content: bytes) -> str:
        Counted.store.pop(f"/shards/{name}", None)
        Counted().pipe_file(f"/shards/{name}", content)
        return f"counted://shards/{name}"

    yield put
    Counted.store.clear()


# Members of shards


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("where", ["disk", "file URL", "s3", "http"])
def test_members_are_their_bytes(kind: str, where: str, store: ObjectStore, tmp_path: Path) -> None:
    if where in ("s3", "http"):
        shard = store.put(f"0001.{kind}", MAKERS[kind](CONTENTS))
        shard = shard if where == "s3" else shard.replace("s3:/", store.options["endpoint_url"])
    else:
        (tmp_path / f"0001.{kind}").write_bytes(MAKERS[kind](CONTENTS))
        shard = f"{'file://' * (where == 'file URL')}{tmp_path}/0001.{kind}"
    by = fetcher(store)
    result = by.fetch([f"{kind}://{name}::{shard}" for name in [*CONTENTS, *reversed(CONTENTS)]])
    assert [one.content for one in result] == [*CONTENTS.values(), *reversed(CONTENTS.values())]
    assert one(f"{kind}://nowhere.jpg::{shard}", by) == Fetched("missing", "no such member")


@pytest.mark.parametrize("kind", MAKERS)
def test_a_shard_that_cannot_be_had_is_a_status(
    kind: str, store: ObjectStore, tmp_path: Path
) -> None:
    by = fetcher(store)
    assert one(f"{kind}://a.jpg::{tmp_path}/nowhere", by) == Fetched("missing", "FileNotFoundError")
    assert one(f"{kind}://a.jpg::{tmp_path}", by) == Fetched("missing", "IsADirectoryError")
    assert one(f"{kind}://a.jpg::s3://photos/nowhere", by).status == "missing"
    denied = store.put(f"denied/1.{kind}", MAKERS[kind](CONTENTS))
    assert one(f"{kind}://kitchen/001.jpg::{denied}", by) == Fetched("denied", "http 403")
    assert one(f"{kind}://a.jpg::nosuchscheme://x", by) == Fetched("refused", "scheme")


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "content", [b"", b"no shard at all", bytes(100_000), b"\xff" * 100_000], ids=len
)
def test_a_file_that_is_no_shard_is_damaged(kind: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    wanted = "no such member" if kind == "tar" and content == bytes(100_000) else "damaged shard"
    status = "missing" if wanted == "no such member" else "bad_answer"
    assert one(f"{kind}://a.jpg::{tmp_path}/a") == Fetched(status, wanted)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_shard_is_opened_once_whoever_asks(
    kind: str, counted: Callable[[str, bytes], str]
) -> None:
    """A thread each, all at once; and members that are not there ask nothing of the store."""
    shard = counted(f"a.{kind}", MAKERS[kind](CONTENTS))
    by = fetcher(threads_per_task=16, max_per_host=16, open_row_groups=4)
    names = [f"{kind}://{name}::{shard}" for name in CONTENTS]
    assert {one.status for one in by.fetch(names * 3)} == {"ok"}
    assert {
        one.status for one in by.fetch([f"{kind}://{number}::{shard}" for number in range(99)])
    } == {"missing"}
    assert Counted.asked["open", f"/shards/a.{kind}"] == 1
    assert Counted.asked["range", f"/shards/a.{kind}"] == (90 if kind == "tar" else 0)


def test_a_damaged_shard_is_not_opened_for_each_member(
    counted: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = counted("a.parquet", b"no shard at all")
    by = fetcher()
    for _ in range(2):
        assert {one.detail for one in by.fetch([f"parquet://{n}::{shard}" for n in range(30)])} == {
            "damaged shard"
        }
    assert Counted.asked["open", "/shards/a.parquet"] == 1
    # once it may have been mended, it is looked at again
    monkeypatch.setattr(shards, "_RETRY_FAILED_S", -1.0)
    by = fetcher()
    assert one(f"parquet://a::{shard}", by).status == "bad_answer"
    counted("a.parquet", parquet_of({"a": b"abc"}))
    assert one(f"parquet://a::{shard}", by).content == b"abc"


def test_few_shards_are_kept_open(counted: Callable[[str, bytes], str]) -> None:
    names = [counted(f"{number}.tar", tar_of({"a": b"abc"})) for number in range(3)]
    by = fetcher(open_shards=2)
    for number in (0, 1, 0, 2, 0, 1):  # 2 pushes out 1, which was used before 0
        assert one(f"tar://a::{names[number]}", by).content == b"abc"
    assert [Counted.asked["open", f"/shards/{number}.tar"] for number in range(3)] == [1, 2, 1]


@pytest.mark.parametrize(
    ("url", "shard"),
    [
        ("tar://a/b.jpg::s3://bucket/1.tar", "s3://bucket/1.tar"),
        ("parquet://KEY::/photos/1.parquet", "/photos/1.parquet"),
        ("tar://a.jpg::simplecache::s3://bucket/1.tar", "simplecache::s3://bucket/1.tar"),
        ("tar://a.jpg", ""),
        ("tar://a.jpg::", ""),
        ("zip://a.jpg::/1.zip", ""),
        ("s3://bucket/a.jpg", ""),
        ("/photos/a::b.jpg", ""),
        ("", ""),
    ],
)
def test_the_shard_of_a_url(url: str, shard: str) -> None:
    assert shard_of(url) == shard


# tar


def test_names_in_a_tar_are_as_its_users_write_them(tmp_path: Path) -> None:
    name = "x" * 300 + "/ü.jpg"  # too long for the old header
    (tmp_path / "a.tar").write_bytes(
        tar_of({"./a.jpg": b"a", "/b.jpg": b"b", name: b"c", "twice": b"1", "twice/": b""})
    )
    result = {
        key: one(f"tar://{key}::{tmp_path}/a.tar").content
        for key in ("a.jpg", "./a.jpg", "/b.jpg", "b.jpg", name)
    }
    assert list(result.values()) == [b"a", b"a", b"b", b"b", b"c"]


def test_only_files_are_members_of_a_tar(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"abc")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "a.jpg")
    (tmp_path / "soft.jpg").symlink_to("a.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("a.jpg", "hard.jpg", "soft.jpg", "."):
            tar.add(tmp_path / name, f"photos/{name}", recursive=False)
    result = [
        one(f"tar://photos/{name}::{tmp_path}/a.tar")
        for name in ("a.jpg", "hard.jpg", "soft.jpg", ".")
    ]
    assert [one.content for one in result] == [b"abc", b"abc", None, None]


def test_the_size_in_a_tar_is_judged_before_reading(counted: Callable[[str, bytes], str]) -> None:
    shard = counted("a.tar", tar_of({"full": bytes(10_000), "over": bytes(10_001)}))
    by = fetcher()
    assert one(f"tar://over::{shard}", by) == Fetched("too_large", "over 10000 bytes")
    assert Counted.asked["range", "/shards/a.tar"] == 0
    assert one(f"tar://full::{shard}", by).status == "ok"


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_refused(mode: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(CONTENTS, mode))
    result = one(f"tar://kitchen/001.jpg::{tmp_path}/a.tar")
    assert result == Fetched("bad_url", "compressed tar: its members have no positions")


@pytest.mark.parametrize(
    "how", ["cut in a header", "cut in a member", "cut between members", "broken header"]
)
def test_a_damaged_tar_still_gives_what_comes_before(how: str, tmp_path: Path) -> None:
    content = tar_of({"a": bytes(1000), "b": bytes(1000), "c": bytes(1000)})  # 1,536 bytes each
    stop = {"cut in a header": 1736, "cut in a member": 2560, "cut between members": 3072}.get(how)
    damaged = content[:stop] if stop else content[:1536] + b"x" * 512 + content[2048:]
    (tmp_path / "a.tar").write_bytes(damaged)
    assert one(f"tar://a::{tmp_path}/a.tar").content == bytes(1000)
    assert one(f"tar://c::{tmp_path}/a.tar") == Fetched("bad_answer", "damaged shard")


def test_a_tar_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    by = fetcher()
    (tmp_path / "a.tar").write_bytes(tar_of({"a": b"old", "b": b"old"}))
    assert one(f"tar://b::{tmp_path}/a.tar", by).content == b"old"
    (tmp_path / "a.tar").write_bytes(tar_of({"a": bytes(5000), "b": b"new"}))
    assert one(f"tar://b::{tmp_path}/a.tar", by).content == b"new"


def test_reading_the_headers_has_its_own_time(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(CONTENTS))
    result = one(f"tar://kitchen/001.jpg::{tmp_path}/a.tar", fetcher(shard_timeout_s=1e-9))
    assert result == Fetched("timeout", "over 1e-09 s")
    assert one(f"tar://kitchen/001.jpg::{tmp_path}/a.tar", fetcher(timeout_s=1e-9)).status == "ok"


# Parquet


def test_a_row_group_is_read_once(
    counted: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = counted("a.parquet", parquet_of(CONTENTS, rows_per_group=10))
    read: list[tuple[int, list[str]]] = []
    original = pq.ParquetFile.iter_batches

    def noted(
        self: pq.ParquetFile, rows: int, groups: list[int], columns: list[str]
    ) -> Iterator[pa.RecordBatch]:
        read.extend((group, columns) for group in groups)
        return original(self, rows, groups, columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    by = fetcher(threads_per_task=16, max_per_host=16, open_row_groups=3)
    assert {
        one.status for one in by.fetch([f"parquet://{name}::{shard}" for name in CONTENTS])
    } == {"ok"}
    assert sorted(read) == [
        (0, ["content"]),
        (0, ["key"]),
        (1, ["content"]),
        (1, ["key"]),
        (2, ["content"]),
        (2, ["key"]),
    ]


def test_the_columns_of_a_parquet_shard_have_the_names_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(parquet_of({"1": b"abc"}, key="id", content="jpeg"))
    assert one(f"parquet://1::{tmp_path}/a") == Fetched(
        "bad_url", "a shard without the columns of fetch.shard_columns"
    )
    columns = ShardColumns(key="id", content="jpeg")
    assert one(f"parquet://1::{tmp_path}/a", fetcher(shard_columns=columns)).content == b"abc"
    columns = ShardColumns(key="id", content="more")  # numbers
    assert one(f"parquet://1::{tmp_path}/a", fetcher(shard_columns=columns)).status == "bad_url"


def test_keys_may_be_numbers_and_contents_null_or_too_large(tmp_path: Path) -> None:
    contents = {1: b"abc", 2: None, 3: bytes(10_001), 4: bytes(10_000), 5: b""}
    (tmp_path / "a").write_bytes(parquet_of(contents))  # type: ignore[arg-type]
    result = [one(f"parquet://{key}::{tmp_path}/a") for key in contents]
    assert [(each.status, each.detail) for each in result] == [
        ("ok", ""),
        ("missing", "the member is null"),
        ("too_large", "over 10000 bytes"),
        ("ok", ""),
        ("ok", ""),
    ]


def test_a_row_group_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(parquet_of(CONTENTS, rows_per_group=30))
    result = one(f"parquet://kitchen/001.jpg::{tmp_path}/a", fetcher(max_row_group_bytes=1000))
    assert result == Fetched("too_large", "its row group is over 1000 bytes")


def bomb(keys: list[str], contents: list[bytes]) -> bytes:
    """A Parquet file whose footer gives the size of its dictionaries, not of the decoded rows."""
    file = io.BytesIO()
    pq.write_table(
        pa.table({"key": keys, "content": contents}), file, use_dictionary=True, compression="zstd"
    )
    assert len(file.getvalue()) < 20_000
    row_group = pq.ParquetFile(file).metadata.row_group(0)
    assert sum(row_group.column(number).total_uncompressed_size for number in range(2)) < 1_000_000
    return file.getvalue()


def test_a_row_group_that_grows_when_it_is_decoded_is_refused(tmp_path: Path) -> None:
    """It stops when the size is exceeded, not at the end."""
    (tmp_path / "a").write_bytes(
        bomb([str(number) for number in range(500)], [bytes(100_000)] * 500)
    )
    by = fetcher(max_row_group_bytes=5_000_000)
    before = pa.total_allocated_bytes()
    grown: list[int] = []
    original = pq.ParquetFile.iter_batches

    def watched(self: pq.ParquetFile, *asked: Any) -> Iterator[pa.RecordBatch]:
        for batch in original(self, *asked):
            grown.append(pa.total_allocated_bytes() - before)
            yield batch

    with mock.patch.object(pq.ParquetFile, "iter_batches", watched):
        result = one(f"parquet://7::{tmp_path}/a", by)
    assert result == Fetched("too_large", "its row group is over 5000000 bytes")
    assert max(grown) < 15_000_000  # of 50 million


def test_keys_that_grow_when_they_are_decoded_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bomb(["k" * 100_000] * 500, [b"abc"] * 500))
    result = one(f"parquet://k::{tmp_path}/a", fetcher(max_row_group_bytes=5_000_000))
    assert result == Fetched("too_large", "its keys are over 5000000 bytes")


def test_keys_count_over_all_row_groups(tmp_path: Path) -> None:
    contents: dict[str, Any] = {f"{number:06}": b"abc" for number in range(1_000)}
    (tmp_path / "a").write_bytes(parquet_of(contents, rows_per_group=10))
    result = one(f"parquet://000007::{tmp_path}/a", fetcher(max_row_group_bytes=5_000))
    assert result == Fetched("too_large", "its keys are over 5000 bytes")
    assert (
        one(f"parquet://000007::{tmp_path}/a", fetcher(max_row_group_bytes=20_000)).content
        == b"abc"
    )


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 100, 1_000])
def test_rows_have_their_contents_wherever_batches_end(rows: int, tmp_path: Path) -> None:
    contents: dict[str, Any] = {str(number): f"content {number}".encode() for number in range(rows)}
    (tmp_path / "a").write_bytes(parquet_of(contents, rows_per_group=100))
    result = fetcher().fetch([f"parquet://{key}::{tmp_path}/a" for key in contents])
    assert [one.content for one in result] == list(contents.values())


def test_a_parquet_shard_whose_pages_are_broken_is_damaged(tmp_path: Path) -> None:
    contents = {"a": bytes(range(256)) * 30, "b": bytes(range(255, -1, -1)) * 30}
    whole = bytearray(parquet_of(contents, rows_per_group=1))
    column = pq.ParquetFile(io.BytesIO(bytes(whole))).metadata.row_group(0).column(2)
    start = column.dictionary_page_offset or column.data_page_offset
    whole[start : start + 40] = b"\xff" * 40
    (tmp_path / "a").write_bytes(bytes(whole))
    by = fetcher()
    assert one(f"parquet://a::{tmp_path}/a", by) == Fetched("bad_answer", "damaged shard")
    assert one(f"parquet://b::{tmp_path}/a", by).content == contents["b"]


def test_what_stores_are_told_stands_in_no_manifest() -> None:
    config = loading.load(
        [],
        [
            'fetch.allow=["https://img.example.com/"]',
            f'fetch.storage_options.s3={{ key = "{SECRET}", '
            f'client_kwargs = {{ a = ["{SECRET}"] }} }}',
            f'fetch.storage_options.http.headers.Authorization="{SECRET}"',
        ],
    )
    limits: Fetch = config.fetch
    assert limits.storage_options["s3"]["key"] == SECRET
    recorded = config.recorded()["fetch"]
    assert SECRET not in str(recorded)
    assert recorded["storage_options"]["http"] == {"headers": {"Authorization": "(redacted)"}}
    assert recorded["shard_columns"] == {"key": "key", "content": "content"}
