"""What a detector is, and what it is given."""

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy.typing as npt

from scanner.instruments.witness import Witness
from scanner.modelfile.model import Model
from scanner.results import Comparison, Measurement, Rule
from scanner.settings import Settings
from scanner.values import frozen


class Needs(enum.Flag):
    """What a detector asks of a model and of the user."""

    GRAPH = enum.auto()
    ACTIVATIONS = enum.auto()
    LOGITS = enum.auto()
    GRADIENTS = enum.auto()
    IMAGES = enum.auto()


@frozen
class Subject:
    """One opened model and how to look at it.

    Attributes:
        model: The opened, checked model.
        settings: What the user asked for.
        progress: Called as `progress(done, total)` while a measurement runs.
        lead: For a reference, what the same detector measured on the suspect.
        witnesses: Where a detector leaves each graph that it measured, to be checked against the
            file.
        seen: Where a search leaves images that it used or made, (n, *shape), for the same check.
        follows: Whether, where a budget made the suspect's search choose, the reference's takes the
            same steps. One of many references chooses for itself, as the suspect did: among equals
            the suspect's choice would favour it.
    """

    model: Model
    settings: Settings
    progress: Callable[[int, int], None] = lambda _done, _total: None
    lead: Measurement | None = None
    follows: bool = True
    witnesses: list[Witness] = dataclasses.field(default_factory=list)
    seen: list[npt.NDArray[Any]] = dataclasses.field(default_factory=list)


class Detector(Protocol):
    """One published detector.

    `measure` reads one model and never judges, prints, sleeps or catches. `compare` is pure
    arithmetic on
    measurements: it lines a suspect's profile up with those of references, so that one reference, a
    folder of them and a baseline file are one mechanism.
    """

    rule: ClassVar[Rule]
    needs: ClassVar[Needs]

    def measure(self, subject: Subject) -> Measurement:
        """Read the statistic and its whole profile off one model."""
        ...

    def compare(self, suspect: Measurement, references: Sequence[Measurement]) -> Comparison:
        """Set the suspect's profile against those of the references (none, one or many)."""
        ...
