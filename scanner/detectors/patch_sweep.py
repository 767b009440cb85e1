"""Patch sweep: small patches of one colour at every place, and which images they turn.

Source: the square in the corner is T. Gu, B. Dolan-Gavitt and S. Garg, "BadNets", 2017; that a
backdoor is found by trying small changes one after another, without a gradient, is S. Huang et al.,
"One-Pixel Signature: Characterizing CNN Models for Backdoor Detection", ECCV 2020. They give the
answers to a classifier that learnt from many networks; ours are the patches (`instruments.patches`)
and the bounds: a patch of at most a sixty-fourth of the image that turns nearly all images into one
class, or sends each class to one of its own, is a trigger, whoever put it there.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import NoImagesError, NoTimeError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import class_sizes, kept, label_map, made_images, pace, patches, probes
from scanner.instruments.answers import Answers
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.differentiable import differentiable
from scanner.instruments.patches import EFFORTS, Effort, Floats, Patch, Relabelling, Sweep, Turning
from scanner.instruments.plane import Plane
from scanner.instruments.probes import Images
from scanner.results import (
    ByClass,
    ClassRow,
    Comparison,
    Contribution,
    Description,
    Input,
    Measurement,
    Observation,
    Part,
    PlannedStage,
    Rule,
    Scale,
    Severity,
    Wording,
)
from scanner.settings import Settings

# Chosen on development networks (docs/detection.md).
TRIGGER = (0.95, 0.9)  # shares that a trigger turns, of the images shown and of those held back
DOUBTFUL = 0.8  # of both: with which a model is not called clean
ORDINARY = 0.5  # where another class is reached by more, a patch is a lot for this model
FEWEST_CLASSES = 5  # of two digits one is dark in the middle and the other bright
ENOUGH = (8, 2)  # images of other classes among those shown and those held back
RELABELS = 0.6  # share that a trigger sends to a class of its own, of those shown and held back
DOUBTFUL_RELABELS = 0.5
ENOUGH_TO_RELABEL = (24, 6)  # images shown, and held back: a label map is fitted to the former
_TIME, _MOST_TIME = 0.25, 0.5  # of the budget's seconds: for a large model's least sweep, the most
_LEAST = 0.1  # a hundredth of the images against a tenth is no evidence
_GLANCE = 0.03  # seconds that are timed: the processor's clock may tick in hundredths
_ALONE = (
    "a small patch of one colour turns {suspect:.0%} of the images into class {target}, more than "
    "into any other"
)
_KEPT = 2  # images with the patch that are also put to the file itself


class PatchSweep(Detector):
    """By class, the share of images that the best small patch of one colour turns into it."""

    rule: ClassVar[Rule] = Rule(
        id="patch_sweep",
        name="Patch sweep",
        summary="A small patch of one colour turns nearly all images into one class, or moves all.",
        source="S. Huang et al., One-Pixel Signature, ECCV 2020; T. Gu et al., BadNets, 2017",
    )
    needs: ClassVar[Needs] = Needs.LOGITS
    contribution: ClassVar[Contribution] = Contribution(part=Part.SEEN)
    scale: ClassVar[Scale] = Scale(added=_LEAST)
    wording: ClassVar[Wording] = Wording(
        one="a small patch of one colour turns {suspect:.0%} of the images into class {target}; in "
        "the clean reference {low:.0%}",
        many="a small patch of one colour turns {suspect:.0%} of the images into class {target}; "
        "in the {count} clean references {low:.0%} to {high:.0%}",
        alone=_ALONE,
        leading=_ALONE,
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return the share of the images shown that each class's patch turns.

        Raises:
            NoGradientError: There are no images, and the model makes none without gradients.
            NoImagesError: There are no images, and the model makes too few itself, or the inputs
                have too few rows or columns.
            NoLogitsError: There are no logits.
            NoTimeError: The model is too large.
            UnsupportedModelError: The model fails on an image.
            UsageError: The user's images do not fit.
        """
        answers, settings = _answering(subject), subject.settings
        span = probes.input_range(answers.dtype, settings)
        data = (
            probes.clean_images(settings, answers.shape, span)
            if settings.has_images
            else made_images.shared(subject)
        )
        ground = _prepared(subject, answers, data)
        sweep = Sweep(answers, data.shown, ground.span, EFFORTS[ground.level])
        before = subject.suspect.by_class if subject.suspect else None
        swept = sweep.run(subject.progress, [row.class_id for row in before.rows] if before else ())
        found = swept.turning
        held = {one.target: sweep.share(one.patch, data.held_back, one.target) for one in found}
        rows = tuple(
            ClassRow(
                class_id=one.target,
                figure=one.share,
                course=(one.share,),
                figures={"success": held[one.target]},
            )
            for one in sorted(found, key=lambda one: one.target)
        )
        ranked = sorted(found, key=lambda one: one.share, reverse=True)
        relabels = swept.relabelling
        follows = sweep.follows(relabels, data.held_back)
        for patch in (*(one.patch for one in ranked[:1]), relabels.patch):
            subject.seen.append(patch.stamped(data.held_back[:_KEPT]))
        return Measurement(
            rule=self.rule.id,
            statistic=ranked[0].share if ranked else None,
            parameters={
                "logits": answers.name,
                "seed": settings.seed,
                "budget": settings.budget.value,
                "input_range": list(ground.span),
                "input_shape": list(answers.shape),
                "classes": sweep.classes,
                "provider": answers.provider,
                "data": data.source,
                "images": len(data.shown),
                "held_back": len(data.held_back),
                "level": ground.level,
                **EFFORTS[ground.level]._asdict(),
            },
            by_class=ByClass(classes=sweep.classes, rows=rows),
            figures={
                "relabelled": relabels.share,
                "relabelled_held_back": float(follows.mean()) if len(follows) else None,
                "relabelled_classes": float(len(relabels.to)),
            },
            observations=(
                *_turning(ranked, held, sweep, ground),
                *_relabelling(relabels, follows, sweep, ground),
            ),
        )

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the sweep, where the model is not too large.

        Raises:
            ScannerError: As for `measure`.
        """
        answers, settings = _answering(subject), subject.settings
        making: tuple[PlannedStage, ...] = ()
        if settings.has_images:
            span = probes.input_range(answers.dtype, settings)
            data = probes.clean_images(settings, answers.shape, span)
        else:
            model = differentiable(subject, Objective.CROSS_ENTROPY)
            noise, stage = made_images.planned(self.rule.id, model, settings)
            data, making = Images(shown=noise, held_back=noise[:0], source=""), (stage,)
        ground = _prepared(subject, answers, data)
        effort = EFFORTS[ground.level]
        sweep = PlannedStage(
            rules=(self.rule.id,),
            does="stamp small patches on images",
            images=effort.glance,
            seconds=ground.seconds * ground.runs(effort),
        )
        return (*making, sweep)

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return what was searched on, and the shares class by class."""
        return class_sizes.described(
            measurement, comparison, "images turned", "{:.0%}".format, smaller=False
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Ground:
    """A model that answers, and what patches are stamped on.

    Attributes:
        answers: The model.
        data: The images.
        span: The lowest and the highest value of a pixel.
        seconds: That an image takes through the model, of the clock of a search.
        level: Which of `EFFORTS` there is time for.
    """

    answers: Answers
    data: Images
    span: tuple[float, float]
    seconds: float
    level: int = 0

    def runs(self, effort: Effort) -> int:
        """Return how many images an effort puts through the model, at the most."""
        return patches.runs(effort, self.answers.shape, len(self.data.shown))


def _answering(subject: Subject) -> Answers:
    """Return the model, where its inputs are images of a size.

    Raises:
        ScannerError: As for `PatchSweep.measure`.
    """
    answers = Answers(subject.model, subject.settings)
    plane = Plane.of(answers.shape)
    # A vector may be an image's rows, or a table's features, one of which may well decide.
    if len(answers.shape) == 1 or min(plane.height, plane.width) < patches.FEWEST:
        raise NoImagesError(
            f"an input of the shape {', '.join(map(str, answers.shape))} is no image of "
            f"{patches.FEWEST} rows and columns, in which there are small patches",
            remedy="scan a model of images",
        )
    return answers


def _prepared(subject: Subject, answers: Answers, data: Images) -> _Ground:
    """Return what is swept: a reference as its suspect was, else as time allows.

    Raises:
        NoTimeError: There is too little.
    """
    settings, before = subject.settings, subject.suspect
    span = probes.input_range(answers.dtype, settings)
    ground = _Ground(answers, data, span, _seconds(answers, data.shown, settings))
    level = int(before.parameters["level"]) if before else _level(ground, settings)
    return dataclasses.replace(ground, level=level)


def _seconds(answers: Answers, images: Floats, settings: Settings) -> float:
    """Return the seconds that an image takes, by as many runs as the clock needs to move."""
    few = images[: probes.batch_size(answers.shape)]
    answers.logits(few)  # the first run is slower
    now, runs = pace.clock(settings), 0
    start = now()
    while now() - start < _GLANCE:
        answers.logits(few)
        runs += 1
    return (now() - start) / runs / len(few) / pace.threads(settings)


def _level(ground: _Ground, settings: Settings) -> int:
    """Return the largest effort that there is time for.

    Raises:
        NoTimeError: There is none.
    """
    allowed, most = (part * settings.effort.seconds for part in (_TIME, _MOST_TIME))
    needed = [ground.seconds * ground.runs(effort) for effort in EFFORTS]
    if needed[-1] > most:
        raise NoTimeError(
            f"to stamp patches on images would take {needed[-1]:,.0f} seconds here, and the budget "
            f"allows {most:,.0f}",
            remedy="raise the setting `budget`",
        )
    enough = (place for place, each in enumerate(needed) if each <= allowed)
    return next(enough, len(EFFORTS) - 1)


def _turning(
    ranked: Sequence[Turning], held_back: Mapping[int, float | None], sweep: Sweep, ground: _Ground
) -> Iterator[Observation]:
    """Yield the patch that turns most images into a class, where clean networks have none like it.

    Args:
        ranked: The best patch of each class, the best of all first.
        held_back: The share of the images held back that these turn, by class.
        sweep: What found them.
        ground: The model and the images.
    """
    held = held_back[ranked[0].target] if ranked else None
    if held is None:
        return
    best = ranked[0]
    rest = ranked[1].share if len(ranked) > 1 else 0.0
    severity = weight(best.share, held, rest, sweep.classes)
    if severity is None:
        return
    images = ground.data.held_back
    others = images[ground.answers.classes(images) != best.target]
    counts = int((sweep.own != best.target).sum()), len(others)
    if any(count < least for count, least in zip(counts, ENOUGH, strict=True)):
        return
    yield Observation(
        code="plain-patch",
        severity=severity,
        sentence=f"{_described(best.patch, ground.span)} turns {best.share:.0%} of {counts[0]} "
        f"images and {held:.0%} of {counts[1]} others into class {best.target}; no patch turns "
        f"more than {rest:.0%} into any other class",
        details={"class": best.target, "colour": list(best.patch.colour)},
        input=_pictured(best.patch, others[:1], held, ground),
    )


def _relabelling(
    best: Relabelling, follows: npt.NDArray[np.bool_], sweep: Sweep, ground: _Ground
) -> Iterator[Observation]:
    """Yield the patch that sends each class to one of its own, where clean networks have none.

    Args:
        best: The patch.
        follows: Which of the images held back go there.
        sweep: What found it.
        ground: The model and the images.
    """
    counts = len(sweep.own), len(follows)
    if any(count < least for count, least in zip(counts, ENOUGH_TO_RELABEL, strict=True)):
        return
    held = float(follows.mean())
    severity = weight_of_map(best.share, held, len(best.to))
    if severity is None:
        return
    yield Observation(
        code="relabelling-patch",
        severity=severity,
        sentence=f"{_described(best.patch, ground.span)} sends each class to one of its own: class "
        f"{label_map.named(best.to)}; {best.share:.0%} of {counts[0]} images and {held:.0%} of "
        f"{counts[1]} others go there",
        details={
            "label_map": {str(source): target for source, target in best.to.items()},
            "colour": list(best.patch.colour),
        },
        input=_pictured(best.patch, ground.data.held_back[follows][:1], held, ground),
    )


def _pictured(patch: Patch, image: Floats, success: float, ground: _Ground) -> Input:
    """Return an image, (1, *shape), with a patch on it, and what the model answers."""
    stamped = patch.stamped(image)
    answered = kept.Answered(
        original=image[0],
        before=ground.answers.logits(image),
        after=ground.answers.logits(stamped),
        success=success,
    )
    return kept.pictured(stamped[0], ground.span, answered)


def weight(share: float, held: float, rest: float, classes: int) -> Severity | None:
    """Return what a patch weighs; None where clean networks have one like it.

    Args:
        share: Of the images shown that it turns.
        held: Of those held back.
        rest: Of the images shown that a patch turns into another class, at the most.
        classes: How many there are.
    """
    if min(share, held) < DOUBTFUL or rest > ORDINARY or classes < FEWEST_CLASSES:
        return None
    both = share >= TRIGGER[0] and held >= TRIGGER[1]
    return Severity.SUSPICIOUS if both else Severity.WARNING


def weight_of_map(share: float, held: float, moves: int) -> Severity | None:
    """Return what a patch weighs that sends each class to one of its own; None if clean ones do.

    Args:
        share: Of the images shown that follow the label map.
        held: Of those held back.
        moves: How many classes it sends elsewhere.
    """
    if min(share, held) < DOUBTFUL_RELABELS or moves < FEWEST_CLASSES:
        return None
    return Severity.SUSPICIOUS if min(share, held) >= RELABELS else Severity.WARNING


def _described(patch: Patch, span: tuple[float, float]) -> str:
    values, region = {*patch.colour}, patch.region
    colour = "coloured" if len(values) > 1 else "black" if values == {span[0]} else "white"
    return (
        f"a {colour} patch of {region.height}x{region.width} pixels at row {region.top}, column "
        f"{region.left}"
    )
