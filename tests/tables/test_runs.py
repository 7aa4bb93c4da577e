"""Small files are replaced at once, and a run exists once its manifest does."""

import io
import json
import secrets
import stat
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import stored
from toiletspark import __version__
from toiletspark.errors import OutputError
from toiletspark.tables import runs, storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import (
    MANIFEST,
    MARKER,
    Run,
    Store,
    described_files,
    left_as_it_was,
    new_run_id,
    run_id_at,
)
from toiletspark.tables.schemas import (
    CATALOG,
    EMBEDDINGS,
    EXCLUSION_LIST,
    HEADS,
    SAMPLE,
    SCORES,
    STRATA,
    UNSCORED,
    Table,
)


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "root")
        return
    location = f"memory://{uuid.uuid4().hex}"
    yield location
    storage.remove_folder(location)


def parquet(rows: int) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"image_id": [f"i{number}" for number in range(rows)]}), file)
    return file.getvalue()


def committed(store: Store, run_id: str, *rows: int) -> Run:
    for number, count in enumerate(rows):
        storage.replace_bytes(
            f"{store.folder(SAMPLE, run_id)}/part-{number}.parquet", parquet(count)
        )
    return store.commit(
        SAMPLE, run_id, config={"seed": 1}, inputs=Inputs(catalog="c"), counts={"strata": 3}
    )


# Storage


def test_a_json_file_comes_back_as_it_was_put(root: str) -> None:
    assert storage.read_json(f"{root}/a/b.json") is None
    storage.replace_json(f"{root}/a/b.json", {"b": [1, "ü"], "a": {"c": None}})
    assert storage.read_json(f"{root}/a/b.json") == {"a": {"c": None}, "b": [1, "ü"]}
    storage.replace_json(f"{root}/a/b.json", {"new": True})
    assert storage.read_json(f"{root}/a/b.json") == {"new": True}


def test_entries_are_names_in_order_and_none_where_there_is_no_folder(root: str) -> None:
    assert storage.entries(root) == []
    for name in ["b.json", "a.json", "c/d.json"]:
        storage.replace_json(f"{root}/{name}", {})
    assert storage.entries(root) == ["a.json", "b.json", "c"]
    assert storage.entries(f"{root}/a.json") == []
    assert (storage.exists(f"{root}/c"), storage.exists(f"{root}/e")) == (True, False)


def test_a_folder_is_removed_with_all_in_it_and_a_missing_one_is_no_error(root: str) -> None:
    storage.replace_json(f"{root}/a/b/c.json", {})
    storage.replace_json(f"{root}/z.json", {})
    storage.remove_folder(f"{root}/a")
    storage.remove_folder(f"{root}/a")
    assert storage.entries(root) == ["z.json"]


def test_a_reader_never_sees_a_part_of_a_file_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pointer.json"
    storage.replace_json(str(path), {"version": 0, "payload": "x" * 50_000})
    ended = threading.Event()
    seen = []
    wrong = []

    def poll() -> None:
        while not ended.is_set():
            try:
                found = json.loads(path.read_bytes())
            except (FileNotFoundError, ValueError) as error:
                wrong.append(repr(error)[:100])
            else:
                seen.append(found["version"])
                if (
                    len(set(found["payload"])) != 1
                    or len(found["payload"]) != 50_000 + found["version"]
                ):
                    wrong.append(f"mixed {found['version']}")

    reader = threading.Thread(target=poll)
    reader.start()
    for version in range(1, 301):
        storage.replace_json(
            str(path), {"version": version, "payload": "xy"[version % 2] * (50_000 + version)}
        )
    ended.set()
    reader.join()
    assert wrong == []
    assert len(set(seen)) > 5
    assert seen == sorted(seen)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pointer.json"]


def test_a_replaced_file_can_be_read_by_others(tmp_path: Path) -> None:
    storage.replace_json(str(tmp_path / "a.json"), {})
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644


def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").write_text("kept")
    with pytest.raises(OSError, match=r"taken"):
        storage.replace_bytes(str(tmp_path / "taken"), b"new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", "taken"]


@pytest.mark.parametrize(
    ("location", "for_spark", "local"),
    [
        ("/data/a", "file:///data/a", True),
        ("file:///data/a", "file:///data/a", True),
        ("s3a://lake/a", "s3a://lake/a", False),
        ("hdfs:///a", "hdfs:///a", False),
    ],
)
def test_spark_is_told_that_a_path_is_local(location: str, for_spark: str, local: bool) -> None:
    assert (storage.spark_path(location), storage.is_local(location)) == (for_spark, local)


