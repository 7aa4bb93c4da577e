"""Fine-tuning: only what may move moves, the same twice, and nothing that was seen is judged by."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import torchvision

from tests.conftest import encoded, literal_config, picture, stored
from toiletspark.config import Config
from toiletspark.config.loading import load
from toiletspark.demo.rooms import draw_room
from toiletspark.errors import BackboneError, LabelsError, OutputError
from toiletspark.hashing import content_digest
from toiletspark.model import golden, registry
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import to_stored
from toiletspark.model.runtimes.torch_runtime import without_final_layer
from toiletspark.model.weights import load_spec
from toiletspark.progress import Progress
from toiletspark.tables import arrow_io as small_tables
from toiletspark.tables import schemas as tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.training import dataset
from toiletspark.training.finetune_loop import Pictures, Tuned, choose, last_block, tune
from toiletspark.training.fit import FinalLayer
from toiletspark.training.heads import train
from toiletspark.training.splits import held_out, seen_by_backbone

SETTINGS = load(
    sets=["finetune.images_per_batch=8", "finetune.learning_rate=0.01", "finetune.epochs=3"]
).finetune


# The tuner


class Small(torch.nn.Module):
    """A network of the shape that resnets have: a stem, batch norm, and two blocks in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 6, 3, stride=2)
        self.norm = torch.nn.BatchNorm2d(6)
        self.blocks = torch.nn.Sequential(self.block(), self.block())
        self.fc = torch.nn.Identity()

    def block(self) -> torch.nn.Module:
        return torchvision.models.resnet.BasicBlock(6, 6)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.norm(self.stem(batch))).mean(dim=(2, 3))  # type: ignore[no-any-return]


def small() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Small().eval()


def pictures(count: int = 48) -> Pictures:
    """Noise, brighter above where the label is 1."""
    labels = np.arange(count) % 2
    pixels = np.random.default_rng(1).integers(60, 120, (count, 16, 16, 3), dtype=np.uint8)
    pixels[labels == 1, :8] += 90
    rows = np.arange(count)
    return Pictures(pixels, labels.astype(np.int64), rows[rows % 5 != 0], rows[rows % 5 == 0])


def tuned(
    network: torch.nn.Module, everything: bool = False, seed: int = 7, **changes: Any
) -> Tuned:
    start = FinalLayer(np.zeros((2, 6), np.float32), np.zeros(2, np.float32), 1.0, 1.0, 0, None)
    progress = Progress("fine-tuning", 3 * 38, "images", 60.0, io.StringIO())
    settings = SETTINGS.model_copy(update=changes)
    device = torch.device("cpu")
    return tune(
        network, start, pictures(), everything, settings, seed, device, progress, lambda *_: None
    )


@pytest.mark.parametrize("everything", [False, True])
def test_batch_norm_stays_and_of_the_rest_moves_what_was_asked_for(everything: bool) -> None:
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = tuned(network, everything)
    assert found.best > 0
    moved = {name for name, tensor in found.state.items() if not torch.equal(tensor, before[name])}
    last = {"blocks.1.conv1.weight", "blocks.1.conv2.weight"}
    first = {"stem.weight", "stem.bias", "blocks.0.conv1.weight", "blocks.0.conv2.weight"}
    assert moved == (last | first if everything else last)
    assert any("running_mean" in name for name in before)


def test_it_learns_what_the_labels_say_and_keeps_the_best_epoch() -> None:
    found = tuned(small(), everything=True, epochs=6, learning_rate=0.01)
    assert found.losses[found.best] == min(found.losses) < 0.8 * found.losses[0]
    assert found.losses[0] == pytest.approx(np.log(2), rel=1e-4)


def test_it_stops_when_nothing_is_gained_and_then_nothing_has_changed() -> None:
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = tuned(network, everything=True, epochs=50, learning_rate=30.0, patience=2)
    assert (found.best, len(found.losses)) == (0, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.state.items())


def test_the_same_twice_and_another_with_another_seed() -> None:
    torch.manual_seed(1)
    one = tuned(small(), everything=True)
    torch.manual_seed(2)
    assert same_state(one, tuned(small(), everything=True))
    assert not same_state(one, tuned(small(), everything=True, seed=8))
    assert not same_state(one, tuned(small(), everything=True, flips=False))
    assert not torch.are_deterministic_algorithms_enabled()


def same_state(one: Tuned, other: Tuned) -> bool:
    return all(torch.equal(one.state[name], other.state[name]) for name in one.state)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("resnet18", "layer4.1"),
        ("convnext_tiny", "features.7.2"),
        ("densenet121", "features.denseblock4"),
        ("googlenet", "inception5b"),
        ("mobilenet_v3_small", "classifier.0"),
        ("squeezenet1_1", "features.12"),
        ("swin_t", "features.7.1"),
        ("vgg11", "classifier.3"),
        ("vit_b_32", "encoder.layers.encoder_layer_11"),
    ],
)
def test_the_last_block_of_a_network(architecture: str, name: str) -> None:
    with torch.device("meta"):
        network = without_final_layer(architecture)
    assert last_block(network) == name
    everything = sum(one.numel() for one in network.parameters())
    assert 0 < sum(one.numel() for one in choose(network, whole=False)) < everything


