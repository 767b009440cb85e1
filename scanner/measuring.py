"""Measuring in the child: the detectors on one model.

One that cannot apply is a skip, one that fails is a failure, and neither removes what others found.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy.typing as npt

from scanner.detectors import load
from scanner.errors import (
    DeviceError,
    GraphError,
    ModelError,
    NoGradientError,
    NoHeadError,
    NoImagesError,
    NoLayerError,
    NoLogitsError,
    NoTimeError,
    TooLargeError,
    UsageError,
    WorkerCrashedError,
    WorkerError,
    WorkerLimitError,
)
from scanner.instruments import input_range, room, runtime, suitability
from scanner.instruments.detector import Detector, Needs, Ranking, Subject
from scanner.instruments.probes import Images
from scanner.instruments.witness import Witness
from scanner.judging.courses import repeated, same_course
from scanner.judging.verdict import half_searched, in_stages
from scanner.limits import Limits
from scanner.modelfile.model import Model
from scanner.protocol import IMAGES_RULE, NOT_THE_FILE
from scanner.results import (
    Failure,
    InputRange,
    Likeness,
    Measurement,
    ModelRecord,
    Runtime,
    Skip,
)
from scanner.sandbox import confinement, deadline, handover
from scanner.sandbox.endpoint import Progress, Step
from scanner.settings import Settings
from scanner.values import checked, to_json

# A worker's error is the deadline or a limit, reached inside one detector: what the others found is
# kept.
MEASUREMENT_ERRORS = (ModelError, GraphError, UsageError, WorkerError)


# Shares of a scan's time that a search leaves to what comes after it, and to each later search.
_REST, _SEARCH = 0.25, 0.1
# Seconds for a byte of a model until its gradient graph is loaded: on two cores, 5 for 100 MB.
_READY = 5e-8


class Shares:
    """A single progress count over several measurements of equal weight."""

    def __init__(self, progress: Progress, parts: int) -> None:
        self._progress, self._parts, self._finished = progress, parts, 0
        self._rule: str | None = None

    def begin(self, rule: str) -> None:
        """Begin a detector's measurement."""
        self._rule = rule
        self.within(0, 1)

    def within(self, done: int, total: int, class_id: int | None = None, /) -> None:
        """Tell how far the current measurement is."""
        whole = round(1000 * (self._finished + done / total))
        total = max(1, 1000 * self._parts)
        self._progress(Step(done=whole, total=total, rule=self._rule, class_id=class_id))

    def finish(self) -> None:
        """End the current measurement."""
        self._finished += 1
        self._rule = None
        self.within(0, 1)


def measure(  # noqa: PLR0913 - what is measured, how, and what is known already
    model: Model,
    settings: Settings,
    detectors: Sequence[Detector],
    share: Shares,
    *,
    scanned: ModelRecord | None = None,
    few: bool = True,
    known: ModelRecord | None = None,
    unsuitable: str | None = None,
    own_range: InputRange | None = None,
    compared: bool = False,
    alone: bool = False,
    at_once: int = 1,
) -> ModelRecord:
    """Run the detectors on one model.

    Args:
        model: The model.
        settings: How.
        detectors: Which.
        share: Takes the progress.
        scanned: For a reference, the suspect's record.
        few: Whether the references are too few to judge, so that they repeat what the suspect's
            search chose.
        known: For a reference, its record from before.
        unsuitable: Why no image can be shown to the model.
        own_range: The model's own input range, for the record; `settings` hold the one in use.
        compared: Whether the model is compared with others, so that its likeness is wanted.
        alone: Whether no clean model is at hand to judge it.
        at_once: As in `Subject`.
    """
    detectors = asked(detectors, settings, alone=alone)
    course = _Course(model, settings, detectors, share, scanned, known, few=few, at_once=at_once)
    order = in_turn(detectors)
    for place, detector in enumerate(order):
        share.begin(detector.rule.id)
        course.run(detector, unsuitable, _rest(order[place + 1 :], settings))
        share.finish()
        if scanned is None:
            handover.part(course.latest(own_range))
    course.check_witnesses(detectors)
    doubt = ""
    if settings.has_images and scanned is None and not unsuitable:
        doubt = course.images_doubt()
    return ModelRecord(
        model=model.identity,
        measurements=_as_listed(course.measurements, detectors),
        skips=_as_listed(course.skips, detectors),
        failures=_as_listed(course.failures, detectors),
        runtime=course.runtime(),
        input_range=own_range,
        likeness=_likeness(model, settings, detectors) if compared else None,
        images_doubt=doubt,
    )


def asked(
    detectors: Sequence[Detector], settings: Settings, *, alone: bool
) -> tuple[Detector, ...]:
    """Return the detectors that a model is asked by, in their order.

    Args:
        detectors: Those that the user wants.
        settings: How it is measured.
        alone: Whether no clean model is at hand to judge it.
    """
    alone = alone and not settings.has_images
    return tuple(d for d in detectors if alone or not d.alone or d.rule.id in settings.detectors)


