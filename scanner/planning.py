"""Planning in the child: what the detectors would do with one model, and how long it takes here."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from scanner.errors import GraphError, ModelError, UsageError, WorkerLimitError
from scanner.graph.core import extract, flatten
from scanner.graph.layers.logits import find_logits
from scanner.instruments import made_images, pace, probes, room, runtime, suitability
from scanner.instruments.detector import Detector, Ranking, Subject
from scanner.instruments.noise_runs import fixed_batch, run_filled
from scanner.measuring import in_turn, is_search, shows_images
from scanner.modelfile.model import Model
from scanner.results import PlannedStage, ScanPlan
from scanner.settings import Settings

_TWO = 2  # classes of which one score decides
_OBSTACLES = (ModelError, GraphError, UsageError, WorkerLimitError)


def plan(model: Model, settings: Settings, detectors: Sequence[Detector]) -> ScanPlan:
    """Return what a scan of one model would do.

    Args:
        model: The model.
        settings: How it is scanned, the input range and the threads settled.
        detectors: Those that would run.
    """
    unsuitable = suitability.unsuitable(model, settings)
    skips, runs = [], list[Detector]()
    found, rankings = list[PlannedStage](), list[Ranking]()
    memory = dict[str, int | None]()
    for detector in in_turn(detectors):
        if unsuitable and shows_images(detector):
            continue
        try:
            room.check(detector, model, settings)
            memory[detector.rule.id] = room.expected(detector, model)
            subject = Subject(model=model, settings=settings, rankings=rankings)
            found += detector.plan(subject)
            runs.append(detector)
        except _OBSTACLES as error:
            skips.append(f"{detector.rule.id}: {str(error).removesuffix('.')}")
        except MemoryError:
            short = WorkerLimitError.memory(settings.limits.memory)
            skips.append(f"{detector.rule.id}: {str(short).removesuffix('.')}")
    forward, classes = (None, None) if unsuitable else _forward(model, settings)
    usual = _Usual(settings, forward, memory if model.size >= runtime.LARGE else {})
    first = [d for d in runs if not d.after_searches and not is_search(d)]
    last = [d for d in runs if d.after_searches]
    return ScanPlan(
        model=model.identity,
        classes=classes,
        threads=settings.threads,
        deadline=settings.deadline(1),
        stages=(
            *usual.reading(first, "read the file and its graph"),
            *usual.showing(first, "noise images for each of these"),
            *made_images.planned_once(found),
            *usual.showing(last, "noise images, and to what the searches made"),
            *usual.reading(last, "check what was measured against the file"),
        ),
        skips=(*([unsuitable] if unsuitable else []), *skips),
    )


@dataclasses.dataclass(frozen=True)
class _Usual:
    """Stages that are no searches.

    Attributes:
        settings: The number of noise images.
        forward: Seconds of one image through the model; None where no image can be shown.
        memory: Bytes that each detector takes, by rule; nothing where the model is small.
    """

    settings: Settings
    forward: float | None
    memory: Mapping[str, int | None]

    def reading(self, detectors: Sequence[Detector], does: str) -> Iterator[PlannedStage]:
        """Yield the stage of the detectors that show the model nothing."""
        chosen = [d for d in detectors if not d.needs & suitability.RUNS]
        if chosen:
            yield PlannedStage(rules=_rules(chosen), does=does, memory=self._memory(chosen))

    def showing(self, detectors: Sequence[Detector], what: str) -> Iterator[PlannedStage]:
        """Yield the stage of the detectors that show it noise."""
        chosen = [d for d in detectors if d.needs & suitability.RUNS]
        if chosen and self.forward is not None:
            yield PlannedStage(
                rules=_rules(chosen),
                does=f"answers to {self.settings.images:,} {what}, at the most",
                images=self.settings.images,
                seconds=len(chosen) * self.settings.images * self.forward,
                memory=self._memory(chosen),
            )

    def _memory(self, detectors: Sequence[Detector]) -> int | None:
        """Return the most bytes that one of them takes; None where that is not known."""
        each = [self.memory.get(rule) for rule in _rules(detectors)]
        return max((size for size in each if size is not None), default=None)


def _rules(detectors: Sequence[Detector]) -> tuple[str, ...]:
    return tuple(detector.rule.id for detector in detectors)


def _forward(model: Model, settings: Settings) -> tuple[float | None, int | None]:
    """Return the seconds that one image takes through the model here, and its classes.

    Both are None for a model that does not run, or has no class scores.
    """
    try:
        flat = flatten.flatten(model.proto)
        logits = find_logits(flat, settings.logits)
        cut = extract.upstream(flat, [logits.value])
        session = runtime.open_session(model.serialise(cut), settings.device, settings.threads)
        batch = fixed_batch(session) or 1
        noise = np.zeros((batch, *probes.image_shape(model, settings)), session.dtype)
        (answer,) = run_filled(session, noise, batch)  # the first run is slower
        now = pace.clock(settings)
        start = now()
        run_filled(session, noise, batch)
        seconds = (now() - start) / batch / pace.threads(settings)
    except (*_OBSTACLES, MemoryError):
        return None, None
    return max(0.0, seconds), int(answer[0].size) if logits.single is None else _TWO
