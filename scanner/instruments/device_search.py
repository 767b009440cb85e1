"""Searches whose state stays on the device, for detectors that search class by class.

Each is the twin of a loop on the host (`scanner.instruments.inversion.Inversion`,
`scanner.detectors.mm_bd.Ascent`) and offers the same to a contest. A step only starts the device;
what it came to is read once in a round, when the contest asks. A search that is over by then has
stopped by itself at the very step at which the loop would have.

Before a device is trusted, a search takes its first steps on both: where they do not lead to the
same, or the graph does not run there, the host's loop is used.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from scanner.errors import ModelError, UnsupportedModelError, WorkerLimitError
from scanner.graph.gradient import step_graphs
from scanner.graph.gradient.step_graphs import (
    ASCENT,
    BOUNDLESS,
    INVERSION,
    Classified,
    Descent,
    StepGraph,
)
from scanner.instruments import differentiable, resident
from scanner.instruments.class_search import ROUND, Climb
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable, Floats
from scanner.instruments.trigger import (
    BETAS,
    COST_DOWN,
    COST_UP,
    LEARNING_RATE,
    PATIENCE,
    SMALLER,
    TINY,
    FreeTrigger,
    channel_axis,
)

Array = npt.NDArray[Any]

PARAMETERS = {"loop": "device"}
_PROVED = 3  # steps that a search takes on both before the device is trusted
_NEAR, _NEAR_MASK = 1e-2, 1e-3  # relative, of loss and margin; mean difference of masks


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """How a search for a trigger goes about it (`scanner.instruments.inversion.Plan`).

    Attributes:
        batch: Images of one step; None takes all.
        success: Share of the images that must flip.
        first_cost: lambda, once it is raised from 0.
        early_stop: Steps without a smaller mask after which a search is over.
    """

    batch: int | None
    success: float
    first_cost: float
    early_stop: int


class HostInversion(Protocol):
    """What is asked of the host's loop for a trigger."""

    @property
    def trigger(self) -> FreeTrigger:
        """The trigger that is being found."""
        ...

    @property
    def loss(self) -> float:
        """The mean loss of the last step."""
        ...

    def step(self) -> None:
        """Take one gradient step."""
        ...


class HostAscent(Protocol):
    """What is asked of the host's loop for a margin."""

    @property
    def margin(self) -> float:
        """The largest so far."""
        ...

    def step(self) -> None:
        """Take one gradient step."""
        ...


class _Seated:
    """A search that shares its buffers on the device with others, one at a time.

    Args:
        model: The classifier.
        target: The class.
        seat: Where its state is while it takes steps.
        state: What it begins with, by name.
        names: Of its single numbers.
    """

    def __init__(
        self,
        model: Differentiable,
        target: int,
        seat: resident.Seat,
        state: Mapping[str, Array],
        names: tuple[str, ...],
    ) -> None:
        self.model, self.target = model, target
        self._seat, self._names = seat, names
        self._kept: dict[str, Array] = {**state, "target": np.array([[target]], np.int64)}
        self._taken = 0
        self._known: dict[str, float] | None = None

    @property
    def steps(self) -> int:
        """The steps that were taken until the search was over."""
        return int(self._numbers()["steps"])

    def step(self) -> None:
        """Let the device take one gradient step."""
        self._sit()
        self._prepare()
        self._seat.step()
        self._taken, self._known = self._taken + 1, None

    def leave(self) -> None:
        """Make room for another search."""
        self._kept |= {name: self._seat.read(name) for name in self._seat.state}
        self._seat.occupant = None

    def _prepare(self) -> None:
        """Lay down what the next steps need from the host."""

    def _sit(self) -> None:
        if self._seat.occupant is self:
            return
        if isinstance(self._seat.occupant, _Seated):
            self._seat.occupant.leave()
        for name, array in self._kept.items():
            self._seat.write(name, array)
        self._seat.occupant = self

    def _put(self, name: str, array: Array) -> None:
        self._kept[name] = array
        self._seat.write(name, array)

    def _read(self, name: str) -> Array:
        return self._seat.read(name) if self._seat.occupant is self else self._kept[name]

    def _numbers(self) -> Mapping[str, float]:
        """Return what the state says in single numbers.

        Raises:
            UnsupportedModelError: The gradient was not a number.
        """
        if self._known is None:
            numbers = self._read("numbers").tolist()
            self._known = dict(zip(self._names, numbers, strict=True))
        if self._known["broken"]:
            raise self.model.not_finite()
        return self._known


