"""The child's side of screening inputs: open the model, read clean images, read inputs.

These are the functions behind four endpoints of `scanner.protocol`. What they need for one model is
made once and kept, since inputs arrive in many parts.
"""

import base64
import functools
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanner import filters
from scanner.errors import TooFewImagesError, UnsupportedModelError, UsageError
from scanner.instruments import image_stream, probes, runtime, suitability
from scanner.instruments.answers import Answers
from scanner.instruments.scene import Candidate, Scene, alternating
from scanner.instruments.statistics import softmax
from scanner.instruments.trigger import Floats
from scanner.measuring import own_range_of, ranged, threaded
from scanner.modelfile.model import open_model
from scanner.protocol import Handed, Part, Shown, Watch
from scanner.results import Array, CleanReadings, FilterNote, Input, InputReading, Runtime
from scanner.sandbox.endpoint import Progress, Step

MOST_HOSTS = 64  # clean images that inputs are laid over
FEWEST_HOSTS = 10
MOST_RANKED = 1000  # among which an input is ranked
_BYTES = 128  # clean images that reach further are in 0..255


def read_clean(watch: Watch, progress: Progress) -> CleanReadings:
    """Open the model, and measure the clean images.

    Some of them, drawn by the seed, become hosts; inputs are ranked among the others. The hosts are
    measured too: they tell how much a statistic varies. A host may then be laid over itself, one
    time among many, which moves that unit a little and no rank.

    Raises:
        ScannerError: The model is no classifier of images, or the clean images do not do.
    """
    start = time.monotonic()
    watched = _watched(watch)
    hosts = len(watched.scene.hosts)
    images = np.concatenate([watched.scene.hosts, watched.ranked])
    readings = watched.read(list(map(str, range(len(images)))), images, progress)
    return CleanReadings(
        model=watched.model.identity,
        filters=watched.notes,
        hosts=readings[:hosts],
        ranked=readings[hosts:],
        input_range=watched.range,
        runtime=Runtime(
            provider=watched.answers.provider,
            threads=watched.threads,
            versions=runtime.versions(),
            seconds=time.monotonic() - start,
        ),
    )


def read_part(part: Part, progress: Progress) -> tuple[InputReading, ...]:
    """Measure some of the inputs of a file or folder; none where there are no more.

    Raises:
        ScannerError: They cannot be read, or do not fit the model.
    """
    return _watched(part.watch).read_part(part, progress)


def read_handed(handed: Handed, progress: Progress) -> tuple[InputReading, ...]:
    """Measure inputs that the caller hands over.

    Raises:
        ScannerError: They do not fit the model.
    """
    watched = _watched(handed.watch)
    images = _array(handed.images)
    given = np.rint(images).astype(np.uint8) if handed.bytes_of_range else images
    fitted = watched.fitted(given, "what was handed over")
    return watched.read(list(map(str, range(len(fitted)))), fitted, progress)


def show_input(shown: Shown, _progress: Progress) -> Input:
    """Return one of the inputs that were read last.

    Raises:
        UsageError: There is no such input.
    """
    watched = _watched(shown.watch)
    if shown.place >= len(watched.last):
        raise UsageError("there is no such input", remedy="ask for one of those read last")
    image = watched.last[shown.place]
    packed = Array.packed(np.asarray(image, "<f4").tobytes(), image.shape)
    return Input(image=packed, low=watched.scene.low, high=watched.scene.high)


@functools.lru_cache(maxsize=1)
def _watched(watch: Watch) -> "_Watched":
    return _Watched(watch)


