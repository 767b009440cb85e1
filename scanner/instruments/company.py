"""What an image answers in a batch and not alone, and whether it moves with its company by degrees.

Some files answer an image by the others of its batch on purpose: they normalise by the statistics
of what they get, or smooth over the frames of a film. Among copies of itself an image is then
answered as alone, and as its company becomes another, its answer moves little by little. What is
chosen by a batch's size, a place in it or a test of its content jumps.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError
from scanner.instruments import kept, original
from scanner.instruments.agreement import row_distances, scales_as_it_runs
from scanner.instruments.noise_runs import fixed_batch
from scanner.instruments.statistics import median
from scanner.modelfile.model import Model
from scanner.results import Observation, Severity
from scanner.settings import Settings

Array = npt.NDArray[Any]
Run = Callable[[Array], Array]
"""Answers to a batch of images, (n, ...)."""

_SIZES = (2, 3, 4, 5, 8, 16, 32, 64)
_LARGE, _FEW = 50_000, 4  # from so many numbers of an image on, only so many sizes
_BECOMING = 5  # images of the batch whose company becomes another
_STEPS, _FEW_STEPS = 24, 12
_JUMP = 0.5
"""Of the furthest that an answer goes, the part in one step from which on it jumps. On the files at
hand the largest step of eight was 0.51, of 24 it is 0.2."""
_ANOTHER = 1.0
"""Times the spread: how far answers of another network are apart. What is scaled by the range of a
whole batch moves by 0.04 (the median over images, measured on the samples)."""
_TRACED = 2  # images of those that change their class in company whose answers are followed
_SHARE = 0.1  # of the probes may change their class where no score tells how near a tie was


class Crowd:
    """Answers to images in batches beside the answers to each of them alone.

    Attributes:
        distances: By output, the furthest that an answer is from that alone, in spreads.
        scaled: How far answers move because the model takes its quantisation scales from the
            batch; None where it does not, or they do not move.
    """

    def __init__(
        self,
        model: Model,
        data: bytes,
        answers: original.Answers,
        settings: Settings,
        tolerance: float,
    ) -> None:
        self._model, self._data, self._answers = model, data, answers
        self._settings, self._tolerance = settings, tolerance
        self.distances: dict[str, float] = {}
        self.scaled: float | None = None

    def observations(self, span: tuple[float, float]) -> Iterator[Observation]:
        """Yield for each output what an image answers in company and not alone.

        Args:
            span: The range (lowest, highest) that reports draw the image in.
        """
        answers = self._answers
        everyone = np.arange(len(answers.images))
        batches = [(name, rows, everyone) for name, rows in answers.together.items()]
        batches += [(name, rows, answers.members) for name, rows in answers.crowds.items()]
        told: set[str] = set()
        for name, together, chosen in batches:
            if name in told or name not in answers.alone:
                continue
            alone, images = answers.alone[name][chosen], answers.images[chosen]
            found = self._changed(name, images, alone, together)
            if found is None:
                continue
            told.add(name)
            image, severity = found
            yield Observation(
                code="batch-dependent",
                severity=severity,
                sentence="The same image gets one answer alone "
                f"({kept.said(alone[image])}) and another in a batch with others "
                f"({kept.said(together[image])}; output {name!r}): what is searched in batches is "
                "not what runs on a single image",
                nodes=(name,),
                details={
                    "alone": kept.listed(alone[image]),
                    "together": kept.listed(together[image]),
                },
                input=kept.pictured(
                    images[image],
                    span,
                    kept.Answered(
                        after=together[image : image + 1], without=alone[image : image + 1]
                    ),
                ),
            )

    def _changed(
        self, name: str, images: Array, alone: Array, together: Array
    ) -> tuple[int, Severity] | None:
        """Return an image whose answer is another in company, and how grave that is."""
        if alone.shape != together.shape or alone.dtype.kind not in "fiub":
            return None
        if alone.dtype.kind != "f":
            changed = np.flatnonzero(_first(alone) != _first(together))
            few = len(changed) <= _SHARE * len(alone)
            return None if few else (int(changed[0]), Severity.SUSPICIOUS)
        distances = row_distances(alone, together)
        furthest = float(distances.max())
        place = f"in company: {name}"
        self.distances[place] = max(furthest, self.distances.get(place, 0.0))
        if furthest <= self._tolerance:
            return None
        if scales_as_it_runs(self._model) and median(distances) < _ANOTHER:
            # The company takes part in the scales, and honest answers move by as much.
            self.scaled = furthest
            return None
        apart = distances > self._tolerance
        flips = np.flatnonzero(apart & (_class(alone) != _class(together)))
        image = int(flips[0]) if len(flips) else int(distances.argmax())
        jumps = any(self._jumps(name, images, alone, int(n)) for n in flips[:_TRACED])
        return image, Severity.SUSPICIOUS if jumps else Severity.WARNING

    def _jumps(self, name: str, images: Array, alone: Array, image: int) -> bool:
        """Whether an image's answer does not move with its company by degrees."""
        session = original.open_original(self._data, self._settings.threads, idle=self._model.idle)
        place = [output.name for output in session.native.get_outputs()].index(name)
        return not moves_by_degrees(
            lambda batch: np.asarray(session.run(batch)[place]),
            alone[image],
            images[image],
            images[np.arange(len(images)) != image],
            fixed_batch(session),
        )


def _class(rows: Array) -> Array:
    return np.asarray(rows.reshape(len(rows), -1).argmax(axis=1))


def _first(rows: Array) -> Array:
    return rows.reshape(len(rows), -1)[:, 0]


def moves_by_degrees(
    run: Run, alone: Array, image: Array, others: Array, fixed: int | None
) -> bool:
    """Whether nothing but what the company shows changes an answer, and changes it by degrees.

    Args:
        run: The file.
        alone: Its answer to the image by itself, (classes,).
        image: The image.
        others: What it meets in company, (n, *shape).
        fixed: The batch size, where the file fixes one.
    """
    try:
        copies = [row for size in _sizes(image, fixed) for row in run(_copies(image, size))]
        way = list(_way(run, image, others, fixed or _BECOMING))
    except UnsupportedModelError:
        return False
    if any(row.shape != alone.shape or row.argmax() != alone.argmax() for row in copies):
        return False
    rows = np.stack([row.reshape(-1) for row in way]).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)  # a constant added to all scores changes no decision
    steps = np.abs(np.diff(rows, axis=0)).max(axis=1)
    whole = np.abs(rows - rows[0]).max()
    return bool(np.isfinite(rows).all() and whole > 0 and steps.max() <= _JUMP * whole)


def _sizes(image: Array, fixed: int | None) -> tuple[int, ...]:
    if fixed is not None:
        return (fixed,)
    return _SIZES[: _FEW if image.size >= _LARGE else None]


def _copies(image: Array, size: int) -> Array:
    return np.repeat(image[None], size, axis=0)


def _way(run: Run, image: Array, others: Array, size: int) -> Iterator[Array]:
    """Yield the image's answers while its company turns from copies of it into other images."""
    steps = _STEPS if image.size < _LARGE else _FEW_STEPS
    company = others[np.arange(size - 1) % len(others)].astype(np.float64)
    for part in np.linspace(0, 1, steps + 1):
        mixed = (1 - part) * image.astype(np.float64) + part * company
        if image.dtype.kind != "f":
            mixed = np.rint(mixed)
        yield run(np.concatenate([mixed.astype(image.dtype), image[None]]))[-1]