# From gathered images to a head


def gathered(root: Path, count: int = 60, spoilt: tuple[int, ...] = ()) -> Config:
    """Embedded and labelled 64 px pictures with their files; heads learn next to nothing.

    So an epoch of fine-tuning is sure to be better than the start.
    """
    config = literal_config(
        {
            "output.root": root,
            "lookalikes.min_cosine": 1.0,  # to a tiny random backbone all drawn pictures are alike
            "train.finetune": "last_block",
            "train.optimizer": "adam",
            "train.epochs": 1,
            "train.learning_rate": 1e-5,
            "train.calibrate": False,
            "train.l2": 0.1,
        }
    )
    config = config.model_copy(
        update={"finetune": SETTINGS.model_copy(update={"epochs": 1, "learning_rate": 1e-4})}
    )
    spec = load_spec(config.backbone)
    store = Store.open(str(root))
    rows = []
    for number in range(count):
        room = ("toilet", "kitchen")[number % 2]
        file = picture(room, number, (64, 64))
        named = {
            "image_id": f"i{number:03}",
            "listing_id": f"L{number // 2}",
            "stratum": "S",
            "weight": 2.0,
        }
        label = {
            "label": "toilet" if room == "toilet" else "other",
            "content_digest": content_digest(file),
        }
        rows.append(
            {**named, **label, "draw": "D", "content": b"gone bad" if number in spoilt else file}
        )
    backbone = Backbone(spec)
    pixels = [
        one.pixels
        for one in backbone.decode(
            [picture(("toilet", "kitchen")[n % 2], n, (64, 64)) for n in range(count)],
            config.decode,
        )
    ]
    for row, vector in zip(
        rows,
        to_stored(backbone.embed(np.stack([one for one in pixels if one is not None]))),
        strict=True,
    ):
        row["embedding"] = vector
    source = stored(
        store,
        tables.TRAINING_SET,
        rows_of(rows, tables.TRAINING_SET),
        inputs={"backbone_id": spec.backbone_id},
        counts={"draws": {"D": {"drawn": 2 * count, "labelled": count, "share": 0.5}}},
    )
    stored(
        store,
        tables.TRAINING_IMAGES,
        rows_of(rows, tables.TRAINING_IMAGES),
        inputs={"training_set": source.run_id, "backbone_id": spec.backbone_id},
    )
    return config


def rows_of(rows: list[dict[str, Any]], table: tables.Table) -> list[dict[str, Any]]:
    return [{name: row[name] for name in table.columns} for row in rows]


def newest(config: Config, table: tables.Table = tables.TRAINING_SET) -> Run:
    found = Store(config.output.root).newest(table)
    assert found is not None
    return found


def test_labelled_images_are_read_in_batches_and_corrupt_ones_are_counted(tmp_path: Path) -> None:
    config = gathered(tmp_path, 10, spoilt=(3, 7))
    batches = list(dataset.read_images(newest(config, tables.TRAINING_IMAGES), 4))
    assert [len(batch.image_id) + batch.corrupt for batch in batches] == [4, 4, 2]
    names = itertools.chain.from_iterable(batch.image_id for batch in batches)
    assert list(names) == [f"i{n:03}" for n in range(10) if n not in (3, 7)]
    assert sum(batch.corrupt for batch in batches) == 2
    assert batches[0].content[0] == picture("toilet", 0, (64, 64))


