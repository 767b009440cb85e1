"""Which classes stand out before any is searched: evidence of every class, for next to nothing.

Three readings, each of how far a class leads all others: over noise images; over latents that are
chosen for it, which the last linear layer answers alone (MM-BD on the head); and, for as many
classes as the time allows, over an image that a few steps of MM-BD's ascent make. Of the backdoored
networks of the development recipes with 20 to 100 classes, 13 of 14 have their target among the
first six classes (docs/large-networks.md).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import NoLayerError
from scanner.graph.core import extract, flatten
from scanner.graph.gradient.backward import Objective
from scanner.graph.layers import head, two_scores
from scanner.graph.layers.logits import find_logits
from scanner.instruments import probes, room, runtime
from scanner.instruments.detector import Ranking, Subject
from scanner.instruments.differentiable import Differentiable, Floats
from scanner.instruments.noise_runs import fixed_batch, over_noise, run_filled
from scanner.instruments.statistics import class_margins, quantile
from scanner.settings import Settings

IMAGES = 64  # of noise that every class is read on
FEATURE_IMAGES = 32  # of noise that set the range of latents
STEPS = 4  # of an ascent; its rate is a quarter of the input range
RATE = 0.25
_LATENT_STEPS = 16
_FIRST_RATE, _LAST_RATE = 0.1, 0.01  # of the range of latents, as in MM-BD
_LOUD = 0.999  # quantile of the absolute features that bounds a latent
_LARGEST = 8192  # numbers of a latent; beyond it the head is not read off
_CUT = 3  # times a model's size that cutting a part of its graph and loading it takes at most
_COPIES = 3  # of its noise images, as they are made
_AT_ONCE = 256  # rows through the head

Floats64 = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def ranking(subject: Subject, model: Differentiable, ascents: int) -> Ranking:
    """Return the classes of a model, those that stand out most first.

    It is made once for all searches of the model: they are to speak of the same classes.

    Args:
        subject: The model.
        model: The same, differentiated: by how near a class is to winning, or how far.
        ascents: Of how many classes there may be an ascent.

    Raises:
        NoRoomError: It takes more memory than is allowed.
        UnsupportedModelError: A value is not a number.
    """
    if not subject.rankings:
        before = room.held()
        if before is not None and model.session.provider == "CPU":
            room.refuse(before + beside(subject, model.shape), subject.settings)
        subject.rankings.append(_made(subject, model, ascents))
    return subject.rankings[0]


def beside(subject: Subject, shape: Sequence[int]) -> int:
    """Return the bytes that a ranking takes at the most, beside what is held before.

    Args:
        subject: The model.
        shape: Of an image.
    """
    return room.copied(subject.model, _CUT) + _COPIES * IMAGES * 4 * math.prod(shape)


def _made(subject: Subject, model: Differentiable, ascents: int) -> Ranking:
    seen, latent = without_gradient(subject)
    places = [_places(margins) for margins in (seen, latent) if margins is not None]
    # A class that one reading alone sets apart is as good as one that both do.
    first = sorted(range(model.classes), key=lambda c: sorted(int(place[c]) for place in places))
    climbed = first[:ascents]
    if climbed:
        reached = _places(_ascended(model, climbed, subject.settings.seed))
        before = _places((seen if latent is None else latent)[climbed])
        order = sorted(range(len(climbed)), key=lambda i: (reached[i] + before[i], reached[i]))
        first = [*(climbed[i] for i in order), *first[len(climbed) :]]
    return Ranking(classes=tuple(first), ascents=len(climbed))


def _places(margins: Floats64) -> Places:
    """Return each entry's place among all, 0 for the largest."""
    places = np.empty(len(margins), np.int64)
    places[np.argsort(-margins, kind="stable")] = np.arange(len(margins))
    return places


def _ascended(model: Differentiable, targets: Sequence[int], seed: int) -> Floats64:
    """Return the largest margin that a few steps from one noise image reach, for each class."""
    start = np.random.default_rng(seed).random((1, *model.shape), dtype=np.float32)
    width = model.high - model.low
    step = np.float32(RATE * width) * (-1 if model.objective is Objective.CROSS_ENTROPY else 1)
    found = []
    for first in range(0, len(targets), model.few):
        own = np.array(targets[first : first + model.few])
        images = np.repeat(np.float32(model.low) + np.float32(width) * start, len(own), axis=0)
        best = np.full(len(own), -np.inf)
        for _ in range(STEPS):
            logits, _, gradient = model.evaluate(images, own)
            best = np.maximum(best, _margins(logits, own))
            images = np.clip(images + step * np.sign(gradient), model.low, model.high)
        found.append(np.maximum(best, _margins(model.scores(images), own)))
    return np.concatenate(found)


def _margins(logits: Floats, own: Places) -> Floats64:
    """Return how far each row's own class leads the others, (n,)."""
    rows = np.arange(len(own))
    others = logits.astype(np.float64)
    lead = others[rows, own].copy()
    others[rows, own] = -np.inf
    return np.asarray(lead - others.max(axis=1), np.float64)


