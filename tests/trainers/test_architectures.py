"""Each network learns and exports; the paper's have its layers and the published sizes."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from trainer_data import PlanMaker

from trainers.architectures import ARCHITECTURES, PAPER, first_activation
from trainers.architectures.patches import Patches
from trainers.datasets import Dataset
from trainers.export import export
from trainers.recipes import RECIPES, Recipe
from trainers.training import train

SHAPES = {"mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28)}


def _network(recipe: str) -> tuple[nn.Module, tuple[int, int, int], int]:
    shape, classes = SHAPES.get(recipe, (3, 32, 32)), {"gtsrb": 43, "cifar100": 100}.get(recipe, 10)
    return (
        ARCHITECTURES[RECIPES[recipe].architecture](shape, classes, RECIPES[recipe].width),
        shape,
        classes,
    )


def _count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


@pytest.mark.parametrize("recipe", RECIPES)
def test_logits_have_the_right_shape(recipe: str) -> None:
    network, shape, classes = _network(recipe)
    assert network(torch.rand(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(
    ("recipe", "convolutions", "dense"), [("mnist", 2, 1), ("fashion-mnist", 2, 1), ("gtsrb", 5, 1)]
)
def test_layer_counts_are_the_papers(recipe: str, convolutions: int, dense: int) -> None:
    network, _, _ = _network(recipe)
    assert (_count(network, nn.Conv2d), _count(network, nn.Linear)) == (convolutions, dense)


@pytest.mark.parametrize(("recipe", "millions"), [("cifar10", 11.17), ("cifar100", 23.71)])
def test_residual_networks_have_the_published_number_of_parameters(
    recipe: str, millions: float
) -> None:
    network, _, _ = _network(recipe)
    assert sum(weights.numel() for weights in network.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.01
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_first_activation_is_the_first_relu_at_full_resolution(recipe: str) -> None:
    network, shape, _ = _network(recipe)
    part = first_activation(network)
    assert isinstance(part[-1], nn.ReLU)
    assert part[0] is next(network.children())
    assert part(torch.rand(2, *shape)).shape == (2, RECIPES[recipe].width, *shape[1:])


# One row per architecture beyond the paper's: convolutions and dense layers, and of what kinds.
KINDS: dict[str, tuple[int, int, set[type[nn.Module]]]] = {
    "MLP 1": (0, 2, {nn.ReLU}),
    "MLP 2, dropout": (0, 3, {nn.ReLU, nn.Dropout}),
    "MLP 2, ELU": (0, 3, {nn.ELU}),
    "MLP 2, sigmoid": (0, 3, {nn.Sigmoid}),
    "MLP 2, batch norm": (0, 3, {nn.ReLU, nn.BatchNorm1d}),
    "MLP 3, SiLU": (0, 4, {nn.SiLU}),
    "MLP 3, layer norm, GELU": (0, 4, {nn.GELU, nn.LayerNorm}),
    "MLP 4": (0, 5, {nn.ReLU}),
    "MLP 4, leaky": (0, 5, {nn.LeakyReLU}),
    "1 conv 7x7, strided": (1, 1, {nn.ReLU}),
    "2 conv 5x5, tanh, average pool": (2, 1, {nn.Tanh, nn.AvgPool2d}),
    "2 conv, average pool": (2, 1, {nn.ReLU, nn.AvgPool2d}),
    "2 conv, batch norm": (2, 1, {nn.ReLU, nn.MaxPool2d, nn.BatchNorm2d}),
    "2 conv 5x5, leaky, 2 dense": (2, 2, {nn.LeakyReLU, nn.ReLU, nn.MaxPool2d}),
    "3 conv, strided": (3, 1, {nn.ReLU}),
    "3 conv, ELU": (3, 1, {nn.ELU, nn.MaxPool2d}),
    "3 conv, strided, layer norm, GELU": (3, 1, {nn.GELU, nn.GroupNorm}),
    "3 conv, strided, batch norm, leaky": (
        3,
        1,
        {nn.LeakyReLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d},
    ),
    "3 conv, batch norm, dropout": (3, 1, {nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d, nn.Dropout}),
    "4 conv, ReLU6": (4, 1, {nn.ReLU6, nn.MaxPool2d}),
    "4 conv, SiLU, average pool": (
        4,
        1,
        {nn.SiLU, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d},
    ),
    "4 conv, layer norm": (4, 1, {nn.ReLU, nn.GroupNorm, nn.MaxPool2d}),
    "4 conv, strided, GELU": (4, 1, {nn.GELU}),
    "6 conv, batch norm, pooled": (
        6,
        1,
        {nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d},
    ),
    "6 conv, leaky": (6, 1, {nn.LeakyReLU, nn.MaxPool2d}),
    "8 conv, batch norm, strided": (8, 1, {nn.ReLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "VGG 4": (4, 2, {nn.ReLU, nn.MaxPool2d, nn.Dropout}),
    "VGG 6, batch norm": (6, 2, {nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d}),
    "VGG 8, batch norm": (8, 2, {nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d}),
    "ResNet 6": (6, 1, {nn.ReLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "ResNet 6, ELU": (6, 1, {nn.ELU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "ResNet 8": (9, 1, {nn.ReLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "ResNet 8, strided stem": (9, 1, {nn.ReLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "ResNet 8, layer norm, SiLU": (9, 1, {nn.SiLU, nn.GroupNorm, nn.AdaptiveAvgPool2d}),
    "ResNet 8, no norm": (9, 1, {nn.ReLU, nn.AdaptiveAvgPool2d}),
    "ResNet 10, leaky": (12, 1, {nn.LeakyReLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "ResNet 10, pooled": (9, 1, {nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d}),
    "ResNet 14": (15, 1, {nn.ReLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "MobileNet": (9, 1, {nn.ReLU6, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "MobileNet, hard swish": (9, 1, {nn.Hardswish, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "MobileNet, ReLU": (11, 1, {nn.ReLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "MobileNetV2": (14, 1, {nn.ReLU6, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "MobileNetV2, SiLU": (14, 1, {nn.SiLU, nn.BatchNorm2d, nn.AdaptiveAvgPool2d}),
    "DenseNet": (8, 1, {nn.ReLU, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d}),
    "DenseNet, 3 blocks": (9, 1, {nn.ReLU, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d}),
    "DenseNet, layer norm, GELU": (
        6,
        1,
        {nn.GELU, nn.GroupNorm, nn.AvgPool2d, nn.AdaptiveAvgPool2d},
    ),
    "ViT": (1, 9, {nn.GELU, nn.LayerNorm}),
    "ViT, patch 7": (1, 13, {nn.GELU, nn.LayerNorm}),
    "ViT, ReLU": (1, 13, {nn.ReLU, nn.LayerNorm}),
    "Mixer": (1, 9, {nn.GELU, nn.LayerNorm}),
    "Mixer, patch 7, ReLU": (1, 13, {nn.ReLU, nn.LayerNorm}),
}


def test_the_table_has_a_row_for_every_architecture() -> None:
    assert KINDS.keys() == ARCHITECTURES.keys() - PAPER.keys()


@pytest.mark.parametrize("architecture", KINDS)
def test_an_architecture_has_the_layers_of_its_name(architecture: str) -> None:
    network = ARCHITECTURES[architecture]((3, 28, 28), 10, 4)
    convolutions, dense, kinds = KINDS[architecture]
    assert (_count(network, nn.Conv2d), _count(network, nn.Linear)) == (convolutions, dense)
    leaves = {type(module) for module in network.modules() if not list(module.children())}
    plumbing = {nn.Conv2d, nn.Linear, nn.Flatten, nn.Identity}
    own = {kind for kind in leaves - plumbing if kind.__module__.startswith("torch.")}
    assert own == kinds


@pytest.mark.parametrize("architecture", KINDS)
def test_an_architecture_exports_with_the_same_logits(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ARCHITECTURES[architecture]((1, 28, 28), 7, 6)
    images = torch.rand(16, 1, 28, 28)
    network(images)  # so that batch statistics are not the initial ones
    assert network(images).shape == (16, 7)
    assert export(network, images, tmp_path / "model.onnx") < 1e-4


@pytest.mark.parametrize("architecture", KINDS)
def test_a_narrow_network_of_each_architecture_trains(
    architecture: str, mnist: Dataset, small: Recipe, plan: PlanMaker
) -> None:
    """With ONEDNN_MAX_CPU_ISA=AVX2 too, where some layouts end the process."""
    recipe = dataclasses.replace(small, architecture=architecture)
    given = plan(recipe=recipe, steps=2)
    (run,) = train(given, mnist)
    assert given.layout is torch.contiguous_format
    assert all(weights.isfinite().all() for weights in run.network.parameters())


@pytest.mark.parametrize("side", [14, 16, 20, 24, 28, 32])
def test_plain_networks_take_any_side(side: int) -> None:
    for architecture in ("3 conv, strided", "VGG 4", "2 conv, average pool"):
        network = ARCHITECTURES[architecture]((1, side, side), 10, 4)
        assert network(torch.rand(2, 1, side, side)).shape == (2, 10)


def test_patches_are_tokens_from_left_to_right_and_top_to_bottom() -> None:
    patches = Patches((1, 4, 6), 2, 1, positions=False)
    torch.nn.init.constant_(patches.project.weight, 0.25)
    assert patches.project.bias is not None
    torch.nn.init.zeros_(patches.project.bias)
    image = torch.arange(6.0).reshape(1, 1, 2, 3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert patches(image).flatten().tolist() == [0, 1, 2, 3, 4, 5]
