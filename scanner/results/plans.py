"""What a scan would do with a model, by the pace at which the model runs here."""

from typing import Annotated

from scanner.results.records import ModelIdentity
from scanner.values import LARGEST_NUMBER, Count, Identifier, Most, Within, frozen

Seconds = Annotated[float, Within(0, LARGEST_NUMBER)]


@frozen
class PlannedStage:
    """One stage of a scan of one model.

    Attributes:
        rules: The ids of the detectors whose stage it is.
        does: What it does, in words.
        classes: Of how many classes; None where it is about the whole model.
        images: In one step or pass; None where no image is shown.
        steps: Gradient steps for each class, at most; 0 without a gradient.
        seconds: Of wall-clock time that it is expected to take; None where that is not known.
        memory: Bytes that the process is expected to hold; None where that is not known.
    """

    rules: tuple[Identifier, ...]
    does: str
    classes: Count | None = None
    images: Count | None = None
    steps: Count = 0
    seconds: Seconds | None = None
    memory: Count | None = None


@frozen
class ScanPlan:
    """What a scan would do with a model, and then with each of its references.

    Attributes:
        model: Which file.
        classes: How many it has; None where that is not known.
        threads: That run it.
        deadline: Seconds after which the scan of the model and its references ends.
        stages: In the order in which they run.
        skips: What would be skipped and why, in sentences.
    """

    model: ModelIdentity
    classes: Count | None
    threads: Count
    deadline: Seconds
    stages: Annotated[tuple[PlannedStage, ...], Most(256)]
    skips: Annotated[tuple[str, ...], Most(256)] = ()

    @property
    def seconds(self) -> float:
        """What the stages take together, so far as that is known."""
        return sum(stage.seconds or 0.0 for stage in self.stages)
