"""All of torchvision's classification networks: final layer, flat embedding, weights' names."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from tests.support.backbones import saved, section, spec
from toiletspark.errors import BackboneError
from toiletspark.model import weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.runtimes.conversion import compiled
from toiletspark.model.runtimes.torch_runtime import final_layer, full_network, normalised
from toiletspark.model.weights import load_spec

# the smallest of each family
FAMILIES = [
    *(
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "efficientnet_v2_s",
        "googlenet",
        "inception_v3",
    ),
    *(
        "maxvit_t",
        "mnasnet0_5",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "regnet_x_400mf",
        "regnet_y_400mf",
        "resnet18",
    ),
    *(
        "resnext50_32x4d",
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
        "swin_t",
        "swin_v2_t",
        "vgg11",
        "vit_b_32",
    ),
    "wide_resnet50_2",
]
RUN = ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5", "googlenet"]
SIZES = {"resize_px": 64, "crop_px": 64}


def test_no_family_is_left_out() -> None:
    families = {re.match(r"[a-z]+", name).group() for name in FAMILIES}  # type: ignore[union-attr]
    every = torchvision.models.list_models(module=torchvision.models)
    assert {re.match(r"[a-z]+", name).group() for name in every} == families  # type: ignore[union-attr]


@pytest.mark.parametrize("name", FAMILIES)
def test_without_its_final_layer_a_network_gives_flat_embeddings(name: str) -> None:
    """Uses torch's meta device, which computes shapes alone; RegNet must be moved there."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        network = full_network(name)
    final = final_layer(network)
    layer = network.get_submodule(final)
    network.set_submodule(final, torch.nn.Identity())
    embedding = network.eval().to("meta")(torch.zeros(2, 3, 224, 224, device="meta"))
    width = layer.in_channels if isinstance(layer, torch.nn.Conv2d) else layer.in_features
    assert isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))
    assert tuple(embedding.shape) == (2, width)
    assert (
        layer.out_channels if isinstance(layer, torch.nn.Conv2d) else layer.out_features
    ) == 1000


def published(name: str) -> torch.nn.Module:
    """The network whole, as torchvision's weights are published for it: with auxiliary classifiers.

    Batch norm knows some noise, so that pictures still differ at the end.
    """
    more: dict[str, Any] = (
        {"transform_input": True, "init_weights": False} if name == "googlenet" else {}
    )
    torch.manual_seed(3)
    network = torchvision.models.get_model(name, weights=None, **more)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))
        # SqueezeNet cuts off what is below zero
        network.get_submodule(final_layer(network)).bias += 3
    return network.eval()


@pytest.mark.parametrize("name", RUN)
def test_the_final_layer_on_embeddings_is_the_whole_network(name: str, tmp_path: Path) -> None:
    network = published(name)
    load_spec.cache_clear()
    result = Backbone(
        spec(saved(network.state_dict(), tmp_path / "whole.pth"), architecture=name, **SIZES)
    )
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    layer = network.get_submodule(final_layer(network))
    logits = []
    layer.register_forward_hook(lambda *given: logits.append(given[-1]))
    with torch.inference_mode():
        network(normalised(pixels, torch.device("cpu")))
        embeddings = torch.from_numpy(result.embed(pixels))
        is_linear = layer.weight.ndim == 2 and embeddings.shape[1:] == layer.weight.shape[1:]
        put_back = layer(embeddings if is_linear else embeddings[:, :, None, None]).flatten(1)
    wanted = logits[0].flatten(2).mean(dim=2) if logits[0].ndim == 4 else logits[0]
    assert torch.allclose(put_back, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert float(wanted.std(dim=0).max()) > 1e-3  # and pictures differ
    assert result.spec.backbone_id.startswith(f"{name}-")


def test_resnet18_is_what_it_was() -> None:
    """Its random state, its name and its embeddings, by torchvision alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = torchvision.models.resnet18(weights=None)
    network.fc = torch.nn.Identity()
    load_spec.cache_clear()
    result = spec(**SIZES)
    assert result.weights_digest == weights.digest_of(network.state_dict())
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        wanted = network.eval()(normalised(pixels, torch.device("cpu")))
    assert np.allclose(Backbone(result).embed(pixels), wanted.numpy(), rtol=1e-5, atol=1e-6)


def test_openvino_and_torch_agree_on_another_network(tmp_path: Path) -> None:
    load_spec.cache_clear()
    file = saved(published("mobilenet_v3_small").state_dict(), tmp_path / "whole.pth")
    one = spec(file, architecture="mobilenet_v3_small", **SIZES)
    other = compiled(replace(one, runtime="openvino"))
    pixels = np.random.default_rng(3).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    result = Backbone(other).embed(pixels)
    wanted = Backbone(one).embed(pixels)
    assert result.shape == (4, 1024)
    assert np.abs(result - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert other.backbone_id == one.backbone_id


@pytest.mark.parametrize(
    ("name", "then", "now"),
    [
        ("densenet121", r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2."),
        (
            "vit_b_32",
            r"\.mlp\.([03])\.",
            lambda match: f".mlp.linear_{1 if match[1] == '0' else 2}.",
        ),
    ],
)
def test_files_older_than_todays_names_fit(name: str, then: str, now: Any) -> None:
    """The layout of torchvision's own files of these families."""
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None).state_dict()
    old = {re.sub(then, now, key): tensor for key, tensor in state.items()}
    final = "classifier" if name == "densenet121" else "heads.head"
    assert len(set(old) - set(state)) > 20
    assert set(weights._renamed(old, final)) == {key for key in state if not key.startswith(final)}


# What cannot be


def message(**changes: Any) -> str:
    load_spec.cache_clear()
    with pytest.raises(BackboneError) as caught:
        load_spec(section(**changes))
    return str(caught.value)


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    text = message(architecture="resnet81")
    assert text.startswith(
        "while building the backbone resnet81\n"
        "  expected: one of torchvision's classification networks in backbone.architecture\n"
        "  found:    'resnet81' (did you mean 'resnet18'?)\n"
        "  do:       take one of: alexnet, "
    )
    assert "fcos" not in text  # a detector


def test_a_size_that_a_network_does_not_take_is_told_before_weights_are_fetched() -> None:
    text = message(architecture="inception_v3", weights="imagenet", resize_px=40, crop_px=32)
    assert text.startswith(
        "while building the backbone inception_v3\n"
        "  expected: a square that it takes in backbone.crop_px\n"
        "  found:    32 px: RuntimeError: "
    )
    assert "set backbone.crop_px to the size that the weights were trained with" in text


def test_where_there_are_no_imagenet_weights_those_that_there_are_are_named() -> None:
    base = "https://download.pytorch.org/models/regnet_y_128gf_"
    assert message(architecture="regnet_y_128gf", weights="imagenet") == (
        "while finding the backbone's weights for regnet_y_128gf\n"
        "  expected: torchvision's IMAGENET1K_V1, which backbone.weights=imagenet stands for\n"
        "  found:    IMAGENET1K_SWAG_E2E_V1, IMAGENET1K_SWAG_LINEAR_V1\n"
        f"  do:       set backbone.weights to one of {base}swag-c8ce3e52.pth, "
        f"{base}lc_swag-cbe8ce12.pth"
    )
