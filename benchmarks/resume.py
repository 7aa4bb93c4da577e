"""A driver that is killed, and what its death costs: `make bench-resume`.

Real photos, served by a local http server that counts. One run is left alone; others are killed
(SIGKILL to driver and JVM at once) when the server has handed out a share of the photos, and then
run again. Redone is what was asked for more than once, and what went through the backbone more than
once; the larger share counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.measure import ROOT, SHARED, command, machine
from tests.support.counting_workers import WorkerLog, counted_in
from toiletspark.tables import runs, schemas, storage

PHOTOS = 800
SEED = 5
_POLL_S = 0.02
_ORPHANS_END_WITHIN_S = 30.0


def main() -> None:
    asked = _asked()
    moments = [
        0.5,
        *(random.Random(SEED + number).uniform(0.05, 0.95) for number in range(asked.more)),
    ]
    with (
        tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as folder,
        photo_server() as (url, requests),
    ):
        words = [
            *("--conf", "tests/conf/photos.toml", "--set", f"images.url_prefix={url}"),
            *("--set", 'fetch.allow_private=["127.0.0.0/8"]'),
            *("--set", f"embed.images_per_commit={PHOTOS // asked.commits}"),
            *(f"--set={key}" for key in asked.sets),
        ]
        (Path(folder) / "counting").mkdir()
        embedded = counted_in(Path(folder) / "counting")
        words += ["--set", f'spark.settings."spark.executorEnv.PYTHONPATH"="{folder}/counting"']
        told, _ = command("run", *words, env={"TOILETSPARK_OUTPUT": f"{folder}/undisturbed"})
        trained = runs.Store(f"{folder}/undisturbed/photos").require(
            schemas.HEADS, doing="resuming", step="train"
        )
        words += ["--set", f"score.head={trained.folder}"]
        command("rescore", *words, env={"TOILETSPARK_OUTPUT": f"{folder}/undisturbed"})
        alone = result(f"{folder}/undisturbed/photos")
        killed = [
            {
                "killed_at": round(at, 3),
                **_killed(words, f"{folder}/{number}", at, requests, embedded, alone),
            }
            for number, at in enumerate(moments)
        ]
    print(
        json.dumps(
            {
                "images": told["images"],
                "commits": asked.commits,
                "redone_share": killed[0]["redone_share"],
                "identical": all(run["identical"] for run in killed),
                "killed": killed,
                "machine": machine(),
            }
        )
    )


@contextmanager
def photo_server() -> Iterator[tuple[str, Counter[str]]]:
    """Serves the shared photos on this machine; gives the URL of their folder and the requests by
    path.
    """
    requests: Counter[str] = Counter()

    class Counting(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests[self.path] += 1
            super().do_GET()

        def log_message(self, *words: object) -> None:
            """Nothing: 800 lines would hide the rest."""

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Counting, directory=str(SHARED / "photos"))
    )
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", requests
    finally:
        server.shutdown()


def result(root: str) -> dict[str, Any]:
    """The final state of a store: status and digest by image, embedding by content, scores, the
    list.
    """
    store = runs.Store(root)
    attempts = _rows(store, store.runs(schemas.IMAGE_LEDGER))
    newest = {row["image_id"]: row for row in sorted(attempts, key=lambda row: row["attempted_at"])}
    pointer = storage.read_json(f"{root}/exclusion_list/_current.json") or {}
    excluded = store.run(schemas.EXCLUSION_LIST, pointer["run_id"])
    scores = store.newest(schemas.SCORES)
    assert excluded
    assert scores
    return {
        "statuses": {
            image: (row["status"], row["content_digest"]) for image, row in newest.items()
        },
        "embeddings": {
            row["content_digest"]: np.frombuffer(row["embedding"], "<f2").astype("f4")
            for row in _rows(store, store.runs(schemas.EMBEDDINGS))
        },
        "scores": {row["image_id"]: row["exclusion_score"] for row in _rows(store, [scores])},
        "excluded": {row["image_id"] for row in _rows(store, [excluded])},
    }


def _killed(
    words: list[str],
    root: str,
    at: float,
    requests: Counter[str],
    embedded: WorkerLog,
    alone: dict[str, Any],
) -> dict[str, Any]:
    """One run that is killed at a share of the photos, one that goes on, and how both together
    compare.
    """
    requests.clear()
    embedded.clear()
    env = {"TOILETSPARK_OUTPUT": root}
    _start_and_kill(words, env, lambda: len(requests) >= at * PHOTOS)
    before = len(requests)
    again, _ = command("rescore", *words, env=env)
    found = result(f"{root}/photos")
    fetched_again = sum(requests.values()) - len(requests)
    embedded_again = sum(embedded.of("embed")) - len(found["embeddings"])
    return {
        "requests_before": before,
        "fetched_again": fetched_again,
        "embedded_again": embedded_again,
        "redone_share": round(max(fetched_again, embedded_again) / PHOTOS, 4),
        "attempted_again": again["attempted"],
        **_compared(found, alone),
    }


def _compared(found: dict[str, Any], alone: dict[str, Any]) -> dict[str, Any]:
    """Equal to the last bit, or by how much not."""
    same = {name: found[name] == alone[name] for name in ("statuses", "scores", "excluded")}
    contents = found["embeddings"].keys()
    same["contents"] = contents == alone["embeddings"].keys()
    largest = max(
        float(np.abs(found["embeddings"][one] - alone["embeddings"][one]).max()) for one in contents
    )
    return {
        "identical": all(same.values()) and not largest,
        "largest_difference": largest,
        "same": same,
    }


def _start_and_kill(words: list[str], env: dict[str, str], is_time: Callable[[], bool]) -> None:
    import psutil

    process = subprocess.Popen(
        [sys.executable, "-m", "toiletspark.jobs.cli", "rescore", *words],
        cwd=ROOT,
        env={**os.environ, **env},
        start_new_session=True,
    )
    while not is_time():
        if process.poll() is not None:
            raise SystemExit(f"the run ended with {process.returncode} before it could be killed")
        time.sleep(_POLL_S)
    orphans = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Python workers end by themselves
    _, alive = psutil.wait_procs(orphans, timeout=_ORPHANS_END_WITHIN_S)
    if alive:
        raise SystemExit(
            f"{len(alive)} processes outlived the driver: {[one.pid for one in alive]}"
        )


def _rows(store: runs.Store, found: list[runs.Run]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for run in found:
        for file in run.files:
            rows += pq.read_table(f"{run.folder}/{file.name}").to_pylist()
    return rows


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument(
        "--more", type=int, default=3, help="further moments, drawn with a fixed seed"
    )
    parser.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="as toiletspark's",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
