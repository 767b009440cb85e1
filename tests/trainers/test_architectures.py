"""The networks have the paper's layers and the published sizes."""

import pytest
import torch
from torch import nn

from trainers.architectures import ARCHITECTURES, first_activation
from trainers.recipes import RECIPES

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
