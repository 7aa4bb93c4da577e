"""TensorBoard: written where it is asked for, not even loaded where it is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.test_train import clusters, config, gathered
from toiletspark.errors import ConfigError
from toiletspark.model.embedding_codec import to_stored
from toiletspark.training.heads import train
from toiletspark.training.logbook import opened


def test_losses_figures_and_settings_can_be_read_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    embeddings, labels = clusters(80)
    gathered(
        tmp_path / "root", to_stored(embeddings), [("toilet", "other")[label] for label in labels]
    )
    settings = (
        "train.optimizer=adam",
        "train.epochs=4",
        "train.l2=0.1",
        "train.calibrate=false",  # without inner folds all epochs are run
        f"train.tensorboard={tmp_path / 'events'}",
    )
    summary = train(config(tmp_path / "root", ("toilet", "other"), *settings))
    (folder,) = (tmp_path / "events").iterdir()
    found = EventAccumulator(str(folder))
    found.Reload()
    losses = [(event.step, event.value) for event in found.Scalars("loss/head")]
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert losses[0][1] > losses[-1][1] >= 0
    assert found.Scalars("validation/accuracy")[0].value == pytest.approx(
        summary["validation"]["accuracy"]
    )
    text = found.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"validation_share": 0.2' in text


def test_a_missing_package_is_told_before_anything_is_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError) as caught, opened("events", {}):
        pass
    assert str(caught.value).startswith(
        "while opening train.tensorboard=events\n  expected: the package tensorboard\n"
    )
    assert (
        caught.value.todo
        == "pip install '.[tensorboard]' in the checkout, or set train.tensorboard=\"\""
    )


def test_nothing_is_loaded_or_written_unasked() -> None:
    code = (
        "import sys; from toiletspark.training.logbook import opened\n"
        "with opened('', {}) as book: book.loss('a', 1, 0.5); book.figures('b', {'c': 1})\n"
        "print([name for name in ('tensorboard', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
