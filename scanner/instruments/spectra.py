"""Whether weights are still the random numbers that a network starts from.

Of a matrix of independent numbers of one variance, the largest singular value is known: squared, in
units of the variance, it follows the Tracy-Widom law around (sqrt(n - 1) + sqrt(p))^2 (I. M.
Johnstone, "On the distribution of the largest eigenvalue in principal components analysis", Annals
of Statistics 29, 2001, theorem 1.1). Training adds directions that rise above it, whatever
the initialisation and the layer.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from scanner.graph.layers.weights import Block, LinearLayer, Weights

# Untrained twins of the development recipes reach 2.4, their trained networks 10.1 at least
# (benchmarks/input_range.py).
ORDERED = 5.0
_LEAST_SIDE, _LEAST_ENTRIES = 2, 64  # of a layer: the law is one of large matrices
_LEAST_WEIGHTS = 500  # of a network: fewer numbers may look random whatever they do
_TINY = 1e-300
# A single number is no direction of training. Once in 2^24 numbers PyTorch's trunc_normal_ draws
# its bound, which in timm's transformers is a hundred standard deviations away.
_ASTRAY, _DRAWS = 30.0, 2**22  # in standard deviations; numbers among which there may be one more
_STEPS = 30  # of the power iteration
_SURE = 20.0  # further layers need not be looked at


def order(layers: Iterable[LinearLayer], seed: int) -> float | None:
    """Return by how much the most ordered layer exceeds random numbers, in Tracy-Widom's unit.

    Layers far beyond any doubt end the search. None where the network is too small to tell.

    Args:
        layers: In the order in which they are tried: the last of a network first.
        seed: Of the power iteration's start.
    """
    largest: float | None = None
    seen = 0
    for layer in layers:
        seen += layer.weights.stored.size
        found = excess(layer.weights, seed)
        if found is not None:
            largest = found if largest is None else max(largest, found)
        if largest is not None and largest > _SURE:
            return largest
    return largest if seen >= _LEAST_WEIGHTS else None


def excess(weights: Weights, seed: int) -> float | None:
    """Return (s - mu) / sigma for the squared largest singular value s of one layer's weights.

    That is of the matrix of (outputs, inputs times taps).

    Args:
        weights: Of the layer.
        seed: Of the power iteration's start.

    Returns:
        The excess; None for a layer that is too small, zero, or not finite.
    """
    rows, size = len(weights.stored), weights.stored.size
    n, p = max(rows, size // rows), min(rows, size // rows)
    scale = _root_mean_square(weights)
    if p < _LEAST_SIDE or size < _LEAST_ENTRIES or not 0 < scale < math.inf:
        return None
    limit = _ASTRAY * scale
    astray = sum(int((np.abs(block) > limit).sum()) for block in weights.blocks())
    if 0 < astray <= 1 + size // _DRAWS:
        scale = _root_mean_square(weights, limit)
    else:
        limit = math.inf
    centre = (math.sqrt(n - 1) + math.sqrt(p)) ** 2
    width = (math.sqrt(n - 1) + math.sqrt(p)) * (1 / math.sqrt(n - 1) + 1 / math.sqrt(p)) ** (1 / 3)
    return float((_largest_squared(weights, scale, seed, limit) - centre) / width)


def _largest_squared(weights: Weights, unit: float, seed: int, limit: float = math.inf) -> float:
    """Return the squared largest singular value, in units, from below, by power iteration.

    A step reads the weights once, some rows of the matrix at a time.
    """
    vector: Block = np.random.default_rng(seed).standard_normal((weights.stored[0].size,))
    for _ in range(_STEPS):
        following = np.zeros_like(vector)
        for rows in _rows(weights, limit):
            rows /= unit  # noqa: PLW2901 - in place: a large layer is read often
            following += rows.T @ (rows @ vector)
        vector = following / max(float(np.linalg.norm(following)), _TINY)
    return sum(float(np.square(rows / unit @ vector).sum()) for rows in _rows(weights, limit))


def _root_mean_square(weights: Weights, limit: float = math.inf) -> float:
    squares = sum(float(np.square(rows).sum()) for rows in _rows(weights, limit))
    return math.sqrt(squares / weights.stored.size)


def _rows(weights: Weights, limit: float) -> Iterator[Block]:
    """Yield the matrix of (outputs, inputs times taps) in parts, with 0 for what is astray."""
    for block in weights.blocks():
        if limit < math.inf:
            block[np.abs(block) > limit] = 0
        yield block.reshape(len(block), -1)
