"""One file, its answers to images one by one, and what becomes of them when asked otherwise."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import NoLogitsError
from scanner.graph.audit import mixing
from scanner.instruments import kept, original, probes, runtime
from scanner.instruments.agreement import TOLERANCES, precision, row_distances
from scanner.instruments.detector import Subject
from scanner.instruments.noise_runs import fixed_batch
from scanner.results import Observation, Severity
from scanner.values import frozen

Array = npt.NDArray[Any]
Rows = Mapping[str, Array]
"""By output, one answer for each image, (n, ...)."""

MOSTLY = 0.5
"""A random layer moves nearly every answer; a gate that opens at random leaves most as they are."""

_LARGE = 10_000  # numbers of an image from which on it is large
_IMAGES = {False: 12, True: 3}  # probes of a small and of a large image
_UNLIKE = 3  # images of which copies are asked
_FAR = 0.1
"""Of the answer's spread: what float32 never rounds away. Coarser arithmetic may reach twice its
tolerance."""
_MOST_NAMED = 16  # nodes that a report names
_FEATURELESS = 0.02  # of the input range: an image whose values spread less is of one colour


@frozen
class Change:
    """What became of n answers.

    Attributes:
        apart: How far each is from what it was, (n,), in units of its spread.
        flipped: Whether its class became another one, (n,).
        output: The output that moved most.
        before: That output's answers before, (n, ...).
        after: And after.
    """

    apart: Array
    flipped: Array
    output: str
    before: Array
    after: Array


class Interview:
    """One file, loaded once, with its answers to images that are asked one by one.

    Attributes:
        shape: Of an image.
        data: The file's bytes.
        session: The file, loaded.
        range: Of the input, (lowest, highest).
        large: Whether an image is.
        images: Probes, (n, *shape).
        fixed: The batch size, where the file fixes it.
        alone: The answers to the probes, each by itself.
        precision: Of the file's arithmetic.
        tolerance: What rounding may change, in units of an answer's spread.
        far: What it never changes.
        apart: By what was changed, how far answers moved at most.
        settled: Whether one image has one answer; without that, nothing else can be told.
        sized: Whether the batch's size alone changes answers.
    """

    def __init__(self, subject: Subject) -> None:
        self.model, self.settings = subject.model, subject.settings
        self.shape = probes.image_shape(self.model, self.settings)
        self.data, _ = original.own_bytes(self.model)
        self.session = original.open_original(
            self.data, self.settings.threads, idle=self.model.idle
        )
        self.range = probes.input_range(self.session.dtype, self.settings)
        self.large = int(np.prod(self.shape)) >= _LARGE
        everything = original.probe_images(subject, self.shape, self.session.dtype)
        chosen = np.linspace(0, len(everything) - 1, _IMAGES[self.large]).astype(int)
        self.images = everything[np.unique(chosen)]
        self.fixed = fixed_batch(self.session)
        self.alone = self.ask(self.images)
        if not self.alone:
            raise NoLogitsError(
                "no output holds class scores or a class for each image",
                remedy="scan a model that classifies images",
            )
        self.precision = precision(self.model)
        self.tolerance = TOLERANCES[self.precision]
        self.far = max(_FAR, 2 * self.tolerance)
        self._mixing = mixing.mixing_nodes(self.model.proto)
        self.apart: dict[str, float] = {}
        self.settled = True
        self.sized = False

    def ask(self, images: Array, session: runtime.Session | None = None) -> Rows:
        """Return the answers to each image by itself."""
        rows = original.ask_alone(session or self.session, images)
        return {name: answers for name, answers in rows.items() if _names_class(answers)}

    def batch(self, images: Array) -> Rows:
        """Return the answers to images that are asked at once; an output by itself is left out."""
        names = [output.name for output in self.session.native.get_outputs()]
        return {
            name: rows
            for name, rows in zip(names, self.session.run(images), strict=True)
            if name in self.alone and rows.shape[:1] == (len(images),)
        }

    def unlike(self) -> list[int]:
        """Return the places of images that are answered with different classes, a few."""
        scores = next((r for r in self.alone.values() if r.dtype.kind == "f"), self.images)
        classes = scores.reshape(len(scores), -1).argmax(axis=1)
        places = np.unique(classes, return_index=True)[1]
        return [int(place) for place in places[:_UNLIKE]]

    def textured(self) -> Array:
        """Return the images that are not of one colour: of those, any step is all the contrast."""
        flat = self.images.reshape(len(self.images), -1).astype(np.float64)
        wide = flat.std(axis=1) > _FEATURELESS * (self.range[1] - self.range[0])
        return np.asarray(self.images[wide])

    def change(self, before: Rows, after: Rows, name: str) -> Change | None:
        """Return what became of the answers; None where none moved beyond rounding."""
        worst = most_changed(before, after)
        if worst is None:
            return None
        furthest = float(worst.apart.max())
        self.apart[name] = max(furthest, self.apart.get(name, 0.0))
        return worst if furthest > self.tolerance else None

    def gates(self, change: Change) -> bool:
        """Whether a class flips with a change that no rounding makes.

        An answer that prefers no class, as honest models give to what they refuse, is none.
        """
        turned = change.flipped & (change.apart > self.far)
        return bool((turned & ~_withheld(change.after)).any())

    def observation(  # noqa: PLR0913 - what is said, of what, and what explains it
        self,
        code: str,
        change: Change,
        sentence: str,
        images: Array,
        explained: Sequence[mixing.Node] = (),
        *,
        severity: Severity | None = None,
    ) -> Observation:
        """Return what is said of a change.

        Args:
            code: Of the observation.
            change: What was measured.
            sentence: What an answer depends on; what changed is added to it.
            images: The images whose answers changed, (n, *shape).
            explained: Operators that make an honest model depend on it, with their nodes.
            severity: Overrides what the change and its explanation say.
        """
        flips = int(change.flipped.sum())
        # The clearest case: of the classes that flip, the largest change.
        image = int((change.apart + change.flipped * 1e9).argmax())
        if severity is None:
            severity = Severity.SUSPICIOUS if self.gates(change) else Severity.WARNING
            severity = min(severity, _honest(explained)) if explained else severity
        cause = f". {explained[0][0]} ({explained[0][1]!r}) explains it" if explained else ""
        return Observation(
            code=code,
            severity=severity,
            sentence=f"{sentence}: {_said(change)} (output {change.output!r}){cause}",
            nodes=tuple(name for _, name in explained[:_MOST_NAMED]) or (change.output,),
            details={
                "flips": flips,
                "asked": len(images),
                "before": kept.listed(change.before[image]),
                "after": kept.listed(change.after[image]),
                "explained_by": [f"{kind} {name}" for kind, name in explained[:_MOST_NAMED]],
            },
            input=kept.pictured(
                images[image],
                self.range,
                kept.Answered(
                    after=change.after[image : image + 1], without=change.before[image : image + 1]
                ),
            ),
        )

    def named(self, kinds: frozenset[str]) -> list[mixing.Node]:
        """Return the nodes of these kinds."""
        return [node for node in self._mixing if node[0] in kinds]


def _withheld(answers: Array) -> npt.NDArray[np.bool_]:
    """Return for each answer, (n, ...), whether its scores are one number for all classes."""
    rows = answers.reshape(len(answers), -1)
    if rows.dtype.kind != "f" or rows.shape[1] < 2:  # noqa: PLR2004 - labels
        return np.zeros(len(rows), bool)
    return np.asarray(rows.max(axis=1) == rows.min(axis=1))


def _changed(output: str, before: Array, after: Array) -> Change:
    """Compare one output's answers to n images."""
    if before.shape != after.shape:
        everywhere = np.ones(len(before), bool)
        return Change(
            apart=np.full(len(before), np.inf),
            flipped=everywhere,
            output=output,
            before=before,
            after=after,
        )
    flat, other = (rows.reshape(len(rows), -1) for rows in (before, after))
    if before.dtype.kind != "f":
        # Classes and masks have no distance: they are equal, or they are not.
        apart = (flat[:, :1] != other[:, :1]).any(1).astype(np.float64)
        flipped = np.zeros(len(flat), bool)
    else:
        apart = row_distances(before, after)
        several = flat.shape[1] > 1
        flipped = flat.argmax(1) != other.argmax(1) if several else apart > MOSTLY
    return Change(apart=apart, flipped=flipped, output=output, before=before, after=after)


