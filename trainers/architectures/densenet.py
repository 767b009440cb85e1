"""Densely connected networks (Huang et al., CVPR 2017)."""

import torch
from torch import nn

from trainers.architectures.blocks import ACTIVATIONS, Activation, Norm, Shape, convolution
from trainers.architectures.blocks import normalisation as normalise


class Grown(nn.Module):
    """Adds `growth` channels, computed from all before them."""

    def __init__(self, inside: int, growth: int, *, norm: Norm, activation: Activation) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *normalise(norm, inside),
            ACTIVATIONS[activation](),
            nn.Conv2d(inside, growth, 3, padding=1, bias=norm == "none"),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x and body(x), channels joined."""
        return torch.cat((x, self.body(x)), dim=1)


def dense(  # noqa: PLR0913 - what the networks of the family differ in
    shape: Shape,
    classes: int,
    width: int,
    *,
    depths: tuple[int, ...],
    norm: Norm = "batch",
    activation: Activation = "relu",
) -> nn.Module:
    """Return a DenseNet: blocks of growth `width`, with halving transitions between them."""
    inside = 2 * width
    layers = convolution(shape[0], inside, stride=2, norm=norm, activation=activation)
    for block, depth in enumerate(depths):
        if block:
            layers += convolution(inside, inside // 2, 1, norm=norm, activation=activation)
            layers.append(nn.AvgPool2d(2))
            inside //= 2
        for _ in range(depth):
            layers.append(Grown(inside, width, norm=norm, activation=activation))
            inside += width
    layers += [*normalise(norm, inside), ACTIVATIONS[activation]()]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))
    return nn.Sequential(*layers, *head)
