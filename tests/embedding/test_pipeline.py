"""Attempts at images without Spark: what becomes of each, how often it is worked on, and what
happens meanwhile.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import literal_config, picture
from tests.support.picture_server import PictureServer, served
from toiletspark.embedding.pipeline import Attempt, Pipeline, Source, attempt_all, attempt_rows
from toiletspark.hashing import content_digest
from toiletspark.images import sandbox
from toiletspark.images.decoding import decode
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.model.backbone import Backbone
from toiletspark.model.spec import BackboneSpec
from toiletspark.model.weights import load_spec

CONFIG = literal_config()
WAIT_S = 20.0  # for what happens at once, or never


class Counting(Backbone):
    """Counts the images of each forward pass."""

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__(spec)
        self.batches: list[int] = []

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        return super().embed(pixels)


@pytest.fixture(scope="module")
def built() -> Counting:
    return Counting(load_spec(CONFIG.backbone))


@pytest.fixture
def backbone(built: Counting) -> Counting:
    built.batches.clear()
    return built


@pytest.fixture
def site() -> Iterator[PictureServer]:
    with served() as server:
        yield server


def work(
    backbone: Backbone, *, threads: int = 8, max_image_bytes: int = 10**6, **settings: Any
) -> Pipeline:
    """The pipeline of a task: by default 4 images a batch and plenty of bytes."""
    fetch = CONFIG.fetch.model_copy(
        update={"threads_per_task": threads, "max_image_bytes": max_image_bytes}
    )
    sizes = {"images_per_batch": 4, "bytes_per_batch": 10**6}
    return Pipeline(backbone, Fetcher(fetch), CONFIG.decode, **{**sizes, **settings})


_names: dict[Source, str] = {}


def inline(image_id: str, content: bytes) -> Source:
    return named(image_id, Source(None, content, len(content)))


def by_url(image_id: str, url: str | None) -> Source:
    return named(image_id, Source(url))


def named(image_id: str, source: Source) -> Source:
    _names[source] = image_id
    return source


def outcomes(batches: Iterator[list[Attempt]]) -> dict[str, Attempt]:
    """Each image's attempt; an image that stands in two of them is a defect."""
    result = [(_names[one.source], one) for one in itertools.chain.from_iterable(batches)]
    assert len(dict(result)) == len(result)
    return dict(result)


def alone(content: bytes) -> np.ndarray:
    """The embedding of one image without neighbours in its batch."""
    spec = load_spec(CONFIG.backbone)
    (decoded,) = decode([content], CONFIG.decode, spec.preprocessing)
    assert decoded.pixels is not None
    return Backbone(spec).embed(decoded.pixels[None].copy())[0].astype("<f2")


# What becomes of each


@pytest.mark.parametrize(
    ("content", "doubt", "status", "detail"),
    [
        (picture("kitchen", 1), "http 202", "ok", ""),
        (b"<html>", "http 200 html", "bad_answer", "http 200 html: not_an_image"),
        (b"", "http 204 empty", "bad_answer", "http 204 empty: not_an_image"),
        (
            picture("kitchen", 1)[:-99],
            "http 200 no length",
            "bad_answer",
            "http 200 no length: truncated",
        ),
        (picture("kitchen", 1)[:-99], "", "truncated", "the file ends before the picture does"),
        (picture(size_px=(8, 8)), "http 200 no length", "too_small", "8 x 8, least side 16"),
    ],
    ids=["sound", "html", "empty", "cut", "cut beyond doubt", "small"],
)
def test_bytes_of_a_doubtful_answer_say_nothing_of_the_image_unless_they_are_one(
    backbone: Counting, content: bytes, doubt: str, status: str, detail: str
) -> None:
    others = {content_digest(content)}  # which another task has claimed
    by = work(backbone, claim=lambda digest: digest not in others or not doubt)
    by.fetcher.start = lambda url: done(Fetched("ok", "", content, doubt))  # type: ignore[method-assign]
    (one,) = outcomes(attempt_all([by_url("a", "https://a/b.jpg")], by)).values()
    assert (one.decoded.status, one.decoded.detail) == (status, detail)
    assert one.digest == (None if status == "bad_answer" else content_digest(content))
    assert (one.embedding is None) == (status != "ok")


