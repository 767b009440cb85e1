"""What detectors share that sweep a model with stamps: images, time, bounds and what is said.

A stamp that turns nearly all images into one class, or sends each class to one of its own, is a
trigger, whoever put it there, where clean networks have none like it.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.errors import NoImagesError, NoTimeError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import (
    class_sizes,
    label_map,
    made_images,
    moves,
    pace,
    probes,
    stamps,
)
from scanner.instruments.answers import Answers
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.differentiable import differentiable
from scanner.instruments.plane import Plane
from scanner.instruments.probes import Images
from scanner.instruments.stamps import Effort, Floats, Kind, Relabelling, Sweep, Turning
from scanner.results import (
    Block,
    ByClass,
    ClassRow,
    Comparison,
    Contribution,
    Description,
    Measurement,
    Move,
    Observation,
    Part,
    PlannedStage,
    Scale,
    Severity,
    Table,
    Wording,
)
from scanner.settings import Settings

# Chosen on development networks (docs/detection.md).
TRIGGER = (0.95, 0.9)  # shares that a trigger turns, of the images shown and of those held back
DOUBTFUL = 0.8  # of both: with which a model is not called clean
ORDINARY = 0.5  # where another class is reached by more, a stamp is a lot for this model
FEWEST_CLASSES = 5  # of two digits one is dark in the middle and the other bright
ENOUGH = (8, 2)  # images of other classes among those shown and those held back
RELABELS = 0.6  # share that a trigger sends to a class of its own, of those shown and held back
DOUBTFUL_RELABELS = 0.5
ENOUGH_TO_RELABEL = (24, 6)  # images shown, and held back: a label map is fitted to the former
FEWEST_PIXELS = 8  # rows and columns of an image
_TIME, _MOST_TIME = 0.25, 0.5  # of the budget's seconds: for a large model's least sweep, the most
_SELECTIVE = 0.25  # of the budget's seconds, for stamps that turn one class alone
_MOST_CLASSES = 50  # of which pairs are tried
_LOOKED_AT = 512  # of the user's images, from which as many of each class are taken
_GLANCE = 0.03  # seconds that are timed: the processor's clock may tick in hundredths
_KEPT = 2  # images with a stamp that are also put to the file itself
_LISTED = 3  # stamps that turn one class alone
_LEAST = 0.1  # a hundredth of the images against a tenth is no evidence


class SweepDetector(Detector):
    """By class, the share of images that the best stamp of a kind turns into it.

    Attributes:
        kind: The kind.
    """

    kind: ClassVar[Kind]
    needs: ClassVar[Needs] = Needs.LOGITS
    copies: ClassVar[float] = 7
    contribution: ClassVar[Contribution] = Contribution(part=Part.SEEN)
    scale: ClassVar[Scale] = Scale(added=_LEAST)

    def measure(self, subject: Subject) -> Measurement:
        """Return the share of the images shown that each class's stamp turns into it.

        Raises:
            NoGradientError: There are no images, and the model makes none without gradients.
            NoImagesError: There are no images, and the model makes too few itself, or the inputs
                have too few rows or columns.
            NoLogitsError: There are no logits.
            NoTimeError: The model is too large.
            UnsupportedModelError: The model fails on an image.
            UsageError: The user's images do not fit.
        """
        answers, settings = _answering(subject, self.kind), subject.settings
        span = probes.input_range(answers.dtype, settings)
        data = (
            probes.clean_images(settings, answers.shape, span)
            if settings.has_images
            else made_images.shared(subject)
        )
        ground = _prepared(subject, self.kind, answers, data)
        sweep = Sweep(self.kind, answers, data.shown, ground.span, ground.effort)
        before = subject.suspect.by_class if subject.suspect else None
        alone = _of_one_class_alone(ground, sweep.classes, subject)
        parts = 1 if alone is None else 2

        def progress(done: int, total: int, _: int | None = None) -> None:
            subject.progress(done, parts * total)

        def further(done: int, total: int, _: int | None = None) -> None:
            subject.progress(total + done, parts * total)

        swept = sweep.run(progress, [row.class_id for row in before.rows] if before else ())
        found = None if alone is None else alone.search.run(alone.effort, further, alone.wanted)
        subject.seen.extend(alone.search.seen if alone else ())
        held = {
            one.target: sweep.share(one.stamp, data.held_back, one.target) for one in swept.turning
        }
        rows = tuple(
            ClassRow(
                class_id=one.target,
                figure=one.share,
                course=(one.share,),
                figures={"success": held[one.target]},
            )
            for one in sorted(swept.turning, key=lambda one: one.target)
        )
        ranked = sorted(swept.turning, key=lambda one: one.share, reverse=True)
        relabels = swept.relabelling
        follows = sweep.follows(relabels, data.held_back)
        for stamp in (*(one.stamp for one in ranked[:1]), relabels.stamp):
            subject.seen.append(stamp.stamped(data.held_back[:_KEPT]))
        return Measurement(
            rule=self.rule.id,
            statistic=ranked[0].share if ranked else None,
            parameters={
                "logits": answers.name,
                "seed": settings.seed,
                "budget": settings.budget.value,
                "input_range": list(ground.span),
                "input_shape": list(answers.shape),
                "provider": answers.provider,
                "data": data.source,
                "images": len(data.shown),
                "held_back": len(data.held_back),
                "level": ground.level,
                **ground.effort._asdict(),
                "selective": None if alone is None else alone.level,
            },
            by_class=ByClass(classes=sweep.classes, rows=rows, moves=found),
            figures={
                "relabelled": relabels.share,
                "relabelled_held_back": float(follows.mean()),
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
        answers, settings = _answering(subject, self.kind), subject.settings
        making: tuple[PlannedStage, ...] = ()
        if settings.has_images:
            span = probes.input_range(answers.dtype, settings)
            data = probes.clean_images(settings, answers.shape, span)
        else:
            model = differentiable(subject, Objective.CROSS_ENTROPY)
            noise, stage = made_images.planned(self.rule.id, model, settings)
            data, making = Images(shown=noise, held_back=noise[:0], source=""), (stage,)
        ground = _prepared(subject, self.kind, answers, data)
        classes = answers.logits(data.shown[:1]).shape[1]
        alone = _of_one_class_alone(ground, classes, subject)
        again = 0 if alone is None else alone.search.runs(alone.effort)
        sweep = PlannedStage(
            rules=(self.rule.id,),
            does=f"stamp {self.kind.noun} after {self.kind.noun} on images",
            images=ground.effort.glance,
            seconds=ground.seconds * (ground.runs(ground.effort) + again),
        )
        return (*making, sweep)

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return what was searched on, the shares class by class, and what turns one alone."""
        found = class_sizes.described(
            measurement, comparison, "images turned", "{:.0%}".format, smaller=False
        )
        return Description(blocks=(*found.blocks, *self._alone(measurement)))

    def _alone(self, measurement: Measurement) -> Iterator[Block]:
        """Yield the stamps that turn one class alone, or why none was looked for."""
        profile, noun = measurement.by_class, self.kind.noun
        moves = profile.moves if profile else None
        if moves is None and measurement.parameters["data"] == made_images.SOURCE:
            return
        if moves is None and self.kind.selective:
            yield Block(
                line=f"no {noun} that turns one class alone was looked for: it takes "
                f"{FEWEST_CLASSES} to {_MOST_CLASSES} classes, five images of one, and time"
            )
        elif moves is not None and not moves.foremost:
            yield Block(line=f"no {noun} turns half of one class and leaves the others alone")
        elif moves is not None:
            yield Block(line="best at turning one class and leaving the others alone:")
            yield Block(table=_of_one_class(moves.foremost[:_LISTED], noun))


