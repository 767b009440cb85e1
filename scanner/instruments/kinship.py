"""How alike two models are: in their weights, and in what their classes mean."""

import math

import numpy as np
import numpy.typing as npt

from scanner.graph.core import flatten
from scanner.graph.layers.weights import linear_layers
from scanner.instruments import probes
from scanner.instruments.answers import Answers
from scanner.modelfile.model import Model
from scanner.settings import Settings
from scanner.values import frozen

_LEAST_ENTRIES = 64  # of a layer: fewer weights correlate by chance


@frozen
class Agreement:
    """How far two models mean the same by their classes.

    Attributes:
        correlation: Of the same class's logits over images, averaged over classes.
        z: The same in standard deviations of what shuffled classes would give.
        images: How many images.
    """

    correlation: float
    z: float
    images: int


def weights_alike(one: Model, other: Model) -> float | None:
    """Return the median cosine of corresponding layers' weights.

    It is about 0 for networks that were trained apart, and near 1 for a copy that was trained on.
    None where the two have other layers.

    Raises:
        ModelError: A weight cannot be read.
    """
    pairs = zip(*(linear_layers(flatten.flatten(m.complete(m.proto))) for m in (one, other)),
                strict=False)  # fmt: skip
    if one.identity.architecture != other.identity.architecture:
        return None
    cosines = [
        _cosine(a.weights.ravel(), b.weights.ravel())
        for a, b in pairs
        if a.weights.shape == b.weights.shape and a.weights.size >= _LEAST_ENTRIES
    ]
    return float(np.median(cosines)) if cosines else None


def _cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    both = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / both if both > 0 and math.isfinite(both) else 0.0


def agreement(one: Model, other: Model, settings: Settings) -> Agreement | None:
    """Return how far two models' classes mean the same, on the user's images or on noise.

    None where they have different numbers of classes.

    Raises:
        ModelError, GraphError: A model cannot be run, or has no logits.
        UsageError: The user's images do not fit.
    """
    answers = [Answers(model, settings) for model in (one, other)]
    images = probes.varied(settings, answers[0].shape, answers[0].dtype)
    first, second = (levelled(each.logits(images)) for each in answers)
    return agreement_of(first, second) if first.shape == second.shape else None


def agreement_of(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> Agreement:
    """Return the agreement of two tables of levelled logits, (images, classes).

    Mean and variance over all orders of the classes are those of W. Hoeffding, "A combinatorial
    central limit theorem", Annals of Mathematical Statistics 22, 1951.
    """
    table = one.T @ other / len(one)
    classes = len(table)
    centred = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    spread = math.sqrt(float(np.square(centred).sum()) / max(1, classes - 1)) / classes
    mean = float(np.diag(table).mean())
    apart = (mean - float(table.mean())) / spread if spread > 0 else 0.0
    return Agreement(correlation=mean, z=apart, images=len(one))


def levelled(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return logits without each image's and each class's mean, with deviation 1 per class."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    centred -= centred.mean(axis=0)
    deviation = centred.std(axis=0)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0))