# Opening


def test_a_new_an_empty_and_our_own_root_open(root: str) -> None:
    Store.open(root)
    assert storage.read_json(f"{root}/{MARKER}") == {"layout": 1, "made_by": "toiletspark"}
    storage.replace_json(f"{root}/sample/x/y.json", {})
    assert Store.open(root).root == root


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    Store.open(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def opened_then_fails(root: Path, written: str = "") -> None:
    with pytest.raises(OutputError, match="a complete run"), left_as_it_was(str(root)):
        store = Store.open(str(root))
        if written:
            storage.replace_json(f"{root}/{written}", {})
        store.require(SCORES, doing="publishing", step="score")


def test_a_root_that_was_made_for_nothing_is_removed_with_the_folders_above(tmp_path: Path) -> None:
    opened_then_fails(tmp_path / "mis" / "typed")
    assert not list(tmp_path.iterdir())
    (tmp_path / "prepared").mkdir()
    opened_then_fails(tmp_path / "prepared")
    assert not list((tmp_path / "prepared").iterdir())


def test_a_root_that_was_there_or_is_used_stays(tmp_path: Path) -> None:
    Store.open(str(tmp_path / "ours"))
    opened_then_fails(tmp_path / "ours")
    assert (tmp_path / "ours" / MARKER).exists()
    opened_then_fails(tmp_path / "used", written="sample/x/y.json")
    assert (tmp_path / "used" / MARKER).exists()
    with left_as_it_was(str(tmp_path / "new")):
        Store.open(str(tmp_path / "new"))
    assert (tmp_path / "new" / MARKER).exists()


def test_what_a_first_opening_left_that_was_killed_is_not_foreign(tmp_path: Path) -> None:
    (tmp_path / f".{MARKER}.x1y2z3").write_text("{")  # as mkstemp names it, before it is renamed
    assert Store.open(str(tmp_path)).root == str(tmp_path)
    (tmp_path / MARKER).unlink()
    (tmp_path / "thesis.json").write_text("{}")
    with pytest.raises(OutputError, match=r"holds 1 other things, among them 'thesis\.json'"):
        Store.open(str(tmp_path))


def test_a_foreign_folder_is_refused_and_untouched(root: str) -> None:
    storage.replace_json(f"{root}/thesis.json", {"pages": 300})
    storage.replace_json(f"{root}/other/photos.json", {})
    with pytest.raises(OutputError) as caught:
        Store.open(root)
    assert str(caught.value) == (
        f"while opening the output folder {root}\n"
        "  expected: a new or empty folder, or one with toiletspark's _toiletspark.json\n"
        "  found:    a folder that holds 2 other things, among them 'other'\n"
        "  do:       set output.root to a folder of its own; nothing was touched"
    )
    assert storage.entries(root) == ["other", "thesis.json"]
    assert storage.read_json(f"{root}/thesis.json") == {"pages": 300}


def test_a_root_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    root = f"{tmp_path}/file/root"
    with pytest.raises(OutputError) as caught:
        Store.open(root)
    assert str(caught.value) == (
        f"while opening the output folder {root}\n"
        "  expected: a folder that can be written\n"
        "  found:    Not a directory\n"
        "  do:       set output.root to a folder that you may write to"
    )
    assert (tmp_path / "file").read_text() == "kept"


def test_a_regular_file_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError, match="a folder that can be written"):
        Store.open(f"{tmp_path}/file")


# Runs


def test_run_ids_differ_and_sort_by_time() -> None:
    ids = [new_run_id() for _ in range(200)]
    assert len(set(ids)) == 200
    moments = [run_id.partition("-")[0] for run_id in ids]
    assert moments == sorted(moments)
    assert all(len(run_id) == len("20261123T151204123456Z-9f3c") for run_id in ids)


def test_a_run_without_a_manifest_does_not_exist(root: str) -> None:
    store = Store.open(root)
    first = committed(store, "20260101T000000000000Z-aaaa", 1)
    crashed = "20260102T000000000000Z-bbbb"
    storage.replace_bytes(f"{store.folder(SAMPLE, crashed)}/part-0.parquet", parquet(9))
    assert [run.run_id for run in store.runs(SAMPLE)] == [first.run_id]
    assert store.newest(SAMPLE) == first
    assert store.run(SAMPLE, crashed) is None
    assert store.require(SAMPLE, doing="scoring", step="sample") == first


