"""Images that a model makes itself, where nobody has any: what it is sure that its classes are.

A network puts most noise into one or two of its classes, so that what turns noise into another says
little of what would turn an image. Gradient steps on the pixels lead from noise to images of every
class (K. Simonyan, A. Vedaldi, A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image
Classification Models and Saliency Maps", ICLR 2014 workshop, section 2). Total variation keeps them
smooth (A. Mahendran, A. Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR
2015, section 3).

With free values f, an image is x = low + (high - low) / (1 + exp(-f)), and descends

    cross-entropy of x with its class, while p(class) < SURE,    + SMOOTH * total variation of x.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.errors import NoImagesError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import pace, probes
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable, Floats, differentiable
from scanner.instruments.probes import CHANNELS, Images
from scanner.instruments.trigger import Adam
from scanner.results import PlannedStage
from scanner.settings import Settings

# Chosen on the population's development recipes (docs/detection.md).
COUNT = 40
STEPS = 60
SMOOTH = 5.0
SURE = 0.98
ENOUGH = 0.5  # p(class) of an image that is of the class, and of no other
FEWEST = 8  # images that a search can say anything on
MOST_CLASSES = 12  # as many as the networks have that say what is found on such images
_TIME = 0.1  # of the budget's seconds: the search on these images takes four times as long
_WITHIN = (0.05, 0.95)  # not so far out that the sigmoid has no slope left
_HELD_BACK = 4  # one image in so many, as of a user's

SOURCE = "images that the model made itself (none given)"
_MAKING = "make images of its classes by gradient steps"
_REMEDY = (
    "give clean images of the kind that the model was trained on with the setting `images_file` "
    "or the setting `images_folder`"
)


def shared(subject: Subject, model: Differentiable | None = None) -> Images:
    """Return what `images` does, made or found impossible once for all searches of a model.

    Args:
        subject: Its `made` holds them, or why there are none, from then on.
        model: Its cross-entropy; None where it is not loaded yet.

    Raises:
        NoGradientError: An operator has no gradient.
        NoImagesError: As for `images`.
        NoLogitsError: There are no logits.
        UnsupportedModelError: The gradient is not a number.
    """
    if not subject.made:
        loaded = model or differentiable(subject, Objective.CROSS_ENTROPY)
        try:
            subject.made.append(images(loaded, subject.settings))
        except NoImagesError as error:  # but for its traceback, which holds the loaded model
            subject.made.append(NoImagesError(error.problem, remedy=error.remedy))
    found = subject.made[0]
    if isinstance(found, NoImagesError):
        raise NoImagesError(found.problem, remedy=found.remedy)
    return found


def images(model: Differentiable, settings: Settings) -> Images:
    """Return images of a model's classes, as many of each, made from noise by the model.

    Raises:
        NoImagesError: It has too many classes, is too slow, or is sure of too few images.
        UnsupportedModelError: The gradient is not a number.
    """
    _check_classes(model)
    generator = np.random.default_rng(settings.seed)
    start = probes.multiscale_noise(COUNT, model.shape, (0.0, 1.0), generator)
    model = dataclasses.replace(model, most=_measured(model, start, settings).most)
    targets = generator.permutation(np.resize(np.arange(model.classes), COUNT))
    made, sure = descended(model, start, targets)
    if sure.sum() < FEWEST:
        raise NoImagesError(
            "gradient steps lead to too few images that the model is sure of "
            f"({sure.sum()} of {COUNT})",
            remedy=_REMEDY,
        )
    found = made[sure]
    shown = len(found) - len(found) // _HELD_BACK
    return Images(shown=found[:shown], held_back=found[shown:], source=SOURCE)


def planned(rule: str, model: Differentiable, settings: Settings) -> tuple[Floats, PlannedStage]:
    """Return noise in place of the images that would be shown, and what making them takes.

    Args:
        rule: The id of the rule that needs them.
        model: Whose classes they are to be.
        settings: The seed, and the budget.

    Raises:
        NoImagesError: It has too many classes, or is too slow.
        UnsupportedModelError: The gradient is not a number.
    """
    _check_classes(model)
    generator = np.random.default_rng(settings.seed)
    start = probes.multiscale_noise(COUNT, model.shape, (0.0, 1.0), generator)
    measured = _measured(model, start, settings, told=True)
    stage = PlannedStage(
        rules=(rule,),
        does=_MAKING,
        images=COUNT,
        steps=STEPS,
        seconds=_seconds(measured, settings),
        memory=measured.expected(COUNT),
    )
    noise = np.float32(model.low) + np.float32(model.high - model.low) * start
    return noise[: COUNT - COUNT // _HELD_BACK], stage


def planned_once(stages: Sequence[PlannedStage]) -> Iterator[PlannedStage]:
    """Yield the stages of several detectors, of which the first that needs images makes them."""
    making = [stage for stage in stages if stage.does == _MAKING]
    for stage in stages:
        if stage.does != _MAKING:
            yield stage
        elif stage is making[0]:
            yield dataclasses.replace(stage, rules=tuple(r for s in making for r in s.rules))


def _check_classes(model: Differentiable) -> None:
    """Refuse a model of many classes.

    Raises:
        NoImagesError: It is one.
    """
    if model.classes > MOST_CLASSES:
        raise NoImagesError(
            f"a model makes images of its own for up to {MOST_CLASSES} classes, and this one has "
            f"{model.classes:,}",
            remedy=_REMEDY,
        )


def descended(
    model: Differentiable, start: Floats, targets: npt.NDArray[np.int64]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return images after all steps, (n, *shape), and which of them are of their class.

    Args:
        model: Whose classes they are to be.
        start: Noise in 0..1, (n, *shape).
        targets: The class of each image, (n,).

    Raises:
        UnsupportedModelError: The gradient is not a number.
    """
    low, width = np.float32(model.low), np.float32(model.high - model.low)
    shares = np.clip(start, *_WITHIN)
    free = np.log(shares / (1 - shares))
    adam = Adam(free)
    for _ in range(STEPS):
        unit = 1 / (1 + np.exp(-free))
        _, losses, gradient = model.evaluate(low + width * unit, targets)
        unsure = (losses > -np.log(SURE)).reshape(-1, *[1] * len(model.shape))
        slope = width * gradient * unsure + SMOOTH * _roughness(unit)
        adam.descend(free, slope * unit * (1 - unit))
    found = (low + width / (1 + np.exp(-free))).astype(np.float32)
    _, losses, _ = model.evaluate(found, targets)
    return found, losses < -np.log(ENOUGH)


