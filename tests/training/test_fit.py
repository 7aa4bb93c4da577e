"""The final layer: the minimum it claims, found out of fold, and luck has no part in it."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tests.training.test_train import clusters
from toiletspark.config.loading import load
from toiletspark.progress import Progress
from toiletspark.training.fit import FinalLayer, best_temperature, fit, steps

SETTINGS = load().train
PLAIN = {"l2": 0.1, "variance_l2": 0.0, "calibrate": False}
ADAM = {"optimizer": "adam", **PLAIN}


def fitted(
    embeddings: np.ndarray, labels: np.ndarray, classes: int = 2, **changes: Any
) -> FinalLayer:
    rest = {name: changes.pop(name) for name in ("groups", "row_weight") if name in changes}
    settings = SETTINGS.model_copy(update=changes)
    return fit(embeddings, labels, classes, settings, **rest)


def same(one: FinalLayer, other: FinalLayer) -> bool:
    return (
        one.weight.tobytes() == other.weight.tobytes()
        and one.bias.tobytes() == other.bias.tobytes()
    )


def blurred(
    rows: int, classes: int = 2, width: int = 24, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, of unequal size."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(0.7, rows) - 1, classes - 1)
    centres = np.random.default_rng(5).normal(0, 0.5, (classes, width))
    return (centres[labels] + rng.normal(0, 1, (rows, width)) + 3).astype(
        np.float32
    ), labels.astype(np.int64)


def logits(layer: FinalLayer, embeddings: np.ndarray) -> np.ndarray:
    return embeddings @ layer.weight.T + layer.bias


# the same again


@pytest.mark.parametrize("changes", [{}, ADAM, {"optimizer": "adam"}])
def test_a_fit_is_the_same_twice_whatever_numpys_seed_and_threads(changes: dict[str, Any]) -> None:
    embeddings, labels = blurred(300, 3)
    np.random.seed(1)
    first = fitted(embeddings, labels, 3, **changes)
    np.random.seed(2)
    torch.manual_seed(3)
    torch.set_num_threads(3)
    again = fitted(embeddings, labels, 3, **changes)
    assert torch.get_num_threads() == 3
    assert same(first, again)
    assert first[2:] == again[2:]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_fit_leaves_random_states_and_its_input_alone(optimizer: str) -> None:
    embeddings, labels = clusters(100)
    kept = embeddings.copy()
    np.random.seed(1)
    state = torch.get_rng_state()
    fitted(embeddings, labels, optimizer=optimizer)
    after = np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(embeddings, kept)


def test_another_seed_gives_another_layer_by_adam_and_the_same_minimum_by_lbfgs() -> None:
    embeddings, labels = blurred(200)
    one, other = (fitted(embeddings, labels, seed=seed, **ADAM) for seed in (1, 2))
    assert not same(one, other)
    assert same(*(fitted(embeddings, labels, seed=seed, **PLAIN) for seed in (1, 2)))


# the minimum


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("l2", "variance_l2"), [(0.01, 0.0), (0.3, 0.0), (0.01, 0.05), (0.1, 0.2)])
def test_lbfgs_finds_what_scikit_learn_finds(classes: int, l2: float, variance_l2: float) -> None:
    """One penalty for all there, so a feature that is held back more is made smaller instead."""
    embeddings, labels = blurred(400, classes)
    embeddings[:, :5] *= 4
    layer = fitted(embeddings, labels, classes, l2=l2, variance_l2=variance_l2, calibrate=False)
    values = embeddings.astype(np.float64)
    spread = np.sqrt(values.var(axis=0).mean())
    smaller = np.sqrt(l2 / (l2 + variance_l2 * values.var(axis=0) / spread**2))
    rows = (values - values.mean(axis=0)) / spread * smaller
    # of one logit instead of two, whose squares add up to half of its own
    strength = l2 / 2 if classes == 2 else l2
    slow = LogisticRegression(C=1 / (strength * len(rows)), tol=1e-10, max_iter=5000).fit(
        rows, labels
    )
    wanted = slow.decision_function(rows).reshape(len(rows), -1)
    ours = logits(layer, embeddings)
    if classes == 2:
        ours = ours[:, 1:] - ours[:, :1]
    ours, wanted = (one - one.mean(axis=1, keepdims=True) * (classes > 2) for one in (ours, wanted))
    assert np.allclose(ours, wanted, atol=1e-3)


def test_a_very_weak_l2_has_a_minimum_too() -> None:
    """Fewer rows than features: mostly the penalty alone bends the loss, below float32's step."""
    embeddings, labels = blurred(60, width=512)
    layer = fitted(embeddings, labels, l2=1e-7, variance_l2=0.0, calibrate=False)
    assert (logits(layer, embeddings).argmax(axis=1) == labels).all()