def without_gradient(subject: Subject) -> tuple[Floats64, Floats64 | None]:
    """Return the mean margin of each class over noise, and the largest that a latent gives it.

    Each has the shape (classes,). All channels of latents have one range, as in HEAD: one that
    noise leaves silent is where a trigger's answer may hide. The second is None where no linear
    layer makes the logits, or its input is too large.

    Raises:
        UnsupportedModelError: A value is not a number.
    """
    model, settings = subject.model, subject.settings
    shape = probes.image_shape(model, settings)
    flat = flatten.flatten(model.proto)
    found = find_logits(flat, settings.logits)
    logits, single = found.value, found.single is not None
    try:
        feature = head.head_input(flat, logits)
    except NoLayerError:
        feature = None
    values = [logits] if feature is None else [logits, feature]
    whole = runtime.open_session(
        model.serialise(extract.upstream(flat, values)), settings.device, settings.threads
    )
    seen = class_margins(_scores(_over_images(whole, shape, settings), single=single))
    if feature is None:
        return seen, None
    few = dataclasses.replace(settings, images=FEATURE_IMAGES)
    quiet = dataclasses.replace(subject, settings=few, progress=lambda *_: None)
    _, features = over_noise(whole, shape, quiet)
    if features[0].size > _LARGEST:
        return seen, None
    batch = fixed_batch(whole)
    opened = extract.between(flat, head.as_input(feature, features, batch), [logits])
    session = runtime.open_session(model.serialise(opened), settings.device, settings.threads)
    weights, biases = _linear(session, features, batch or _AT_ONCE, single=single)
    rows = features.reshape(len(features), -1).astype(np.float64)
    loud, lowest = quantile(np.abs(rows).ravel(), _LOUD), float(rows.min())
    low = min(lowest, 0.0) if lowest > -loud / 2 else -loud
    return seen, climbed(weights, biases, (low, loud), rows.mean(axis=0))


def _over_images(
    session: runtime.Session, shape: tuple[int, ...], settings: Settings
) -> npt.NDArray[Any]:
    """Return the answers to noise of blocks, which reaches more classes than noise of pixels."""
    span = probes.input_range(session.dtype, settings)
    generator = np.random.default_rng(settings.seed)
    images = probes.rounded(probes.multiscale_noise(IMAGES, shape, span, generator), session.dtype)
    batch = fixed_batch(session) or probes.batch_size(shape)
    parts = [
        run_filled(session, images[i : i + batch], batch)[0] for i in range(0, len(images), batch)
    ]
    return np.concatenate(parts)


def _scores(answers: npt.NDArray[Any], *, single: bool) -> Floats64:
    """Return a score for each class, (n, classes), where one may stand for two."""
    scores = two_scores.both(answers) if single else answers
    return scores.reshape(len(scores), -1).astype(np.float64)


def _linear(
    session: runtime.Session, features: npt.NDArray[np.generic], batch: int, *, single: bool
) -> tuple[Floats64, Floats64]:
    """Read the weights (classes, size) and biases of the layers behind a latent off their answers.

    They are linear, whatever operators make them.
    """
    size, parts = features[0].size, list[npt.NDArray[Any]]()
    for first in range(0, size + 1, batch):  # no number is one, then each of them
        count = min(batch, size + 1 - first)
        rows = np.eye(count, size, first - 1, dtype=features.dtype)
        parts.append(run_filled(session, rows.reshape(count, *features.shape[1:]), batch)[0])
    answers = _scores(np.concatenate(parts), single=single)
    return (answers[1:] - answers[0]).T, answers[0]


def climbed(
    weights: Floats64, biases: Floats64, span: tuple[float, float], start: Floats64
) -> Floats64:
    """Return the largest margin of each class that steps of steepest ascent in a box reach.

    Args:
        weights: Of the last layer, (classes, size).
        biases: (classes,).
        span: Lowest and highest value of a latent's number.
        start: The latent to begin at, (size,).
    """
    low, high = span
    decay = (_LAST_RATE / _FIRST_RATE) ** (1 / (_LATENT_STEPS - 1))
    best = np.full(len(weights), -np.inf)
    for first in range(0, len(weights), _AT_ONCE):
        own = np.arange(first, min(first + _AT_ONCE, len(weights)))
        rows, latents = np.arange(len(own)), np.repeat(start[None], len(own), axis=0)
        for step in range(_LATENT_STEPS):
            logits = latents @ weights.T + biases
            margin = logits[rows, own].copy()
            logits[rows, own] = -np.inf
            rivals = logits.argmax(axis=1)
            best[own] = np.maximum(best[own], margin - logits[rows, rivals])
            slope = np.sign(weights[own] - weights[rivals])
            rate = _FIRST_RATE * decay**step * (high - low)
            latents = np.clip(latents + rate * slope, low, high)
    return best