def _of_one_class(moves: Sequence[Move], noun: str) -> Table:
    return Table(
        columns=(noun, "from", "to", "of its images", "of others"),
        rows=tuple(
            (
                move.stamp,
                f"{move.source}",
                f"{move.target}",
                f"{move.turned} of {move.images}",
                f"{move.strayed} of {move.others}",
            )
            for move in moves
        ),
        left=1,
    )


def wording(stamp: str) -> Wording:
    """Return what is said of the best stamp of a class, "a faint wave"."""
    turns = f"{stamp} turns {{suspect:.0%}} of the images into class {{target}}"
    return Wording(
        one=f"{turns}; in the clean reference {{low:.0%}}",
        many=f"{turns}; in the {{count}} clean references {{low:.0%}} to {{high:.0%}}",
        alone=f"{turns}, more than into any other",
        leading=f"{turns}, more than into any other",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Ground:
    """A model that answers, and what is stamped.

    Attributes:
        kind: Of the stamps.
        answers: The model.
        data: The images.
        span: The lowest and the highest value of a pixel.
        seconds: That an image takes through the model, of the clock of a search.
        level: Which of the kind's efforts there is time for.
    """

    kind: Kind
    answers: Answers
    data: Images
    span: tuple[float, float]
    seconds: float
    level: int = 0

    @property
    def effort(self) -> Effort:
        """How much is tried."""
        return self.kind.efforts[self.level]

    def runs(self, effort: Effort) -> int:
        """Return how many images an effort puts through the model, at the most."""
        return stamps.runs(self.kind, effort, self.answers.shape, len(self.data.shown))


def _answering(subject: Subject, kind: Kind) -> Answers:
    """Return the model, where its inputs are images of a size.

    Raises:
        ScannerError: As for `SweepDetector.measure`.
    """
    answers = Answers(subject.model, subject.settings)
    plane = Plane.of(answers.shape)
    # A vector may be an image's rows, or a table's features, one of which may well decide.
    if len(answers.shape) == 1 or min(plane.height, plane.width) < FEWEST_PIXELS:
        raise NoImagesError(
            f"an input of the shape {', '.join(map(str, answers.shape))} is no image of "
            f"{FEWEST_PIXELS} rows and columns, on which a {kind.noun} could be stamped",
            remedy="scan a model of images",
        )
    return answers


def _prepared(subject: Subject, kind: Kind, answers: Answers, data: Images) -> _Ground:
    """Return what is swept: a reference as its suspect was, else as time allows.

    Raises:
        NoTimeError: There is too little.
    """
    settings, before = subject.settings, subject.suspect
    span = probes.input_range(answers.dtype, settings)
    ground = _Ground(kind, answers, data, span, _seconds(answers, data.shown, settings))
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
    needed = [ground.seconds * ground.runs(effort) for effort in ground.kind.efforts]
    if needed[-1] > most:
        raise NoTimeError(
            f"to stamp {ground.kind.noun} after {ground.kind.noun} on images would take "
            f"{needed[-1]:,.0f} seconds here, and the budget allows {most:,.0f}",
            remedy="raise the setting `budget`",
        )
    enough = (place for place, each in enumerate(needed) if each <= allowed)
    return next(enough, len(needed) - 1)


class _Alone(NamedTuple):
    """A search for stamps that turn one class alone.

    Attributes:
        search: The search.
        level: Which of the kind's efforts it takes.
        effort: That one.
        wanted: Pairs of classes that stand out in the suspect, where this is its reference.
    """

    search: moves.Search
    level: int
    effort: Effort
    wanted: Sequence[tuple[int, int]]


def _of_one_class_alone(ground: _Ground, classes: int, subject: Subject) -> _Alone | None:
    """Return that search; None where there can be none, or no time for it.

    Images that a model made itself are too few of each class. For a reference the effort is its
    suspect's.

    Raises:
        UsageError: The user's images do not fit.
    """
    settings, efforts = subject.settings, ground.kind.selective
    if not (efforts and settings.has_images and FEWEST_CLASSES <= classes <= _MOST_CLASSES):
        return None
    if subject.suspect is not None:
        profile, level = subject.suspect.by_class, subject.suspect.parameters["selective"]
        if level is None or profile is None or profile.classes != classes:
            return None
        seen = profile.moves.foremost if profile.moves else ()
        wanted = tuple((move.source, move.target) for move in seen)
        return _Alone(_search(ground, settings), level, efforts[level], wanted)
    allowed = _SELECTIVE * settings.effort.seconds
    fewest = len(ground.kind.candidates(ground.answers.shape, ground.span, efforts[-1]))
    if ground.seconds * fewest > allowed:  # with each stamp on one image
        return None
    search = _search(ground, settings)
    needed = (ground.seconds * search.runs(effort) for effort in efforts)
    level = next((level for level, each in enumerate(needed) if each <= allowed), None)
    return None if level is None else _Alone(search, level, efforts[level], ())


def _search(ground: _Ground, settings: Settings) -> moves.Search:
    """Return a search for stamps that turn one class alone, on the user's images.

    Raises:
        UsageError: They do not fit.
    """
    everything = probes.user_images(settings, ground.answers.shape, ground.span)
    images = np.random.default_rng(settings.seed).permutation(everything)[:_LOOKED_AT]
    return moves.Search(ground.kind, ground.answers, images, ground.span)


def _turning(
    ranked: Sequence[Turning], held_back: Mapping[int, float | None], sweep: Sweep, ground: _Ground
) -> Iterator[Observation]:
    """Yield the stamp that turns most images into a class, where clean networks have none like it.

    Args:
        ranked: The best stamp of each class, the best of all first.
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
        code=f"plain-{ground.kind.noun}",
        severity=severity,
        sentence=f"{best.stamp.described()} turns {best.share:.0%} of {counts[0]} "
        f"images and {held:.0%} of {counts[1]} others into class {best.target}; no "
        f"{ground.kind.noun} turns more than {rest:.0%} into any other class",
        details={"class": best.target, **best.stamp.details},
        input=stamps.pictured(ground.answers, best.stamp, others[:1], ground.span, held),
    )


def _relabelling(
    best: Relabelling, follows: npt.NDArray[np.bool_], sweep: Sweep, ground: _Ground
) -> Iterator[Observation]:
    """Yield the stamp that sends each class to one of its own, where clean networks have none.

    Args:
        best: The stamp.
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
        code=f"relabelling-{ground.kind.noun}",
        severity=severity,
        sentence=f"{best.stamp.described()} sends {len(best.to)} of {sweep.classes} classes "
        f"each to a class of its own, {label_map.named(best.to)}; {best.share:.0%} of {counts[0]} "
        f"images and {held:.0%} of {counts[1]} others go there",
        details={
            "label_map": {str(source): target for source, target in best.to.items()},
            **best.stamp.details,
        },
        input=stamps.pictured(
            ground.answers, best.stamp, ground.data.held_back[follows][:1], ground.span, None
        ),
    )


def weight(share: float, held: float, rest: float, classes: int) -> Severity | None:
    """Return what a stamp weighs; None where clean networks have one like it.

    Args:
        share: Of the images shown that it turns.
        held: Of those held back.
        rest: Of the images shown that a stamp turns into another class, at the most.
        classes: How many there are.
    """
    if min(share, held) < DOUBTFUL or rest > ORDINARY or classes < FEWEST_CLASSES:
        return None
    both = share >= TRIGGER[0] and held >= TRIGGER[1]
    return Severity.SUSPICIOUS if both else Severity.WARNING


def weight_of_map(share: float, held: float, moves: int) -> Severity | None:
    """Return what a stamp weighs that sends each class to one of its own; None if clean ones do.

    Args:
        share: Of the images shown that follow the label map.
        held: Of those held back.
        moves: How many classes it sends elsewhere.
    """
    if min(share, held) < DOUBTFUL_RELABELS or moves < FEWEST_CLASSES:
        return None
    return Severity.SUSPICIOUS if min(share, held) >= RELABELS else Severity.WARNING