def in_turn(detectors: Sequence[Detector]) -> tuple[Detector, ...]:
    """Return detectors in the order in which they are measured, which is not that of the report.

    First those that read the file, then those that show it images, then the searches: where time or
    memory ends in a search, what costs little is known already. Last come those that look at what
    the searches made.
    """
    return tuple(sorted(detectors, key=_turn))


def _turn(detector: Detector) -> int:
    if detector.after_searches:
        return 3
    if is_search(detector):
        return 2
    return int(shows_images(detector))


def is_search(detector: Detector) -> bool:
    """Whether a detector searches: by gradients, or in stages that it plans."""
    return Needs.GRADIENTS in detector.needs or type(detector).plan is not Detector.plan


class _Course:
    """One model on its way through the detectors; the arguments are those of `measure`."""

    def __init__(  # noqa: PLR0913, PLR0917 - as above
        self,
        model: Model,
        settings: Settings,
        detectors: Sequence[Detector],
        share: Shares,
        scanned: ModelRecord | None,
        known: ModelRecord | None,
        *,
        few: bool,
        at_once: int,
    ) -> None:
        self._at_once = at_once
        self._model, self._settings, self._share = model, settings, share
        self._scanned, self._known, self._few = scanned, known, few
        self.measurements: list[Measurement] = []
        self.skips: list[Skip] = []
        self.failures: list[Failure] = []
        # Left by each detector for the last one, which checks them in the order of the report.
        self._witnesses: dict[str, list[Witness]] = {d.rule.id: [] for d in detectors}
        self._seen: list[npt.NDArray[Any]] = []
        self._made: list[Images | NoImagesError] = []
        self._rankings: list[Ranking] = []
        self._start, self._told = time.monotonic(), (0, 0, 0)

    def run(self, detector: Detector, unsuitable: str | None, rest: float) -> None:
        """Run one detector, unless it needs images and none can be shown.

        Args:
            detector: Which.
            unsuitable: Why no image can be shown.
            rest: As in `Subject`.
        """
        rule = detector.rule.id
        # One cause is one sentence; who asks for a detector by name is told why it failed.
        if unsuitable and shows_images(detector) and rule not in self._settings.detectors:
            self.skips.append(Skip(rule=rule, reason=unsuitable))
            return
        followed = self._scanned.measurement(rule) if self._scanned else None
        before = self._known.measurement(rule) if self._known else None
        with contained(rule, self._settings.limits, self.failures):
            if (
                before is not None
                and _same_range(before, self._settings)
                and same_course(before, followed, few=self._few)
            ):
                self.measurements.append(before)
            else:
                self._measure(detector, followed, rest)

    def _measure(self, detector: Detector, followed: Measurement | None, rest: float) -> None:
        rule, witnesses = detector.rule.id, self._left()
        known = len(witnesses)
        subject = Subject(
            model=self._model,
            settings=self._settings,
            progress=self._share.within,
            suspect=followed,
            follows=repeated(followed, few=self._few),
            witnesses=witnesses,
            seen=self._seen,
            made=self._made,
            rankings=self._rankings,
            rest=rest,
            at_once=self._at_once,
        )
        try:
            if is_search(detector):
                _check_time(self._model, rest)
            deadline.check()
            room.check(detector, self._model, self._settings)
            found = checked(detector.measure(subject))
        except (
            NoGradientError, NoImagesError, NoLayerError, NoLogitsError, TooLargeError,
        ) as error:  # fmt: skip
            # To be large is no fault of a model, whoever asks for the detector.
            large = isinstance(error, TooLargeError)
            if rule in self._settings.detectors and not large:
                raise
            blind = large or isinstance(error, NoHeadError)
            reason = str(error).removesuffix(".")
            self.skips.append(Skip(rule=rule, reason=reason, forbids_clean=blind))
            return
        finally:
            self._witnesses[rule] = witnesses[known:]
        self.measurements.append(found)
        self.skips += _left_out(found)

    def _left(self) -> list[Witness]:
        return [witness for own in self._witnesses.values() for witness in own]

    def check_witnesses(self, detectors: Sequence[Detector]) -> None:
        """Check what was measured against the file, where no detector was asked to."""
        witnesses = self._left()
        if not witnesses or any(d.rule.id == NOT_THE_FILE for d in detectors):
            return
        with contained(NOT_THE_FILE, self._settings.limits, self.failures):
            subject = Subject(
                model=self._model,
                settings=self._settings,
                witnesses=witnesses,
                seen=self._seen,
            )
            found = checked(load([NOT_THE_FILE])[0].measure(subject))
            self.measurements += [found] if found.observations else []

    def images_doubt(self) -> str:
        """Say what is wrong with the user's images; where they do not fit, that is a failure.

        Whether any detector looked at them or not: who gives images wants them to count.
        """
        doubt, failures = "", list[Failure]()
        with contained(IMAGES_RULE, self._settings.limits, failures):
            doubt = suitability.images_doubt(self._model, self._settings)
        told = [failure.error for failure in self.failures]
        self.failures += [failure for failure in failures if failure.error not in told]
        return doubt

    def latest(self, own_range: InputRange | None) -> ModelRecord:
        """Return what was found since this was last asked.

        Args:
            own_range: As in `measure`.
        """
        measured, skipped, failed = self._told
        self._told = len(self.measurements), len(self.skips), len(self.failures)
        return ModelRecord(
            model=self._model.identity,
            measurements=tuple(self.measurements[measured:]),
            skips=tuple(self.skips[skipped:]),
            failures=tuple(self.failures[failed:]),
            runtime=self.runtime(),
            input_range=own_range,
        )

    def runtime(self) -> Runtime:
        """Return what ran the model, and how long so far."""
        used = (
            str(m.parameters["provider"]) for m in self.measurements if "provider" in m.parameters
        )
        return Runtime(
            provider=next(used, "CPU"),
            threads=self._settings.threads,
            versions=runtime.versions(),
            seconds=time.monotonic() - self._start,
            isolation=to_json(confinement.current()),
        )


