"""The networks of the paper's Table 2.1.

Every network takes images in [0, 1] of shape (N, C, H, W) and returns logits (N, classes). The
first layer is always a plain convolution followed by ReLU or by batch normalisation and ReLU, the
values that the paper's statistic reads. `width` is the number of channels of that layer; the others
are multiples of it. The paper names layer counts only: widths and kernels are ours, and kept small.
"""

import torch
from torch import nn

from trainers.architectures.blocks import Shape


def two_conv(shape: Shape, classes: int, width: int) -> nn.Module:
    """Return 2 convolutions and 1 dense layer, for images whose sides are multiples of 4."""
    channels, rows, columns = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (rows // 4) * (columns // 4), classes),
    )


def _block(inside: int, outside: int, *, pool: bool) -> list[nn.Module]:
    layers = [
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    ]
    return [*layers, nn.MaxPool2d(2)] if pool else layers


def five_conv(shape: Shape, classes: int, width: int) -> nn.Module:
    """Return 5 convolutions (all but the first normalised by batch) and a linear read-out."""
    channels, rows, columns = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *_block(width, 2 * width, pool=False),
        *_block(2 * width, 3 * width, pool=True),
        *_block(3 * width, 4 * width, pool=False),
        *_block(4 * width, 4 * width, pool=True),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * width * (rows // 8) * (columns // 8), classes),
    )


class Residual(nn.Module):
    """One residual block (He et al., CVPR 2016, figure 5): basic, or a bottleneck that widens."""

    def __init__(self, inside: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outside = 4 * width if bottleneck else width
        kernels: tuple[tuple[int, int, int, int], ...] = (
            (1, inside, width, 1),
            (3, width, width, stride),
            (1, width, outside, 1),
        )
        if not bottleneck:
            kernels = ((3, inside, width, stride), (3, width, width, 1))
        layers: list[nn.Module] = []
        for kernel, before, after, step in kernels:
            layers += [
                nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers[:-1])
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.skip = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(body(x) + skip(x))."""
        return torch.relu(self.body(x) + self.skip(x))


def _resnet(
    shape: Shape, classes: int, width: int, depths: tuple[int, ...], *, bottleneck: bool
) -> nn.Module:
    """Return a ResNet with the stem for 32x32 images: a 3x3 convolution and no pooling."""
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inside = width
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            layers.append(Residual(inside, width << stage, stride, bottleneck=bottleneck))
            inside = (4 if bottleneck else 1) * (width << stage)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def resnet18(shape: Shape, classes: int, width: int) -> nn.Module:
    """Return ResNet18 with a CIFAR stem; its usual width is 64."""
    return _resnet(shape, classes, width, (2, 2, 2, 2), bottleneck=False)


def resnet50(shape: Shape, classes: int, width: int) -> nn.Module:
    """Return ResNet50 with a CIFAR stem; its usual width is 64."""
    return _resnet(shape, classes, width, (3, 4, 6, 3), bottleneck=True)
