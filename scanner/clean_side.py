"""The clean side of a scan: the child that measures the references, for all suspects of a call."""

import contextlib
import dataclasses
import os
import threading
from pathlib import Path
from typing import Self

from scanner import protocol, questions
from scanner.errors import ScannerError, WorkerCrashedError, WorkerError
from scanner.judging.references import refuse_repeats
from scanner.protocol import Examination, Job, Opening, Preparation, Source
from scanner.questions import PRELOAD
from scanner.results import ModelIdentity, ModelRecord
from scanner.sandbox import worker
from scanner.sandbox.endpoint import Progress
from scanner.sandbox.worker import Worker
from scanner.settings import Device, Settings

# As in `scanner.instruments.class_search` and `scanner.instruments.runtime`, which this side does
# not import: up to so many classes a search drops none, and below so many bytes it is not made
# smaller to fit the time.
MOST_CLASSES = 12
LARGEST_FILE = 4 << 20
_SIDE_BY_SIDE = 2  # cores for two children
_LEAST_SECONDS = 1.0  # for a comparison after a suspect that took all the time there was


class CleanSide:
    """The child that measures the references, for all suspects of a call.

    It never opens a suspect, so what takes over a suspect's child cannot change what clean models
    are said to show, for that suspect or for the next. Of a suspect it gets the record, which was
    checked.

    Where nothing hangs on a suspect but the range of its input, the first reference is measured
    while the suspect is: what comes out otherwise beside it is then measured again.

    Args:
        sources: The references.
        settings: How to measure.
        suspects: How many models will be compared with them.
    """

    def __init__(self, sources: tuple[Source, ...], settings: Settings, suspects: int) -> None:
        self._sources, self._settings, self._suspects = sources, settings, suspects
        self._child: Worker | None = None
        self._preparation: Preparation | None = None
        self._failed: WorkerError | None = None
        self._identities: tuple[ModelIdentity, ...] = ()
        self._records: tuple[ModelRecord, ...] = ()
        self._ahead: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def lacks_child(self) -> bool:
        """Whether there are references, and no child to measure them yet."""
        return bool(self._sources) and self._child is None

    def start(self) -> None:
        """Start the child, where there are references and it is not there yet."""
        if self.lacks_child:
            self._child, self._preparation = worker.take(PRELOAD), None

    def identify(self) -> tuple[ModelIdentity, ...]:
        """Open the references; return none where that ends the child, which `compare` then says.

        Raises:
            ScannerError: One cannot be opened.
        """
        if self._sources and not self._identities:
            allowance = questions.allowance_for(self._settings, self._sources)
            opening = Opening(sources=self._sources, limits=self._settings.limits)
            self._failed = None
            try:
                found = self._ready().ask(protocol.IDENTIFY, opening, allowance)
                if len(found) != len(self._sources):
                    raise WorkerCrashedError.no_answer("references")
                self._identities = tuple(map(questions.renamed, found, self._sources))
                refuse_repeats("reference", self._identities)
            except WorkerError as error:
                self._end()
                self._failed = error
        return self._identities

    def measure_ahead(self, seconds: float) -> bool:
        """Begin to measure the first reference, if that need not wait for the suspect.

        Args:
            seconds: How long it may take.

        Returns:
            Whether it is being measured.
        """
        known = self._records or self._ahead
        if known or self._failed is not None or not self._is_independent():
            return self._ahead is not None
        self._ahead = threading.Thread(
            target=self._measure_first, args=(self._ready(), seconds), daemon=True
        )
        self._ahead.start()
        return True

    def _is_independent(self) -> bool:
        """Whether a reference takes the steps that it would take beside a suspect, whichever it is.

        So it is where a search is short and drops no class. Each model then has a core.
        """
        chosen = self._settings
        if chosen.threads or chosen.device is Device.CUDA or _cores() < _SIDE_BY_SIDE:
            return False
        return bool(self._identities) and _is_small(self._sources[0], self._identities[0])

    def _measure_first(self, child: Worker, seconds: float) -> None:
        """Measure the first reference as if there were no suspect.

        An error is not told: whoever compares meets it again.
        """
        settings = dataclasses.replace(self._settings, shipped_baselines=False)
        job = Job(model=self._sources[0], compared=True, settings=settings)
        allowance = dataclasses.replace(
            questions.allowance_for(settings, self._sources), seconds=seconds
        )
        # Who has no use for the record ends the child meanwhile, and closes its pipes.
        with contextlib.suppress(ScannerError, OSError, ValueError):
            answer = child.ask(protocol.EXAMINE, job, allowance)
            self._records = (questions.vouched(answer, job, self._preparation).suspect,)

    def _wait(self) -> None:
        """Wait for what is measured ahead; if its child came to an end, there will be another."""
        if self._ahead is not None:
            self._ahead.join()
            self._ahead = None
            if not self._records:
                self._end()

    def compare(
        self, job: Job, suspect: ModelRecord, seconds: float, progress: Progress | None
    ) -> Examination:
        """Compare a suspect's record with the references, which are measured where they must be.

        Raises:
            ScannerError: That is impossible.
        """
        if self._failed is not None:
            raise self._failed
        self._wait()
        allowance = dataclasses.replace(
            questions.allowance_for(self._settings, self._sources),
            seconds=max(seconds, _LEAST_SECONDS),
        )
        request = dataclasses.replace(job, measured=suspect, records=self._records)
        try:
            child = self._ready()
            examination = child.ask(protocol.EXAMINE, request, allowance, progress)
            examination = questions.vouched(examination, job, self._preparation)
        except WorkerError:
            self._end()
            raise
        self._records = examination.references
        return examination

    def _ready(self) -> Worker:
        """Return the child, prepared: it has as much processor time as all suspects may take."""
        self.start()
        assert self._child is not None  # noqa: S101 - for the type checker
        if self._preparation is None:
            one = questions.allowance_for(self._settings, self._sources)
            whole = dataclasses.replace(one, seconds=one.seconds * (1 + self._suspects))
            self._preparation = self._child.ask(protocol.PREPARE, self._settings, whole)
        return self._child

    def _end(self) -> None:
        """Give up a child that is no longer there, or no longer to be believed."""
        if self._child is not None:
            self._child.kill()
        self._child = None
        if self._ahead is not None:
            self._ahead.join()
            self._ahead = None


def _is_small(source: Source, reference: ModelIdentity) -> bool:
    """Whether a file is small, and the scores of its classes are few."""
    scores = [info.shape[-1] for info in reference.outputs if info.shape]
    few = bool(scores) and all(isinstance(n, int) and n <= MOST_CLASSES for n in scores)
    try:
        return few and Path(source.path).stat().st_size < LARGEST_FILE
    except OSError:
        return False


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
