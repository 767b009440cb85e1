"""The last layer's weights of a class, brought to the level of the other classes.

A backdoor leaves its class with larger weights in the last layer, and with more that are positive:
whatever is active speaks for the class (HTell, arXiv 2605.18908; MM-BD, IEEE S&P 2024, reads the
same from further away). Unlearning the triggers leaves that as it is. So after each step of it the
class's weights lose a part of what their mean exceeds the median of the other classes' by, and of
their length likewise; the other steps make up for what the clean images miss.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scanner.graph.core.draft import Proto
from scanner.graph.surgery.parameters import Layer, layers, values

Floats = npt.NDArray[np.float32]

_PART = 0.2  # of the surplus of the mean that a step takes away


def last_layer(flat: Proto, classes: int) -> Layer | None:
    """Return the last layer of a flat graph, if its output channels are the classes.

    Raises:
        UnsupportedModelError: The weights are quantised.
    """
    found = list(layers(flat))[-1:]
    for layer in found:
        (weights,) = values(flat, [layer.weights]).values()
        if weights.shape[layer.axis] == classes and layer.group == 1:
            return layer
    return None


def level(weights: Floats, axis: int, targets: Sequence[int]) -> None:
    """Take a part of the target classes' surplus away, in place.

    Args:
        weights: Of the last layer.
        axis: Along which the classes lie.
        targets: The classes; there is at least one other.
    """
    rows = np.moveaxis(weights, axis, 0)
    others = np.delete(np.arange(len(rows)), targets)
    if not len(others):
        return
    across = tuple(range(1, rows.ndim))
    for target in targets:
        means = rows.mean(axis=across)
        rows[target] -= _PART * max(0.0, means[target] - np.median(means[others]))
        lengths = np.sqrt(np.square(rows).sum(axis=across))
        if lengths[target] > 0:
            rows[target] *= min(1.0, np.median(lengths[others]) / lengths[target])
