"""Depthwise convolutions: MobileNet (arXiv 1704.04861) and MobileNetV2 (arXiv 1801.04381)."""

import torch
from torch import nn

from trainers.architectures.blocks import Activation, Norm, Shape, convolution


class Inverted(nn.Module):
    """MobileNetV2's inverted residual: widen, filter each channel, narrow without activation."""

    def __init__(
        self, inside: int, outside: int, *, stride: int, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        middle = 3 * inside
        self.body = nn.Sequential(
            *convolution(inside, middle, 1, norm=norm, activation=activation),
            *convolution(
                middle, middle, stride=stride, groups=middle, norm=norm, activation=activation
            ),
            *convolution(middle, outside, 1, norm=norm, activation=None),
        )
        self.shortcut = stride == 1 and inside == outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return body(x), plus x where the sizes are equal."""
        result: torch.Tensor = self.body(x)
        return x + result if self.shortcut else result


def separable(  # noqa: PLR0913 - what the networks of the family differ in
    shape: Shape,
    classes: int,
    width: int,
    *,
    blocks: int,
    norm: Norm = "batch",
    activation: Activation = "relu6",
) -> nn.Module:
    """Return a MobileNet: `blocks` separable convolutions, of which every second one halves."""
    layers = convolution(shape[0], width, stride=2, norm=norm, activation=activation)
    inside = width
    for index in range(blocks):
        stride = 2 if index % 2 else 1
        outside = inside * stride
        layers += convolution(
            inside, inside, stride=stride, groups=inside, norm=norm, activation=activation
        )
        layers += convolution(inside, outside, 1, norm=norm, activation=activation)
        inside = outside
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))
    return nn.Sequential(*layers, *head)


def inverted(  # noqa: PLR0913 - what the networks of the family differ in
    shape: Shape,
    classes: int,
    width: int,
    *,
    blocks: int,
    norm: Norm = "batch",
    activation: Activation = "relu6",
) -> nn.Module:
    """Return a MobileNetV2: `blocks` inverted residuals, of which every second one halves."""
    layers = convolution(shape[0], width, stride=2, norm=norm, activation=activation)
    inside = width
    for index in range(blocks):
        stride = 2 if index % 2 else 1
        outside = inside * stride
        layers.append(Inverted(inside, outside, stride=stride, norm=norm, activation=activation))
        inside = outside
    layers += convolution(inside, 2 * inside, 1, norm=norm, activation=activation)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * inside, classes))
    return nn.Sequential(*layers, *head)