class Inversion(_Seated):
    """The search for the smallest trigger of one class.

    Args:
        model: The classifier.
        images: How many images there are.
        target: The class.
        generator: Draws the starting point and the batches.
        schedule: How it goes about it.
        seat: Where its state is while it takes steps.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a search is made of
        self,
        model: Differentiable,
        images: int,
        target: int,
        generator: np.random.Generator,
        schedule: Schedule,
        seat: resident.Seat,
    ) -> None:
        begun = FreeTrigger(model.shape, model.low, model.high, generator)
        a, b = begun.free_mask[None], begun.free_pattern[None]
        numbers = dict.fromkeys(INVERSION, 0.0) | {"size": BOUNDLESS}
        state = {
            "a": a,
            "b": b,
            **{name: np.zeros_like(a) for name in ("a1", "a2", "mask")},
            **{name: np.zeros_like(b) for name in ("b1", "b2", "pattern")},
            "numbers": np.array([numbers[name] for name in INVERSION], np.float32),
        }
        super().__init__(model, target, seat, state, INVERSION)
        self._schedule, self._images, self._generator = schedule, images, generator

    @property
    def finished(self) -> bool:
        """Whether the mask has stopped shrinking, as far as is known: steps may be on their way."""
        if self._known is None:
            return False
        found = self._known["size"] < BOUNDLESS and self._known["cost"] > 0
        return found and self._known["stale"] >= self._schedule.early_stop

    @property
    def best(self) -> tuple[Floats, Floats] | None:
        """Mask and pattern of the smallest trigger that worked; None before the first."""
        if math.isinf(self.size):
            return None
        return self._read("mask")[0], self._read("pattern")[0]

    @property
    def size(self) -> float:
        """Its |m|_1 in pixels; infinite before the first."""
        size = self._numbers()["size"]
        return size if size < BOUNDLESS else math.inf

    @property
    def loss(self) -> float:
        """The mean loss of the last step; infinite before the first."""
        return self._numbers()["loss"] if self.steps else math.inf

    @property
    def mask(self) -> Floats:
        """The mask that the next step tries."""
        found: Floats = (np.tanh(self._read("a")[0]) + 1) / 2
        return found

    def agrees(self, host: HostInversion) -> bool:
        """Whether the host's loop has come to the same after as many steps."""
        apart = float(np.abs(self.mask - host.trigger.mask).mean())
        return _near(self.loss, host.loss) and apart <= _NEAR_MASK

    def _prepare(self) -> None:
        batch = self._schedule.batch
        if batch is None or batch >= self._images or self._taken % ROUND:
            return
        orders = (self._generator.permutation(self._images) for _ in range(ROUND))
        self._put("draws", np.stack([order[:batch] for order in orders]))


class Ascent(_Seated, Climb):
    """The search for the largest margin of one class, from several starting points at once.

    Args:
        model: The classifier.
        images: The starting points, (n, *shape).
        target: The class.
        seat: Where its state is while it takes steps.
    """

    def __init__(
        self, model: Differentiable, images: Floats, target: int, seat: resident.Seat
    ) -> None:
        numbers = dict.fromkeys(ASCENT, 0.0) | {"margin": -BOUNDLESS}
        state = {"x": images, "numbers": np.array([numbers[name] for name in ASCENT], np.float32)}
        super().__init__(model, target, seat, state, ASCENT)

    @property
    def images(self) -> Floats:
        """Where the ascent has come to."""
        return self._read("x")

    @property
    def margin(self) -> float:
        """The largest so far; minus infinity before the first step."""
        return self._numbers()["margin"] if self.steps else -math.inf

    def agrees(self, host: HostAscent) -> bool:
        """Whether the host's loop has come to the same after as many steps."""
        return _near(self.margin, host.margin)


@dataclasses.dataclass(frozen=True, slots=True)
class Inversions:
    """Starts searches for triggers on a device.

    Attributes:
        parameters: What a measurement says whose searches ran so.
        bench: Where their states are.
        model: The classifier.
        images: How many images there are.
        schedule: How the searches go about it.
    """

    parameters: ClassVar[Mapping[str, str]] = PARAMETERS
    bench: resident.Bench
    model: Differentiable
    images: int
    schedule: Schedule

    def start(self, target: int, generator: np.random.Generator, restart: int = 0) -> Inversion:
        """Begin the search for a class; restarts that take turns have seats of their own."""
        seat = self.bench.seats[restart]
        return Inversion(self.model, self.images, target, generator, self.schedule, seat)


@dataclasses.dataclass(frozen=True, slots=True)
class Ascents:
    """Starts searches for margins on a device.

    Attributes:
        parameters: What a measurement says whose searches ran so.
        bench: Where their states are.
        model: The classifier.
        images: The starting points, (n, *shape).
    """

    parameters: ClassVar[Mapping[str, str]] = PARAMETERS
    bench: resident.Bench
    model: Differentiable
    images: Floats

    def start(self, target: int) -> Ascent:
        """Begin the search for a class."""
        return Ascent(self.model, self.images, target, self.bench.seats[0])