def done(fetched: Fetched) -> Future[Fetched]:
    future: Future[Fetched] = Future()
    future.set_result(fetched)
    return future


def test_each_source_ends_as_one_row_that_tells_all(backbone: Counting, tmp_path: Path) -> None:
    (tmp_path / "on disk.jpg").write_bytes(picture("toilet", 5))
    sources = [
        inline("a", picture("kitchen", 1)),
        inline("b", b"no image"),
        by_url("c", str(tmp_path / "on disk.jpg")),
        by_url("d", None),
        inline("e", picture("kitchen", 2)),
    ]
    result = outcomes(attempt_all(sources, work(backbone)))
    contents = {
        "a": picture("kitchen", 1),
        "b": b"no image",
        "c": picture("toilet", 5),
        "e": picture("kitchen", 2),
    }
    statuses = {name: (one.decoded.status, one.decoded.detail) for name, one in result.items()}
    wrong = {"b": ("not_an_image", "not one of decode.formats"), "d": ("missing", "no image_url")}
    assert statuses == {**dict.fromkeys("ace", ("ok", "")), **wrong}
    for name, one in result.items():
        content = contents.get(name)
        assert one.digest == (content_digest(content) if content else None)
        assert one.size == (len(content) if content else None)
        assert one.decoded.pixels is None
        assert (one.decoded.width, one.decoded.height) == ((64, 48) if name in "ace" else (0, 0))
        assert (one.embedding is not None) == (name in "ace")
        if content and one.embedding:
            near = np.frombuffer(one.embedding, dtype="<f2").astype(float)
            np.testing.assert_allclose(near, alone(content).astype(float), rtol=2**-10, atol=1e-4)


def mixture(seed: int, folder: Path) -> tuple[list[Source], dict[str, str]]:
    """A random mix of good and bad images, by file and inline, many of them twice; and the status
    of each.
    """
    rng = random.Random(seed)
    sources = []
    status = {}
    for number in range(rng.randrange(60)):
        kind = rng.choice(["good", "bad", "gone", "none", "large"])
        name = f"{number}"
        content = {
            "good": picture("kitchen", rng.randrange(12), (40, 40)),
            "bad": b"bad%d" % rng.randrange(3),
        }.get(kind)
        status[name] = {"good": "ok", "bad": "not_an_image", "large": "too_large"}.get(
            kind, "missing"
        )
        if kind == "large":
            sources.append(named(name, Source(None, None, 2_000_000)))
        elif content is not None and rng.random() < 0.5:
            sources.append(inline(name, content))
        else:
            path = folder / f"{seed}-{number}.jpg"
            if content is not None:
                path.write_bytes(content)
            sources.append(by_url(name, None if kind == "none" else str(path)))
    return sources, status


@pytest.mark.parametrize("seed", range(12))
def test_every_source_is_in_exactly_one_batch_within_its_bounds(
    backbone: Counting, tmp_path: Path, seed: int
) -> None:
    sources, status = mixture(seed, tmp_path)
    images, size = random.Random(seed).choice([(1, 10**6), (3, 10**6), (5, 4_000), (2, 1)])
    batches = list(
        attempt_all(
            sources, work(backbone, images_per_batch=images, bytes_per_batch=size, threads=3)
        )
    )
    result = outcomes(iter(batches))
    assert {name: one.decoded.status for name, one in result.items()} == status
    for batch in batches:
        new = [one for one in batch if one.embedding is not None]
        assert 0 < len(batch) <= 8 * images
        assert len(new) <= images
        assert sum(one.size or 0 for one in new[:-1]) < size  # the last one is what filled it
    sound = {one.digest for one in result.values() if one.decoded.status == "ok"}
    embedded = [one.digest for one in result.values() if one.embedding is not None]
    assert Counter(embedded) == Counter(sound)
    assert sum(backbone.batches) == len(sound)


def test_large_images_go_in_smaller_batches(backbone: Counting) -> None:
    contents = [picture("kitchen", number) for number in range(9)]
    size = 2 * min(map(len, contents))  # two of them are never below it, and one is
    assert max(map(len, contents)) < size
    sources = [inline(str(number), content) for number, content in enumerate(contents)]
    assert (
        len(
            outcomes(
                attempt_all(sources, work(backbone, images_per_batch=100, bytes_per_batch=size))
            )
        )
        == 9
    )
    assert backbone.batches == [2, 2, 2, 2, 1]


