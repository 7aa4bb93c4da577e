"""Decoding in a child process: a bad file costs one outcome, others are decoded as ever."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import encoded, picture
from tests.support import poison
from tests.support.shared_folder import shared
from toiletspark.config import Decode, loading
from toiletspark.errors import UserError
from toiletspark.images import decoding, sandbox
from toiletspark.images.decoding import Decoded, Preprocessing
from toiletspark.images.sandbox import client

TO_32 = Preprocessing(40, 32)
SOUND = picture("toilet", 3, (80, 60))


@pytest.fixture
def limits() -> Decode:
    return loading.load().decode.model_copy(update={"timeout_s": 1.0})


@pytest.fixture(autouse=True)
def poisonous(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Children that know tests/support/poison.py; none of them is left."""
    monkeypatch.setenv("TOILETSPARK_DECODE_HOOK", poison.__file__)
    yield
    for one in client._sandboxes.values():
        one._server.close()
    client._sandboxes.clear()


def poisoned(kind: str, before: bytes = SOUND) -> bytes:
    return poison.MARK + kind.encode() + poison.PICTURE + before


def one(content: bytes, limits: Decode) -> Decoded:
    (outcome,) = sandbox.decode([content], limits, TO_32)
    return outcome


def tells(what: str, limits: Decode) -> str:
    return one(poisoned(f"tell={what}"), limits).detail


def same(outcomes: list[Decoded], others: list[Decoded]) -> bool:
    return all(
        a.without_pixels() == b.without_pixels()
        and (a.pixels is None) == (b.pixels is None)
        and (a.pixels is None or np.array_equal(a.pixels, b.pixels))
        for a, b in zip(outcomes, others, strict=True)
    )


def test_what_a_child_decodes_is_what_would_be_decoded_here(limits: Decode) -> None:
    contents = [picture("kitchen", seed, (70 + seed, 64)) for seed in range(5)]
    contents += [
        encoded(decoding.open_upright(SOUND, limits), kind) for kind in ("PNG", "WEBP", "GIF")
    ]
    contents += [b"", b"no image", SOUND[:-200], SOUND[:20], picture(size_px=(8, 8))]
    here = decoding.decode(contents, limits, TO_32)
    assert same(sandbox.decode(contents, limits, TO_32), here)
    assert [outcome.status for outcome in here][5:] == [
        *("ok", "ok", "not_an_image", "not_an_image", "not_an_image", "truncated"),
        *("not_an_image", "too_small"),
    ]
    larger = Preprocessing(50, 48)
    assert same(sandbox.decode(contents, limits, larger), decoding.decode(contents, limits, larger))


def test_a_child_measures_as_it_would_be_done_here(limits: Decode) -> None:
    """A PNG's orientation may stand behind its pixels, so measuring decodes it: in a child."""
    contents = [
        SOUND,
        encoded(decoding.open_upright(SOUND, limits), "PNG"),
        b"no image",
        picture(size_px=(8, 8)),
    ]
    assert [sandbox.measure(content, limits) for content in contents] == [
        decoding.measure(content, limits) for content in contents
    ]


def test_broken_and_odd_files_are_decoded_as_they_would_be_here(limits: Decode) -> None:
    contents = [
        path.read_bytes() for path in sorted(shared("badimages").iterdir()) if path.is_file()
    ]
    patient = limits.model_copy(update={"timeout_s": 30.0})
    assert same(sandbox.decode(contents, patient, TO_32), decoding.decode(contents, patient, TO_32))


