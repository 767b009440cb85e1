"""The user's side of screening inputs: is one of them carrying a trigger?

A child process reads the model, the clean images and the inputs; ranks are made here.
"""

import array
import dataclasses
import heapq
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from scanner import protocol, questions
from scanner.errors import UsageError, WorkerCrashedError
from scanner.judging import inputs as judging
from scanner.limits import Allowance
from scanner.protocol import Handed, Part, Shown, Watch
from scanner.questions import PathLike
from scanner.results import (
    Array,
    CleanReadings,
    InputReading,
    Run,
    ScanResult,
    ScreenedInput,
    Screening,
    Trigger,
    Verdict,
)
from scanner.sandbox import worker
from scanner.sandbox.endpoint import Progress
from scanner.settings import INPUT_ALPHA, Settings
from scanner.values import to_json
from scanner.version import VERSION

MOST_FOUND = 1000  # inputs that a summary names
PRELOAD = ("scanner.examine_inputs",)
_WHOLE = 365 * 86_400.0  # seconds that a child may live; each question has its own deadline
_CLEAN = 4 * 3600.0  # for the clean images, where no timeout is set
_PART_SECONDS = 2.0  # that a part of the inputs shall take
_MOST_PART = 256
_MOST_ELEMENTS = 2**21  # of the images that cross to the child at once
_TYPES = {"f": "f", "d": "d", "B": "B"}


