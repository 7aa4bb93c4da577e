"""Champion and challenger: luck is not called better; a worse head needs a reason."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.conftest import stored
from tests.training.test_train import BACKBONE_ID, clusters, config, gathered
from toiletspark.config import loading as conf_files
from toiletspark.errors import ConfigError, HeadError
from toiletspark.jobs import cli
from toiletspark.launch.job import Job
from toiletspark.model import bundle, registry
from toiletspark.model.embedding_codec import to_stored
from toiletspark.model.head import Head
from toiletspark.publishing.versions import log as versions
from toiletspark.sampling.estimates import Bootstrap, Difference
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id
from toiletspark.training import champion, dataset, splits
from toiletspark.training.heads import train
from toiletspark.training.splits import held_out

ROWS, PER_LISTING = 400, 4
LISTINGS = [f"L{number // PER_LISTING}" for number in range(ROWS)]
PLAIN = conf_files.load().train
HELD = held_out(LISTINGS, PLAIN.validation_share, PLAIN.seed)
Array = NDArray[Any]


# What a difference is worth


def sample(seed: int, listings: int = 150) -> tuple[Bootstrap, Array, Array, np.random.Generator]:
    """A drawn sample: listings of several images, stratum weights, and each image's difficulty."""
    rng = np.random.default_rng(seed)
    listing = np.repeat(np.arange(listings), rng.integers(1, 6, listings))
    stratum = rng.integers(0, 4, listings)[listing]
    to_exclude = rng.random(len(listing)) < 0.3
    signal = (
        np.where(to_exclude, 1.6, -1.6)
        + rng.normal(0, 0.7, listings)[listing]
        + rng.normal(0, 0.7, len(listing))
    )
    weight = np.array([1.0, 3.0, 8.0, 20.0])[stratum]
    return Bootstrap(stratum, listing, weight, replicates=200, seed=seed), to_exclude, signal, rng


def verdicts(new_noise: float, old_noise: float, draws: int, miss: float) -> list[str]:
    found = []
    for seed in range(draws):
        bootstrap, to_exclude, signal, rng = sample(seed)
        new, old = (
            signal + rng.normal(0, noise, len(signal)) > 0 for noise in (new_noise, old_noise)
        )
        found.append(
            champion.verdict(champion.differences(bootstrap, to_exclude, new, old, miss)["cost"])
        )
    return found


@pytest.mark.parametrize("miss", [1.0, 20.0])
def test_of_two_equal_heads_neither_is_called_better_more_often_than_by_chance(miss: float) -> None:
    found = verdicts(0.6, 0.6, 300, miss)
    # 5 %, and 2.4 standard errors
    assert sum(word != "not distinguishable" for word in found) <= 0.08 * 300


def test_what_is_clearly_worse_is_found_and_what_is_better_too() -> None:
    assert verdicts(2.5, 0.2, 40, 1.0).count("worse") >= 36
    assert verdicts(0.2, 2.5, 40, 1.0).count("better") >= 36


def test_few_mistakes_more_are_luck_as_the_exact_sign_test_says() -> None:
    everything = np.ones(1000, dtype=bool)
    bootstrap = Bootstrap(np.zeros(1000), np.arange(1000), np.ones(1000))

    def told(more: int, fewer: int) -> bool:
        new = np.arange(1000) < more
        old = (np.arange(1000) >= more) & (np.arange(1000) < more + fewer)
        return bootstrap.difference((new, everything), (old, everything)).low > 0

    # p = 1, 0.125, 0.063, 0.016
    assert [told(more, 0) for more in (1, 4, 5, 7)] == [False, False, False, True]
    assert [told(*both) for both in ((7, 1), (8, 1), (9, 2), (12, 2))] == [False, True, False, True]


def test_copies_of_an_image_in_its_listing_are_no_further_mistakes() -> None:
    listing = np.repeat(np.arange(100), 10)
    everything = np.ones(1000, dtype=bool)
    new = listing < 3
    found = Bootstrap(listing * 0, listing, np.ones(1000)).difference(
        (new, everything), (~everything, everything)
    )
    assert found.value == pytest.approx(0.03)
    assert found.low < 0  # thirty images, three homes


