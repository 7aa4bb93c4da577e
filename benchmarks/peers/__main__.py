"""The race against the field, and against the machine's own limit: `make bench-peers`.

Same images, same weights, same head, same cores, in one run: toiletspark, five engines of the field
with torch, each in its documented and in its best form, and a plain UDF with OpenVINO (see
contestants/). Each runs in a virtual environment of its own, in rounds whose order is drawn by
chance. Medians count. Ends in one JSON line.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measure import ROOT, machine
from benchmarks.peers import figures, ours, pictures
from benchmarks.peers.contest import LIMIT, OURS, PEERS, Course, Outcome
from benchmarks.peers.processes import FailedError

RESULTS = ROOT / ".bench" / "results"
Rounds = list[dict[str, Outcome]]


def main(
    images: Annotated[
        int, typer.Option(min=1, help="distinct images; fewer tell of starting")
    ] = 4800,
    repeats: Annotated[int, typer.Option(min=1, help="rounds; the medians count")] = 3,
    only: Annotated[
        str, typer.Option(help=f"of {', '.join([*OURS, *PEERS, LIMIT])}; commas between")
    ] = "",
) -> None:
    """Races toiletspark against the field on this machine's cores."""
    names = _names(only)
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="toiletspark-peers-") as work:
        course = Course(Path(work), images, workers, names)
        preparing = course.prepare()
        rounds, alone, failed = _run(course, repeats)
    told = {
        "images": images,
        "repeats": repeats,
        "workers": workers,
        **_told(rounds, alone, failed),
    }
    told["preparing_s"] = preparing
    _show(told)
    _keep({**told, "machine": machine()})


def _names(only: str) -> list[str]:
    known = [*OURS, *PEERS, LIMIT]
    names = [name.strip() for name in only.split(",") if name.strip()] or known
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"--only {','.join(unknown)}: known are {', '.join(known)}")
    if "int8" in names and not ours.int8_is_there():
        print(
            "int8 is left out: this toiletspark, or its environment, has no OpenVINO",
            file=sys.stderr,
        )
        names.remove("int8")
    return names


def _run(course: Course, repeats: int) -> tuple[Rounds, list[dict[str, Any]], list[str]]:
    """Everybody in turn, in an order of each round's own; a failure stops nobody else."""
    rounds: Rounds = []
    alone: list[dict[str, Any]] = []
    failed: list[str] = []
    for number in range(1, repeats + 1):
        rounds.append({})
        for name in random.Random(number).sample(course.names, len(course.names)):
            print(f"round {number} of {repeats}: {name}", file=sys.stderr, flush=True)
            try:
                if name == LIMIT:
                    alone.append(course.alone())
                else:
                    rounds[-1][name] = course.run(name)
            except FailedError as error:
                print(f"{name} failed: {error}", file=sys.stderr, flush=True)
                failed.append(name)
    return rounds, alone, failed


def _told(rounds: Rounds, alone: list[dict[str, Any]], failed: list[str]) -> dict[str, Any]:
    """Everything that was measured, as the JSON line has it."""
    rates = figures.medians(
        [{name: one.images_per_s for name, one in outcomes.items()} for outcomes in rounds]
    )
    by_wall = figures.medians(
        [{name: one.images_per_wall_s for name, one in outcomes.items()} for outcomes in rounds]
    )
    agreements = _agreements(rounds)
    valid = {name: one.valid and name not in failed for name, one in agreements.items()}
    decoding = figures.medians([one["decoding"] for one in alone])
    forward = figures.medians([one["forward"] for one in alone])
    limits = figures.limits({"decoding": decoding, "forward": forward}) if alone else {}
    return {
        "images_per_s": {
            **rates,
            **{f"limit_{name}": round(rate, 2) for name, rate in limits.items()},
        },
        **figures.ratios(rates, limits, ours.fp32_runtime(), valid),
        "images_per_wall_s": by_wall,
        "ratios_by_wall": figures.ratios(by_wall, {}, ours.fp32_runtime(), valid),
        "fp32_runtime": ours.fp32_runtime(),
        "valid": valid,
        "failed": failed,
        "outputs": figures.plain(agreements),
        "memory": {name: _most(rounds, name) for name in rates},
        "all_images_per_s": {
            name: [round(one[name].images_per_s, 2) for one in rounds if name in one]
            for name in rates
        },
        "decoding_alone": decoding,
        "forward_alone": forward,
        "told": {name: [one[name].told for one in rounds if name in one][-1] for name in rates},
        "limit_versions": alone[-1]["versions"] if alone else {},
    }


def _agreements(rounds: Rounds) -> dict[str, figures.Agreement]:
    """The worst round of each: peers and our variants to our fp32, our fp32 to the peers."""
    names = dict.fromkeys(itertools.chain.from_iterable(rounds))
    return {
        name: figures.worst([_agreement(name, one) for one in rounds if name in one])
        for name in names
    }


def _agreement(name: str, outcomes: dict[str, Outcome]) -> figures.Agreement:
    peers = figures.consensus([one.scores for peer, one in outcomes.items() if peer in PEERS])
    reference = peers if name == "fp32" or "fp32" not in outcomes else outcomes["fp32"].scores
    mine = outcomes[name]
    if name in ("copies", "repeats"):
        reference = {key: reference[pictures.original(key)] for key in mine.scores if reference}
    return figures.agreement(
        mine.scores, reference, decisions_kept=mine.told.get("list_is_right", True)
    )


def _most(rounds: Rounds, name: str) -> dict[str, float]:
    seen = [one[name].memory for one in rounds if name in one]
    return {kind: max(memory[kind] for memory in seen) for kind in seen[0]}


def _show(told: dict[str, Any]) -> None:
    heads = ("images/s", "by wall", "tree MB", "worker MB", "mean diff", "max diff", "valid")
    print(f"{'':8} {'':42}", *(f"{head:>9}" for head in heads))
    words = {**OURS, **{name: peer.words for name, peer in PEERS.items()}}
    for name, rate in sorted(told["images_per_s"].items(), key=lambda pair: -pair[1]):
        memory = told["memory"].get(name, {})
        output = told["outputs"].get(name, {})
        columns = (
            rate,
            told["images_per_wall_s"].get(name, ""),
            memory.get("tree_mb", ""),
            memory.get("worker_mb", ""),
            output.get("mean_difference", ""),
            output.get("max_difference", ""),
            told["valid"].get(name, ""),
        )
        print(f"{name[:8]:8} {words.get(name, name):42}", *(f"{value!s:>9}" for value in columns))


def _keep(told: dict[str, Any]) -> None:
    """Prints the JSON line, and keeps it under .bench, which git does not see."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    line = json.dumps(told)
    (RESULTS / f"peers-{told['machine']['date'].replace(':', '')}.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    typer.run(main)
