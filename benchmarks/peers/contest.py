"""The contestants, and one round of each."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.peers import ours, pictures, processes, racehead, venvs
from benchmarks.peers.figures import Scores

HERE = Path(__file__).parent
BEST = "_best"  # behind a letter: that contestant's fastest form, see contestants/lane.py


@dataclass(frozen=True)
class Peer:
    """A contestant of the field: its file in contestants/, its environment, and what it is."""

    file: str
    environment: str
    words: str
    best: bool = False


_FIELD = {
    "a": Peer("tutorial_udf", "spark", "pandas UDF, series to series"),
    "b": Peer("iterator_udf", "spark", "iterator pandas UDF + DataLoader"),
    "c": Peer("batch_udf", "spark", "predict_batch_udf"),
    "d": Peer("ray_data", "ray", "Ray Data map_batches"),
    "e": Peer("daft_udf", "daft", "Daft class UDF"),
}
# each in its documented form and in its best
PEERS = {
    **_FIELD,
    **{
        name + BEST: replace(peer, words=f"{peer.words}, best form", best=True)
        for name, peer in _FIELD.items()
    },
    "f": Peer("openvino_udf", "openvino", "plain iterator UDF with OpenVINO"),
}
OURS = {
    "fp32": "toiletspark, fp32",
    "torch": "toiletspark, fp32 with torch",
    "int8": "toiletspark, int8",
    "copies": "toiletspark, every image 4 times, 4 URLs",
    "repeats": "toiletspark, every image 4 times, 1 URL",
}
LIMIT = "limit"


@dataclass
class Outcome:
    """One contestant's round: images/s, memory in MB, its scores, and its other figures.

    images_per_s is without the start of the engine, images_per_wall_s by the clock of the whole
    program.
    """

    images_per_s: float
    images_per_wall_s: float
    memory: dict[str, float] = field(default_factory=dict)
    scores: Scores = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)


class Course:
    """The tables, the network and the head that all contestants of a run share.

    Attributes:
        work: a folder that is thrown away afterwards.
        workers: processes that may compute at the same time: one a core.
        files: the distinct images.
    """

    def __init__(self, work: Path, images: int, workers: int, names: list[str]) -> None:
        self.work, self.workers, self.names = work, workers, names
        self.files = pictures.write(work / "files", images)
        self.table = pictures.table(work / "table", ((file.stem, file) for file in self.files))
        self.state = racehead.write_state(work / "network.pth")
        self._prepared: dict[str, ours.Prepared] = {}
        self._tables = dict.fromkeys(("fp32", "torch", "int8"), self.table)
        if "copies" in names:
            copied = pictures.copied(self.files, work / "copies")
            self._tables["copies"] = pictures.table(work / "table-copies", copied)
        if "repeats" in names:
            self._tables["repeats"] = pictures.table(
                work / "table-repeats", pictures.repeated(self.files)
            )

    def prepare(self) -> dict[str, float]:
        """Installs and converts what is no part of a race; returns our preparation's seconds."""
        for name in self.names:
            if name in PEERS:
                venvs.python(PEERS[name].environment)
        if LIMIT in self.names:
            venvs.python(LIMIT)
        for form in dict.fromkeys(_form(name) for name in self.names if name in OURS):
            self._prepared[form] = ours.prepare(
                self.work, form, self.files, self.state, self.workers
            )
        return {name: prepared.seconds for name, prepared in self._prepared.items()}

    def run(self, name: str) -> Outcome:
        """One round of one contestant of ours or of the field."""
        return self._our_own(name) if name in OURS else self._peer(name)

    def alone(self) -> dict[str, Any]:
        """Decoders and runtimes alone; see limit/alone.py."""
        program = [venvs.python(LIMIT), str(HERE / "limit" / "alone.py")]
        return processes.run([*program, *self._lane()], {}, ours.TIMEOUT_S)[0]

    def _peer(self, name: str) -> Outcome:
        peer = PEERS[name]
        out = self.work / f"out-{name}"
        shutil.rmtree(out, ignore_errors=True)
        program = [venvs.python(peer.environment), str(HERE / "contestants" / f"{peer.file}.py")]
        words = [*self._lane(), "--out", str(out), *(["--best"] if peer.best else [])]
        env = {
            "PYTHONPATH": str(HERE / "contestants"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "DAFT_ANALYTICS_ENABLED": "0",
        }
        started = time.monotonic()
        told, memory = processes.run([*program, *words], env, ours.TIMEOUT_S)
        wall_s = time.monotonic() - started
        rows = pq.read_table(out, columns=["image_id", "exclusion_score"])
        scores = dict(
            zip(rows["image_id"].to_pylist(), rows["exclusion_score"].to_pylist(), strict=True)
        )
        count = len(self.files)
        return Outcome(count / told["seconds"], count / wall_s, memory.told(), scores, told)

    def _our_own(self, name: str) -> Outcome:
        prepared = self._prepared[_form(name)]
        outcome = ours.race(self.work / f"ours-{name}", self._tables[name], prepared, self.workers)
        images = pq.read_metadata(self._tables[name] / "part-0.parquet").num_rows
        told = {
            "list_is_right": ours.list_is_right(outcome),
            "excluded": len(outcome["excluded"]),
            "seconds": outcome["summary"]["seconds"],
            "backbone_id": outcome["summary"]["backbone_id"],
            "embedded": outcome["summary"]["embedded"],
            "saved": outcome["summary"]["saved"],
        }
        return Outcome(
            images / outcome["seconds"],
            images / outcome["wall_s"],
            outcome["memory"],
            outcome["scores"],
            told,
        )

    def _lane(self) -> list[str]:
        return [f"--table={self.table}", f"--state={self.state}", f"--workers={self.workers}"]


def _form(name: str) -> str:
    """The preparation that one of ours needs."""
    return name if name in ("int8", "torch") else "fp32"
