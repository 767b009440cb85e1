"""A search that fits the time: fewer images in a step or fewer classes, never classes in turn.

What a budget allows is planned for small networks. Where it would take a quarter longer than its
time by the pace that was measured (`scanner.instruments.pace`), a search comes in stages:

1. If half of the images are few enough, all classes are searched on so many.
2. Else every class is read without a search (`scanner.instruments.shortlist`), and those that stand
   out are searched, with as many controls, drawn at random from the others: on as many images as
   the time allows.

References do as the suspect did: figures are compared at equal stages only.
"""

import dataclasses
from typing import Any

import numpy as np

from scanner.instruments import pace, room, shortlist
from scanner.instruments.class_search import (
    FULL_FIELD,
    ROUND,
    contestants,
    too_little_left,
    total_steps,
)
from scanner.instruments.detector import Ranking, Subject
from scanner.instruments.differentiable import Differentiable, Floats
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
    """

    classes: int
    images: int
    least: int
    effort: Effort
    full_field: int = FULL_FIELD

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
    """

    images: int
    classes: int
    seconds: float
    staged: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """A search that fits.

    Attributes:
        model: The classifier, which keeps to the memory that is allowed.
        stages: How the search was made smaller; None where it was not.
        effort: What it may cost, its seconds for each thread.
        at_once: How many classes may be searched at a time.
    """

    model: Differentiable
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

    A reference does as the suspect did; where the suspect chose classes and the reference is one of
    many, it chooses as many of its own.

    Args:
        subject: The model.
        model: The same, differentiated.
        images: Those that are searched on, (n, *shape).
        demand: What the budget allows.

    Raises:
        NoRoomError: To rank the classes takes more memory than is allowed.
        NoTimeError: What is left of the time is too short for one round of one class.
        UnsupportedModelError: The gradient is not a number.
    """
    measured = pace.measured(model, images[: demand.images], subject.settings)
    model = _bounded(model, measured.most, demand.images)
    _check_time(demand, measured, subject.rest)
    demand = _hurried(demand, measured.lag, subject.rest)
    stages = _stages(subject, model, demand, measured.seconds)
    seconds = demand.effort.seconds / pace.threads(subject.settings)
    if stages is not None:
        model = _bounded(model, model.most, stages.images)
    longest = seconds if stages is None else LONGER * seconds
    effort = dataclasses.replace(demand.effort, seconds=longest)
    # Each class that is searched beside another takes as much memory once more.
    alone = measured.most is not None or model.on_device
    at_once = 1 if alone else subject.at_once
    return Arrangement(model=model, stages=stages, effort=effort, at_once=at_once)


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
    outline, threads = outlined(demand, measured.seconds), pace.threads(subject.settings)
    search = PlannedStage(
        rules=(rule,),
        does=_said(outline, demand),
        classes=outline.classes,
        images=outline.images,
        steps=demand.effort.steps,
        seconds=outline.seconds / threads,
        memory=measured.expected(outline.images),
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
    if outline.classes == demand.classes:
        return "search all classes" + (", on fewer images than usual" if outline.staged else "")
    first = -(-outline.classes // 2)
    others = outline.classes - first
    return f"search the {first} that stand out{f', and {others} drawn at random' if others else ''}"


def parameters(found: Stages | None) -> dict[str, Any]:
    """Return what a measurement says of its stages: nothing, where there are none.

    Which classes were chosen is not among them: models are compared that chose alike.
    """
    if found is None:
        return {}
    return {"stages": [found.images, len(found.foremost), len(found.controls)]}


def _stages(subject: Subject, model: Differentiable, demand: Demand, each: float) -> Stages | None:
    suspect = subject.suspect.by_class if subject.suspect else None
    if suspect is not None:
        theirs = suspect.stages
        if theirs is None or subject.follows or not theirs.foremost:
            return theirs
        count = len(theirs.classes)
        return _chosen(subject, model, theirs.images, count, ascents(demand, each))
    outline = outlined(demand, each)
    if not outline.staged:
        return None
    # Who names classes has chosen.
    if outline.classes == demand.classes or subject.settings.classes:
        return Stages(images=outline.images)
    return _chosen(subject, model, outline.images, outline.classes, ascents(demand, each))


def _chosen(
    subject: Subject, model: Differentiable, images: int, count: int, climbed: int
) -> Stages:
    ranking = shortlist.ranking(subject, model, climbed)
    return drawn(ranking, images, count, subject.settings.seed)


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
