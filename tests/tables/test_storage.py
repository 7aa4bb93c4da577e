"""A file is created once, and an error after success is success: S3 and local files."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import s3fs

from tests.support.object_store import ObjectStore, object_store
from toiletspark.publishing.versions import log as versions
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import runs, storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store
from toiletspark.tables.schemas import EXCLUSION_LIST

RACERS, RACES = 8, 10


@pytest.fixture(scope="module")
def s3() -> Iterator[ObjectStore]:
    """S3's stand-in, which the environment names, as people's environments name theirs."""
    with object_store() as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", started.options["endpoint_url"])
        patch.setenv("AWS_ACCESS_KEY_ID", started.options["key"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", started.options["secret"])
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield started


@pytest.fixture(autouse=True)
def new_clients() -> Iterator[None]:
    """s3fs keeps its instances, and each the methods and the environment that it was made with."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    request.getfixturevalue("s3")
    return f"s3://photos/{tmp_path.name}"


def lose_answers(folder: str, patch: pytest.MonkeyPatch, error: Callable[[], OSError]) -> list[str]:
    """Lets every put-if-absent of this store succeed and then fail; returns the places."""
    places: list[str] = []
    link, pipe = os.link, s3fs.S3FileSystem._pipe_file

    def linked(source: Any, place: Any) -> None:
        link(source, place)
        places.append(str(place))
        raise error()

    async def piped(self: Any, place: str, content: bytes, **named: Any) -> None:
        await pipe(self, place, content, **named)
        if named.get("mode") == "create":
            places.append(place)
            raise error()

    if storage.is_local(folder):
        patch.setattr(os, "link", linked)
    else:
        patch.setattr(s3fs.S3FileSystem, "_pipe_file", piped)
        s3fs.S3FileSystem.clear_instance_cache()
    return places


def test_only_the_first_creates(folder: str) -> None:
    place = f"{folder}/log/1.json"
    assert storage.create_json(place, {"by": "one"}) is True
    assert storage.create_json(place, {"by": "two"}) is False
    assert storage.read_json(place) == {"by": "one"}
    assert storage.entries(f"{folder}/log") == ["1.json"]


@pytest.mark.parametrize(
    "error", [lambda: OSError(5, "reset by peer"), lambda: FileExistsError(17, "there is one")]
)
def test_an_error_that_comes_after_success_is_success(
    folder: str, error: Callable[[], OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FileExistsError: the client has asked again by itself, and finds its own file there."""
    place = f"{folder}/log/1.json"
    with monkeypatch.context() as patch:
        places = lose_answers(folder, patch, error)
        assert storage.create_json(place, {"by": "one"}) is True
        assert len(places) == 1
    assert storage.create_json(place, {"by": "two"}) is False
    assert storage.read_json(place) == {"by": "one"}
    assert storage.entries(f"{folder}/log") == ["1.json"]


def test_what_others_have_written_since_a_folder_was_listed_is_there(s3: ObjectStore) -> None:
    """s3fs would answer by the listing that it remembers."""
    s3.put("listed/1.json", b"{}")
    assert storage.entries("s3://photos/listed") == ["1.json"]
    s3.put("listed/2.json", b'{"by": "others"}')
    assert storage.read_json("s3://photos/listed/2.json") == {"by": "others"}
    assert storage.exists("s3://photos/listed/2.json")
    assert storage.read_files(["s3://photos/listed/2.json"]) == [b'{"by": "others"}']


def test_an_error_without_success_is_an_error(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "no links here")

    async def refuse_too(*_: Any, **__: Any) -> None:
        refuse()

    monkeypatch.setattr(storage, "_WAITS_S", (0.0,))
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", refuse_too)
    with pytest.raises(PermissionError, match="no links here"):
        storage.create_json(f"{folder}/log/1.json", {"by": "one"})
    assert storage.entries(f"{folder}/log") == []


def test_a_refusal_where_nothing_stands_is_asked_about_again(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 answers 409 while another publisher's object is under way."""
    refusals = [1, 1]
    pipe = s3fs.S3FileSystem._pipe_file

    async def busy(self: Any, *args: Any, **named: Any) -> None:
        if refusals:
            refusals.pop()
            raise OSError(16, "ConditionalRequestConflict")
        await pipe(self, *args, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", busy)
    assert storage.create_json("s3://photos/busy/1.json", {"by": "one"}) is True
    assert (refusals, storage.read_json("s3://photos/busy/1.json")) == ([], {"by": "one"})


def test_of_threads_that_race_for_one_name_exactly_one_wins(folder: str) -> None:
    with ThreadPoolExecutor(RACERS) as threads:
        for race in range(RACES):
            place = f"{folder}/log/{race}.json"
            ready = threading.Barrier(RACERS)

            def run(racer: int, place: str = place, ready: threading.Barrier = ready) -> bool:
                ready.wait()
                return storage.create_json(place, {"by": racer})

            won = list(threads.map(run, range(RACERS)))
            assert won.count(True) == 1
            assert storage.read_json(place) == {"by": won.index(True)}


def race_locally(folder: str, racer: int, ready: Any, told: Any) -> None:
    for race in range(RACES):
        ready.wait()
        if storage.create_json(f"{folder}/{race}.json", {"by": racer}):
            told.put((race, racer))
    told.put((-1, racer))


def test_of_processes_that_race_for_one_name_exactly_one_wins(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(4)
    told = fork.Queue()
    racers = [
        fork.Process(target=race_locally, args=(str(tmp_path), racer, ready, told))
        for racer in range(4)
    ]
    for racer in racers:
        racer.start()
    heard = [told.get(timeout=60) for _ in range(RACES + 4)]
    for racer in racers:
        racer.join(60)
    wins = sorted(pair for pair in heard if pair[0] >= 0)
    assert [race for race, _ in wins] == list(range(RACES))
    assert [storage.read_json(f"{tmp_path}/{race}.json") for race, _ in wins] == [
        {"by": by} for _, by in wins
    ]


def test_versions_are_published_on_s3_and_none_is_lost_to_lost_answers(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open("s3://photos/versions")

    def publish(number: int) -> str:
        run_id = runs.new_run_id()
        listed = rows.write(
            store, EXCLUSION_LIST, run_id, [{"image_id": str(number)}], config={}, inputs=Inputs()
        )
        versions.publish(store, listed)
        return run_id

    with monkeypatch.context() as patch, ThreadPoolExecutor(3) as threads:
        places = lose_answers(store.root, patch, lambda: OSError(5, "reset by peer"))
        published = list(threads.map(publish, range(9)))
    found = versions.read_all(store)
    assert [version.number for version in found] == list(range(1, 10))
    assert sorted(version.run_id for version in found) == sorted(published)
    assert len(places) == 9
    assert versions.live(store) == found[-1]
    assert versions.current(store.root).run_id == found[-1].run_id