@pytest.mark.parametrize(
    ("kind", "status", "detail"),
    [
        ("segfault", "crashed", "SIGSEGV"),
        ("abort", "crashed", "SIGABRT"),
        ("allocate", "out_of_memory", "decoding takes more than decode.max_memory_bytes"),
        ("loop", "decode_timeout", "over 1 s"),
        ("sleep_in_c", "busy", "over 1 s on the clock"),
        ("loop_unheard", "busy", "over 1 s on the clock"),
        ("lie", "crashed", "no response to the request"),
    ],
)
def test_a_poisonous_file_costs_itself_alone(
    kind: str, status: str, detail: str, limits: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child without CPU time for its timer, or one that does not hear it, ends by the clock."""
    monkeypatch.setattr(client, "_WALL_FACTOR", 1.0 if status == "busy" else 20.0)
    before, bad, after = sandbox.decode([SOUND, poisoned(kind), SOUND], limits, TO_32)
    assert (bad.status, bad.detail, bad.pixels) == (status, detail, None)
    assert same([before, after], decoding.decode([SOUND, SOUND], limits, TO_32))


def test_a_file_that_crashed_an_old_child_is_tried_once_more_in_a_fresh_one(
    limits: Decode, tmp_path: Path
) -> None:
    (tmp_path / "first").touch()
    before = tells("process", limits)
    outcome = one(poisoned(f"crash_once={tmp_path / 'first'}"), limits)
    assert (outcome.status, (tmp_path / "first").exists()) == ("ok", False)
    assert tells("process", limits) != before


def test_a_child_has_no_credentials_no_files_and_nothing_of_the_workers(
    limits: Decode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    allowed = ["LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH"]
    allowed += ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    names = set(tells("environment", limits).split())
    assert names <= {*allowed, "TOILETSPARK_DECODE_HOOK"}
    # three standard ones, /dev/null, the connection, and the listing
    assert len(tells("files", limits).split()) <= 6
    assert one(poisoned(f"write={tmp_path / 'written'}"), limits).status == "crashed"
    assert (tmp_path / "written").read_bytes() == b""


def test_what_a_child_says_of_a_file_is_short_and_printable(limits: Decode) -> None:
    detail = tells("strange", limits)
    assert detail == "a?b?[31m" + "c" * 192


def test_a_child_is_replaced_after_so_many_images(limits: Decode) -> None:
    bounded = limits.model_copy(update={"images_per_child": 3})
    assert [len({tells("process", bounded) for _ in range(3)}) for _ in range(2)] == [1, 1]
    assert len({tells("process", bounded) for _ in range(9)}) == 3


def test_threads_take_turns_and_each_gets_its_own_answer(limits: Decode) -> None:
    contents = [picture("kitchen", seed, (70, 64)) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda content: one(content, limits), contents))
    assert same(answers, decoding.decode(contents, limits, TO_32))


def test_a_killed_fork_server_is_replaced(limits: Decode) -> None:
    assert one(SOUND, limits).status == "ok"
    (box,) = client._sandboxes.values()
    box._server._process.kill()
    box._server._process.wait()
    assert [outcome.status for outcome in sandbox.decode([SOUND, SOUND], limits, TO_32)] == [
        "ok",
        "ok",
    ]


def test_a_forked_process_has_children_of_its_own(limits: Decode) -> None:
    ours = tells("process", limits)
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        os.write(writing, tells("process", limits).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read()
    os.waitpid(process, 0)
    assert theirs.isdigit()
    assert theirs != ours == tells("process", limits)


def test_thumbnails_are_made_there_too(limits: Decode) -> None:
    assert sandbox.thumbnail(SOUND, limits, 30) == decoding.thumbnail(SOUND, limits, 30)
    assert sandbox.thumbnail(SOUND[:100], limits, 30) is None


def test_without_isolation_files_are_decoded_here(limits: Decode) -> None:
    plain = limits.model_copy(update={"isolated": False})
    sandbox.require_children(plain)
    assert same(sandbox.decode([SOUND], plain, TO_32), decoding.decode([SOUND], limits, TO_32))
    assert sandbox.thumbnail(SOUND, plain, 30) == decoding.thumbnail(SOUND, limits, 30)
    assert client._sandboxes == {}


def test_where_no_child_can_be_started_that_is_told(
    limits: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match="starting the process that decodes images") as error:
        sandbox.require_children(limits)
    assert "decode.isolated=false" in error.value.todo


HANGS = """
import sys
from tests.support import poison
from toiletspark.config.loading import load
from toiletspark.images import sandbox
from toiletspark.images.decoding import Preprocessing
from toiletspark.images.sandbox import client
limits = load().decode.model_copy(update={"timeout_s": 60.0})
sandbox.require_children(limits)
(box,) = client._sandboxes.values()
print(box._server._process.pid, flush=True)
sandbox.decode([poison.MARK + sys.argv[1].encode()], limits, Preprocessing(40, 32))
"""


@pytest.mark.parametrize("kind", ["loop", "loop_unheard"])
def test_when_the_worker_is_killed_nothing_of_it_lives_on(kind: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, kind], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        server = int(worker.stdout.readline())
        children = f"/proc/{server}/task/{server}/children"
        until = time.monotonic() + 20
        while not (child := Path(children).read_text().split()) and time.monotonic() < until:
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    processes = [server, *map(int, child)]
    while any(map(runs, processes)) and time.monotonic() < until:
        time.sleep(0.01)
    assert len(processes) == 2
    assert not any(map(runs, processes))


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "response",
    [
        bytes([200]) + b"\x00" * 14,  # no such status
        b"\x00" + b"\x00" * 14,  # ok, and no picture
        b"\x01\x00\x00" + b"\x00" * 8 + (3 * 32 * 32).to_bytes(4, "big"),  # a picture, and not ok
        b"\x00\x00\x00" + b"\x00" * 8 + (3 * 32 * 32 + 1).to_bytes(4, "big"),  # a byte too many
        b"\x01\xff\xff" + b"\x00" * 12,  # an endless detail
        b"\x01\x00\x00" + b"\xff" * 8 + b"\x00" * 4,  # sides that no table holds
    ],
)
def test_an_answer_that_cannot_be_one_is_not_believed(response: bytes, limits: Decode) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(response)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(client.ProtocolError, match="no response to the request"):
            client.protocol.read_response(ours, client.Input(limits, TO_32))


@pytest.mark.parametrize("response", [b"", b"\x00" * 5, b"\x01\x00\x09" + b"\x00" * 12 + b"brea"])
def test_an_answer_that_breaks_off_is_none(response: bytes, limits: Decode) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(response)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(client.ProtocolError, match=r"^$"):
            client.protocol.read_response(ours, client.Input(limits, TO_32))
