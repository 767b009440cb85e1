"""Small residual networks (He et al., CVPR 2016)."""

import torch
from torch import nn

from trainers.architectures.blocks import ACTIVATIONS, Activation, Norm, Shape, convolution


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(
        self, inside: int, outside: int, *, stride: int, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(inside, outside, stride=stride, norm=norm, activation=activation),
            *convolution(outside, outside, norm=norm, activation=None),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.skip = nn.Sequential(
                *convolution(inside, outside, 1, stride=stride, norm=norm, activation=None)
            )
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return activation(body(x) + skip(x))."""
        result: torch.Tensor = self.activation(self.body(x) + self.skip(x))
        return result


def residual(  # noqa: PLR0913 - what the networks of the family differ in
    shape: Shape,
    classes: int,
    width: int,
    *,
    depths: tuple[int, ...],
    norm: Norm = "batch",
    activation: Activation = "relu",
    stem: int = 1,
    pooled: bool = False,
) -> nn.Module:
    """Return a residual network with `depths` blocks per stage and a stem of stride `stem`.

    Where it is `pooled`, a convolution and a pooling halve the image before each stage, as in
    D. Page's ResNet ("How to Train Your ResNet", 2018), and no block does.
    """
    layers = convolution(shape[0], width, stride=stem, norm=norm, activation=activation)
    inside = width
    for stage, depth in enumerate(depths):
        outside = width << stage
        if pooled:
            if stage > 0:
                layers += convolution(inside, outside, norm=norm, activation=activation)
            layers.append(nn.MaxPool2d(2))
            inside = outside
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 and not pooled else 1
            layers.append(Block(inside, outside, stride=stride, norm=norm, activation=activation))
            inside = outside
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))
    return nn.Sequential(*layers, *head)
