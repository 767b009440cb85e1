"""An input that wakes a sleeping value: found among what was shown, backwards, or uphill.

Backwards, each step of the side path is solved for what it should have read
(`scanner.graph.logic.open_gate`): that settles equalities and tests of whole numbers. Uphill, the
gradient of the value, or of what it is made of, is followed by the input; rectifiers let a tenth of
it through where they are shut, since a path that sleeps has none of its own.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanner.errors import NoGradientError, UnsupportedModelError
from scanner.graph.core.facts import FLOATING
from scanner.graph.dormancy.rewired import leaking
from scanner.graph.dormancy.side_paths import Paths
from scanner.graph.gradient.backward import GradientModel, gradient_model
from scanner.graph.logic import open_gate
from scanner.graph.logic.unfold import Flow
from scanner.instruments.effects import differ_in_class
from scanner.instruments.forcing import Rig, is_textured
from scanner.instruments.runtime import Session

Array = npt.NDArray[Any]

_ROUNDS = 12
STARTS = 3
"""Of the ordinary images, the first ones: from those a search starts."""
_STEPS = 40
_NARROW = 64
"""Numbers of a value up to which it is climbed: a wider one is no outcome of a test."""
_FAINT = "of little contrast"
_MOST_MOVED = 6
"""Images that only move a value, after which no other is looked for."""
_MOST_CLIMBED = 4
"""Values of one path that are climbed, those nearest to its end first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sleeper:
    """A sleeping value, and what is needed to look for an input that wakes it.

    Attributes:
        value: Its name.
        trail: The values that it derives from, itself included, in the order of the graph.
        held: What it was forced to when it decided the answer.
        channels: The index of the part that sleeps; None for the whole value.
        shown: Places of the ordinary images that moved it.
        doubt: Why forcing alone proves nothing, in words; empty where it does.
        asleep: What the model answers to an image while the value is held asleep.
        reaches: Whether an image brings the value to where it was forced, whatever comes of it;
            None where that is not looked at.
        must_reach: Whether an image that does not bring it there wakes nothing.
        decides: Whether what the value is on an image decides the answer to others too; None where
            that is known of what it was forced to.
        gives_own_class: Whether it gives a class that the network itself gives to other images: a
            guard refuses.
    """

    value: str
    trail: Sequence[str]
    held: Array
    channels: tuple[Any, ...] | None
    shown: tuple[int, ...]
    doubt: str
    asleep: Callable[[Array], Array]
    reaches: Callable[[Array], bool] | None = None
    must_reach: bool = False
    decides: Callable[[Array], bool] | None = None
    gives_own_class: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Woken:
    """An image that wakes a value, or only moves it.

    Attributes:
        image: It.
        original: The ordinary image that it was made from; None where it is one itself.
        how: How it was found, in words.
        decides: Whether what the value is on it decides the answer, as far as that is asked.
    """

    image: Array
    original: Array | None
    how: str
    decides: bool = True


Made: TypeAlias = tuple[Array | None, Array]
"""An image that was made to wake something, behind the one that it was made from."""


def wakes(rig: Rig, sleeper: Sleeper, image: Array) -> bool:
    """Whether the model answers an image otherwise while the value is held asleep.

    Raises:
        WorkerTimeoutError: The time ran out.
    """
    if sleeper.must_reach and not (sleeper.reaches and sleeper.reaches(image)):
        return False
    return differ_in_class(rig.answer_to(image), sleeper.asleep(image))


def wake(
    rig: Rig,
    paths: Paths,
    sleeper: Sleeper,
    flow: Flow | None,
    *,
    textured: bool,
) -> Woken | None:
    """Return an image that wakes a value, or None where none was found.

    One that only moves it, and leaves the answer to other images to them, is returned where nothing
    better is found.

    Args:
        rig: The model.
        paths: Its graph.
        sleeper: The value.
        flow: The unfolded graph, for the way backwards; None goes uphill only.
        textured: Whether it must be one with a pattern.

    Raises:
        WorkerTimeoutError: The time ran out.
    """
    ways: list[tuple[str, Iterator[Made]]] = [
        ("shown", ((None, rig.images[place]) for place in sleeper.shown))
    ]
    if flow is not None:
        ways.append(("solved backwards", _backwards(rig, paths, sleeper, flow)))
    ways.append(("climbed to", _uphill(rig, paths, sleeper)))
    if sleeper.channels is None:
        ways.extend((name, iter([(None, image)])) for name, image in rig.structured())
    if textured and sleeper.gives_own_class:
        ways.append((_FAINT, ((None, image) for image in rig.faint())))
    moved: list[Woken] = []
    for name, images in ways:
        for original, image in images:
            rig.check()
            if not _counts(rig, sleeper, image, name, textured) or not wakes(rig, sleeper, image):
                continue
            if sleeper.decides is None or sleeper.decides(image):
                return Woken(image, original, name)
            moved.append(Woken(image, original, name, decides=False))
            if len(moved) >= _MOST_MOVED:
                return moved[0]
    return moved[0] if moved else None