def _roughness(unit: Floats) -> Floats:
    """Return the derivative of each image's total variation, a mean over its pixels."""
    found = np.zeros_like(unit)
    for axis, size in enumerate(unit.shape[1:], start=1):
        if size > CHANNELS:
            signs = np.sign(np.diff(unit, axis=axis))
            edge = np.zeros_like(np.take(unit, [0], axis))
            found += np.diff(-signs, axis=axis, prepend=edge, append=edge)
    return found / np.float32(unit[0].size)


def _measured(
    model: Differentiable, start: Floats, settings: Settings, *, told: bool = False
) -> pace.Pace:
    """Return the pace of a model that is fast enough.

    Args:
        model: The classifier.
        start: Noise in 0..1, (n, *shape).
        settings: The budget, and the memory that is allowed.
        told: Whether a person reads it.

    Raises:
        NoImagesError: It is not.
    """
    noise = np.float32(model.low) + np.float32(model.high - model.low) * start
    found = pace.measured(model, noise, settings, told=told)
    seconds = _seconds(found, settings)
    if seconds > _TIME * settings.effort.seconds:
        raise NoImagesError(
            f"images of its own would take the model {seconds:,.0f} seconds to make",
            remedy=_REMEDY,
        )
    return found


def _seconds(measured: pace.Pace, settings: Settings) -> float:
    """Return how long all images take, of the processor for each thread."""
    return measured.seconds * COUNT * STEPS / pace.threads(settings)