def test_fewer_fetches_are_under_way_after_large_images(
    backbone: Counting, site: PictureServer
) -> None:
    """Arrived images wait in memory: of 20 kB no more than three, for 60 kB."""
    at_once: list[int] = []
    under_way = [0]
    counting = threading.Lock()
    urls = [site.serve(f"{number}.jpg", bytes(20_000) + b"%d" % number) for number in range(40)]
    given = work(backbone, threads=8, bytes_per_batch=60_000, images_per_batch=1)
    start = given.fetcher.start

    def started(url: str | None) -> Any:
        with counting:
            under_way[0] += 1
            at_once.append(under_way[0])
        one = start(url)
        one.add_done_callback(lambda _: taken())
        return one

    def taken() -> None:
        with counting:
            under_way[0] -= 1

    given.fetcher.start = started  # type: ignore[method-assign]
    assert len(outcomes(attempt_all([by_url(url, url) for url in urls], given))) == 40
    assert max(at_once[:8]) <= 8
    assert max(at_once[16:]) <= 3


def test_no_sources_give_no_batch(backbone: Counting) -> None:
    assert list(attempt_all([], work(backbone))) == []


# Contents


def test_equal_contents_are_decoded_and_embedded_once(
    backbone: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = watch_decoding(monkeypatch)
    same, other = picture("kitchen", 1), picture("kitchen", 2)
    contents = [
        same,
        other,
        same,
        b"junk",
        b"junk",
        same,
        other,
        b"junk",
        picture("kitchen", 3),
        same,
    ]
    sources = [inline(str(number), content) for number, content in enumerate(contents)]
    batches = list(attempt_all(sources, work(backbone, images_per_batch=2)))
    assert len(batches) > 1  # they meet in a batch, and in another one
    result = outcomes(iter(batches))
    assert [result[str(number)].decoded.status == "ok" for number in range(10)] == [
        one != b"junk" for one in contents
    ]
    with_embedding = [name for name, one in result.items() if one.embedding is not None]
    assert with_embedding == ["0", "1", "8"]  # the first of each
    assert Counter(decoded) == Counter([same, other, b"junk", contents[8]])
    assert sum(backbone.batches) == 3
    assert {
        (one.decoded.width, one.decoded.height) for one in result.values() if one.size != 4
    } == {(64, 48)}


def watch_decoding(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Whatever is decoded from now on."""
    decoded: list[bytes] = []

    def watched(contents: Any, *rest: Any) -> Any:
        contents = list(contents)
        decoded.extend(contents)
        return decode(contents, *rest)

    monkeypatch.setattr(sandbox, "decode", watched)
    return decoded


def test_a_known_content_is_measured_and_nothing_else(
    backbone: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = watch_decoding(monkeypatch)
    known, new = picture("kitchen", 1, (72, 40)), picture("kitchen", 2)
    claimed: list[str] = []
    given = work(
        backbone,
        is_known={content_digest(known)}.__contains__,
        claim=lambda digest: not claimed.append(digest),
    )
    result = outcomes(
        attempt_all([inline("known", known), inline("again", known), inline("new", new)], given)
    )
    for name in ("known", "again"):
        one = result[name]
        statuses = (
            one.decoded.status,
            one.decoded.width,
            one.decoded.height,
            one.size,
            one.digest,
            one.embedding,
        )
        assert statuses == ("ok", 72, 40, len(known), content_digest(known), None)
    assert decoded == [new]
    assert backbone.batches == [1]
    assert claimed == [content_digest(new)]


def test_a_content_that_another_task_has_claimed_is_left_to_it(
    backbone: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = watch_decoding(monkeypatch)
    theirs, ours = picture("kitchen", 1), picture("kitchen", 2)
    given = work(backbone, claim=lambda digest: digest != content_digest(theirs))
    result = outcomes(
        attempt_all([inline("a", theirs), inline("b", theirs), inline("c", ours)], given)
    )
    assert [result[name].decoded.status for name in "abc"] == ["", "", "ok"]
    # which leads to its outcome
    assert [result[name].digest for name in "ab"] == [content_digest(theirs)] * 2
    assert [result[name].embedding is None for name in "abc"] == [True, True, False]
    assert decoded == [ours]


@pytest.mark.parametrize("per_batch", [1, 2, 3, 12])
def test_rows_keep_their_order_and_neighbours_with_one_url_are_fetched_once(
    backbone: Counting, site: PictureServer, per_batch: int
) -> None:
    """Also where two batches of Spark meet. Inline bytes are nobody else's."""
    urls = [site.serve(f"{n}.jpg", picture("toilet", n)) for n in range(4)]
    own = picture("kitchen", 1)
    rows = [(urls[0],)] * 3 + [(urls[1],), (None,), (None,), (urls[1], own, len(own))]
    rows += [(urls[1], own, len(own)), (urls[2], None, 99), (urls[3],), (urls[3],), (urls[0],)]
    fetched = [True, False, False, *[True] * 7, False, True]
    batches = [
        [Source(*row) for row in rows[start : start + per_batch]]
        for start in range(0, len(rows), per_batch)
    ]
    batches.insert(1, [])
    result = list(attempt_rows(batches, work(backbone, images_per_batch=2)))
    assert [len(batch) for batch in result] == [len(batch) for batch in batches]
    flat = list(itertools.chain.from_iterable(result))
    contents = [picture("toilet", n) for n in (0, 0, 0, 1)] + [None, None, own, own, None]
    contents += [picture("toilet", n) for n in (3, 3, 0)]
    digests = [content and content_digest(content) for content in contents]
    assert [one.digest for one in flat] == digests
    assert [one.fetched for one in flat] == fetched
    # one of equal contents has the embedding: the one that arrived first
    embedded = [one for one in flat if one.embedding is not None]
    assert sorted(one.digest or "" for one in embedded) == sorted({*filter(None, digests)})
    assert all(one.fetched for one in embedded)
    assert site.gets == {"/0.jpg": 2, "/1.jpg": 1, "/3.jpg": 1}


def test_without_deduplication_each_row_has_its_embedding(
    backbone: Counting, site: PictureServer
) -> None:
    url = site.serve("a.jpg", picture("toilet", 1))
    own = picture("kitchen", 1)
    batches = [[Source(url), Source(url), Source(None, own)], [Source(None, own), Source(url)]]
    pipeline = work(backbone, images_per_batch=2, deduplicates=False)
    first, second = attempt_rows(batches, pipeline)
    assert [one.embedding for one in (*first, *second)].count(None) == 0
    assert first[0].embedding == first[1].embedding
    near = np.frombuffer(second[0].embedding or b"", "<f2").astype(float)
    np.testing.assert_allclose(near, alone(own).astype(float), rtol=2**-10, atol=1e-4)
    assert site.gets == {"/a.jpg": 2}


@pytest.mark.parametrize("seed", range(20))
def test_drawn_batches_come_back_as_a_slow_loop_has_them(backbone: Counting, seed: int) -> None:
    """Batches of any size, contents that repeat, and few images at once."""
    draw = random.Random(seed)
    contents = [picture("kitchen", number) for number in range(3)] + [b"junk"]
    batches = [
        [Source(None, draw.choice(contents)) for _ in range(draw.randrange(6))]
        for _ in range(draw.randrange(1, 8))
    ]
    result = list(attempt_rows(batches, work(backbone, images_per_batch=draw.choice([1, 3]))))
    assert [[one.source for one in batch] for batch in result] == batches
    seen: set[bytes | None] = set()
    for one in itertools.chain.from_iterable(result):
        is_new = one.source.content not in seen
        assert (one.embedding is not None) == (is_new and one.source.content != b"junk")
        seen.add(one.source.content)


def test_too_many_inline_bytes_are_told_without_them(backbone: Counting) -> None:
    given = work(backbone, max_image_bytes=1_000)
    exactly, over = bytes(1_000), bytes(1_001)
    left_out = named("left out", Source(None, None, 5_000))
    result = outcomes(
        attempt_all([inline("exactly", exactly), inline("over", over), left_out], given)
    )
    statuses = {name: (one.decoded.status, one.decoded.detail) for name, one in result.items()}
    assert statuses["exactly"] == ("not_an_image", "not one of decode.formats")
    assert statuses["over"] == statuses["left out"] == ("too_large", "over 1000 bytes")


def test_empty_inline_bytes_are_as_an_empty_file(backbone: Counting, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    sources = [inline("inline", b""), by_url("file", str(tmp_path / "a.jpg"))]
    result = outcomes(attempt_all(sources, work(backbone)))
    statuses = {
        name: (one.decoded.status, one.decoded.detail, one.size) for name, one in result.items()
    }
    assert statuses["inline"] == statuses["file"]
    assert statuses["inline"][0] == "not_an_image"


# What happens at the same time


def test_a_slow_host_holds_up_nobody(backbone: Counting, site: PictureServer) -> None:
    """The slow one answers only after all others have been embedded."""
    answer = threading.Event()
    site.before = lambda path: answer.wait(WAIT_S) if "slow" in path else None
    contents = {
        name: picture("kitchen", number) for number, name in enumerate(["slow", *"abcdefghijkl"])
    }
    sources = [
        by_url(name, site.serve(f"{name}.jpg", content)) for name, content in contents.items()
    ]
    batches = attempt_all(sources, work(backbone, images_per_batch=1, threads=4))
    others = [next(batches) for _ in range(12)]
    assert not answer.is_set()
    assert sorted(outcomes(iter(others))) == sorted("abcdefghijkl")
    answer.set()
    ((slow,),) = batches
    assert _names[slow.source] == "slow"
    assert slow.embedding is not None


def test_the_next_batch_is_fetched_and_decoded_while_the_backbone_works(
    backbone: Counting, site: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither side waits for the clock: the first forward pass ends when the next batch has been
    decoded.
    """
    second_is_decoded = threading.Event()
    decoded: list[int] = []

    def watched(contents: Any, *rest: Any) -> Any:
        pictures = decode(contents, *rest)
        decoded.append(len(pictures))
        if len(decoded) == 2:
            second_is_decoded.set()
        return pictures

    class Patient(Backbone):
        waited: tuple[bool, ...] = ()

        def embed(self, pixels: np.ndarray) -> np.ndarray:
            self.waited += (second_is_decoded.wait(WAIT_S),)
            return super().embed(pixels)

    monkeypatch.setattr(sandbox, "decode", watched)
    patient = Patient(backbone.spec)
    urls = [site.serve(f"{number}.jpg", picture("kitchen", number)) for number in range(4)]
    result = outcomes(
        attempt_all([by_url(url, url) for url in urls], work(patient, images_per_batch=2))
    )
    assert patient.waited == (True, True)
    assert decoded == [2, 2]
    assert len(result) == 4


def test_no_more_than_one_batch_is_read_ahead(backbone: Counting) -> None:
    """Else all of a task's images would wait in memory for the slower backbone."""
    read: list[int] = []

    def sources() -> Iterator[Source]:
        for number in range(10):
            read.append(number)
            yield inline(str(number), picture("kitchen", number))

    batches = attempt_all(sources(), work(backbone, images_per_batch=1))
    for number in range(9):
        next(batches)
        assert len(read) <= number + 2
    assert len(list(batches)) == 1


def ahead_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_an_error_in_the_thread_that_reads_ahead_reaches_the_caller(backbone: Counting) -> None:
    def sources() -> Iterator[Source]:
        for number in range(3):
            yield inline(str(number), picture("kitchen", number))
        raise OSError("the table ends in the middle")

    result: list[Attempt] = []
    with pytest.raises(OSError, match="the table ends in the middle"):
        for batch in attempt_all(sources(), work(backbone, images_per_batch=1)):
            result += batch
    assert len(result) == 3
    assert ahead_threads() == []


def test_an_error_of_the_backbone_reaches_the_caller(backbone: Counting) -> None:
    class Broken(Backbone):
        def embed(self, pixels: np.ndarray) -> np.ndarray:
            raise MemoryError("no room for the batch")

    sources = [inline(str(number), picture("kitchen", number)) for number in range(3)]
    with pytest.raises(MemoryError, match="no room for the batch"):
        list(attempt_all(sources, work(Broken(backbone.spec), images_per_batch=1)))


def test_who_stops_reading_leaves_no_thread_behind(backbone: Counting) -> None:
    sources = [inline(str(number), picture("kitchen", number)) for number in range(8)]
    batches = attempt_all(sources, work(backbone, images_per_batch=1))
    next(batches)
    assert len(ahead_threads()) == 1
    batches.close()  # type: ignore[attr-defined]
    assert ahead_threads() == []