def test_differences_are_those_of_the_weighted_figures() -> None:
    bootstrap, to_exclude, signal, rng = sample(3)
    new, old = (signal + rng.normal(0, 0.6, len(signal)) > 0 for _ in range(2))
    found = champion.differences(bootstrap, to_exclude, new, old, 20.0)
    weight = bootstrap._weight

    def figures(out: Array) -> dict[str, float]:
        sums = dict.fromkeys(itertools.product((True, False), repeat=2), 0.0)
        for each, label, gone in zip(
            weight.tolist(), to_exclude.tolist(), out.tolist(), strict=True
        ):
            sums[label, gone] += each
        hits, missed, lost, kept = (
            sums[True, True],
            sums[True, False],
            sums[False, True],
            sums[False, False],
        )
        return {
            "cost": (20 * missed + lost) / (hits + missed + lost + kept),
            "recall": hits / (hits + missed),
            "precision": hits / (hits + lost),
            "good_images_lost": lost / (lost + kept),
        }

    ours, theirs = figures(new), figures(old)
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {name: ours[name] - theirs[name] for name in ours}
    )
    assert all(one.low < (one.value or 0) < one.high for one in found.values())


def test_heads_that_decide_alike_differ_by_nothing_and_that_has_bounds() -> None:
    bootstrap, to_exclude, signal, _ = sample(4)
    found = champion.differences(bootstrap, to_exclude, signal > 0, signal > 0, 1.0)["cost"]
    assert found.value == 0
    assert -0.1 < found.low < 0 < found.high < 0.1
    nothing = np.zeros_like(to_exclude)
    assert champion.differences(bootstrap, to_exclude, nothing, signal > 0, 1.0)[
        "precision"
    ] == Difference(None, -1, 1)


# Who is compared with whom, on what


def made(root: Path, *, wrong: bool = False, seed: int = 0, backbone_id: str = BACKBONE_ID) -> Run:
    """A training set; a wrong one teaches the opposite, and is right about what is held out."""
    embeddings, labels = clusters(ROWS, seed=seed)
    said = np.where(HELD, labels, 1 - labels) if wrong else labels
    run = gathered(root, to_stored(embeddings), [("toilet", "other")[label] for label in said])
    return Store(str(root)).commit(
        tables.TRAINING_SET, run.run_id, config={}, inputs=Inputs(backbone_id=backbone_id)
    )


def trained(root: Path, *sets: str) -> dict[str, Any]:
    sets = ("train.learning_curve=[]", "publish.policy.name=fixed", *sets)  # costs at 0.5
    return train(config(root, ("toilet", "other"), *sets))


def first_live_head(root: Path) -> champion.Live:
    """Trains on the newest training set; returns the head, which is live from then on."""
    trained(root)
    live = champion.live_head(Store(str(root)), conf_files.load().publish)
    assert live is not None
    return live


def publish(root: Path, head_id: str, operating_threshold: float = 0.5) -> None:
    """The pointer to a list of this head."""
    store = Store.open(str(root))
    run_id = new_run_id()
    inputs = {"head_id": head_id, "operating_threshold": operating_threshold}
    listed = stored(store, tables.EXCLUSION_LIST, [], run_id=run_id, inputs=inputs)
    versions.publish(store, listed)


def current(root: Path) -> str:
    return registry.current(Store(str(root)), "", doing="scoring").head_id


def test_the_first_head_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    made(tmp_path)
    told = trained(tmp_path)
    assert told["champion"] == {
        "head_id": None,
        "verdict": "nothing to compare",
        "n": 0,
        "differences": {},
        "sentence": "Nothing to compare: no head of this store is live.",
    }
    assert told["promoted"] is True
    assert current(tmp_path) == told["head_id"]


