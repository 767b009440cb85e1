"""A search that fits the time: fewer images in a step or fewer classes, never classes in turn.

What a budget allows is planned for small networks. Where it would take a quarter longer than its
time by the pace that was measured (`scanner.instruments.pace`), a search comes in stages:

1. If half of the images are few enough, all classes are searched on so many.
2. Else every class is read without a search (`scanner.instruments.shortlist`), and those that stand
   out are searched, with as many controls, drawn at random from the others: on as many images as
   the time allows.

A network that takes images of half the side (`scanner.instruments.half_side`) is searched on these
where that leaves more of them in a step, or more classes.

References do as the suspect did: figures are compared at equal stages only.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from scanner.errors import UnsupportedModelError
from scanner.instruments import half_side, pace, room, shortlist
from scanner.instruments.class_search import (
    FULL_FIELD,
    ROUND,
    contestants,
    too_little_left,
    total_steps,
)
from scanner.instruments.detector import Ranking, Subject
from scanner.instruments.differentiable import Differentiable, Floats
from scanner.instruments.half_side import HalfSide
from scanner.instruments.pace import Pace
from scanner.results import PlannedStage, Stages
from scanner.sandbox import deadline
from scanner.settings import Effort
from scanner.values import frozen

# Times the budget's seconds that a search may be expected to take: of all classes, or of a few on
# as many images. A ResNet-18 and its reference then take less than three minutes on two cores.
SLACK = 1.25
LONGER = 3.5  # times the budget's seconds that one with stages may take
SHORT = 6  # classes of a shortlist, controls among them (docs/large-networks.md)
_RANKED = 0.25  # share of the budget's seconds that the ranking of the classes may take


@frozen
class Demand:
    """What a budget allows for one search.

    Attributes:
        classes: That are to be searched.
        images: In one step.
        least: As few of them are enough.
        effort: What the budget allows; its seconds are those of all threads together.
        full_field: Up to so many classes, none is dropped on the way.
        may_halve: Whether images may have half their side.
    """

    classes: int
    images: int
    least: int
    effort: Effort
    full_field: int = FULL_FIELD
    may_halve: bool = False

    def cost(self, images: int, classes: int, each: float) -> float:
        """Return the seconds that a search takes if no class comes to its own end.

        Args:
            images: In one step.
            classes: That are searched.
            each: Seconds for one image of one step.
        """
        steps = total_steps(classes, self.effort.steps, self.full_field)
        return steps * self.effort.restarts * images * each


@frozen
class Outline:
    """How large a search is.

    Attributes:
        images: In one step.
        classes: How many are searched.
        seconds: That it takes, if no class comes to its own end.
        staged: Whether it is smaller than what the budget allows.
        half_side: Whether it is on images of half the side.
    """

    images: int
    classes: int
    seconds: float
    staged: bool
    half_side: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """A search that fits.

    Attributes:
        model: The classifier that is searched. It keeps to the memory that is allowed.
        whole: The same, or where images of half the side are searched, the classifier itself.
        half: What reduces images and enlarges triggers; None where nothing is reduced.
        stages: How the search was made smaller; None where it was not.
        effort: What it may cost, its seconds for each thread.
        at_once: How many classes may be searched at a time.
    """

    model: Differentiable
    whole: Differentiable
    half: HalfSide | None
    stages: Stages | None
    effort: Effort
    at_once: int


def outlined(demand: Demand, each: float) -> Outline:
    """Return how large a search can be.

    Fewer classes cost less evidence than fewer images do (docs/large-networks.md), so that all
    classes are searched on half of the images at least, or else a shortlist on as many as can be.

    Args:
        demand: What the budget allows.
        each: Seconds for one image of one step.
    """
    allowed, whole = SLACK * demand.effort.seconds, demand.classes
    full = demand.cost(demand.images, whole, each)
    if full <= allowed:
        return Outline(images=demand.images, classes=whole, seconds=full, staged=False)
    half = max(min(demand.least, demand.images), demand.images // 2)
    if (seconds := demand.cost(half, whole, each)) <= allowed:
        return Outline(images=half, classes=whole, seconds=seconds, staged=True)
    images, short = demand.images, min(SHORT, whole)
    while images > demand.least and demand.cost(images, short, each) > allowed:
        images = max(demand.least, images // 2)
    one = demand.cost(images, 1, each)
    classes = max(1, min(short, int(LONGER * demand.effort.seconds / one)))
    return Outline(images=images, classes=classes, seconds=classes * one, staged=True)


def on_half_sides(demand: Demand, whole: Outline, each: float) -> Outline:
    """Return how large a search on images of half the side can be, if that leaves more of it.

    Args:
        demand: What the budget allows.
        whole: How large one on whole images can be; it is returned unless the other has as many
            images and classes, and more of one of them.
        each: Seconds for one small image of one step.
    """
    small = outlined(demand, each)
    grown = small.images - whole.images, small.classes - whole.classes
    if min(grown) < 0 or max(grown) == 0:
        return whole
    return dataclasses.replace(small, staged=True, half_side=True)


def demanded(  # noqa: PLR0913, PLR0917 - a search has as many sides
    subject: Subject,
    model: Differentiable,
    images: int,
    effort: Effort,
    least: int,
    full_field: int = FULL_FIELD,
) -> Demand:
    """Return what a budget allows a search of a model.

    Args:
        subject: Its settings hold the choice of classes, and the threads.
        model: The same, differentiated.
        images: In one step.
        effort: What the budget allows, its seconds for each thread.
        least: As few images are enough.
        full_field: Up to so many classes, none is dropped on the way.

    Raises:
        UsageError: There is no such class.
    """
    seconds = effort.seconds * pace.threads(subject.settings)
    # A network for a fixed batch takes as long for fewer images.
    least = max(least, min(images, model.fixed_batch or 1))
    return Demand(
        classes=len(contestants(subject, model.classes)),
        images=images,
        least=least,
        effort=dataclasses.replace(effort, seconds=seconds),
        full_field=full_field,
    )


def arranged(
    subject: Subject, model: Differentiable, images: Floats, demand: Demand
) -> Arrangement:
    """Return a search that fits the time and the memory, after a few steps that measure its pace.

    A reference does as the suspect did, and searches the classes that the suspect chose.

    Args:
        subject: The model.
        model: The same, differentiated.
        images: Those that are searched on, (n, *shape).
        demand: What the budget allows.

    Raises:
        NoRoomError: To rank the classes takes more memory than is allowed.
        NoTimeError: What is left of the time is too short for one round of one class.
        UnsupportedModelError: The gradient is not a number, or the suspect was searched on images
            of half the side, and this model takes none.
    """
    measured = pace.measured(model, images[: demand.images], subject.settings)
    whole = _bounded(model, measured.most, demand.images)
    _check_time(demand, measured, subject.rest)
    demand = _hurried(demand, measured.lag, subject.rest)
    if subject.suspect is not None and subject.suspect.by_class is not None:
        theirs = subject.suspect.by_class.stages
        half, small = _as_the_suspect(subject, whole, images, theirs, measured)
        stages = theirs
    else:
        sized = _sized(subject, whole, images, demand, measured)
        half, small = sized.half, sized.pace
        stages = _chosen(subject, whole, demand, measured.seconds, sized.outline)
    step = demand.images if stages is None else stages.images
    whole = _bounded(whole, whole.most, step)
    model = whole if half is None else _bounded(half.half, small.most, step)
    seconds = demand.effort.seconds / pace.threads(subject.settings)
    longest = (SLACK if stages is None else LONGER) * seconds
    effort = dataclasses.replace(demand.effort, seconds=longest)
    # Each class that is searched beside another takes as much memory once more.
    alone = measured.most is not None or model.on_device
    at_once = 1 if alone else subject.at_once
    return Arrangement(
        model=model, whole=whole, half=half, stages=stages, effort=effort, at_once=at_once
    )


class _Sized(NamedTuple):
    """How large a search is.

    Attributes:
        outline: How large.
        pace: Of its steps.
        half: As in `Arrangement`.
    """

    outline: Outline
    pace: Pace
    half: HalfSide | None = None


def _sized(  # noqa: PLR0913 - a search has as many sides
    subject: Subject,
    model: Differentiable,
    images: Floats,
    demand: Demand,
    measured: Pace,
    *,
    told: bool = False,
) -> _Sized:
    """Return how large a suspect's search is, on whole images or on those of half the side.

    Args:
        subject: The model.
        model: The same, differentiated.
        images: Those that are searched on, (n, *shape).
        demand: What the budget allows.
        measured: The pace of whole images.
        told: As for `pace.measured`.
    """
    whole = outlined(demand, measured.seconds)
    may_halve = whole.staged and demand.may_halve
    half = half_side.of(subject, model) if may_halve else None
    if half is None:
        return _Sized(whole, measured)
    reduced = half.reduced(images[: demand.images])
    small = pace.measured(half.half, reduced, subject.settings, told=told)
    outline = on_half_sides(demand, whole, small.seconds)
    return _Sized(outline, small, half) if outline.half_side else _Sized(whole, measured)


def _bounded(model: Differentiable, most: int | None, images: int) -> Differentiable:
    """Return a model that keeps to the memory that is allowed: no run is larger than a step.

    Args:
        model: The classifier.
        most: Images that may be in one run; None for any number.
        images: Of a step.
    """
    return dataclasses.replace(model, most=None if most is None else min(most, images))


def _hurried(demand: Demand, lag: float | None, rest: float) -> Demand:
    """Return a demand whose seconds are over before the worker's time is, on a busy machine.

    Args:
        demand: What the budget allows.
        lag: Seconds on the clock for each second of the search; None where a search is short.
        rest: Share of the worker's time that is left to others.
    """
    if lag is None:
        return demand
    seconds = min(demand.effort.seconds, deadline.left(rest) / (LONGER * max(lag, 1e-9)))
    return dataclasses.replace(demand, effort=dataclasses.replace(demand.effort, seconds=seconds))


def _check_time(demand: Demand, measured: pace.Pace, rest: float) -> None:
    """Refuse a search whose first round would not end in time, before its classes are ranked.

    Raises:
        NoTimeError: It would not.
    """
    if measured.lag is None:
        return
    steps = min(ROUND, demand.effort.steps)
    if steps * demand.least * measured.seconds * measured.lag > deadline.left(rest):
        raise too_little_left(steps)


def planned(
    rule: str, subject: Subject, model: Differentiable, images: Floats, demand: Demand
) -> tuple[PlannedStage, ...]:
    """Return the stages of a search that `arranged` would make, after a few steps at its pace.

    Args:
        rule: The id of the detector's rule.
        subject: The model.
        model: The same, differentiated.
        images: Those that are searched on, (n, *shape).
        demand: What the budget allows.

    Raises:
        UnsupportedModelError: The gradient is not a number.
    """
    measured = pace.measured(model, images[: demand.images], subject.settings, told=True)
    sized = _sized(subject, model, images, demand, measured, told=True)
    outline, threads = sized.outline, pace.threads(subject.settings)
    if subject.settings.classes:  # who names classes has chosen
        outline = dataclasses.replace(
            outline,
            classes=demand.classes,
            seconds=demand.cost(outline.images, demand.classes, sized.pace.seconds),
        )
    search = PlannedStage(
        rules=(rule,),
        does=_said(outline, demand),
        classes=outline.classes,
        images=outline.images,
        steps=demand.effort.steps,
        seconds=outline.seconds / threads,
        memory=sized.pace.expected(outline.images),
    )
    if outline.classes == demand.classes or subject.rankings:
        return (search,)
    climbed = ascents(demand, measured.seconds)
    # It is made once: the next search finds it.
    subject.rankings.append(Ranking(classes=tuple(range(model.classes)), ascents=climbed))
    each = max(measured.seconds, 0.0) / threads
    passes = shortlist.IMAGES + shortlist.FEATURE_IMAGES
    ranking = PlannedStage(
        rules=(rule,),
        does="rank all classes without a search: by their margins over noise and over latents of "
        f"the last layer, and {climbed:,} of them by {shortlist.STEPS} gradient steps too",
        classes=demand.classes,
        images=passes,
        steps=shortlist.STEPS,
        seconds=(passes + climbed * (shortlist.STEPS + 1)) * each,
        memory=_ranked(measured, subject, model),
    )
    return ranking, search


def _ranked(measured: pace.Pace, subject: Subject, model: Differentiable) -> int | None:
    """Return the most bytes that the process holds while it ranks the classes.

    The graphs and images of its own lie beside the gradient's graph, not beside its steps.

    Raises:
        NoRoomError: They are more than are allowed.
    """
    if measured.need is None:
        return None
    own = shortlist.beside(subject, model.shape)
    room.refuse(measured.need.held + own, subject.settings)
    return max(measured.need.held + own, measured.expected(model.few) or 0)


def _said(outline: Outline, demand: Demand) -> str:
    small = ", on images of half the side" if outline.half_side else ""
    if outline.classes == demand.classes and outline.images < demand.images:
        fewer = ", on fewer images than usual"
        return f"search all classes{fewer}{', of half the side' if small else ''}"
    if outline.classes == demand.classes:
        return f"search all classes{small}"
    first = -(-outline.classes // 2)
    others = outline.classes - first
    drawn_too = f", and {others} drawn at random" if others else ""
    return f"search the {first} that stand out{drawn_too}{small}"


def parameters(found: Stages | None) -> dict[str, Any]:
    """Return what a measurement says of its stages: nothing, where there are none.

    Which classes were chosen is not among them: models are compared that chose alike.
    """
    if found is None:
        return {}
    size = {"half_side": True} if found.half_side else {}
    return {"stages": [found.images, len(found.foremost), len(found.controls)], **size}


def _as_the_suspect(
    subject: Subject, model: Differentiable, images: Floats, theirs: Stages | None, measured: Pace
) -> tuple[HalfSide | None, Pace]:
    """Return what reduces a reference's images, if the suspect's were, and the pace of its steps.

    Raises:
        UnsupportedModelError: It takes no images of half the side.
    """
    if theirs is None or not theirs.half_side:
        return None, measured
    half = half_side.of(subject, model)
    if half is None:
        raise UnsupportedModelError(
            f"{subject.model.identity.path!r} cannot be searched on images of half the side, as "
            "the scanned model was",
            remedy="compare with a clean model of the same architecture, or raise the setting "
            "`memory`",
        )
    reduced = half.reduced(images[: theirs.images])
    return half, pace.measured(half.half, reduced, subject.settings)


def _chosen(
    subject: Subject, model: Differentiable, demand: Demand, each: float, outline: Outline
) -> Stages | None:
    """Return the stages of a suspect's search."""
    if not outline.staged:
        return None
    # Who names classes has chosen.
    if outline.classes == demand.classes or subject.settings.classes:
        return Stages(images=outline.images, half_side=outline.half_side)
    ranking = shortlist.ranking(subject, model, ascents(demand, each))
    found = drawn(ranking, outline.images, outline.classes, subject.settings.seed)
    return dataclasses.replace(found, half_side=outline.half_side)


def drawn(ranking: Ranking, images: int, count: int, seed: int) -> Stages:
    """Return stages with a shortlist: half of the classes stand out, the others are controls.

    Args:
        ranking: Of all classes.
        images: In one step.
        count: How many classes are searched.
        seed: Of the draw.
    """
    first = ranking.classes[: -(-count // 2)]
    others = np.array(sorted(set(ranking.classes) - set(first)))
    controls = np.random.default_rng(seed).permutation(others)[: count - len(first)]
    return Stages(
        images=images,
        foremost=first,
        controls=tuple(sorted(controls.tolist())),
        ascents=ranking.ascents,
    )


def ascents(demand: Demand, each: float) -> int:
    """Return of how many classes there may be a short ascent.

    Args:
        demand: What the budget allows the search that needs the ranking.
        each: Seconds for one image of one step.
    """
    one = max(shortlist.STEPS * each, 1e-9)
    return min(demand.classes, int(_RANKED * demand.effort.seconds / one))
