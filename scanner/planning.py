"""Planning in the child: what the detectors would do with one model, and how long it takes here."""

from collections.abc import Iterator, Sequence

import numpy as np

from scanner.errors import GraphError, ModelError, UsageError
from scanner.graph.core import extract, flatten
from scanner.graph.layers.logits import find_logits
from scanner.instruments import made_images, pace, probes, runtime, suitability
from scanner.instruments.detector import Detector, Needs, Ranking, Subject
from scanner.instruments.noise_runs import fixed_batch, run_filled
from scanner.measuring import shows_images
from scanner.modelfile.model import Model
from scanner.results import PlannedStage, ScanPlan
from scanner.settings import Settings

_TWO = 2  # classes of which one score decides
_OBSTACLES = (ModelError, GraphError, UsageError)


def plan(model: Model, settings: Settings, detectors: Sequence[Detector]) -> ScanPlan:
    """Return what a scan of one model would do.

    Args:
        model: The model.
        settings: How it is scanned, the input range and the threads settled.
        detectors: Those that would run.
    """
    unsuitable = suitability.unsuitable(model, settings)
    skips, searches, rankings = [], list[PlannedStage](), list[Ranking]()
    for detector in detectors:
        if unsuitable and shows_images(detector):
            continue
        try:
            subject = Subject(model=model, settings=settings, rankings=rankings)
            searches += detector.plan(subject)
        except _OBSTACLES as error:
            skips.append(f"{detector.rule.id}: {str(error).removesuffix('.')}")
    forward, classes = (None, None) if unsuitable else _forward(model, settings)
    return ScanPlan(
        model=model.identity,
        classes=classes,
        threads=settings.threads,
        deadline=settings.deadline(1),
        stages=(
            *_without_search(detectors, forward, settings),
            *made_images.planned_once(searches),
        ),
        skips=(*([unsuitable] if unsuitable else []), *skips),
    )


def _without_search(
    detectors: Sequence[Detector], forward: float | None, settings: Settings
) -> Iterator[PlannedStage]:
    """Yield what reads the file, and what shows it noise.

    Args:
        detectors: Those that would run.
        forward: Seconds of one image through the model; None where no image can be shown.
        settings: The number of noise images.
    """
    reading = tuple(d.rule.id for d in detectors if not d.needs & suitability.RUNS)
    showing = tuple(
        d.rule.id
        for d in detectors
        if d.needs & (Needs.ACTIVATIONS | Needs.LOGITS)
        and not d.needs & Needs.GRADIENTS
        and type(d).plan is Detector.plan
    )
    if reading:
        yield PlannedStage(rules=reading, does="read the file and its graph")
    if showing and forward is not None:
        yield PlannedStage(
            rules=showing,
            does=f"answers to {settings.images:,} noise images for each of these, at the most",
            images=settings.images,
            seconds=len(showing) * settings.images * forward,
        )


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
    except _OBSTACLES:
        return None, None
    return max(0.0, seconds), int(answer[0].size) if logits.single is None else _TWO
