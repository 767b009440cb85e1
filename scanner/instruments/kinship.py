"""How alike two models are: in their weights, and in what their classes mean."""

import base64
import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.errors import GraphError, ModelError, UsageError
from scanner.graph.core import flatten
from scanner.graph.layers.weights import Block, Weights, linear_layers
from scanner.instruments import kept, probes
from scanner.instruments.answers import Answers
from scanner.instruments.statistics import median
from scanner.modelfile.model import Model
from scanner.results import Array, Likeness, Sketch
from scanner.settings import Settings
from scanner.values import frozen

_LEAST_ENTRIES = 64  # of a layer: fewer weights correlate by chance
_SKETCH = 1024  # entries of a layer's projection
_SEED = 0
_TABLE = 2  # images by classes
# Least agreement of a clean model with the others of its recipe, for the recipe to be known by what
# its classes mean: 21 of 31 recipes of the population have it (docs/detection.md).
_OF_ONE_RECIPE = 0.5


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


def likeness(model: Model, settings: Settings) -> Likeness:
    """Return what tells relatives and strangers of a model, as far as it can be told.

    It is compared with that of another model that was opened elsewhere: a suspect and a reference
    never share a process.
    """
    layers: tuple[Sketch, ...] = ()
    answers = None
    with contextlib.suppress(ModelError, GraphError, UsageError):
        layers = tuple(
            _sketch(layer.weights)
            for layer in linear_layers(flatten.flatten(model.complete(model.proto)))
            if layer.weights.stored.size >= _LEAST_ENTRIES
        )
    with contextlib.suppress(ModelError, GraphError, UsageError):
        asked = Answers(model, settings)
        images = probes.varied(settings, asked.shape, asked.dtype)
        answers = kept.packed(levelled(asked.logits(images)))
    return Likeness(layers=layers, answers=answers)


def on_noise(model: Model, settings: Settings) -> Array | None:
    """Return levelled logits on noise that is the same for all models, (images, classes).

    None where the model gives none.
    """
    alike = dataclasses.replace(settings, images_file=None, images_folder=None, seed=_SEED)
    with contextlib.suppress(ModelError, GraphError, UsageError):
        asked = Answers(model, alike)
        images = probes.varied(alike, asked.shape, asked.dtype)
        return kept.packed(levelled(asked.logits(images)))
    return None


def shared(tables: Sequence[Array | None], least: float = _OF_ONE_RECIPE) -> Array | None:
    """Return what the classes of clean models of one recipe mean, on average.

    None where that tells no other recipe apart: a model's table is missing or of another shape, or
    one model's classes agree too little with the others'.

    Args:
        tables: What `on_noise` returned for each model.
        least: How far each model must agree with the others, as a correlation.
    """
    known = [_unpacked(table) for table in tables if table is not None]
    if not known or len(known) < len(tables) or len({table.shape for table in known}) > 1:
        return None
    if known[0].ndim != _TABLE or not np.isfinite(known).all():
        return None
    for i, own in enumerate(known):
        others = [*known[:i], *known[i + 1 :]]
        if others and agreement_of(own, _mean(others)).correlation < least:
            return None
    return kept.packed(_mean(known))


def _mean(tables: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    return levelled(np.mean(tables, axis=0))


def _sketch(weights: Weights) -> Sketch:
    """Return a layer's weights, or where they are many, sums of them with random signs.

    A count sketch: its inner products are those of the weights to within about 1/sqrt(_SKETCH)
    of the norms (M. Charikar, K. Chen and M. Farach-Colton, "Finding frequent items in data
    streams", ICALP 2002).
    """
    shape = weights.stored.shape
    if weights.stored.size <= _SKETCH:
        return Sketch(shape=shape, values=kept.packed(_flat(weights.blocks())))
    generator = np.random.default_rng(_SEED)
    sums = np.zeros(_SKETCH)
    for rows in _rows(weights.blocks()):
        signs = generator.integers(0, 2, rows.shape, dtype=np.int8)
        sums += np.where(signs, rows, -rows).sum(axis=0)
    return Sketch(shape=shape, values=kept.packed(sums))


def _flat(blocks: Iterable[Block]) -> Block:
    return np.concatenate([block.ravel() for block in blocks])


def _rows(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the numbers of blocks in order, in rows of `_SKETCH`; the last is filled up with 0."""
    left = np.zeros(0)
    for block in blocks:
        numbers = np.concatenate([left, block.ravel()])
        rows, left = np.split(numbers, [numbers.size - numbers.size % _SKETCH])
        yield rows.reshape(-1, _SKETCH)
    yield np.pad(left, (0, -left.size % _SKETCH)).reshape(-1, _SKETCH)


def _unpacked(array: Array) -> npt.NDArray[np.float64]:
    raw = base64.b64decode(array.data)
    return np.frombuffer(raw, "<f4").reshape(array.shape).astype(np.float64)


def weights_alike(one: Likeness, other: Likeness) -> float | None:
    """Return the median cosine of corresponding layers' weights, of two of one architecture.

    It is about 0 for networks that were trained apart, and near 1 for a copy that was trained on.
    None where the two have no layer in common.
    """
    cosines = [
        _cosine(_unpacked(a.values), _unpacked(b.values))
        for a, b in zip(one.layers, other.layers, strict=False)
        if (a.shape, a.values.shape) == (b.shape, b.values.shape)
    ]
    return median(cosines) if cosines else None


def _cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    both = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / both if both > 0 and math.isfinite(both) else 0.0


def agreement(one: Likeness, other: Likeness) -> Agreement | None:
    """Return how far two models' classes mean the same, on the user's images or on noise.

    None where they have different numbers of classes, or one gives no answers.
    """
    return agreement_on(one.answers, other.answers)


def agreement_on(one: Array | None, other: Array | None) -> Agreement | None:
    """Return the agreement of two models' levelled logits; None where they cannot be compared."""
    if one is None or other is None or one.shape != other.shape:
        return None
    first, second = _unpacked(one), _unpacked(other)
    finite = np.isfinite(first).all() and np.isfinite(second).all()
    return agreement_of(first, second) if first.ndim == _TABLE and finite else None


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