def test_rows_count_as_much_as_they_weigh() -> None:
    """A row of weight 3 is as good as three rows; one of weight 0 as none."""
    embeddings, labels = blurred(120)
    times = np.random.default_rng(1).integers(0, 4, 120)
    weighed = fitted(embeddings, labels, row_weight=times.astype(np.float32), **PLAIN)
    # the scaling is that of the rows given, so the penalty must be made the same
    scale = np.sqrt(np.var(embeddings.astype(np.float64), axis=0).mean())
    repeated, named = np.repeat(embeddings, times, axis=0), np.repeat(labels, times)
    again = np.sqrt(np.var(repeated.astype(np.float64), axis=0).mean())
    plain = fitted(repeated, named, **{**PLAIN, "l2": 0.1 * (again / scale) ** -2})
    assert np.allclose(logits(weighed, embeddings), logits(plain, embeddings), atol=2e-3)


def test_balanced_classes_weigh_the_same() -> None:
    embeddings, labels = blurred(400)
    balanced = fitted(embeddings, labels, class_weight="balanced", **PLAIN)
    weight = (1 / np.bincount(labels))[labels].astype(np.float32)
    by_hand = fitted(embeddings, labels, row_weight=weight, **PLAIN)
    assert np.allclose(balanced.weight, by_hand.weight, atol=1e-5)
    said, plain = (
        logits(one, embeddings).argmax(axis=1)
        for one in (balanced, fitted(embeddings, labels, **PLAIN))
    )
    assert (said == 1).sum() > (plain == 1).sum()  # the rarer class is said more often


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam"}])
@pytest.mark.parametrize("classes", [2, 5])
def test_separable_classes_are_learnt_completely(classes: int, changes: dict[str, Any]) -> None:
    embeddings, labels = clusters(300, classes)
    layer = fitted(embeddings, labels, classes, **changes)
    assert (layer.weight.shape, layer.bias.shape) == ((classes, 512), (classes,))
    assert (layer.weight.dtype, layer.bias.dtype) == (np.float32, np.float32)
    unseen, truth = clusters(300, classes, seed=5)
    for rows, wanted in ((embeddings, labels), (unseen, truth)):
        assert (logits(layer, rows).argmax(axis=1) == wanted).all()


@pytest.mark.parametrize("constant", [0.1, 777.7])
def test_a_feature_that_never_varies_does_no_harm(constant: float) -> None:
    """Not in training; a later image in which it does vary must not be thrown about by it."""
    embeddings, labels = clusters(301)
    embeddings[:, 7] = constant
    layer = fitted(embeddings, labels)
    assert np.abs(layer.weight[:, 7]).max() <= np.abs(np.delete(layer.weight, 7, axis=1)).max()
    moved = embeddings.copy()
    moved[:, 7] += 1
    assert (logits(layer, moved).argmax(axis=1) == labels).mean() > 0.99


def test_embeddings_that_do_not_vary_leave_the_shares() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    layer = fitted(np.full((40, 8), 3.0, dtype=np.float32), labels, **PLAIN)
    assert (layer.weight == 0).all()
    assert layer.bias[0] - layer.bias[1] == pytest.approx(np.log(3), abs=1e-3)