def test_runs_come_oldest_first_and_the_newest_is_the_last_by_id(root: str) -> None:
    store = Store.open(root)
    ids = [
        "20260103T000000000000Z-aaaa",
        "20260101T000000000000Z-cccc",
        "20260102T000000000000Z-bbbb",
    ]
    for run_id in ids:
        committed(store, run_id, 1)
    assert [run.run_id for run in store.runs(SAMPLE)] == sorted(ids)
    newest = store.newest(SAMPLE)
    assert newest is not None
    assert newest.run_id == ids[0]


def test_what_is_only_there_to_be_compared_with_is_not_the_newest(root: str) -> None:
    store = Store.open(root)
    first = committed(store, "20260101T000000000000Z-aaaa", 1)
    later = store.commit(
        SAMPLE, "20260102T000000000000Z-bbbb", config={}, inputs=Inputs(compared=True)
    )
    assert store.newest(SAMPLE) == store.require(SAMPLE, doing="publishing", step="sample") == first
    assert store.run(SAMPLE, later.run_id) == store.runs(SAMPLE)[-1] == later


def test_a_table_without_runs_has_none(root: str) -> None:
    store = Store.open(root)
    assert (store.runs(SAMPLE), store.newest(SAMPLE), store.run(SAMPLE, "x")) == ([], None, None)


def test_a_missing_run_names_the_step_that_makes_one(root: str) -> None:
    store = Store.open(root)
    committed(store, "20260101T000000000000Z-aaaa", 1)
    with pytest.raises(OutputError) as caught:
        store.require(EMBEDDINGS, doing="scoring the catalog", step="embed")
    assert str(caught.value) == (
        "while scoring the catalog\n"
        f"  expected: a complete run of embeddings in {root}/embeddings\n"
        "  found:    none\n"
        "  do:       run `toiletspark embed` with the same configuration first"
    )


def test_a_commit_counts_the_rows_of_the_files_and_says_all_that_made_them(root: str) -> None:
    store = Store.open(root)
    run = committed(store, "20260101T000000000000Z-aaaa", 3, 0, 5)
    assert run.rows == 8
    assert store.run(SAMPLE, run.run_id) == run
    manifest = storage.read_json(f"{run.folder}/{MANIFEST}")
    assert manifest is not None
    assert manifest.pop("made_at").endswith("+00:00")
    assert [(file["name"], file["rows"]) for file in manifest.pop("files")] == [
        ("part-0.parquet", 3),
        ("part-1.parquet", 0),
        ("part-2.parquet", 5),
    ]
    assert manifest == {
        "table": "sample",
        "schema_version": SAMPLE.schema_version,
        "columns": SAMPLE.columns,
        "key": ["image_id"],
        "run_id": run.run_id,
        "code_version": __version__,
        "rows": 8,
        "counts": {"strata": 3},
        "inputs": {"catalog": "c"},
        "config": {"seed": 1},
    }


def test_a_run_without_files_has_no_rows(root: str) -> None:
    assert Store.open(root).commit(HEADS, new_run_id(), config={}, inputs=Inputs()).rows == 0


def test_rows_are_counted_below_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    assert committed(Store.open(f"{tmp_path}/out [v1]*?"), new_run_id(), 4).rows == 4


@pytest.mark.parametrize("change", ["bytes", "more", "renamed", "gone"])
def test_altered_files_are_described_differently(root: str, change: str) -> None:
    store = Store.open(root)
    run = committed(store, new_run_id(), 3, 4)
    file = f"{run.folder}/part-1.parquet"
    assert described_files(run.folder) == run.files
    if change == "bytes":
        content = bytearray(parquet(4))
        content[20] ^= 1
        storage.replace_bytes(file, bytes(content))
    elif change == "more":
        storage.replace_bytes(file, parquet(5))
    else:
        filesystem, path = storage.open_filesystem(file)
        if change == "renamed":
            filesystem.mv(path, path.replace("part-1", "part-2"))
        else:
            filesystem.rm(path)
    assert described_files(run.folder) != run.files


# Altered bytes in the middle of a file


def large(store: Store, table: Table) -> tuple[Run, Path]:
    """A version's table of one file that is larger than its tail."""
    texts = [secrets.token_hex(24) for _ in range(4000)]
    run = stored(store, table, [{"image_id": text, "stratum": text} for text in texts])
    (file,) = Path(run.folder).glob("*.parquet")
    assert file.stat().st_size > 2 * 65536
    return run, file


