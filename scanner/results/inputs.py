"""What was found of a model's inputs: what filters read off each, and how it ranks among clean."""

import enum
from typing import Annotated

from scanner.results.declarations import Rule
from scanner.results.findings import Run, Verdict
from scanner.results.profiles import Input
from scanner.results.records import InputRange, ModelIdentity, Runtime
from scanner.values import LARGEST_NUMBER, Count, Identifier, Index, Most, Share, Within, frozen

_MOST_FILTERS = 64
_Number = Annotated[float, Within(-LARGEST_NUMBER, LARGEST_NUMBER)]


class Quantity(enum.Enum):
    """What a statistic is, so that it can be measured how far out one lies.

    A `SHARE` is a probability or a share, in 0..1; an `ENTROPY` is a negated one, in bits, 0 at
    most. Between 0.98 and 0.99 of either there is as much to tell as between 0.5 and 0.66.
    """

    SHARE = "share"
    ENTROPY = "entropy"


@frozen
class Region:
    """A rectangle of an image, in pixels from its upper left corner."""

    top: Index
    left: Index
    height: Index
    width: Index


@frozen
class InputReading:
    """What the filters read off one input.

    Attributes:
        name: The file's name, or its place in the array, as in "17".
        class_id: The class that the model answers.
        statistics: Of each filter, in their order; larger is more suspicious.
        regions: The part of the image that each of these comes from; None where it is all of it.
    """

    name: str
    class_id: Index
    statistics: Annotated[tuple[_Number, ...], Most(_MOST_FILTERS)]
    regions: Annotated[tuple[Region | None, ...], Most(_MOST_FILTERS)]

    def __post_init__(self) -> None:
        if len(self.regions) != len(self.statistics):
            raise ValueError("not a region for each statistic")


@frozen
class FilterNote:
    """A filter that ran.

    Attributes:
        rule: Its identity.
        decides: Whether it counts in the answer of all together; one that does not is shown only.
        quantity: What its statistic is.
        passes: Most images that the model is shown for one input.
    """

    rule: Rule
    decides: bool
    quantity: Quantity
    passes: Count


@frozen
class CleanReadings:
    """What the filters read off the user's clean images.

    Attributes:
        model: The model.
        filters: Those that ran, in their order.
        hosts: Of the images that inputs are laid over; they tell how much a statistic varies.
        ranked: Of the others, among which an input is ranked.
        input_range: The range of the model's input.
        runtime: Where it ran.
    """

    model: ModelIdentity
    filters: Annotated[tuple[FilterNote, ...], Most(_MOST_FILTERS)]
    hosts: tuple[InputReading, ...]
    ranked: tuple[InputReading, ...]
    input_range: InputRange | None
    runtime: Runtime


@frozen
class FilterScore:
    """One filter on one input.

    Attributes:
        rule: The filter's id.
        statistic: What it measured; larger is more suspicious.
        p_value: Its rank among the clean images: (1 + #{clean >= statistic}) / (n + 1).
    """

    rule: Identifier
    statistic: _Number
    p_value: Share


@frozen
class ScreenedInput:
    """One input beside the clean ones.

    Attributes:
        number: Its place among the inputs, from 0.
        name: The file's name, or its place in the array.
        class_id: The class that the model answers.
        stands_out: Whether its p-value is at most alpha.
        far_out: Whether it lies at least twice as far out as the furthest clean image.
        p_value: Of all filters that decide, together.
        size: How far out it lies by all filters together, where the furthest clean image lies at 1;
            None where that one does not lie out at all.
        rule: The filter that sets it apart most.
        scores: One per filter.
        region: The part of the image by which it stands out; None where no part does alone.
        picture: The input; None where it was not asked for.
    """

    number: Index
    name: str
    class_id: Index
    stands_out: bool
    far_out: bool
    p_value: Share
    size: _Number | None
    rule: Identifier
    scores: Annotated[tuple[FilterScore, ...], Most(_MOST_FILTERS)]
    region: Region | None = None
    picture: Input | None = None


@frozen
class Discoveries:
    """The inputs that stand out if so many of them may be clean (Benjamini-Hochberg).

    Attributes:
        share: The share of false discoveries that is allowed.
        count: How many inputs stand out so.
        p_value: The largest p-value among these; None where there are none.
    """

    share: Share
    count: Count
    p_value: Share | None = None


@frozen
class Screening:
    """What was found of all inputs together.

    Attributes:
        verdict: Suspicious where more inputs stand out, or lie far out, than chance explains.
        reason: The verdict in one sentence.
        model: The model.
        inputs: How many inputs there were.
        standing_out: How many of them stand out.
        far_out: How many of them lie at least twice as far out as the furthest clean image.
        expected: How many clean ones stand out by chance, on average.
        p_value: Probability that as many of so many clean inputs stand out.
        alpha: The level: the share of clean inputs that stand out by chance.
        filters: Those that ran.
        hosts: How many clean images inputs were laid over.
        ranked: Among how many clean images each was ranked.
        found: The inputs that stand out, the furthest first; at most as many as were asked for.
        discoveries: Those at a share of false discoveries; None where none was asked for.
        input_range: The range of the model's input.
        runtime: Where it ran.
        run: When, and by which version.
    """

    verdict: Verdict
    reason: str
    model: ModelIdentity
    inputs: Count
    standing_out: Count
    far_out: Count
    expected: Annotated[float, Within(0, LARGEST_NUMBER)]
    p_value: Share
    alpha: Share
    filters: Annotated[tuple[FilterNote, ...], Most(_MOST_FILTERS)]
    hosts: Count
    ranked: Count
    found: tuple[ScreenedInput, ...]
    discoveries: Discoveries | None = None
    input_range: InputRange | None = None
    runtime: Runtime | None = None
    run: Run | None = None