def test_from_labelled_images_to_a_backbone_and_a_head_on_it(tmp_path: Path) -> None:
    config = gathered(tmp_path, spoilt=(5,))
    source = newest(config)
    store = Store.open(config.output.root)
    jpeg = encoded(draw_room("kitchen", 3, (96, 96)))
    image = {
        "image_id": "g",
        "content_digest": "d",
        "label": "other",
        "jpeg": jpeg,
        "embedding": b"of the old one",
    }
    small_tables.write(
        store, tables.GOLDEN_IMAGES, source.run_id, [image], config={}, inputs=Inputs()
    )
    summary = train(config)
    told = summary["finetuned"]
    assert (told["images"], told["corrupt"], told["best_epoch"], len(told["inner_losses"])) == (
        59,
        1,
        1,
        2,
    )
    assert (
        told["todo"]
        == f"set backbone.weights={told['backbone']}, then run `toiletspark embed` and "
        "`toiletspark train`: the catalog is embedded anew"
    )

    spec = load_spec(config.backbone.model_copy(update={"weights": told["backbone"]}))
    (golden_image,) = registry.load(summary["head"]).golden
    golden.require_embedding(Backbone(spec), golden_image, config.decode, doing="testing")
    folder = Path(told["backbone"]).parent
    assert folder == tmp_path / "backbones" / f"finetuned-{spec.weights_digest[:12]}"
    assert (
        spec.backbone_id == registry.load(summary["head"]).backbone_id != source.inputs.backbone_id
    )
    made = json.loads((folder / "finetuned.json").read_text())
    assert (made["backbone_id"], made["finetune"], made["best_epoch"]) == (
        spec.backbone_id,
        "last_block",
        1,
    )

    listings = [f"L{number // 2}" for number in range(60) if number != 5]
    sides = held_out(listings, config.train.validation_share, config.train.seed)
    assert set(made["seen_listings"]) == {
        one for one, side in zip(listings, sides, strict=True) if not side
    }
    assert summary["validation"]["n"] == sides.sum()

    rows = pd.read_parquet(newest(config).folder)
    assert newest(config).inputs.finetuned_from == source.run_id
    # one less could be had
    part = {"drawn": 120, "labelled": 59, "share": pytest.approx(0.5 * 59 / 60)}
    assert newest(config).counts["draws"] == {"D": part}
    assert len(rows) == 59
    first = Backbone(spec).decode([picture("toilet", 0, (64, 64))], config.decode)[0].pixels
    assert first is not None
    again = np.frombuffer(rows["embedding"][0], "<f2").astype(np.float32)
    assert np.allclose(again, Backbone(spec).embed(np.stack([first]))[0], rtol=2e-3, atol=1e-3)
    assert (rows["draw"][0], rows["weight"][0], rows["label"][0]) == ("D", 2.0, "toilet")

    state = safetensors.torch.load_file(told["backbone"])
    start = load_spec(config.backbone).weights
    frozen = {
        name: value
        for name, value in safetensors.torch.load(start).items()
        if not name.startswith("layer4.1.conv")
    }
    assert all(torch.equal(state[name], value) for name, value in frozen.items())
    assert not torch.equal(
        state["layer4.1.conv1.weight"], safetensors.torch.load(start)["layer4.1.conv1.weight"]
    )

    # the same weights, by their digest
    assert train(config)["finetuned"]["backbone"] == told["backbone"]


def test_no_head_is_judged_by_what_its_backbone_has_seen(tmp_path: Path) -> None:
    """Also where somebody changes the split's seed afterwards."""
    config = gathered(tmp_path, 60)
    train(config)
    store = Store(str(tmp_path))
    backbone_id = newest(config).inputs.backbone_id
    listings = [f"L{number // 2}" for number in range(60)]
    known = seen_by_backbone(store, backbone_id, listings)
    assert 0 < known.sum() < 60
    assert not seen_by_backbone(store, "resnet18-unknown-r40c32-fp32", listings).any()
    other = config.train.model_copy(update={"seed": 8, "finetune": "none", "validation_share": 0.5})
    summary = train(config.model_copy(update={"train": other}))
    wanted = held_out(listings, 0.5, 8)
    assert summary["validation"]["n"] == (wanted & ~known).sum() < wanted.sum()


def test_where_nothing_is_gained_the_backbone_stays(tmp_path: Path) -> None:
    config = gathered(tmp_path, 40)
    settings = config.finetune.model_copy(update={"learning_rate": 100.0})
    summary = train(config.model_copy(update={"finetune": settings}))
    assert summary["finetuned"]["backbone"] is None
    assert summary["finetuned"]["todo"] == "no epoch was better: the backbone stays"
    assert not (tmp_path / "backbones").exists()
    assert registry.load(summary["head"]).backbone_id == load_spec(config.backbone).backbone_id


def stopped(error: type[Exception], config: Config, **changes: Any) -> str:
    backbone = config.backbone.model_copy(update=changes)
    with pytest.raises(error) as caught:
        train(config.model_copy(update={"backbone": backbone}))
    return str(caught.value)


def test_int8_another_backbone_and_missing_images_are_refused(tmp_path: Path) -> None:
    config = gathered(tmp_path / "a", 6)
    assert stopped(BackboneError, config, precision="int8", runtime="auto") == (
        "while fine-tuning the backbone\n"
        "  expected: backbone.precision fp32 or bf16\n"
        "  found:    int8, whose weights cannot be moved by small steps\n"
        "  do:       fine-tune in fp32, embed, and quantise the new backbone by "
        "backbone.precision=int8 afterwards"
    )
    ours = load_spec(config.backbone).backbone_id
    text = stopped(BackboneError, config, crop_px=40)
    assert f"  expected: the backbone {ours}, with which the catalog is embedded\n" in text
    lonely = stopped(LabelsError, config)
    assert (
        "  expected: images of every class to fine-tune on, "
        "and others of the same side to stop by\n" in lonely
    )
    empty = config.model_copy(
        update={"output": config.output.model_copy(update={"root": str(tmp_path / "b")})}
    )
    assert "do:       run `toiletspark train --set train.finetune=last_block`" in stopped(
        OutputError, empty
    )