@contextlib.contextmanager
def contained(rule: str, limits: Limits, failures: list[Failure]) -> Iterator[None]:
    """Record an error of one detector as its failure, so that the others' findings are kept.

    Raises:
        DeviceError: The request cannot be carried out, whatever the detector.
    """
    try:
        yield
    except DeviceError:
        raise
    except MEASUREMENT_ERRORS as error:
        failures.append(Failure(rule=rule, error=error.to_dict()))
    except MemoryError:
        failures.append(Failure(rule=rule, error=WorkerLimitError.memory(limits.memory).to_dict()))
    except Exception as error:  # noqa: BLE001 - a bug of our own is a failure like any other
        failures.append(Failure(rule=rule, error=WorkerCrashedError.internal(error).to_dict()))


def own_range_of(model: Model, settings: Settings) -> InputRange | None:
    """Return a model's input range; None where that fails, and whoever needs it will say why."""
    with contextlib.suppress(ModelError, GraphError, UsageError):
        return input_range.find(model, settings)
    return None


def ranged(settings: Settings, found: InputRange | None) -> Settings:
    """Return settings in which the input range is settled, for the suspect and all beside it."""
    if found is None:
        return settings
    return dataclasses.replace(settings, input_range=(found.low, found.high))


def threaded(settings: Settings, model: Model) -> Settings:
    """Return settings in which the number of threads is settled, for one model."""
    wanted = runtime.threads(settings.threads, model.size)
    return dataclasses.replace(settings, threads=min(wanted, settings.most_threads))


def _rest(later: Sequence[Detector], settings: Settings) -> float:
    """Return the share of the time that a search leaves to the detectors after it.

    Each search among them is to get its own: a slow machine is no reason why the first takes all.
    """
    searches = sum(
        Needs.GRADIENTS in detector.needs
        and (settings.has_images or Needs.IMAGES not in detector.needs)
        for detector in later
    )
    return _REST + _SEARCH * searches


def _check_time(model: Model, rest: float) -> None:
    """Refuse a search that would not have begun before its share of the time is over.

    Raises:
        NoTimeError: The time is too short.
    """
    if deadline.left(rest) <= _READY * model.size:
        raise NoTimeError(
            "what is left of the time allowed for this model is too short to begin a search",
            remedy="raise the setting `timeout`",
        )


def shows_images(detector: Detector) -> bool:
    """Whether a detector runs the model; the last one runs what the others ran."""
    return bool(detector.needs & suitability.RUNS) or detector.rule.id == NOT_THE_FILE


def _likeness(model: Model, settings: Settings, detectors: Sequence[Detector]) -> Likeness | None:
    """Return what tells relatives and strangers of a model, as far as it can be told.

    Nothing is told where no detector runs models to their end: that would cost more than all the
    rest.
    """
    if not any(Needs.LOGITS in detector.needs for detector in detectors):
        return None
    from scanner.instruments import kinship  # noqa: PLC0415 - onnx, which a scan can often skip

    return kinship.likeness(model, settings)


T = TypeVar("T", Measurement, Skip, Failure)


def _as_listed(found: Sequence[T], detectors: Sequence[Detector]) -> tuple[T, ...]:
    """Return what was found in the order of the report; what is no detector's comes last."""
    places = {detector.rule.id: place for place, detector in enumerate(detectors)}
    return tuple(sorted(found, key=lambda each: places.get(each.rule, len(places))))


def _left_out(measurement: Measurement) -> Iterator[Skip]:
    """Yield a skip where a contest of classes left some out for want of time."""
    if reason := half_searched(measurement):
        yield Skip(rule=measurement.rule, reason=reason)
    if reason := in_stages(measurement):
        yield Skip(rule=measurement.rule, reason=reason, forbids_clean=True)


def _same_range(before: Measurement, settings: Settings) -> bool:
    """Whether a reference measured before was shown the range that this suspect takes."""
    shown = before.parameters.get("input_range")
    return shown is None or settings.input_range in {None, tuple(shown)}