def test_a_worse_head_is_kept_and_not_used_until_it_is_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "toiletspark")
    made(tmp_path)
    good = trained(tmp_path)
    made(tmp_path, wrong=True)
    bad = trained(tmp_path)
    compared = bad["champion"]
    assert (compared["head_id"], compared["verdict"], bad["promoted"]) == (
        good["head_id"],
        "worse",
        False,
    )
    assert compared["n"] == HELD.sum()
    assert compared["differences"]["cost"]["value"] == pytest.approx(1.0)
    recall = compared["differences"]["recall"]
    assert recall["value"] == recall["low"] == -1.0  # no share differs by more than all of it
    assert -1.0 < recall["high"] < -0.6
    assert compared["sentence"].startswith(
        f"Worse than the live head {good['head_id']}: cost of 1,000 images +1000.0 ("
    )
    assert "Kept, not promoted: scoring goes on with the head before" in caplog.text
    kept = Store(str(tmp_path)).newest(tables.HEADS)
    assert kept is not None
    assert (kept.folder, kept.inputs.promoted) == (bad["head"], False)
    assert kept.inputs.champion == json.loads(json.dumps(compared))
    assert current(tmp_path) == good["head_id"]

    accepted = trained(tmp_path, "train.accept_worse=the old one knows no bathrooms")
    assert (accepted["head_id"], accepted["champion"]["verdict"]) == (bad["head_id"], "worse")
    assert (accepted["promoted"], accepted["accepted_worse"]) == (
        True,
        "the old one knows no bathrooms",
    )
    kept = Store(str(tmp_path)).newest(tables.HEADS)
    assert kept is not None
    assert kept.inputs.accepted_worse == "the old one knows no bathrooms"
    assert current(tmp_path) == bad["head_id"]


def test_a_better_head_is_promoted_and_needs_no_reason(tmp_path: Path) -> None:
    made(tmp_path, wrong=True)
    trained(tmp_path)
    made(tmp_path)
    good = trained(tmp_path, "train.accept_worse=not needed")
    assert (good["champion"]["verdict"], good["promoted"]) == ("better", True)
    assert "accepted_worse" not in good
    assert current(tmp_path) == good["head_id"]


def test_the_live_head_is_that_of_the_published_list_at_its_threshold(tmp_path: Path) -> None:
    made(tmp_path)
    good = trained(tmp_path)
    made(tmp_path, wrong=True)
    bad = trained(tmp_path, "train.accept_worse=a trial")
    publish(tmp_path, bad["head_id"])
    again = trained(tmp_path)
    assert (again["champion"]["head_id"], again["champion"]["verdict"]) == (
        bad["head_id"],
        "not distinguishable",
    )
    publish(tmp_path, good["head_id"], operating_threshold=1.1)  # excludes nothing, so recall is 0
    made(tmp_path)
    found = trained(tmp_path)["champion"]
    assert (found["head_id"], found["verdict"]) == (good["head_id"], "better")
    assert found["differences"]["recall"]["value"] == 1.0
    publish(tmp_path, "a head of elsewhere")
    assert trained(tmp_path)["champion"]["verdict"] == "nothing to compare"


def test_what_the_live_head_was_trained_on_is_no_test_of_it(tmp_path: Path) -> None:
    made(tmp_path)
    trained(tmp_path)
    other = held_out(LISTINGS, PLAIN.validation_share, PLAIN.seed + 1)
    found = trained(tmp_path, f"train.seed={PLAIN.seed + 1}")["champion"]
    assert 0 < found["n"] == (HELD & other).sum() < other.sum()


def test_what_is_new_to_the_live_head_is_scored_by_it_and_stored_scores_are_its_own(
    tmp_path: Path,
) -> None:
    made(tmp_path)
    live = Store(str(tmp_path)).run(tables.HEADS, Path(trained(tmp_path)["head"]).name)
    assert live is not None
    unseen = champion_set(tmp_path)
    head = registry.load(live.folder)
    expected = head.exclusion_scores(head.probabilities(unseen.embeddings))
    before = {row["content_digest"] for row in rows.read(live) if row["held_out"]}
    new = np.array([digest not in before for digest in unseen.content_digest])
    assert 0 < new.sum() < len(new)
    known, scores = champion.live_scores(
        champion.Live(live, 0.5), unseen, unseen.listing_id, BACKBONE_ID
    )
    assert known.all()
    assert np.allclose(scores, expected, atol=1e-6)
    known, scores = champion.live_scores(
        champion.Live(live, 0.5), unseen, unseen.listing_id, "another backbone"
    )
    assert np.array_equal(known, ~new)
    assert np.allclose(scores[known], expected[known], atol=1e-6)