def flip_a_bit_in_the_middle(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("table", [EXCLUSION_LIST, UNSCORED, STRATA], ids=lambda table: table.name)
def test_a_bit_in_the_middle_of_what_readers_get_is_noticed(tmp_path: Path, table: Table) -> None:
    run, file = large(Store.open(str(tmp_path)), table)
    assert not run.difference()
    flip_a_bit_in_the_middle(file)
    assert pq.read_metadata(file).num_rows == 4000
    assert run.difference()


def test_files_that_are_too_large_for_it_are_known_by_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_WHOLE_BYTES", 100_000)
    run, file = large(Store.open(str(tmp_path)), EXCLUSION_LIST)
    assert run.files[0].sha256 is None
    assert not run.difference()
    flip_a_bit_in_the_middle(file)
    assert not run.difference()
    file.write_bytes(file.read_bytes() + b"x")
    assert run.difference()


@pytest.mark.parametrize(
    "change", [{"files": "none"}, {"rows": "many"}, {"inputs": {"commit": []}}]
)
def test_a_damaged_manifest_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    store = Store.open(str(tmp_path))
    run, _ = large(store, EXCLUSION_LIST)
    storage.replace_json(f"{run.folder}/_manifest.json", {**run.as_json(), **change})
    with pytest.raises(OutputError) as stopped:
        store.run(EXCLUSION_LIST, run.run_id)
    assert stopped.value.doing == f"reading {run.folder}/_manifest.json"
    assert stopped.value.found.startswith(next(iter(change)))


# What broken runs leave behind


def begun(hours_ago: float) -> str:
    """The id of a run that began so long ago."""
    return f"{run_id_at(datetime.now(UTC) - timedelta(hours=hours_ago))}-aaaa"


def test_run_ids_begin_as_their_moment_says() -> None:
    before = begun(0.001)
    made = new_run_id()
    after = run_id_at(datetime.now(UTC) + timedelta(hours=1))
    assert before < made < after
    assert run_id_at(datetime(2026, 1, 2, 3, 4, 5, 6, UTC)) == "20260102T030405000006Z"


def test_a_new_id_is_greater_than_all_that_are_there_when_the_clock_went_back(root: str) -> None:
    store = Store.open(root)
    assert store.newest_id() == ""
    assert store.new_run_id() > begun(0.001)
    tomorrow = begun(-24)
    committed(store, tomorrow, 1)
    committed(store, begun(2), 1)
    storage.replace_json(f"{root}/scores/not a run/x.json", {})
    assert store.newest_id() == tomorrow
    made = store.new_run_id()
    assert runs.RUN_ID.fullmatch(made)
    assert tomorrow < made < begun(-24.01)
    committed(store, made, 1)
    assert store.new_run_id() > made


def test_what_a_run_has_set_aside_can_be_removed(root: str) -> None:
    store = Store.open(root)
    for run_id in ("one", "other"):
        storage.replace_json(f"{store.work_folder(run_id)}/plan/part.json", {})
    store.clear("one")
    store.clear("never was")
    assert storage.entries(f"{root}/_work") == ["other"]


def test_only_what_is_old_and_unfinished_is_cleaned_up(root: str) -> None:
    store = Store.open(root)
    old, older, young = begun(30), begun(300), begun(2)
    committed(store, old, 3)
    for run_id in (older, young):
        storage.replace_bytes(f"{store.folder(SAMPLE, run_id)}/part-0.parquet", parquet(1))
    storage.replace_bytes(f"{store.folder(CATALOG, old)}/part-0.parquet", parquet(1))
    for run_id in (old, young):
        storage.replace_bytes(f"{store.work_folder(run_id)}/plan/part-0.parquet", parquet(1))
    storage.replace_json(f"{root}/exclusion_list/_current.json", {"run_id": older})
    storage.replace_json(f"{root}/sample/notes/mine.json", {})
    removed = store.clear_unfinished(24)
    assert sorted(removed) == sorted(
        [store.work_folder(old), store.folder(CATALOG, old), store.folder(SAMPLE, older)]
    )
    assert storage.entries(f"{root}/_work") == [young]
    # whole, young, somebody's
    assert storage.entries(f"{root}/sample") == sorted([old, young, "notes"])
    assert storage.entries(f"{root}/catalog") == []
    assert storage.exists(f"{root}/exclusion_list/_current.json")
    assert store.run(SAMPLE, old) is not None
    assert store.clear_unfinished(24) == []