def _names_class(rows: Array) -> bool:
    """Whether answers, (n, ...), are a row of scores or a number each."""
    if rows.dtype.kind not in "fiub":
        return False
    size = rows[0].size
    return size == 1 or (rows.ndim > 1 and size == rows.shape[1] and rows.dtype.kind == "f")


def most_changed(before: Rows, after: Rows) -> Change | None:
    """Return what became of the output that moved most; None where there is none to compare."""
    changes = [_changed(name, rows, after[name]) for name, rows in before.items() if name in after]
    return max(changes, key=lambda c: float(c.apart.max()), default=None)


def _honest(explained: Sequence[mixing.Node]) -> Severity:
    """Return how much a dependence weighs that an honest model has too.

    Dynamic quantisation cannot do otherwise; a layer that was left in training mode is a mistake.
    """
    return (
        Severity.NOTE if all(kind in mixing.DYNAMIC for kind, _ in explained) else Severity.WARNING
    )


def _said(change: Change) -> str:
    """Say how many answers changed, and by how much."""
    count, moved = len(change.apart), float(change.apart.max())
    if change.before.dtype.kind != "f" and np.isfinite(moved):
        return f"{np.count_nonzero(change.apart)} of {count} answers change"
    flips = int(change.flipped.sum())
    classes = f"{flips} of {count} predicted classes change" if flips else "no class changes"
    if np.isfinite(moved):
        return f"{classes}, and scores move by up to {moved:.3g} times their spread"
    return f"{classes}, and some scores are NaN, infinite or missing in one of the two answers"
