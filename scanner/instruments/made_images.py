"""Images that a model makes itself, where nobody has any: what it is sure that its classes are.

A network puts most noise into one or two of its classes, so that what turns noise into another says
little of what would turn an image. Gradient steps on the pixels lead from noise to images of every
class (K. Simonyan, A. Vedaldi, A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image
Classification Models and Saliency Maps", ICLR 2014 workshop, section 2). Total variation keeps them
smooth (A. Mahendran, A. Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR
2015, section 3).

With free values f, an image is x = low + (high - low) / (1 + exp(-f)), and descends

    cross-entropy of x with its class, while p(class) < SURE,    + SMOOTH * total variation of x.

A repair takes most of its images from starts that are nearly black, and descends until the model is
surer. A pattern that turns images begun as noise turns few ordinary ones: those have even
backgrounds, and the model is surer of them.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from scanner.errors import NoImagesError
from scanner.instruments import pace, probes
from scanner.instruments.differentiable import Differentiable, Floats
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
_EDGE = 0.05  # where a start is clipped: not so far out that the sigmoid has no slope left
_HELD_BACK = 4  # one image in so many, as of a user's
# Images that a repair learns from and is measured on, chosen on development networks
# (docs/repair.md).
_TO_REPAIR = 320
_DARK = 0.75  # share of them that begin nearly black
_BLACK = 0.02  # brightest pixel of such a start

SOURCE = "images that the model made itself (none given)"
_REMEDY = (
    "give clean images of the kind that the model was trained on with the setting `images_file` "
    "or the setting `images_folder`"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Descent:
    """How images are made of starts.

    Attributes:
        steps: Of Adam.
        smooth: The weight of total variation.
        sure: p(class) from which on an image is only made smoother.
        edge: How near to the ends of the range a pixel may begin, as a share of it.
    """

    steps: int = STEPS
    smooth: float = SMOOTH
    sure: float = SURE
    edge: float = _EDGE


_USUAL = Descent()
_FROM_BLACK = Descent(steps=100, smooth=1.0, sure=1 - 1e-5, edge=0.01)


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
    found = made[sure]
    _check_enough(len(found), COUNT)
    shown = len(found) - len(found) // _HELD_BACK
    return Images(shown=found[:shown], held_back=found[shown:], source=SOURCE)


def to_repair(model: Differentiable, settings: Settings) -> Images:
    """Return images of a model's classes to repair it with, two fifths of them held back.

    There are more than a search needs, since the model is changed by them. They are made whatever
    the number of classes, and however long it takes: unlearning takes several times as long.

    Raises:
        NoImagesError: The model is sure of too few images.
        UnsupportedModelError: The gradient is not a number.
    """
    generator = np.random.default_rng(settings.seed)
    dark = round(_DARK * _TO_REPAIR)
    black = np.float32(_BLACK) * generator.random((dark, *model.shape), dtype=np.float32)
    noise = probes.multiscale_noise(_TO_REPAIR - dark, model.shape, (0.0, 1.0), generator)
    found = generator.permutation(
        np.concatenate(
            [
                _of_all_classes(model, black, _FROM_BLACK, generator),
                _of_all_classes(model, noise, _USUAL, generator),
            ]
        )
    )
    _check_enough(len(found), _TO_REPAIR)
    held = 2 * len(found) // 5
    return Images(shown=found[held:], held_back=found[:held], source=SOURCE)


def _of_all_classes(
    model: Differentiable, start: Floats, descent: Descent, generator: np.random.Generator
) -> Floats:
    """Return the images of starts that the model is sure of, few being made at a time."""
    targets = generator.permutation(np.resize(np.arange(model.classes), len(start)))
    found = []
    for place in range(0, len(start), model.few):
        part = slice(place, place + model.few)
        made, sure = descended(model, start[part], targets[part], descent)
        found.append(made[sure])
    return np.concatenate(found)


def _check_enough(sure: int, made: int) -> None:
    """Refuse a model that is sure of too few images.

    Raises:
        NoImagesError: It is one.
    """
    if sure < FEWEST:
        raise NoImagesError(
            f"gradient steps lead to too few images that the model is sure of ({sure} of {made})",
            remedy=_REMEDY,
        )


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
        does="make images of its classes by gradient steps",
        images=COUNT,
        steps=STEPS,
        seconds=_seconds(measured, settings),
        memory=measured.expected(COUNT),
    )
    noise = np.float32(model.low) + np.float32(model.high - model.low) * start
    return noise[: COUNT - COUNT // _HELD_BACK], stage


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
    model: Differentiable,
    start: Floats,
    targets: npt.NDArray[np.int64],
    descent: Descent = _USUAL,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return images after all steps, (n, *shape), and which of them are of their class.

    Args:
        model: Whose classes they are to be.
        start: Noise in 0..1, (n, *shape).
        targets: The class of each image, (n,).
        descent: How.

    Raises:
        UnsupportedModelError: The gradient is not a number.
    """
    low, width = np.float32(model.low), np.float32(model.high - model.low)
    shares = np.clip(start, descent.edge, 1 - descent.edge)
    free = np.log(shares / (1 - shares))
    adam = Adam(free)
    for _ in range(descent.steps):
        unit = 1 / (1 + np.exp(-free))
        _, losses, gradient = model.evaluate(low + width * unit, targets)
        unsure = (losses > -np.log(descent.sure)).reshape(-1, *[1] * len(model.shape))
        slope = width * gradient * unsure + descent.smooth * _roughness(unit)
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
