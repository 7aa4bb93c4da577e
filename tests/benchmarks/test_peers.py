"""The race's arithmetic: verdicts follow from what was measured, and a wrong output is told."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.peers import figures, pictures

SCORES = {f"image-{number}": score for number, score in enumerate(np.linspace(0.01, 0.99, 50))}
RATES = {
    "fp32": 40.0,
    "torch": 25.0,
    "int8": 60.0,
    "copies": 150.0,
    "repeats": 160.0,
    **dict.fromkeys(figures.TORCH_PEERS, 10.0),
    "b_best": 20.0,
    "e": 18.0,
    "f": 50.0,
}
EVERYBODY = dict.fromkeys(RATES, True)


def test_the_limit_is_that_of_doing_one_after_the_other() -> None:
    assert figures.limit(forward=40.0, decoding=360.0) == pytest.approx(36.0)
    alone = {
        "decoding": {"slow": 100.0, "fast": 360.0},
        "forward": {"torch": 40.0, "openvino_fp32": 90.0},
    }
    assert figures.limits(alone) == {
        "torch": pytest.approx(36.0),
        "openvino_fp32": pytest.approx(72.0),
    }


def test_medians_are_each_contestants_own() -> None:
    rounds = [{"a": 1.0, "b": 5.0}, {"a": 100.0, "b": 7.0}, {"a": 2.0}]
    assert figures.medians(rounds) == {"a": 2.0, "b": 6.0}


def test_the_ratios_are_to_the_best_peer_and_to_the_limit_of_the_runtime_in_use() -> None:
    found = figures.ratios(
        RATES,
        {"torch": 30.0, "openvino_fp32": 50.0, "openvino_int8": 80.0},
        "openvino_fp32",
        EVERYBODY,
    )
    assert found == {
        "best_peer": "b_best",
        "ratio_to_best_peer": 2.0,
        "ratio_torch_to_best_peer": 1.25,
        "ratio_to_plain_openvino": 0.8,
        "ratio_to_limit": 0.8,
        "ratio_int8": 3.0,
        "ratio_int8_to_limit": 0.75,
        "ratio_duplicates": 3.75,
        "ratio_copies": 3.75,
        "ratio_repeats": 4.0,
    }


def test_an_invalid_peer_is_not_the_best_and_our_own_invalid_run_has_no_ratio() -> None:
    assert figures.ratios(RATES, {}, "torch", {**EVERYBODY, "b_best": False})["best_peer"] == "e"
    found = figures.ratios(RATES, {}, "torch", {**EVERYBODY, "fp32": False})
    assert [
        found[name] for name in ("ratio_to_best_peer", "ratio_to_limit", "ratio_duplicates")
    ] == [None] * 3
    assert found["ratio_int8"] == 3.0


def test_there_is_no_best_peer_unless_all_of_them_ran() -> None:
    some = {name: rate for name, rate in RATES.items() if name != "c"}
    found = figures.ratios(some, {}, "torch", EVERYBODY)
    assert (found["best_peer"], found["ratio_to_best_peer"]) == (None, None)
    assert found["ratio_to_plain_openvino"] == 0.8


def test_equal_scores_agree() -> None:
    found = figures.agreement(SCORES, SCORES)
    assert found == figures.Agreement(
        True, 50, mean_difference=0.0, max_difference=0.0, decisions_changed=0.0
    )


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ({key: min(1.0, score + 0.025) for key, score in SCORES.items()}, "all a little off"),
        ({**SCORES, "image-25": 0.1, "image-26": 0.1}, "two of fifty decided otherwise"),
        ({key: score for key, score in SCORES.items() if key != "image-7"}, "an image is missing"),
        ({**SCORES, "stray": 0.5}, "an image too many"),
        ({**SCORES, "image-7": float("nan")}, "no number"),
        ({}, "nothing"),
    ],
)
def test_other_scores_are_invalid(scores: dict[str, float], why: str) -> None:
    assert not figures.agreement(scores, SCORES).valid, why


def test_differences_are_told() -> None:
    found = figures.agreement({**SCORES, "image-0": SCORES["image-0"] + 0.05}, SCORES)
    assert (found.valid, found.mean_difference, found.max_difference) == (True, 0.001, 0.05)


def test_a_list_that_does_not_follow_from_its_scores_is_invalid() -> None:
    assert not figures.agreement(SCORES, SCORES, decisions_kept=False).valid
    assert not figures.agreement(SCORES, {}, decisions_kept=False).valid


def test_the_worst_round_counts() -> None:
    good, off, invalid = (
        figures.Agreement(valid, 1, mean)
        for valid, mean in ((True, 0.0), (True, 0.01), (False, 0.0))
    )
    assert figures.worst([good, off]) == off
    assert figures.worst([good, invalid, off]) == invalid


def test_one_wrong_contestant_does_not_move_the_consensus() -> None:
    wrong = {key: 1 - score for key, score in SCORES.items()}
    assert figures.consensus([SCORES, wrong, SCORES]) == pytest.approx(SCORES)
    assert figures.consensus([]) == {}


def test_a_comment_makes_other_bytes_of_the_same_picture() -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(
        file, "JPEG"
    )
    made = [pictures.with_comment(file.getvalue(), f"{number}".encode()) for number in range(3)]
    assert len({file.getvalue(), *made}) == 4
    for jpeg in made:  # decoders forgive a wrong length, and then differ in what they skip
        assert jpeg[4 + int.from_bytes(jpeg[4:6], "big")] == 0xFF
    pixels = [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in (file.getvalue(), *made)]
    assert all((other == pixels[0]).all() for other in pixels)


def test_duplicates_stand_four_times_and_know_their_original(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jpg" for number in range(2)]
    for file in files:
        file.write_bytes(file.name.encode())
    copies, repeats = (
        list(pictures.copied(files, tmp_path / "copies")),
        list(pictures.repeated(files)),
    )
    assert len({file for _, file in copies}) == 8
    assert len({file for _, file in repeats}) == 2
    for rows in (copies, repeats):
        written = pq.read_table(
            pictures.table(tmp_path / f"table-{rows is copies}", rows)
        ).to_pydict()
        assert len(set(written["image_id"])) == 8
        assert [pictures.original(image_id) for image_id in written["image_id"]].count("1") == 4
        for image_id, url in zip(written["image_id"], written["image_url"], strict=True):
            assert Path(url).read_bytes() == f"{pictures.original(image_id)}.jpg".encode()