class _Watched:
    """A model, and all that is needed to measure its inputs.

    Attributes:
        model: The file.
        range: Of the model's input.
        threads: That run the model.
        answers: The model, running.
        scene: The model with its hosts.
        ranked: Clean images among which inputs are ranked, (n, *shape).
        filters: Those that apply.
        last: The inputs that were read last, (n, *shape).
    """

    def __init__(self, watch: Watch) -> None:
        self.model = open_model(Path(watch.model.path), watch.model.name, watch.settings.limits)
        if (reason := suitability.unsuitable(self.model, watch.settings)) is not None:
            problem, _, remedy = reason.partition("; ")
            raise UnsupportedModelError(problem, remedy=remedy or "screen a model of images")
        self.range = own_range_of(self.model, watch.settings)
        settings = threaded(ranged(watch.settings, self.range), self.model)
        self.threads = settings.threads
        # Threads pay within a large model; of a small one several inputs are measured at a time.
        self._at_once = 1 if watch.settings.threads or self.threads > 1 else runtime.cores()
        self.answers = Answers(self.model, settings)
        self._span = probes.input_range(self.answers.dtype, settings)
        images = probes.user_images(settings, self.answers.shape, self._span)
        if len(images) < watch.least + FEWEST_HOSTS:
            raise TooFewImagesError.at(
                settings.alpha, found=len(images), needed=watch.least + FEWEST_HOSTS
            )
        drawn = np.random.default_rng(settings.seed).permutation(len(images))
        count = min(MOST_HOSTS, len(images) - watch.least)
        hosts = images[drawn[:count]]
        classes = self.answers.classes(hosts)
        order = alternating(classes)
        self.scene = Scene(
            ask=self._probabilities,
            hosts=hosts[order],
            classes=classes[order],
            low=self._span[0],
            high=self._span[1],
            triggers=watch.triggers,
        )
        self.ranked = images[drawn[count : count + max(MOST_RANKED, watch.least)]]
        self.filters = filters.load(self.scene)
        self.notes = tuple(
            FilterNote(
                rule=each.rule,
                decides=each.decides,
                quantity=each.quantity,
                passes=each.passes,
            )
            for each in self.filters
        )
        self.last: Floats = self.ranked[:0]
        self._reader: tuple[str, int, Iterator[image_stream.Named]] | None = None

    def _probabilities(self, images: Floats) -> Floats:
        """Return the model's answers to images, or to what a filter makes of them.

        Raises:
            UnsupportedModelError: The model fails on one, or answers something not finite.
        """
        found = softmax(self.answers.logits(images))
        if not np.isfinite(found).all():
            raise UnsupportedModelError(
                "the model's answer to an image is not a finite number",
                remedy="export the model again, or give the setting `input_range` its true range",
            )
        return found

    def fitted(self, images: npt.NDArray[np.generic], name: str) -> Floats:
        """Return images in the model's layout and range.

        Raises:
            UsageError: They do not fit, or are in 0..1 where the clean ones are in 0..255.
        """
        found = probes.fitted(images, self.answers.shape, self._span, name, least=1)
        reached = self.scene.hosts.max()
        # So dark and in fractions is no image of bytes, and every one would be told as clean.
        alike = images.dtype == np.uint8 or reached <= _BYTES
        if not alike and found.min() >= 0 and found.max() <= 1 and (found % 1).any():
            raise UsageError(
                f"the values of {name!r} reach {found.max():g}, and those of the clean images "
                f"{reached:g}",
                remedy="scale both alike, as the model takes them",
            )
        return found

    def read_part(self, part: Part, progress: Progress) -> tuple[InputReading, ...]:
        """Read on where the last part ended, or from the start of a file.

        Raises:
            ScannerError: The inputs cannot be read, or do not fit the model.
        """
        images = self._from(part)
        named = list(itertools.islice(images, part.most))
        self._reader = part.path, part.start + len(named), images
        if not named:
            return ()
        names = [name for name, _ in named]
        fitted = [
            self.fitted(np.expand_dims(image, 0), f"{part.path}: {name}")[0]
            for name, image in named
        ]
        return self.read(names, np.stack(fitted), progress)

    def _from(self, part: Part) -> Iterator[image_stream.Named]:
        if self._reader is None or self._reader[:2] != (part.path, part.start):
            return itertools.islice(image_stream.stream(Path(part.path)), part.start, None)
        return self._reader[2]

    def read(
        self, names: Sequence[str], images: Floats, progress: Progress
    ) -> tuple[InputReading, ...]:
        """Measure images, (n, *shape).

        Raises:
            UnsupportedModelError: The model fails on one, or answers something not finite.
        """
        self.last = images
        answers = self._probabilities(images)
        readings = []
        with ThreadPoolExecutor(self._at_once) as pool:
            for reading in pool.map(self._read_one, names, images, answers):
                readings.append(reading)
                progress(Step(done=len(readings), total=len(names)))
        return tuple(readings)

    def _read_one(self, name: str, image: Floats, answer: Floats) -> InputReading:
        class_id = int(answer.argmax())
        candidate = Candidate(image=image, class_id=class_id, probability=float(answer[class_id]))
        found = [each.read(candidate) for each in self.filters]
        return InputReading(
            name=name,
            class_id=class_id,
            statistics=tuple(reading.statistic for reading in found),
            regions=tuple(reading.region for reading in found),
        )


def _array(given: Array) -> npt.NDArray[np.float32]:
    raw = np.frombuffer(base64.b64decode(given.data), "<f4")
    return np.asarray(raw.reshape(given.shape), np.float32)