class InputFilter:
    """Tells of each input of a model whether it carries a trigger.

    For the request path of a server: it keeps one child process, which holds the model and the
    clean images, and may be asked from several threads, one after the other.

        with InputFilter("model.onnx", clean="clean.npz") as screener:
            for found in screener.check(images):
                if found.stands_out: ...

    Args:
        model: An ONNX file.
        clean: An .npz or .npy file, or a folder, of images that carry no trigger. At least
            1 / alpha - 1 are ranked among, and ten are needed besides.
        alpha: The share of clean inputs that may stand out.
        triggers: Triggers of the model that a scan found (`triggers_of`).
        inputs: A file or folder of inputs for `stream`.
        settings: How to run the model.
        progress: Called while the clean images are measured.

    Raises:
        ScannerError: The model is no classifier of images, or the clean images do not do.
    """

    def __init__(  # noqa: PLR0913 - what is watched, beside what, how
        self,
        model: PathLike,
        clean: PathLike,
        *,
        alpha: float = INPUT_ALPHA,
        triggers: Sequence[Trigger] = (),
        inputs: PathLike | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._settings = _with_clean(
            dataclasses.replace(settings or Settings(), alpha=alpha), clean
        )
        self._inputs = None if inputs is None else _there(inputs, "inputs")
        self._watch = Watch(
            model=questions.source_of(model),
            least=judging.needed(alpha),
            triggers=tuple(triggers),
            settings=self._settings,
        )
        self._lock = threading.Lock()
        self._child = worker.take(PRELOAD)
        try:
            self.clean = self._begun(progress)
        except BaseException:
            self.close()
            raise
        self._ranks = judging.Ranks(self.clean)

    def _begun(self, progress: Progress | None) -> CleanReadings:
        """Have the child confined, then the clean images measured."""
        preparation = self._child.ask(protocol.PREPARE, self._settings, self._allowance(_WHOLE))
        seconds = self._settings.timeout or _CLEAN
        clean = self._child.ask(
            protocol.READ_CLEAN, self._watch, self._allowance(seconds), progress
        )
        if len(clean.ranked) < self._watch.least or not clean.hosts:
            raise WorkerCrashedError.no_answer("clean images")
        runtime = dataclasses.replace(clean.runtime, isolation=to_json(preparation.isolation))
        model = questions.renamed(clean.model, self._watch.model)
        return dataclasses.replace(clean, model=model, runtime=runtime)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child process."""
        self._child.kill()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def passes(self) -> int:
        """How many images the model is shown for one input, at most."""
        return 1 + sum(note.passes for note in self.clean.filters)

    def check(self, images: Any) -> list[ScreenedInput]:
        """Return what is found of some inputs, in their order.

        Args:
            images: An array (n, *shape) of float32, float64 or bytes, of NumPy or of whatever else
                gives its memory; bytes stand for the input's range.

        Raises:
            ScannerError: They do not fit the model, or the model fails on them.
        """
        found: list[ScreenedInput] = []
        with self._lock:
            for data, shape, is_bytes in _cut(images):
                handed = Handed(
                    watch=self._watch,
                    images=Array.packed(data, shape),
                    bytes_of_range=is_bytes,
                )
                readings = self._answered(protocol.READ_HANDED, handed, shape[0])
                found += self._ranked(len(found), readings)
        return found

    def stream(
        self, *, pictures: int = 0, progress: Callable[[int], None] | None = None
    ) -> Iterator[ScreenedInput]:
        """Yield what is found of each input of the file or folder, in their order.

        Memory does not grow with their number.

        Args:
            pictures: Of so many that stand out, the input itself is kept.
            progress: Called with the number of inputs that are done.

        Raises:
            ScannerError: They cannot be read, do not fit the model, or the model fails on them.
        """
        if self._inputs is None:
            raise UsageError("no inputs were named", remedy="name them when the filter is made")
        done, most = 0, 1
        while True:
            start = time.monotonic()
            part = Part(watch=self._watch, path=str(self._inputs), start=done, most=most)
            with self._lock:
                found = self._ranked(done, self._answered(protocol.READ_PART, part, most))
                for place, one in enumerate(found):
                    if one.stands_out and pictures > 0:
                        pictures -= 1
                        found[place] = dataclasses.replace(one, picture=self._shown(place))
            if not found:
                return
            yield from found
            done += len(found)
            if progress:
                progress(done)
            pace = (time.monotonic() - start) / len(found)
            most = max(1, min(_MOST_PART, 2 * most, int(_PART_SECONDS / max(pace, 1e-6))))

    def _shown(self, place: int) -> Any:
        shown = Shown(watch=self._watch, place=place)
        return self._child.ask(protocol.SHOW_INPUT, shown, self._allowance(self._seconds))

    def _answered(self, endpoint: Any, request: Any, most: int) -> tuple[InputReading, ...]:
        readings: tuple[InputReading, ...] = self._child.ask(
            endpoint, request, self._allowance(self._seconds)
        )
        filters = len(self.clean.filters)
        if len(readings) > most or any(len(r.statistics) != filters for r in readings):
            raise WorkerCrashedError.no_answer("inputs")
        return readings

    def _ranked(self, start: int, readings: Sequence[InputReading]) -> list[ScreenedInput]:
        return [
            self._ranks.ranked(start + place, reading, self._settings.alpha)
            for place, reading in enumerate(readings)
        ]

    @property
    def _seconds(self) -> float:
        return self._settings.deadline(1)

    def _allowance(self, seconds: float) -> Allowance:
        allowed = questions.allowance_for(self._settings, (self._watch.model,))
        more = () if self._inputs is None else (str(self._inputs),)
        return dataclasses.replace(allowed, seconds=seconds, readable=(*allowed.readable, *more))


class Tally:
    """Sums up what was found of inputs, in memory that does not grow with their number.

    Args:
        clean: What was measured on the clean images.
        alpha: The level.
        fdr: A share of false discoveries that something is said about; None says nothing.
        clock: Tells when.
    """

    def __init__(
        self,
        clean: CleanReadings,
        alpha: float = INPUT_ALPHA,
        fdr: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clean, self._alpha, self._clock = clean, alpha, clock
        self._inputs = self._standing_out = self._far_out = 0
        self._found: list[tuple[float, int, ScreenedInput]] = []
        self._discovering = None if fdr is None else judging.Discovering(fdr, len(clean.ranked))

    def add(self, found: ScreenedInput) -> None:
        """Take note of an input."""
        self._inputs += 1
        if self._discovering is not None:
            self._discovering.add(found.p_value)
        self._far_out += found.far_out
        if found.stands_out:
            self._standing_out += 1
            entry = (found.size or 0.0, -found.number, found)
            push = heapq.heappush if len(self._found) < MOST_FOUND else heapq.heappushpop
            push(self._found, entry)

    def summary(self) -> Screening:
        """Return what all inputs show together."""
        clean, alpha, ranked = self._clean, self._alpha, len(self._clean.ranked)
        p_value = judging.as_many(self._standing_out, self._inputs, alpha, ranked)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        summary = Screening(
            verdict=Verdict.INCONCLUSIVE,
            reason="",
            model=clean.model,
            inputs=self._inputs,
            standing_out=self._standing_out,
            far_out=self._far_out,
            expected=judging.expected(self._inputs, alpha, ranked),
            p_value=p_value,
            alpha=alpha,
            filters=clean.filters,
            hosts=len(clean.hosts),
            ranked=ranked,
            found=tuple(entry[2] for entry in sorted(self._found, reverse=True)),
            discoveries=None if self._discovering is None else self._discovering.found(),
            input_range=clean.input_range,
            runtime=clean.runtime,
            run=Run(time=now, alpha=alpha, version=VERSION),
        )
        verdict, reason = judging.told(summary)
        return dataclasses.replace(summary, verdict=verdict, reason=reason)


def screen_inputs(  # noqa: PLR0913 - as above
    model: PathLike,
    inputs: PathLike,
    clean: PathLike,
    *,
    alpha: float = INPUT_ALPHA,
    fdr: float | None = None,
    triggers: Sequence[Trigger] = (),
    settings: Settings | None = None,
) -> Screening:
    """Say whether inputs of a model carry a trigger, and which.

    Args:
        model: An ONNX file.
        inputs: An .npz or .npy file, a folder, or a picture.
        clean: As for `InputFilter`.
        alpha: The share of clean inputs that may stand out.
        fdr: A share of false discoveries that something is said about.
        triggers: Triggers of the model that a scan found (`triggers_of`).
        settings: How to run the model.

    Raises:
        ScannerError: As for `InputFilter`, or the inputs cannot be read or do not fit.
    """
    with InputFilter(
        model, clean, alpha=alpha, triggers=triggers, inputs=inputs, settings=settings
    ) as screener:
        tally = Tally(screener.clean, alpha, fdr)
        for found in screener.stream():
            tally.add(found)
    return tally.summary()


def triggers_of(result: ScanResult) -> tuple[Trigger, ...]:
    """Return the triggers that a scan found, one per class, the detector's that comes first."""
    found: dict[int, Trigger] = {}
    for finding in result.findings:
        if (trigger := finding.evidence.trigger) is not None:
            found.setdefault(trigger.class_id, trigger)
    return tuple(found.values())


def _with_clean(settings: Settings, clean: PathLike) -> Settings:
    path = _there(clean, "clean images")
    if path.is_dir():
        return dataclasses.replace(settings, images_folder=str(path), images_file=None)
    return dataclasses.replace(settings, images_file=str(path), images_folder=None)


def _there(named: PathLike, what: str) -> Path:
    """Return the absolute path of what is there.

    Raises:
        UsageError: It is not, or cannot be reached.
    """
    path = Path.cwd() / named
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UsageError(
            f"there is no file or folder {os.fspath(named)!r}", remedy=f"name the {what}"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{os.fspath(named)!r} cannot be read ({error.strerror})", remedy=f"name the {what}"
        ) from error
    return path


def _cut(images: Any) -> Iterator[tuple[bytes, tuple[int, ...], bool]]:
    """Yield an array in parts: its numbers as float32, their shape, and whether they were bytes.

    Raises:
        UsageError: It is none, or of other numbers.
    """
    try:
        view = memoryview(images)
    except TypeError as error:
        raise UsageError(
            f"a {type(images).__name__} is no array", remedy="give an array (n, *shape)"
        ) from error
    kind, shape = view.format.lstrip("<=@"), tuple(view.shape or ())
    if kind not in _TYPES or len(shape) < 2 or not view.nbytes:  # noqa: PLR2004 - (n, ...)
        raise UsageError(
            f"an array of the type {view.format!r} and the shape {shape} holds no inputs",
            remedy="give float32, float64 or uint8 in the shape (n, *shape)",
        )
    each = view.nbytes // shape[0]
    at_once = max(1, _MOST_ELEMENTS * view.itemsize // each)
    raw = view.tobytes()
    for start in range(0, shape[0], at_once):
        count = min(at_once, shape[0] - start)
        numbers = array.array(_TYPES[kind], raw[start * each : (start + count) * each])
        floats = numbers if kind == "f" else array.array("f", numbers)
        if sys.byteorder == "big":
            floats.byteswap()
        yield floats.tobytes(), (count, *shape[1:]), kind == "B"
