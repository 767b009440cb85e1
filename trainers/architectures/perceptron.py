"""Multi-layer perceptrons."""

from torch import nn

from trainers.architectures.blocks import ACTIVATIONS, Activation, Norm, Shape


def mlp(  # noqa: PLR0913 - what the networks of the family differ in
    shape: Shape,
    classes: int,
    width: int,
    *,
    hidden: int,
    norm: Norm = "none",
    activation: Activation = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Return a perceptron with `hidden` hidden layers of `width` units each."""
    channels, rows, columns = shape
    inside = channels * rows * columns
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(hidden):
        layers.append(nn.Linear(inside, width))
        layers += [nn.BatchNorm1d(width)] if norm == "batch" else []
        layers += [nn.LayerNorm(width)] if norm == "layer" else []
        layers.append(ACTIVATIONS[activation]())
        layers += [nn.Dropout(dropout)] if dropout else []
        inside = width
    return nn.Sequential(*layers, nn.Linear(inside, classes))
