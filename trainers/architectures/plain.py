"""Plain convolutional networks, one layer after the other; VGG-like with two dense layers."""

from typing import Literal

from torch import nn

from trainers.architectures.blocks import Activation, Norm, Shape, convolution

Down = Literal["max", "average", "stride"]


def plain(  # noqa: PLR0913 - what the networks of the family differ in
    shape: Shape,
    classes: int,
    width: int,
    *,
    stages: tuple[int, ...],
    norm: Norm = "batch",
    activation: Activation = "relu",
    down: Down = "max",
    kernel: int = 3,
    hidden: int = 0,
    pooled: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """Return a network of stages that halve the image and double the channels.

    Args:
        shape: Of an image.
        classes: How many there are.
        width: Channels of the first stage.
        stages: Convolutions per stage.
        norm: After each convolution.
        activation: After each normalisation.
        down: How a stage halves the image: by pooling at its end, or by its first convolution.
        kernel: Side of the first convolution's kernel; the others are 3x3.
        hidden: Width of a dense layer before the last, as VGG has; 0 leaves it out.
        pooled: Average over all positions before the dense layers instead of flattening.
        dropout: Before the last layer.
    """
    inside, rows, columns = shape
    layers: list[nn.Module] = []
    for stage, depth in enumerate(stages):
        for index in range(depth):
            side = kernel if not layers else 3
            stride = 2 if down == "stride" and index == 0 else 1
            layers += convolution(
                inside, width << stage, side, stride=stride, norm=norm, activation=activation
            )
            inside = width << stage
        if down == "stride":
            rows, columns = -(-rows // 2), -(-columns // 2)
        else:
            layers.append(nn.MaxPool2d(2) if down == "max" else nn.AvgPool2d(2))
            rows, columns = rows // 2, columns // 2
    features = inside if pooled else inside * rows * columns
    layers += [nn.AdaptiveAvgPool2d(1)] if pooled else []
    layers.append(nn.Flatten())
    if hidden:
        layers += [nn.Linear(features, hidden), nn.ReLU()]
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(hidden or features, classes))