def test_another_photo_of_a_home_that_it_has_seen_is_no_test_of_it_either(tmp_path: Path) -> None:
    run = made(tmp_path)
    live = first_live_head(tmp_path)
    everything = dataset.read(run)
    others = dataset.TrainingSet(
        **{**everything.__dict__, "content_digest": [f"new {name}" for name in LISTINGS]}
    )
    known, _ = champion.live_scores(live, others, LISTINGS, BACKBONE_ID)
    assert np.array_equal(known, HELD)
    elsewhere = dataset.TrainingSet(
        **{**everything.__dict__, "listing_id": [f"new {name}" for name in LISTINGS]}
    )
    known, _ = champion.live_scores(live, elsewhere, LISTINGS, BACKBONE_ID)
    assert np.array_equal(known, HELD)  # the same photo under the name of another home


def test_a_home_that_shares_a_photo_with_one_that_it_has_seen_is_no_test_of_it_either(
    tmp_path: Path,
) -> None:
    """Every other image is of a new home; half of these are grouped with homes trained on."""
    run = made(tmp_path)
    live = first_live_head(tmp_path)
    everything = dataset.read(run)
    new = np.arange(ROWS) % 2 == 1
    fresh = {
        name: [
            f"new {one}" if is_new else one
            for one, is_new in zip(getattr(everything, name), new, strict=True)
        ]
        for name in ("content_digest", "listing_id")
    }
    unseen = dataset.TrainingSet(**{**everything.__dict__, **fresh})
    alone = np.arange(ROWS) >= ROWS // 2
    groups = np.where(new & alone, fresh["listing_id"], LISTINGS).tolist()
    known, _ = champion.live_scores(live, unseen, groups, BACKBONE_ID)
    assert np.array_equal(known, HELD | (new & alone))
    known, _ = champion.live_scores(live, unseen, fresh["listing_id"], BACKBONE_ID)
    assert np.array_equal(known, HELD | new)


def test_a_placeholder_that_it_has_seen_says_nothing_of_the_homes_that_show_it(
    tmp_path: Path,
) -> None:
    """Each new home first shows a picture of the live head's training, shared or its own."""
    run = made(tmp_path)
    live = first_live_head(tmp_path)
    everything = dataset.read(run)
    first = np.arange(ROWS) % PER_LISTING == 0
    trained_on = [
        digest for digest, held in zip(everything.content_digest, HELD, strict=True) if not held
    ]
    homes = [f"new {name}" for name in LISTINGS]

    def known(shown: list[str]) -> Array:
        digests = [shown[place] if first[place] else f"new {place}" for place in range(ROWS)]
        changed = {"content_digest": digests, "listing_id": homes}
        unseen = dataset.TrainingSet(**{**everything.__dict__, **changed})
        return champion.live_scores(live, unseen, homes, BACKBONE_ID)[0]

    assert np.array_equal(known(trained_on[:1] * ROWS), ~first)
    own = trained_on + ["another"] * (ROWS - len(trained_on))
    assert np.array_equal(known(own), np.arange(ROWS) >= len(trained_on))


def test_the_groups_of_the_split_are_what_the_live_head_is_kept_from(tmp_path: Path) -> None:
    """Homes of the live head's training come again under other names: they are held out."""
    embeddings, labels = clusters(ROWS)
    # no two are one photo
    embeddings += np.random.default_rng(2).gamma(1, 2, embeddings.shape).astype(np.float32)
    names = [("toilet", "other")[label] for label in labels]
    gathered(tmp_path, to_stored(embeddings), names)
    live = trained(tmp_path)
    twice = dataset.read(
        gathered(tmp_path, to_stored(np.concatenate([embeddings, embeddings])), names * 2)
    )
    groups = splits.groups(twice, conf_files.load().lookalikes.min_cosine)
    assert groups[:ROWS] == groups[ROWS:]
    other = held_out(groups, PLAIN.validation_share, PLAIN.seed + 1)
    found = trained(tmp_path, f"train.seed={PLAIN.seed + 1}")["champion"]
    assert found["head_id"] == live["head_id"]
    assert 0 < found["n"] == (other & np.tile(HELD, 2)).sum() < other.sum()


