"""What a detector is, and what it is given."""

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy.typing as npt

from scanner.errors import NoImagesError
from scanner.instruments.probes import Images
from scanner.instruments.witness import Witness
from scanner.modelfile.model import Model
from scanner.results import (
    Comparison,
    Contribution,
    Description,
    Measurement,
    PlannedStage,
    Rule,
    Scale,
    Wording,
)
from scanner.settings import Settings
from scanner.values import frozen


class Needs(enum.Flag):
    """What a detector asks of a model and of the user."""

    GRAPH = enum.auto()
    ACTIVATIONS = enum.auto()
    LOGITS = enum.auto()
    GRADIENTS = enum.auto()
    IMAGES = enum.auto()


class Progress(Protocol):
    """Takes how far a measurement has come."""

    def __call__(self, done: int, total: int, class_id: int | None = None, /) -> None:
        """Take that `done` of `total` are done, and at which class."""


@frozen
class Ranking:
    """The classes of a model, those that stand out most before any search first.

    Attributes:
        classes: All of them.
        ascents: How many of the first were ranked by gradient steps too.
    """

    classes: tuple[int, ...]
    ascents: int


@frozen
class Subject:
    """One opened model and how to look at it.

    Attributes:
        model: The opened, checked model.
        settings: What the user asked for.
        progress: Called as `progress(done, total)` while a measurement runs; a search also says
            which class it is at.
        suspect: For a reference, what the same detector measured on the suspect.
        witnesses: Where a detector leaves each graph that it measured, to be checked against the
            file.
        seen: Where a search leaves images that it used or made, (n, *shape), for the same check.
        follows: Whether, where a budget made the suspect's search choose, the reference's takes the
            same steps. One of many references chooses for itself, as the suspect did: among equals
            the suspect's choice would favour it.
        made: Where images are left that the model made itself, or why it makes none, for the next
            search on them.
        rankings: Where a search in stages leaves how it ranked the classes, for the next one.
        rest: Share of the worker's time that a search leaves to what comes after it.
        at_once: How many classes may be searched at a time, each in a thread of its own.
    """

    model: Model
    settings: Settings
    progress: Progress = lambda _done, _total, _class_id=None: None
    suspect: Measurement | None = None
    follows: bool = True
    witnesses: list[Witness] = dataclasses.field(default_factory=list)
    seen: list[npt.NDArray[Any]] = dataclasses.field(default_factory=list)
    made: list[Images | NoImagesError] = dataclasses.field(default_factory=list)
    rankings: list[Ranking] = dataclasses.field(default_factory=list)
    rest: float = 0.25
    at_once: int = 1


class Detector(Protocol):
    """One published detector; a class that implements it inherits from it.

    `measure` reads one model and never judges, prints, sleeps or catches. What sets the measurement
    beside those of other models, and what of it a report shows, the detector declares in values:
    one reference, a folder of them and a baseline file are then one mechanism, and judging and
    reports know no detector by name.

    Attributes:
        rule: Its identity.
        needs: What it asks of a model and of the user.
        contribution: What it contributes to the verdict, the index and the advice.
        scale: On what scale its figures by class are compared.
        wording: What a comparison says, as templates.
        alone: Whether it is asked only where the model is judged with neither clean models nor
            clean images at hand, or it is named: beside them it would tell nothing more.
        copies: How many times a model's weights it takes of memory at the most, beside what is held
            already (measured: docs/large-networks.md).
        after_searches: Whether it looks at what the searches made, and is measured after them.
        excusable: Whether what it observes is no more than a note where all references have the
            same nodes.
    """

    rule: ClassVar[Rule]
    needs: ClassVar[Needs]
    contribution: ClassVar[Contribution] = Contribution()
    scale: ClassVar[Scale] = Scale()
    wording: ClassVar[Wording] = Wording()
    alone: ClassVar[bool] = False
    copies: ClassVar[float] = 3
    after_searches: ClassVar[bool] = False
    excusable: ClassVar[bool] = False

    def measure(self, subject: Subject) -> Measurement:
        """Read the statistic and its whole profile off one model."""
        ...

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:  # noqa: ARG002 - as below
        """Return the stages of a search, by its pace on this model; nothing where none is made."""
        return ()

    def describe(
        self,
        measurement: Measurement,  # noqa: ARG002 - for those that override it
        comparison: Comparison,  # noqa: ARG002
    ) -> Description:
        """Return what a report draws of the suspect: nothing, unless a detector says more."""
        return Description()


def described(detector: Detector, measurement: Measurement, comparison: Comparison) -> Comparison:
    """Return a comparison with what a report draws of it."""
    return dataclasses.replace(comparison, description=detector.describe(measurement, comparison))