def inversions(
    subject: Subject,
    model: Differentiable,
    images: Floats,
    schedule: Schedule,
    host: Callable[[int, np.random.Generator], HostInversion],
) -> Inversions | None:
    """Return what starts searches for triggers on the device; None where the host's loop runs.

    Args:
        subject: The model.
        model: The same, differentiated.
        images: Those that are searched on, (n, *shape).
        schedule: How the searches go about it.
        host: Begins the host's loop.
    """
    batch = min(schedule.batch or len(images), len(images))
    if not _fits(model, batch):
        return None

    def drawn(network: Classified) -> StepGraph:
        descent = _descent(model, schedule, batch)
        return step_graphs.inversion(network, descent, images=len(images), batch=batch, block=ROUND)

    restarts = subject.settings.effort.restarts
    bench = _bench(subject, model, drawn, {"images": images}, restarts)
    if bench is None:
        return None
    found = Inversions(bench, model, len(images), schedule)
    seed = (subject.settings.seed, 0)
    ours = found.start(0, np.random.default_rng(seed))
    theirs = host(0, np.random.default_rng(seed))
    return found if _proved(ours, theirs, lambda: ours.agrees(theirs)) else None


def ascents(
    subject: Subject,
    model: Differentiable,
    images: Floats,
    rates: tuple[float, float],
    host: Callable[[int], HostAscent],
) -> Ascents | None:
    """Return what starts searches for margins on the device; None where the host's loop runs.

    Args:
        subject: The model.
        model: The same, differentiated.
        images: The starting points, (n, *shape).
        rates: The length of the first step in widths of the range, and by which it is multiplied
            at each step.
        host: Begins the host's loop.
    """
    if not _fits(model, len(images)):
        return None

    def drawn(network: Classified) -> StepGraph:
        first, decay = rates
        return step_graphs.ascent(network, starts=len(images), first_rate=first, decay=decay)

    bench = _bench(subject, model, drawn, {}, 1)
    if bench is None:
        return None
    found = Ascents(bench, model, images)
    ours, theirs = found.start(0), host(0)
    return found if _proved(ours, theirs, lambda: ours.agrees(theirs)) else None


def _descent(model: Differentiable, schedule: Schedule, batch: int) -> Descent:
    return Descent(
        channels=channel_axis(model.shape),
        learning_rate=LEARNING_RATE,
        betas=BETAS,
        tiny=TINY,
        # The fewest images whose share is as large, in the arithmetic of the loop on the host.
        hits=next(count for count in range(batch + 1) if count / batch >= schedule.success),
        first_cost=schedule.first_cost,
        patience=PATIENCE,
        cost_up=COST_UP,
        cost_down=COST_DOWN,
        smaller=SMALLER,
        early_stop=schedule.early_stop,
    )


def _fits(model: Differentiable, batch: int) -> bool:
    """Whether a step is one run: neither memory nor the model itself asks for smaller ones."""
    return model.fixed_batch in {None, batch} and (model.most is None or model.most >= batch)


def _bench(
    subject: Subject,
    model: Differentiable,
    draw: Callable[[Classified], StepGraph],
    shared: Mapping[str, Array],
    seats: int,
) -> resident.Bench | None:
    """Return a step graph on the device; None where it does not run there."""
    settings = subject.settings
    shape = model.shape if model.resized else None
    written = differentiable.written(subject.model, settings, model.objective, shape)
    try:
        graph = draw(
            Classified(
                gradient=written.gradient,
                image=model.image,
                shape=model.shape,
                classes=model.classes,
                low=model.low,
                high=model.high,
            )
        )
        data, places = subject.model.serialise(graph.proto), graph.places
        del graph, written  # while ONNX Runtime loads it
        return resident.opened(data, places, shared, seats, (settings.device, settings.threads))
    except (ModelError, WorkerLimitError):
        return None


class _Steps(Protocol):
    def step(self) -> None:
        """Take one gradient step."""
        ...


def _proved(ours: _Steps, host: _Steps, agree: Callable[[], bool]) -> bool:
    """Whether the device and the host come to the same in their first steps.

    Raises:
        UnsupportedModelError: The gradient is not a number on the host.
    """
    for _ in range(_PROVED):
        host.step()
    try:
        for _ in range(_PROVED):
            ours.step()
        return agree()
    except UnsupportedModelError:
        return False


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= _NEAR * (1 + abs(other))
