"""What the families of networks are built from."""

from collections.abc import Callable, Mapping
from typing import Literal

from torch import nn

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""

Norm = Literal["batch", "layer", "none"]
Activation = Literal[
    "relu", "leaky", "relu6", "silu", "gelu", "elu", "tanh", "sigmoid", "hard-swish"
]

ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hard-swish": nn.Hardswish,
}


def normalisation(norm: Norm, channels: int) -> list[nn.Module]:
    """Return the normalisation of feature maps as at most one layer.

    `layer` is layer normalisation over channels and positions, GroupNorm with one group.
    """
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.GroupNorm(1, channels)] if norm == "layer" else []


def convolution(  # noqa: PLR0913 - a convolution has that many settings
    inside: int,
    outside: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    norm: Norm = "batch",
    activation: Activation | None = "relu",
) -> list[nn.Module]:
    """Return a convolution that keeps the size at stride 1, its normalisation and its activation.

    The bias is left out where a normalisation would take it off again.
    """
    return [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=norm == "none"),
        *normalisation(norm, outside),
        *([] if activation is None else [ACTIVATIONS[activation]()]),
    ]