# Adam


def test_adam_equals_adamw_written_out() -> None:
    """In float64 on scaled rows, without the folding: the logits on raw rows are the same."""
    embeddings, labels = blurred(90, 3, width=16)
    layer = fitted(embeddings, labels, 3, epochs=3, batch_size=32, **ADAM)
    scaled, weight, bias = slow_adamw(
        embeddings.astype(np.float64), labels, epochs=3, batch_size=32
    )
    assert np.allclose(logits(layer, embeddings), scaled @ weight.T + bias, atol=1e-3)
    assert layer.epochs == 3


def test_float16_moves_a_logit_less_where_great_values_are_held_back() -> None:
    """Features of unequal size, like a backbone's; Adam too has the penalty from the same place."""
    sizes = np.random.default_rng(4).lognormal(0, 1, 24)
    embeddings, labels = blurred(400, 3)
    embeddings = np.abs(embeddings * sizes).astype(np.float32)
    rounded = embeddings.astype(np.float16).astype(np.float32)
    for changes in ({"l2": 0.003}, {"l2": 0.003, "optimizer": "adam"}):
        moved, right = [], []
        for variance_l2 in (0.0, 0.05):
            layer = fitted(
                embeddings, labels, 3, variance_l2=variance_l2, calibrate=False, **changes
            )
            said = logits(layer, embeddings)
            moved.append(np.abs(logits(layer, rounded) - said).max())
            right.append((said.argmax(axis=1) == labels).mean())
        assert moved[1] < 0.9 * moved[0], changes
        assert right[1] > right[0] - 0.02, changes


def slow_adamw(
    rows: np.ndarray, labels: np.ndarray, epochs: int, batch_size: int
) -> tuple[np.ndarray, ...]:
    centred = rows - rows.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).mean())
    values = np.zeros((3, rows.shape[1] + 1))  # weights, and the bias as the last column
    values[:, -1] = np.log((np.bincount(labels) + 1) / (len(labels) + 3))
    mean = np.zeros_like(values)
    square = np.zeros_like(values)
    step = 0
    order = np.random.default_rng(SETTINGS.seed)
    kept = np.full_like(values, 1 - SETTINGS.learning_rate * PLAIN["l2"])
    kept[:, -1] = 1  # the bias does not decay
    for _ in range(epochs):
        shuffled = order.permutation(len(rows))
        for batch in (
            shuffled[start : start + batch_size] for start in range(0, len(rows), batch_size)
        ):
            inputs = np.hstack([scaled[batch], np.ones((len(batch), 1))])
            shares = np.exp(inputs @ values.T)
            shares /= shares.sum(axis=1, keepdims=True)
            gradient = (shares - np.eye(3)[labels[batch]]).T @ inputs / len(batch)
            step += 1
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            steep = np.sqrt(square / (1 - 0.999**step)) + 1e-8
            values = kept * values - SETTINGS.learning_rate * (mean / (1 - 0.9**step)) / steep
    return scaled, values[:, :-1], values[:, -1]


def test_adam_ends_early_where_inner_folds_do_not_gain() -> None:
    embeddings, labels = blurred(120, width=60)
    done: list[int] = []
    epochs: list[int] = []

    class Heard(Progress):
        def at(self, count: int, remark: str = "") -> None:
            done.append(count)

    changes = {"optimizer": "adam", "epochs": 60, "learning_rate": 0.05, "patience": 2}
    settings = SETTINGS.model_copy(update=changes)
    heard = Heard("training", *steps(settings), 1.0, io.StringIO())
    layer = fit(
        embeddings, labels, 2, settings, heard, on_epoch=lambda epoch, loss: epochs.append(epoch)
    )
    assert layer.epochs < 58
    assert done == [*range(1, 5 * (layer.epochs + 2) + 1), 5 * 60 + 1]
    assert epochs == list(range(1, layer.epochs + 1))


# inside


