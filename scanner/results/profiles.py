"""What a detector reads off one model, by class, layer, channel or image: its profile."""

import base64
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from scanner.values import LARGEST_INTEGER, Base64, Count, Index, Most, Share, Within, frozen

_MOST_ELEMENTS = 2**22  # an image of 3 x 1024 x 1024 has three million
_BYTES = 4  # of a float32
_FEWEST_IMAGES = 2


@frozen
class Array:
    """A float32 array in the form in which results carry arrays.

    Attributes:
        shape: Its shape.
        data: Its little-endian bytes in C order, in base64.
    """

    shape: Annotated[tuple[Annotated[int, Within(1, _MOST_ELEMENTS)], ...], Most(8)]
    data: Base64

    def __post_init__(self) -> None:
        count = math.prod(self.shape)
        if count > _MOST_ELEMENTS:
            raise ValueError(f"an array of more than {_MOST_ELEMENTS:,} elements")
        # Three bytes are four characters of base64, of which the last may stand for fewer.
        if (
            len(self.data) != 4 * -(-_BYTES * count // 3)
            or self.data[-2:].count("=") != -(_BYTES * count) % 3
        ):
            raise ValueError("an array with more or fewer bytes than its shape")

    @classmethod
    def packed(cls, raw: bytes, shape: Sequence[int]) -> Self:
        """Return an array from its little-endian bytes in C order."""
        return cls(shape=tuple(shape), data=base64.b64encode(raw).decode())


@frozen
class Input:
    """One input of a model, and what it is answered.

    Attributes:
        image: The input, as the model takes it.
        low: The lowest value of a valid input.
        high: The highest.
        original: The ordinary image that it was made from; None where it was made from none.
        class_before: The class of that image.
        class_after: The class of the input; None where no answer names one.
        class_without: Its class without what it shows: while the value that it wakes is held where
            it ordinarily is, or when it is asked by itself.
        success: The share of the other images on which the same change was tried, and which the
            search did not see, that it turns into the class; None where it is not one of a part of
            the image.
    """

    image: Array
    low: float
    high: float
    original: Array | None = None
    class_before: Index | None = None
    class_after: Index | None = None
    class_without: Index | None = None
    success: Share | None = None

    def __post_init__(self) -> None:
        if self.original is not None and self.original.shape != self.image.shape:
            raise ValueError("an image of another shape than the one it was made from")


@frozen
class Trigger:
    """A trigger that was found for one class, and one image before and after it is stamped.

    Attributes:
        class_id: The class that it leads to.
        mask: How much of each pixel it replaces, from 0 to 1; one channel.
        pattern: What it replaces pixels with, in the model's own range.
        original: An image.
        stamped: The same image, stamped.
        class_before: The class of the image.
        class_after: The class of the stamped image.
        low: The lowest value of a valid input.
        high: The highest.
        success: The share of the images held back that it turns into the class; None where none
            are held back.
    """

    class_id: Index
    mask: Array
    pattern: Array
    original: Array
    stamped: Array
    class_before: Index
    class_after: Index
    low: float
    high: float
    success: Share | None = None


@frozen
class ClassRow:
    """What was found of one class.

    Attributes:
        class_id: The class.
        figure: What is compared, such as the size of a mask; None where a search reached nothing.
        course: The figure after each round of a search; one entry where nothing is searched.
        finished: Whether the search came to its own end.
        steps: Gradient steps that were taken.
        restarts: The figure by starting point.
        nearness: The mean margin of the class on the images, in standard deviations.
        answered: The share of the images that the model puts in the class as they are.
        figures: Further figures, which only a person or the detector's own description reads.
    """

    class_id: Index
    figure: float | None = None
    course: tuple[float | None, ...]
    finished: bool = True
    steps: Count = 0
    restarts: tuple[float | None, ...] = ()
    nearness: float | None = None
    answered: Share | None = None
    figures: Mapping[str, float | None] = dataclasses.field(default_factory=dict)


@frozen
class Grant:
    """Gradient steps that a class was given, and that a reference repeats."""

    class_id: Index
    steps: Count


@frozen
class Stages:
    """How a search was made smaller that would have taken too long with all that a budget allows.

    Attributes:
        images: In one gradient step.
        foremost: The classes that evidence without a search sets apart, the furthest first; empty
            where all classes were searched.
        controls: Classes drawn at random from the others: they show what is ordinary in this model.
        ascents: How many classes that evidence ranked by gradient steps too.
        half_side: Whether it was made on images of half the side.
    """

    images: Count
    foremost: tuple[Index, ...] = ()
    controls: tuple[Index, ...] = ()
    ascents: Count = 0
    half_side: bool = False

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that were chosen for the search, in order; empty for all."""
        return tuple(sorted((*self.foremost, *self.controls)))


@frozen
class Contest:
    """How the classes of one model competed for gradient steps.

    Attributes:
        planned: The most steps that one class may get.
        round: Steps between two comparisons.
        finalists: How many classes are never dropped.
        granted: The steps of each class that was not dropped.
        left_out: Classes that got none for want of time; of a reference, also those that got fewer
            than the suspect's.
        stages: How the search was made smaller; None where it had all that the budget allows.
    """

    planned: Count
    round: Annotated[int, Within(1, LARGEST_INTEGER)]
    finalists: Count
    granted: tuple[Grant, ...] = ()
    left_out: tuple[Index, ...] = ()
    stages: Stages | None = None


@frozen
class Move:
    """What one stamp does that turns images of one class into another, and no other images.

    Attributes:
        source: The class that its images leave.
        target: The class that they go to.
        stamp: The stamp in words.
        details: The stamp for a program.
        turned: How many of the images of the source go there, those held back among them.
        images: How many there are.
        strayed: How many images of other classes leave theirs, for whichever it is.
        others: How many there are.
        success: The share of the source's images held back that go there.
        steady: The share of the other images held back that stay what they are.
        input: An image with the stamp on it.
    """

    source: Index
    target: Index
    stamp: str
    details: Mapping[str, Any]
    turned: Count
    images: Count
    strayed: Count
    others: Count
    success: Share
    steady: Share
    input: Input | None = None


@frozen
class Moves:
    """How well one stamp of a kind tells the images of one class from all others.

    Attributes:
        figures: By source, then by target: the share of the images of the source that go to the
            target, less the share of all others that leave their class, of the stamp that is best
            at it; None where the two are one class, or there are too few images of the source or
            of others.
        foremost: The best stamps, the best one first, with what they do on all images and on those
            held back.
    """

    figures: tuple[tuple[float | None, ...], ...]
    foremost: tuple[Move, ...] = ()

    def __post_init__(self) -> None:
        classes = len(self.figures)
        if any(len(row) != classes for row in self.figures):
            raise ValueError("a table of classes that is not square")
        if any(max(move.source, move.target) >= classes for move in self.foremost):
            raise ValueError("a class that the model does not have")

    def figure(self, source: int, target: int) -> float | None:
        """Return the figure of one class into another."""
        return self.figures[source][target]


@frozen
class ByClass:
    """A profile by class.

    Attributes:
        classes: How many classes the model has; fewer rows where only some were searched.
        rows: One per class, in class order.
        unreached: The figure that a class without one counts as; None leaves such a class out.
        contest: How the classes competed; None where nothing is searched.
        triggers: Those of a few classes, for a person to look at; no baseline keeps them.
        moves: Of one class into another alone; None where none was looked for. No baseline keeps
            them.
    """

    classes: Index
    rows: tuple[ClassRow, ...]
    unreached: float | None = None
    contest: Contest | None = None
    triggers: tuple[Trigger, ...] = ()
    moves: Moves | None = None

    def __post_init__(self) -> None:
        named = [row.class_id for row in self.rows]
        if len({*named}) < len(named) or max(named, default=0) >= max(self.classes, 1):
            raise ValueError("a class named twice, or one that the model does not have")

    def row(self, class_id: int | None) -> ClassRow | None:
        """Return the row of a class, or None where it was not searched."""
        return next((row for row in self.rows if row.class_id == class_id), None)

    @property
    def dropped_some(self) -> bool:
        """Whether a contest of the model's own gave up some of its classes on the way."""
        return self.contest is not None and len(self.contest.granted) < len(self.rows)

    @property
    def stages(self) -> Stages | None:
        """How the search was made smaller, where it was."""
        return None if self.contest is None else self.contest.stages

    @property
    def chose(self) -> bool:
        """Whether what was found of the model decided which of its classes got how many steps."""
        return self.dropped_some or (self.stages is not None and bool(self.stages.foremost))


@frozen
class LayerRow:
    """How strongly one activation answers to noise.

    Attributes:
        layer: Name of its value.
        operator: What makes it.
        channels: How many it has.
        peak_mean: Mean over images of the largest output.
        peak_max: The largest output of all.
        mean: Mean of all outputs.
        quantiles: Order statistics of the channels' mean peaks.
        channel: The channel that stands out most within the layer.
        channel_peak: Its mean peak.
        channel_z: Its robust z-score.
    """

    layer: str
    operator: str
    channels: Index
    peak_mean: float
    peak_max: float
    mean: float
    quantiles: tuple[float, ...]
    channel: Index
    channel_peak: float
    channel_z: float


@frozen
class ByLayer:
    """A profile by activation, in graph order."""

    rows: tuple[LayerRow, ...]


@frozen
class ChannelRow:
    """The channel of one layer that its weights set apart most.

    Attributes:
        layer: Name of the layer.
        operator: What it is.
        channels: How many it has.
        channel: The channel.
        norm: Its Lipschitz constant.
        median: The median over the layer's channels.
        z: The robust z-score of its logarithm.
    """

    layer: str
    operator: str
    channels: Index
    channel: Index
    norm: float
    median: float
    z: float


@frozen
class ByChannel:
    """A profile by convolution and dense layer, in graph order."""

    rows: tuple[ChannelRow, ...]


@frozen
class ByImage:
    """A profile by noise image: S_A = {a_i}, in image order."""

    maxima: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.maxima) < _FEWEST_IMAGES:
            raise ValueError("fewer images than two")