def _counts(rig: Rig, sleeper: Sleeper, image: Array, name: str, textured: bool) -> bool:
    """Whether an image is one that no guard against empty images would wake on."""
    if name == _FAINT:
        return sleeper.reaches is not None and sleeper.reaches(image)
    return not textured or is_textured(image, rig.span)


def _starts(rig: Rig) -> list[Array]:
    low, high = rig.span
    middle = np.full(rig.images.shape[1:], (low + high) / 2).astype(rig.dtype)
    return [*rig.images[:STARTS], middle]


def _backwards(rig: Rig, paths: Paths, sleeper: Sleeper, flow: Flow) -> Iterator[Made]:
    """Yield images for which the value should be what it was forced to."""
    constants = {name: array for name in flow.constants if (array := flow.array(name)) is not None}
    names = [
        name
        for name in rig.behind(sleeper.value)
        if name in flow.producers and paths.readable(name)
    ]
    try:
        session = rig.reader(names)
    except UnsupportedModelError:
        return
    for start in _starts(rig):
        image = start
        for _ in range(_ROUNDS):
            made = dict(zip(names, rig.read(session, image), strict=True))
            values = {**constants, **made, rig.image: rig.filled(image)}
            try:
                wanted = open_gate.wanted_inputs(flow, sleeper.value, values, sleeper.held)
            except (KeyError, ValueError, IndexError):  # a step whose inverse does not fit its form
                return
            if wanted is None or rig.image not in wanted:
                return
            found = np.clip(wanted[rig.image][0], *rig.span).astype(rig.dtype)
            if np.array_equal(found, image):
                break
            image = found
            yield start, image


def _uphill(rig: Rig, paths: Paths, sleeper: Sleeper) -> Iterator[Made]:
    """Yield images in which the value, or what it is made of, is as high or low as can be."""
    if rig.dtype.kind != "f":
        return
    leaky = leaking(rig.flat)
    places = [sleeper.value] if sleeper.channels is not None else _climbable(paths, sleeper)
    for name in places:
        try:
            model = gradient_model(leaky, of=name, with_respect_to=[rig.image])
            session = rig.opened(model.proto)
        except (NoGradientError, UnsupportedModelError):
            continue
        hill = _Hill(model, session, sleeper.channels)
        for sign in (1, -1):
            for start in _starts(rig):
                yield from ((start, image) for image in _climbed(rig, hill, start, sign))


@dataclasses.dataclass(frozen=True, slots=True)
class _Hill:
    """A value to climb: its gradient, loaded, and the part of it that counts."""

    model: GradientModel
    session: Session
    channels: tuple[Any, ...] | None


def _climbable(paths: Paths, sleeper: Sleeper) -> list[str]:
    """Return the narrow real values of a path, those nearest to its end first."""
    found = []
    for name in reversed(sleeper.trail):
        shape = paths.facts.shapes.get(name)
        sizes = [size for size in shape or () if isinstance(size, int)]
        real = paths.facts.elem_types.get(name) in FLOATING
        if shape is not None and real and math.prod(sizes) <= _NARROW:
            found.append(name)
    # The first of a path are as good to climb as the last, and have not been flattened yet.
    return list(dict.fromkeys([*found[-2:][::-1], *found]))[:_MOST_CLIMBED]


def _climbed(rig: Rig, hill: _Hill, start: Array, sign: int) -> Iterator[Array]:
    """Yield images along one ascent by the sign of the gradient, with smaller and smaller steps."""
    low, high = rig.span
    names = [output.name for output in hill.session.native.get_outputs()]
    image = start.astype(np.float32)
    (value,) = rig.read(rig.reader([hill.model.value]), start)
    weights = np.zeros(value.shape, np.float32)
    weights[hill.channels or ...] = sign
    for step in range(_STEPS):
        rig.check()
        feeds = {rig.image: rig.filled(image), hill.model.weights: weights}
        made = dict(zip(names, hill.session.feed(feeds), strict=True))
        slope = made[hill.model.gradients[rig.image]][0]
        if not np.isfinite(slope).all() or not slope.any():
            return
        size = (high - low) * 0.2 * (1 - step / _STEPS)
        image = np.clip(image + size * np.sign(slope), low, high).astype(np.float32)
        if step % 10 == 9:  # noqa: PLR2004 - four looks along the way
            yield image.astype(rig.dtype)
