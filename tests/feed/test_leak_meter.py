"""The leak meter without Spark: which labels count, their weights, and honest intervals."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import literal_config, stored
from tests.sampling.test_inclusion_probabilities import chances_of, systematic
from toiletspark.errors import OutputError
from toiletspark.feed import leak_meter
from toiletspark.feed.leak_meter import CONFLICT, estimate, labels_of
from toiletspark.labels.merge import IMAGE_FOLDER, Label
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import Version
from toiletspark.sampling.estimates import Bootstrap, Share
from toiletspark.sampling.inclusion_probabilities import CERTAIN, SIZE_ONE
from toiletspark.tables import schemas
from toiletspark.tables.runs import Run, Store

BAD = ["toilet"]


def row(
    name: str, kept: int = 1, excluded: int = 0, chance: float = 0.5, rank: int | None = 1
) -> dict[str, Any]:
    return {
        **{
            "content_digest": f"d-{name}",
            "image_id": name,
            "listing_id": f"L-{name}",
            "stratum": "s",
        },
        **{"kept": kept, "excluded": excluded, "inclusion_probability": chance, "rank": rank},
    }


def word(
    about: str, label: str, who: str = "ann", *, day: int = 1, digest: str | None = ""
) -> Label:
    """By its own content, d-<image_id>, where no digest is said."""
    at = datetime(2026, 11, day, tzinfo=UTC)
    return Label(about, label, f"d-{about}" if digest == "" else digest, "sheet", who, at)


# Whose label counts


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], None),
        ([word("a", "toilet")], "toilet"),
        ([word("another image", "toilet", digest="d-a")], "toilet"),
        ([word("a", "toilet", digest="d-older")], None),  # of what was there before
        ([word("a", "toilet", digest=None)], "toilet"),
        ([word("another image", "toilet", digest=None)], None),
        ([word("a", "toilet"), word("a", "toilet", "bob")], "toilet"),
        ([word("a", "toilet"), word("a", "other", "bob", day=2)], CONFLICT),
        ([word("a", "toilet"), word("b", "other", "bob", digest="d-a")], CONFLICT),
    ],
)
def test_a_label_is_about_the_content_that_was_seen(said: list[Label], expected: Any) -> None:
    assert labels_of([row("a")], said, "leave_out") == [expected]
    assert labels_of([row("a")], said, "fail") == [expected]
    assert labels_of([row("a")], said[::-1], "leave_out") == [expected]


def test_where_the_newest_word_counts_there_is_no_conflict() -> None:
    said = [word("a", "other", "bob", day=2), word("a", "toilet", "zoe")]
    assert labels_of([row("a"), row("b")], said, "newest") == ["other", None]


def test_labels_of_own_folders_answer_nothing() -> None:
    own = Label("a", "toilet", "d-a", IMAGE_FOLDER, "ann")
    assert labels_of([row("a"), row("b")], [own, word("b", "other", "bob")], "newest") == [
        None,
        "other",
    ]


# Estimates


def test_literal_figures() -> None:
    drawn = [
        row("toilet kept", chance=1.0),
        row("good kept", chance=0.1),
        row("toilet excluded", 0, 1, chance=0.5),
        row("good excluded", 0, 1, chance=0.5),
        row("good, of six images", kept=6, excluded=2, chance=0.2),
    ]
    leaking, lost = estimate(drawn, ["toilet", "other", "toilet", "other", "other"], BAD)
    # in the feed: 1 toilet, 10 good, 30 good; good: those 40, and excluded 2 and 10
    assert (leaking.value, leaking.n) == (pytest.approx(1 / 41), 3)
    assert (lost.value, lost.n) == (pytest.approx(12 / 52), 4)
    assert leaking.low < 1 / 41 < leaking.high and lost.low < 12 / 52 < lost.high


def test_what_has_no_label_or_contradicting_ones_is_stood_for_by_the_others() -> None:
    drawn = [row(name, chance=0.1, rank=rank) for rank, name in enumerate("abcd", 1)]
    drawn += [row("known", chance=0.05, rank=None)]
    found = ["toilet", "other", None, CONFLICT, "other"]
    leaking, _ = estimate(drawn, found, BAD)
    # half of the 40 that were asked about, none of the known 20
    assert leaking.value == pytest.approx(20 / (40 + 20))
    everything, _ = estimate(drawn, ["toilet", "other", "toilet", "other", "other"], BAD)
    assert everything.value == leaking.value
    assert everything.high - everything.low < leaking.high - leaking.low


@pytest.mark.parametrize(
    "said", [[], [None, None], [None, CONFLICT]], ids=["nothing drawn", "nothing", "a conflict"]
)
def test_without_labels_nothing_is_known(said: list[Any]) -> None:
    unknown = Share(None, 0.0, 1.0, 0)
    assert estimate([row(str(at)) for at in range(len(said))], said, BAD) == (unknown, unknown)


def test_without_a_good_photo_what_was_lost_is_unknown() -> None:
    leaking, lost = estimate([row("a"), row("b")], ["toilet", "toilet"], BAD)
    assert (leaking.value, lost.value) == (1.0, None)


@dataclasses.dataclass
class Catalog:
    """Contents after a head: mostly sure, in listings and strata, some shown by several images."""

    listing: Any
    stratum: Any
    images: Any
    toilet: Any
    score: Any
    chance: Any

    def true_shares(self) -> tuple[float, float]:
        out = self.score >= 0.5
        leaking = self.images[self.toilet & ~out].sum() / self.images[~out].sum()
        return leaking, self.images[~self.toilet & out].sum() / self.images[~self.toilet].sum()

    def drawn(self, random: np.random.Generator) -> list[dict[str, Any]]:
        order = np.lexsort((random.random(len(self.score)), self.stratum))
        places, _ = systematic(self.chance[order], int(random.integers(CERTAIN)))
        return [
            {
                **row(f"i{at}", 0 if self.score[at] >= 0.5 else int(self.images[at])),
                **{"excluded": int(self.images[at]) if self.score[at] >= 0.5 else 0},
                **{"listing_id": int(self.listing[at]), "stratum": int(self.stratum[at])},
                "inclusion_probability": self.chance[at] / CERTAIN,
            }
            for at in order[places].tolist()
        ]


def catalog(seed: int, hidden: float, size: int, units: int = 12_000) -> Catalog:
    """`hidden`: the share of toilets of which the head is sure that they are none."""
    random = np.random.default_rng(seed)
    listing = np.repeat(np.arange(units // 8), 8)
    toilet = random.random(units) < 0.06
    logit = 1.6 * random.normal(size=units) + np.where(toilet, 3.0, -3.0)
    unseen = random.random(units) < hidden
    toilet = toilet | unseen
    logit = np.where(unseen, -6.0 + random.normal(size=units), logit)
    score = 1 / (1 + np.exp(-logit))
    images = np.where(random.random(units) < 0.05, random.integers(2, 6, units), 1)
    sizes = np.round(images * np.sqrt(score * (1 - score)) * SIZE_ONE).astype(np.int64)
    return Catalog(listing, listing % 12, images, toilet, score, chances_of(sizes, size, 0.5))


@pytest.mark.parametrize(("hidden", "size"), [(0.0, 300), (0.005, 600)])
def test_the_truth_lies_within_the_intervals(
    monkeypatch: pytest.MonkeyPatch, hidden: float, size: int
) -> None:
    """100 draws: unbiased to three standard errors, within the intervals in at least 91."""
    monkeypatch.setattr(leak_meter, "Bootstrap", lambda *of: Bootstrap(*of, replicates=200))
    whole = catalog(3, hidden, size)
    random = np.random.default_rng(11)
    found = []
    for _ in range(100):
        drawn = whole.drawn(random)
        assert len(drawn) == size
        found.append(
            estimate(
                drawn,
                ["toilet" if whole.toilet[int(one["image_id"][1:])] else "other" for one in drawn],
                BAD,
            )
        )
    for place, truth in enumerate(whole.true_shares()):
        assert truth > 0.001  # or the test could not fail
        values = np.array([shares[place].value for shares in found])
        assert abs(values.mean() - truth) < 3 * values.std(ddof=1) / 10
        assert sum(shares[place].low <= truth <= shares[place].high for shares in found) >= 91
        # nor are they as wide as the world
        assert np.median([shares[place].high for shares in found]) < 12 * truth


# The meter, and its trend

Sampled = Callable[..., Run]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path))


def sampled(
    store: Store, rows: list[dict[str, Any]], version: int = 1, threshold: float = 0.5
) -> Run:
    inputs = {
        "kind": "leaks",
        "version": version,
        "head_id": "0123456789abcdef",
        "operating_threshold": threshold,
    }
    return stored(store, schemas.LEAKS, rows, inputs=inputs)


def labelled(store: Store, *said: Label) -> None:
    rows = [{**dataclasses.asdict(one), "class": one.label} for one in said]
    stored(store, schemas.LABELS, rows)


def test_a_trend_is_by_version_and_by_the_labels_that_count_now(store: Store) -> None:
    section = literal_config().labels
    many = [row(f"i{at}", chance=0.1, rank=at + 1) for at in range(40)]
    sampled(store, many[:5], version=2)  # drawn again below
    sampled(
        store, [row(f"j{at}", 0, 1, rank=at + 1) for at in range(40)], version=1, threshold=0.25
    )
    newest = sampled(store, many, version=2)
    labelled(store, *(word(f"i{at}", "other") for at in range(40)))  # of before
    labelled(
        store,
        *(word(f"i{at}", "toilet" if at == 7 else "other") for at in range(35)),
        word("i7", "other", "bob"),
    )
    one, two = leak_meter.trend(store, section)
    assert (one.version, two.version, two.run_id) == (1, 2, newest.run_id)
    assert (one.drawn, one.labelled, one.missing, one.thin) == (40, 0, 40, True)
    assert (two.drawn, two.labelled, two.missing, two.in_conflict, two.thin) == (
        40,
        34,
        5,
        1,
        False,
    )
    assert (two.leaking.value, two.lost.value) == (0.0, 0.0)
    lines = leak_meter.shown([one, two]).splitlines()
    day = datetime.now(UTC).date().isoformat()
    assert lines == [
        f"version 1, drawn {day}, head 0123456789ab, threshold 0.25: too few labels to say: "
        "0 of 40",
        f"version 2, drawn {day}, head 0123456789ab, threshold 0.5: {two}",
        "5 of the newest sample are not labelled yet: `toiletspark labels sheet --queue leaks`",
        "1 of the newest sample have labels that contradict each other",
    ]
    told = two.as_json()
    assert (told["said"], told["leaking"]["value"], told["thin"]) == (str(two), 0.0, False)


def meter_of(**changes: Any) -> leak_meter.Meter:
    plain = leak_meter.Meter(
        *("run", 3, "2026-11-25T10:00:00+00:00", "h", 0.5, ("toilet",)),
        *(300, 290, 10, 0, 280, 270),
        *(Share(0.004, 0.002, 0.008, 250), Share(0.006, 0.003, 0.011, 280)),
    )
    return dataclasses.replace(plain, **changes)


def test_the_meters_sentence() -> None:
    assert (
        str(meter_of())
        == "toilets still in the feed: 0.4 % (0.2 to 0.8), good photos lost: 0.6 % (0.3 to 1.1)"
    )
    two = meter_of(classes=("toilet", "floor_plan"), lost=Share(None, 0.0, 1.0, 0))
    assert str(two) == (
        "toilets and floor plans still in the feed: 0.4 % (0.2 to 0.8), good photos lost: unknown"
    )


@pytest.mark.parametrize(
    ("labelled", "asked", "asked_labelled", "thin"),
    [
        (29, 0, 0, True),
        (30, 0, 0, False),
        (30, 30, 30, False),
        (300, 100, 29, True),  # what was known before cannot speak for what nobody has looked at
        (300, 100, 30, False),
        (300, 10, 10, False),
        (300, 10, 9, True),
    ],
)
def test_few_labels_say_nothing(labelled: int, asked: int, asked_labelled: int, thin: bool) -> None:
    one = meter_of(labelled=labelled, asked=asked, asked_labelled=asked_labelled)
    assert one.thin == thin
    assert str(one).startswith(f"too few labels to say: {asked_labelled} of {asked}") == thin


def test_progress_tells_what_was_known_before_apart() -> None:
    assert (
        meter_of(labelled=234, asked=76, asked_labelled=10).progress
        == "10 of 76, and 224 that were known before"
    )
    assert meter_of(labelled=10, asked=76, asked_labelled=10).progress == "10 of 76"


def test_without_a_sample_the_step_is_named(store: Store) -> None:
    with pytest.raises(OutputError) as raised:
        leak_meter.trend(store, literal_config().labels)
    assert raised.value.doing == "reading the leak meter"
    assert raised.value.todo == "run `toiletspark leaks draw` with the same configuration first"


# From what is drawn


def test_without_a_version_or_its_decisions_nothing_can_be_drawn(store: Store) -> None:
    with pytest.raises(OutputError, match="found:    no version"):
        leak_meter.drawn_from(store)
    early = stored(store, schemas.EXCLUSION_LIST, [])
    log.publish(store, early)
    with pytest.raises(OutputError, match="found:    version 1 without them"):
        leak_meter.drawn_from(store)


def test_each_version_has_a_seed_of_its_own() -> None:
    told = [
        Version(version=number, run_id=run_id, layout=2, published_at="")
        for number, run_id in ((1, "r"), (1, "s"), (2, "r"))
    ]
    seeds = [leak_meter.seed_of(43, version) for version in told]
    assert len(set(seeds)) == 3
    assert seeds == [leak_meter.seed_of(43, version) for version in told]
    assert leak_meter.seed_of(44, told[0]) not in seeds
    assert all(0 <= seed < 2**53 for seed in seeds)