def test_l2_is_chosen_out_of_fold_by_groups() -> None:
    """Groups of near copies, a label each: torn apart they favour weak L2, kept together not."""
    rng = np.random.default_rng(3)
    labels = np.repeat(rng.integers(0, 2, 40), 8)
    embeddings = np.repeat(rng.normal(0, 1, (40, 100)) + 3, 8, axis=0) + rng.normal(
        0, 0.05, (320, 100)
    )
    embeddings[:, :10] += labels[:, None]
    groups = [f"L{place // 8}" for place in range(320)]
    together = fitted(embeddings.astype(np.float32), labels, groups=groups)
    torn = fitted(embeddings.astype(np.float32), labels)
    assert together.l2 > torn.l2
    assert together.inner_loss is not None
    assert torn.inner_loss is not None
    assert together.inner_loss > torn.inner_loss


def test_the_temperature_is_in_the_layer() -> None:
    embeddings, labels = blurred(300, 3)
    cooled = fitted(embeddings, labels, 3, l2=0.3)
    plain = fitted(embeddings, labels, 3, l2=0.3, calibrate=False)
    assert plain.temperature == 1.0
    assert cooled.temperature < 0.95  # a head that is held back so far is less sure than it may be
    assert np.allclose(cooled.weight * cooled.temperature, plain.weight, atol=1e-6)
    assert np.allclose(cooled.bias * cooled.temperature, plain.bias, atol=1e-5)


def test_temperature_is_where_a_grid_has_its_least() -> None:
    rng = np.random.default_rng(2)
    said = rng.normal(0, 3, (200, 3))
    weight = rng.uniform(0.5, 2, 200)
    labels = np.array([rng.choice(3, p=np.exp(row / 2) / np.exp(row / 2).sum()) for row in said])
    grid = np.exp(np.linspace(-1.5, 2.5, 2001))
    doubt = 1 / (np.bincount(labels, minlength=3) + 3)[labels]
    wanted = np.full((200, 3), 0.0) + doubt[:, None]
    wanted[np.arange(200), labels] = 1 - 2 * doubt
    losses = [-(wanted * np.log(softmax(said / one))).sum(axis=1) @ weight for one in grid]
    best = best_temperature(*map(torch.from_numpy, (said, labels, weight)))
    assert best == pytest.approx(grid[int(np.argmin(losses))], rel=0.003)
    assert best == pytest.approx(2, rel=0.25)


def softmax(rows: np.ndarray) -> np.ndarray:
    shares = np.exp(rows - rows.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def test_logits_without_a_mistake_do_not_become_infinitely_sure() -> None:
    labels = np.arange(40) % 2
    logits = np.where(np.eye(2)[labels] > 0, 5.0, -5.0)
    best = best_temperature(*map(torch.from_numpy, (logits, labels, np.ones(40))))
    assert 10 / best == pytest.approx(np.log(21), abs=0.02)  # 21 of 22, as Platt has it


def test_a_class_of_one_group_is_not_judged_and_not_lost() -> None:
    embeddings, labels = clusters(60, 3)
    groups = ["only" if label == 2 else f"L{place}" for place, label in enumerate(labels)]
    layer = fitted(embeddings, labels, 3, groups=groups)
    assert layer.inner_loss is not None
    assert layer.inner_loss < 0.1
    assert (logits(layer, embeddings).argmax(axis=1) == labels).all()


def test_without_a_fold_the_middle_candidate_is_taken() -> None:
    embeddings, labels = clusters(40)
    layer = fitted(embeddings, labels, groups=["one"] * 40)
    assert (layer.l2, layer.temperature, layer.inner_loss) == (SETTINGS.l2_path[3], 1.0, None)


def test_each_fit_is_told() -> None:
    told: list[int] = []

    class Heard(Progress):
        def at(self, done: int, remark: str = "") -> None:
            told.append(done)

    fit(*clusters(50), 2, SETTINGS, Heard("training", *steps(SETTINGS), 1.0, io.StringIO()))
    assert told == [1, 2, 3, 4, 5, 6]
