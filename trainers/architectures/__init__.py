"""Networks, one family per file; to add one, write its function and a row here.

Every network takes images of shape (N, C, H, W) and returns logits (N, classes). `width` is the
number of channels or units of its first layer; the others follow from it.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from trainers.architectures.blocks import Shape
from trainers.architectures.densenet import dense
from trainers.architectures.depthwise import inverted, separable
from trainers.architectures.paper import five_conv, resnet18, resnet50, two_conv
from trainers.architectures.patches import mixer, transformer
from trainers.architectures.perceptron import mlp
from trainers.architectures.plain import plain
from trainers.architectures.residual import residual

PAPER: Mapping[str, Callable[[Shape, int, int], nn.Module]] = {
    "2 conv + 1 dense": two_conv,
    "5 conv": five_conv,
    "ResNet18": resnet18,
    "ResNet50": resnet50,
}
"""The networks of the paper's Table 2.1."""

CHANNELS_LAST = frozenset({*PAPER, "ResNet 10, pooled"})
"""The networks that are ever laid out channels last: where that was measured.

There it is faster, and does not crash (`trainers.training.Plan.layout`).
"""

ARCHITECTURES: Mapping[str, Callable[[Shape, int, int], nn.Module]] = {
    **PAPER,
    "MLP 1": partial(mlp, hidden=1),
    "MLP 2, dropout": partial(mlp, hidden=2, dropout=0.3),
    "MLP 2, ELU": partial(mlp, hidden=2, activation="elu"),
    "MLP 2, sigmoid": partial(mlp, hidden=2, activation="sigmoid"),
    "MLP 2, batch norm": partial(mlp, hidden=2, norm="batch"),
    "MLP 3, SiLU": partial(mlp, hidden=3, activation="silu"),
    "MLP 3, layer norm, GELU": partial(mlp, hidden=3, norm="layer", activation="gelu"),
    "MLP 4": partial(mlp, hidden=4),
    "MLP 4, leaky": partial(mlp, hidden=4, activation="leaky"),
    "1 conv 7x7, strided": partial(plain, stages=(1,), norm="none", down="stride", kernel=7),
    "2 conv 5x5, tanh, average pool": partial(
        plain, stages=(1, 1), norm="none", activation="tanh", down="average", kernel=5
    ),
    "2 conv, average pool": partial(plain, stages=(1, 1), norm="none", down="average"),
    "2 conv, batch norm": partial(plain, stages=(1, 1)),
    "2 conv 5x5, leaky, 2 dense": partial(
        plain, stages=(1, 1), norm="none", activation="leaky", kernel=5, hidden=64
    ),
    "3 conv, strided": partial(plain, stages=(1, 1, 1), norm="none", down="stride"),
    "3 conv, ELU": partial(plain, stages=(1, 1, 1), norm="none", activation="elu"),
    "3 conv, strided, layer norm, GELU": partial(
        plain, stages=(1, 1, 1), norm="layer", activation="gelu", down="stride"
    ),
    "3 conv, strided, batch norm, leaky": partial(
        plain, stages=(1, 1, 1), activation="leaky", down="stride", pooled=True
    ),
    "3 conv, batch norm, dropout": partial(plain, stages=(1, 1, 1), dropout=0.3),
    "4 conv, ReLU6": partial(plain, stages=(1, 1, 2), norm="none", activation="relu6"),
    "4 conv, SiLU, average pool": partial(
        plain, stages=(1, 1, 2), activation="silu", down="average", pooled=True
    ),
    "4 conv, layer norm": partial(plain, stages=(1, 1, 2), norm="layer"),
    "4 conv, strided, GELU": partial(
        plain, stages=(1, 1, 2), norm="none", activation="gelu", down="stride"
    ),
    "6 conv, batch norm, pooled": partial(plain, stages=(2, 2, 2), pooled=True),
    "6 conv, leaky": partial(plain, stages=(2, 2, 2), norm="none", activation="leaky"),
    "8 conv, batch norm, strided": partial(plain, stages=(2, 3, 3), down="stride", pooled=True),
    "VGG 4": partial(plain, stages=(1, 1, 2), norm="none", hidden=64, dropout=0.3),
    "VGG 6, batch norm": partial(plain, stages=(2, 2, 2), hidden=64),
    "VGG 8, batch norm": partial(plain, stages=(2, 2, 4), hidden=64),
    "ResNet 6": partial(residual, depths=(1, 1), stem=2),
    "ResNet 6, ELU": partial(residual, depths=(1, 1), stem=2, activation="elu"),
    "ResNet 8": partial(residual, depths=(1, 1, 1)),
    "ResNet 8, strided stem": partial(residual, depths=(1, 1, 1), stem=2),
    "ResNet 8, layer norm, SiLU": partial(
        residual, depths=(1, 1, 1), stem=2, norm="layer", activation="silu"
    ),
    "ResNet 8, no norm": partial(residual, depths=(1, 1, 1), stem=2, norm="none"),
    "ResNet 10, leaky": partial(residual, depths=(1, 1, 1, 1), stem=2, activation="leaky"),
    "ResNet 10, pooled": partial(residual, depths=(1, 1, 1), pooled=True),
    "ResNet 14": partial(residual, depths=(2, 2, 2), stem=2),
    "MobileNet": partial(separable, blocks=4),
    "MobileNet, hard swish": partial(separable, blocks=4, activation="hard-swish"),
    "MobileNet, ReLU": partial(separable, blocks=5, activation="relu"),
    "MobileNetV2": partial(inverted, blocks=4),
    "MobileNetV2, SiLU": partial(inverted, blocks=4, activation="silu"),
    "DenseNet": partial(dense, depths=(3, 3)),
    "DenseNet, 3 blocks": partial(dense, depths=(2, 2, 2)),
    "DenseNet, layer norm, GELU": partial(dense, depths=(2, 2), norm="layer", activation="gelu"),
    "ViT": partial(transformer, patch=4, depth=2),
    "ViT, patch 7": partial(transformer, patch=7, depth=3),
    "ViT, ReLU": partial(transformer, patch=4, depth=3, activation="relu"),
    "Mixer": partial(mixer, patch=4, depth=2),
    "Mixer, patch 7, ReLU": partial(mixer, patch=7, depth=3, activation="relu"),
}


def first_activation(network: nn.Module) -> nn.Sequential:
    """Return one of the paper's networks up to its first ReLU; the parameters are shared."""
    layers: list[nn.Module] = []
    for layer in network.children():
        layers.append(layer)
        if isinstance(layer, nn.ReLU):
            break
    return nn.Sequential(*layers)
