"""What a detector declares about itself, so that judging and reports need not know its name."""

import enum
from typing import Annotated

from scanner.values import LARGEST_NUMBER, Identifier, Within, frozen

Unit = Annotated[float, Within(1e-6, LARGEST_NUMBER)]
"""What figures are divided by, or raised by before their logarithm."""


@frozen
class Rule:
    """A detector's identity.

    Attributes:
        id: Stable, never reused.
        name: The field's standard name of the method.
        summary: One sentence: what a large statistic means.
        source: The publication it implements.
    """

    id: Identifier
    name: str
    summary: str
    source: str


class Part(enum.Enum):
    """How a detector takes part in the verdict.

    A `STRUCTURAL` detector judges by its observations alone, whatever other models show. So does
    one by what is `SEEN` in a model's answers; but it accuses trained classifiers only, and its
    silence says nothing of the graph. A `PREMISE` says whether there is anything to judge: where it
    observes something, no statistic of the model means anything. The statistics of `COMBINED`
    detectors make the combined p-value. Those that are `SHOWN` are reported beside it: with a clean
    reference they separate too little, and each would widen what a clean model may show
    (docs/detection.md).
    """

    STRUCTURAL = "structural"
    SEEN = "seen"
    PREMISE = "premise"
    COMBINED = "combined"
    SHOWN = "shown"


@frozen
class Contribution:
    """What a detector contributes to the verdict, the index and the advice.

    Attributes:
        part: How it takes part in the verdict.
        decisive: Whether its silence may be called clean.
        beside_one: The largest statistic that clean networks of the shipped recipes reach beside
            one clean reference: the unit of the index. None where it has no part in the index.
        alone: The largest lead of one class over the next in those networks, without a reference.
        images_help: Whether the user's own images would make its answer stronger.
        budget_helps: Whether a larger budget would.
    """

    part: Part = Part.SHOWN
    decisive: bool = False
    beside_one: Unit | None = None
    alone: Unit | None = None
    images_help: bool = False
    budget_helps: bool = False

    @property
    def combined(self) -> bool:
        """Whether its statistic is part of the combined p-value."""
        return self.part is Part.COMBINED

    @property
    def calibrated(self) -> bool:
        """Whether clean models judge its statistic; others judge by what they observe."""
        return self.part in {Part.COMBINED, Part.SHOWN}


@frozen
class Scale:
    """On what scale the figures of a class are compared between models.

    A figure x becomes y = log(max(x, 0) + `added`), or x itself where `added` is None, and -y where
    small figures are suspicious. Figures of several references are averaged as y.

    Attributes:
        small_is_suspicious: Whether the suspicious class has the smallest figure.
        added: Added to figures before their logarithm, in their own unit: a tenth of it against a
            hundredth is no evidence. None compares differences, not ratios.
        ease: What is taken off y for each standard deviation of `ClassRow.nearness` before the
            classes of one model are set against one another.
        unit: Written behind a figure, with its space.
    """

    small_is_suspicious: bool = False
    added: Unit | None = None
    ease: float = 0.0
    unit: str = ""


@frozen
class Wording:
    """Templates (`str.format`) for what a comparison shows, in words.

    Every template may name `suspect` (the figure), `target` (the class), `layer`, `operator`,
    `channel`, `difference`, `lead`, `times` (e to the power of the difference, or of the lead),
    `reference`, `low`, `high`, `count` (references), `matched`, `wins`, `images` and the
    detector's own figures, so far as its kind of profile has them.

    Attributes:
        one: Beside one reference.
        many: Beside several; empty takes `one`.
        alone: Without a comparable reference; empty says nothing.
        leading: The same, where one class of the model leads the others.
    """

    one: str = ""
    many: str = ""
    alone: str = ""
    leading: str = ""
