"""Networks on patches: a vision transformer (arXiv 2010.11929) and an MLP-mixer (arXiv 2105.01601).

Widths are multiples of `HEADS`; the images' sides are multiples of the patch's.
"""

import torch
from torch import nn
from torch.nn import functional

from trainers.architectures.blocks import ACTIVATIONS, Activation, Shape

HEADS = 2
SPREAD = 0.02
"""Standard deviation of the learnt positions at the start, as in the transformer's paper."""


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.Linear(width, 3 * width)
        self.outside = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return each token's mixture of all tokens, (N, T, width)."""
        _, tokens, width = x.shape
        split = self.inside(x).reshape(-1, tokens, 3, HEADS, width // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: torch.Tensor = self.outside(mixed.transpose(1, 2).reshape(-1, tokens, width))
        return result


class Transposed(nn.Module):
    """Applies a network over the tokens instead of the channels."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return body(x'), the last two axes exchanged before and after."""
        result: torch.Tensor = self.body(x.transpose(1, 2)).transpose(1, 2)
        return result


class Layer(nn.Module):
    """Mixes the tokens and then the channels, each on normalised values beside a shortcut."""

    def __init__(self, tokens: nn.Module, width: int, activation: Activation) -> None:
        super().__init__()
        self.tokens = nn.Sequential(nn.LayerNorm(width), tokens)
        self.channels = nn.Sequential(nn.LayerNorm(width), *_dense(width, 2 * width, activation))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens, one layer on."""
        x = x + self.tokens(x)
        result: torch.Tensor = x + self.channels(x)
        return result


class Patches(nn.Module):
    """Cuts an image into patches and projects each to `width` channels."""

    def __init__(self, shape: Shape, patch: int, width: int, *, positions: bool) -> None:
        super().__init__()
        self.project = nn.Conv2d(shape[0], width, patch, patch)
        self.count = (shape[1] // patch) * (shape[2] // patch)
        self.positions = (
            nn.Parameter(SPREAD * torch.randn(1, self.count, width)) if positions else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens, (N, T, width)."""
        tokens: torch.Tensor = self.project(x).flatten(2).transpose(1, 2)
        return tokens if self.positions is None else tokens + self.positions


class Mean(nn.Module):
    """Averages over the tokens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, width)."""
        return x.mean(1)


def _dense(width: int, hidden: int, activation: Activation) -> list[nn.Module]:
    return [nn.Linear(width, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, width)]


def transformer(  # noqa: PLR0913 - what the networks of the family differ in
    shape: Shape,
    classes: int,
    width: int,
    *,
    patch: int,
    depth: int,
    activation: Activation = "gelu",
) -> nn.Module:
    """Return a vision transformer with `depth` layers, its tokens averaged at the end."""
    layers = [Layer(Attention(width), width, activation) for _ in range(depth)]
    head = (nn.LayerNorm(width), Mean(), nn.Linear(width, classes))
    return nn.Sequential(Patches(shape, patch, width, positions=True), *layers, *head)


def mixer(  # noqa: PLR0913 - what the networks of the family differ in
    shape: Shape,
    classes: int,
    width: int,
    *,
    patch: int,
    depth: int,
    activation: Activation = "gelu",
) -> nn.Module:
    """Return an MLP-mixer with `depth` layers on patches of side `patch`."""
    patches = Patches(shape, patch, width, positions=False)
    layers = []
    for _ in range(depth):
        tokens = nn.Sequential(*_dense(patches.count, width, activation))
        layers.append(Layer(Transposed(tokens), width, activation))
    return nn.Sequential(patches, *layers, nn.LayerNorm(width), Mean(), nn.Linear(width, classes))