@pytest.mark.parametrize(
    ("name", "cost"), [("cost_ratio", 20.0), ("min_recall", 1.0), ("fixed", 1.0)]
)
def test_a_missed_image_costs_what_the_policy_says(tmp_path: Path, name: str, cost: float) -> None:
    made(tmp_path)
    good = trained(tmp_path)
    publish(tmp_path, good["head_id"], operating_threshold=1.1)  # misses all
    value = {"cost_ratio": 20.0, "min_recall": 0.5, "fixed": 20.0}[name]
    found = trained(tmp_path, f"publish.policy.name={name}", f"publish.policy.value={value}")[
        "champion"
    ]
    toilets = float((np.arange(ROWS)[HELD] % 2 == 0).mean())
    missed_less = found["differences"]["recall"]["value"]
    assert found["differences"]["cost"]["value"] == pytest.approx(-cost * toilets * missed_less)


def champion_set(root: Path) -> Any:
    """The held-out rows of the newest training set, with further images of new homes."""
    newest = Store(str(root)).newest(tables.TRAINING_SET)
    assert newest is not None
    unseen = dataset.read(newest).where(HELD)
    fresh = [
        f"new {place}" if place % 2 else name for place, name in enumerate(unseen.content_digest)
    ]
    return dataset.TrainingSet(**{**unseen.__dict__, "content_digest": fresh})


def test_a_live_head_that_does_not_tell_what_it_has_seen_is_not_compared(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    run_id = new_run_id()
    head = Head(
        ("toilet", "other"),
        ("toilet",),
        BACKBONE_ID,
        np.zeros((2, 512), np.float32),
        np.zeros(2, np.float32),
    )
    bundle.write(store.folder(tables.HEADS, run_id), head)
    store.commit(
        tables.HEADS,
        run_id,
        config={},
        inputs=Inputs(head_id=head.head_id, backbone_id=BACKBONE_ID),
    )
    assert current(tmp_path) == head.head_id  # heads of before count as promoted
    made(tmp_path)
    told = trained(tmp_path)
    assert (told["champion"]["verdict"], told["champion"]["head_id"], told["promoted"]) == (
        "nothing to compare",
        head.head_id,
        True,
    )


def test_the_same_training_gives_the_same_head_whatever_is_live(tmp_path: Path) -> None:
    made(tmp_path)
    first = trained(tmp_path)
    made(tmp_path)  # the same labels, gathered again
    second = trained(tmp_path)
    assert first["champion"] != second["champion"]
    for name in ("head.json", "head.safetensors", "part-0.parquet"):
        assert (Path(first["head"]) / name).read_bytes() == (
            Path(second["head"]) / name
        ).read_bytes()


def test_where_nothing_was_promoted_the_error_says_what_to_do(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    run_id = new_run_id()
    store.commit(tables.HEADS, run_id, config={}, inputs=Inputs(promoted=False))
    with pytest.raises(HeadError) as caught:
        registry.current(store, "", doing="scoring the catalog")
    assert str(caught.value) == (
        "while scoring the catalog\n"
        "  expected: a head that was promoted\n"
        "  found:    heads that are worse than the live one, "
        f"the newest in {store.folder(tables.HEADS, run_id)}\n"
        "  do:       set score.head to the live head's folder, "
        'or train with --accept-worse "reason"'
    )


# The flag


def test_the_flag_sets_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(Job, "run", lambda *arguments: ran.append(arguments))
    reason = 'the "old" one knows no bathrooms, schön'
    assert CliRunner().invoke(cli.app, ["train", "--accept-worse", reason]).exit_code == 0
    assert CliRunner().invoke(cli.app, ["train"]).exit_code == 0
    assert [conf_files.load([], sets).train.accept_worse for _, _, sets, _ in ran] == [reason, ""]
    assert ran[0][0].name == "train_head"


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_flag_without_a_reason_is_refused(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "run", lambda *arguments: pytest.fail("it ran"))
    done = CliRunner().invoke(cli.app, ["train", "--accept-worse", reason])
    assert done.exit_code == 2
    assert done.output == (
        "toiletspark: while reading --accept-worse\n"
        "  expected: the reason to use a worse head, in words; it is kept with the head\n"
        "  found:    an empty text\n"
        '  do:       give a reason, as in --accept-worse "the old one knows no bathrooms"\n'
    )


def test_blanks_are_no_reason_in_a_file_either() -> None:
    with pytest.raises(ConfigError, match="accept_worse must be a reason in words"):
        conf_files.load([], ['train.accept_worse="  "'])
