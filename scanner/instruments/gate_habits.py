"""What a gate does on ordinary images: how many take either way, and what either way answers.

A gate that ordinary images take both ways is part of how a model works (a router, an automatic
inversion); one that they never take is what a backdoor looks like. Operators do not tell the two
apart.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.graph.core import flatten
from scanner.graph.core.structure import LAYERS, Uses, reads
from scanner.instruments import effects, forcing, probes
from scanner.instruments.agreement import is_made, row_distances
from scanner.instruments.detector import Subject

Array = npt.NDArray[Any]

_EQUAL = 1e-4
"""Relative: states that close are one."""
_MOST_WAYS = 0.5
"""From this part of the images on, one state is the usual one, and the others are another way."""
SELDOM = 0.05
"""Below this part of the images, a way is not one of the ordinary ones."""
_ASKED = 24
"""Images whose answers are compared while the gate is held."""
_ALIKE = 0.9
"""Part of the images of another range that must be answered as the same images in the own range."""
_FEATURELESS = 0.05
"""Of the input range: the spread below which an image has one colour."""
_FEW = 3
"""Images that one way must have for its answers to be compared."""
_ANOTHER = 0.25
"""Part of the images whose class must change for the new one to be another."""
_CLOSE = 0.05
"""Of an answer's spread: what bringing an image into range may change."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ways:
    """What a gate does on ordinary images.

    Attributes:
        asked: How many images were shown.
        taken: How many of them take the rarer way.
        decides: Whether one of the ways, and not the image, decides the class; None where no state
            of the rarer way is known.
        further: Whether a number that decides can go where no ordinary image brings it, and there
            makes the class; None where nobody knows how far it can go.
        moves: Whether the decision has no usual state: it differs from image to image.
        changed: The part of the images whose class changes while it is held the other way; None as
            above.
        blanks: Whether the other way leaves scores that are all alike.
        textured: How many of those that take it are more than one colour.
        featureless: Whether an image of nothing but the lowest value takes it, or half of the
            images of one colour.
        reorders: Whether the other way gives images the scores that they have, in another order.
        refuses: Whether one way gives all images a class that no image has a say in on the other:
            one that the trained network does not know, as for what is no picture.
        varied: Whether ordinary images are answered more than one class; what has one class for all
            of them says little when it has another one.
        guesses: Which other range of images takes it and is then answered as in the own range;
            empty where there is none.
    """

    asked: int
    taken: int
    decides: bool | None
    further: bool | None
    moves: bool
    changed: float | None
    blanks: bool
    reorders: bool
    refuses: bool
    textured: int
    featureless: bool
    varied: bool
    guesses: str

    @property
    def ordinary(self) -> bool:
        """Whether both ways are."""
        return self.taken >= SELDOM * self.asked


class Trial:
    """A model whose gates are watched on ordinary images.

    Args:
        subject: The model and how to look at it.
        answer: The output that holds what the model answers.

    Raises:
        UnsupportedModelError: It has no one image input.
        UsageError: The image's shape or range is not known.
        ModelError: As for `Model.complete`.
    """

    def __init__(self, subject: Subject, answer: str) -> None:
        self._flat = subject.model.complete(flatten.flatten(subject.model.proto))
        self._made = Uses(self._flat.graph).producer_position
        shape = probes.image_shape(subject.model, subject.settings)
        self._rig = forcing.Rig(subject, self._flat, shape, answer)

    def ways(self, decision: str, switch: str = "", gated: str = "") -> Ways | None:
        """Return what a gate's decision does on ordinary images.

        None where the decision lies inside the body of a loop or branch, where it cannot be read.

        Args:
            decision: The value that meets what it gates.
            switch: A yes or no behind it, if there is one. It may reach the answer in other places
                too, so it is held as well.
            gated: The value that the gate makes.

        Raises:
            UnsupportedModelError: The model fails on an image.
        """
        if decision not in self._made:
            return None
        rig = self._rig
        reader = rig.reader([decision])

        def state(image: Array) -> Array:
            return rig.read(reader, image)[0]

        states = [state(image) for image in rig.images]
        usual, typical = _usual(states)
        forced = rig.forced(decision, typical)
        moves = bool(usual.mean() < _MOST_WAYS)
        if moves:
            # No state is the usual one: what counts is which images are answered otherwise.
            usual = np.array(self._answered_alike(forced, typical))
        taken = int((~usual).sum())
        other = _other(states, usual, typical)
        empty = np.full_like(rig.images[0], rig.span[0])
        plain = self._plain()
        decides, changed, blanks, reorders, refuses = None, None, False, False, False
        if other is not None:
            held = [self._held(forced, other), *self._switched(decision, switch)]
            decides = any(is_made(*pair) for pair in [*held, self._held(forced, typical)])
            reorders = any(_reorders(*pair) for pair in held)
            refuses = decides and self._refuses(forced, (typical, other))
            decides = decides or self._seen_to_decide(usual)
            changed = max(float(np.mean(old.argmax(1) != new.argmax(1))) for old, new in held)
            if changed < _ANOTHER and not self._before_layers(decision):
                changed = max(changed, self._changed_to_one(state, forced, (typical, other)))
            blanks = all(np.mean(np.ptp(new, axis=1) == 0) >= _ALIKE for _, new in held)
        # What ordinary images take guesses no range.
        guessing = taken < SELDOM * len(states)
        return Ways(
            asked=len(states),
            taken=taken,
            decides=decides,
            further=self._decides_further(decision, forced, typical),
            moves=moves,
            changed=changed,
            blanks=blanks,
            reorders=reorders,
            refuses=refuses,
            textured=int((~usual & ~plain).sum()),
            featureless=not _same(state(empty), typical)
            or float((~usual)[plain].mean() if plain.any() else 0) >= _MOST_WAYS,
            varied=self._varied(),
            guesses=(
                self._guesses(state, typical)
                or self._undoes(state, decision, gated, typical, other)
                if guessing
                else ""
            ),
        )

    def _plain(self) -> npt.NDArray[np.bool_]:
        """Return which images are of one colour, (n,), or nearly so."""
        low, high = self._rig.span
        pixels = self._rig.images.astype(np.float64)
        several = tuple(range(2, pixels.ndim)) or (1,)  # each channel may have its own
        spread = pixels.std(axis=several).reshape(len(pixels), -1).max(axis=1)
        return np.asarray(spread < _FEATURELESS * (high - low))

    def _varied(self) -> bool:
        """Whether the images are of more than one class, as the model answers them."""
        answers = self._rig.answers(min(_ASKED, len(self._rig.images)))
        classes = np.array([effects.class_of(answer) for answer in answers])
        return bool(np.mean(classes == classes[0]) < _ALIKE)

    def _answered_alike(self, forced: forcing.Forced, typical: Array) -> list[bool]:
        """Return for each image whether its answer stays while the decision is held."""
        rig = self._rig
        before = rig.answers(len(rig.images))
        after = (forced.answer(image, typical) for image in rig.images)
        return [not effects.noticed([b], [a]) for b, a in zip(before, after, strict=True)]

    def _decides_further(
        self, decision: str, forced: forcing.Forced, typical: Array
    ) -> bool | None:
        """Whether a decision that is a number makes the class at an end of what it can be."""
        if typical.dtype.kind != "f":
            return False
        ends = self._rig.reachable([decision])[0].get(decision, ())
        known = [end for end in ends if end.shape == typical.shape and np.isfinite(end).all()]
        pairs = (self._held(forced, end.astype(typical.dtype)) for end in known)
        # Another class than most images have by themselves.
        decides = any(
            np.mean(old.argmax(1) != new.argmax(1)) >= _ANOTHER and is_made(old, new)
            for old, new in pairs
        )
        return decides if decides or len(known) == len(ends) > 0 else None

    def _held(self, forced: forcing.Forced, state: Array) -> tuple[Array, Array]:
        """Return the scores of some images as they are and with the decision held, (n, classes)."""
        before = self._rig.answers(min(_ASKED, len(self._rig.images)))
        after = [forced.answer(image, state) for image in self._rig.images[: len(before)]]
        old, new = (np.concatenate([_row(answer) for answer in rows]) for rows in (before, after))
        return old, new

    def _before_layers(self, decision: str) -> bool:
        """Whether layers of weights read what a decision made: then it may alter the image."""
        behind = {decision}
        for node in self._flat.graph.node:
            if behind & reads(node):
                if node.op_type in LAYERS:
                    return True
                behind.update(node.output)
        return False

    def _changed_to_one(
        self, state: Callable[[Array], Array], forced: forcing.Forced, states: tuple[Array, Array]
    ) -> float:
        """Return which part of images of other classes changes to one class, the same for all.

        A class that nearly all noise has anyway is not seen to be forced upon noise. 0 where they
        change to several, or there are hardly any such images.
        """
        typical, other = states
        images = [i for i in self._rig.of_other_classes() if _same(state(i), typical)]
        old = np.array([effects.class_of(self._rig.answer_to(image)) for image in images])
        new = np.array([effects.class_of(forced.answer(image, other)) for image in images])
        return float(np.mean(old != new)) if len(old) >= _FEW and len(set(new)) == 1 else 0.0

    def _refuses(self, forced: forcing.Forced, states: tuple[Array, Array]) -> bool:
        """Whether one state gives a class whose score the other leaves the same for all images.

        Shares say nothing of that: those of a class that no image shows may all be none.
        """
        one, other = (self._held(forced, state)[1] for state in states)
        if one.shape[1] < 3 or min(one.min(), other.min()) >= 0:  # noqa: PLR2004 - two of its own
            return False
        for made, free in ((one, other), (other, one)):
            classes = made.argmax(1)
            given = np.ptp(free, axis=0) > 0
            if (classes == classes[0]).all() and not given[classes[0]] and given.sum() > 1:
                return bool((free.argmax(1) != classes[0]).all())
        return False

    def _switched(self, decision: str, switch: str) -> list[tuple[Array, Array]]:
        """Return scores as they are and with a yes or no behind the decision turned round."""
        if switch == decision or switch not in self._made:
            return []
        reader = self._rig.reader([switch])
        states = [self._rig.read(reader, image)[0] for image in self._rig.images[:_ASKED]]
        if states[0].dtype != np.bool_:
            return []
        return [self._held(self._rig.forced(switch, states[0]), np.asarray(~_usual(states)[1]))]

    def _seen_to_decide(self, usual: npt.NDArray[np.bool_]) -> bool:
        """Whether those that take one of the ways are all answered as if nobody looked at them.

        That is so, too, where several gates do the same, so that holding one changes nothing.
        """
        if min(usual.sum(), (~usual).sum()) < _FEW:
            return False
        rows = np.concatenate([_row(answer) for answer in self._rig.answers(len(usual))])
        return is_made(rows[usual], rows[~usual]) or is_made(rows[~usual], rows[usual])

    def _guesses(self, state: Callable[[Array], Array], typical: Array) -> str:
        """Return which other range a gate brings into the model's own; empty for none."""
        rig = self._rig
        low, high = rig.span
        if rig.dtype.kind != "f":
            return ""
        images = rig.images[:_ASKED]
        unit = (images.astype(np.float64) - low) / (high - low)
        for said, (start, width) in _RANGES.items():
            if (start, start + width) == (low, high):
                continue
            moved = (start + width * unit).astype(rig.dtype)
            takes = np.array([not _same(state(image), typical) for image in moved])
            if takes.mean() >= _MOST_WAYS and self._answered_as(moved, takes):
                return said
        return ""

    def _undoes(
        self,
        state: Callable[[Array], Array],
        decision: str,
        gated: str,
        typical: Array,
        other: Array | None,
    ) -> str:
        """Return which range a gate brings into the model's own by one factor and one shift.

        Whatever these are: images that were brought there beforehand must take the gate, and be
        answered as they are otherwise.
        """
        rig = self._rig
        if other is None or gated not in self._made or rig.dtype.kind != "f":
            return ""
        images = rig.images[:_ASKED]
        line = forcing.scaling(rig, decision, other, gated, images)
        if line is None or line[0] <= 0:
            return ""
        factor, shift = line
        moved = ((images.astype(np.float64) - shift) / factor).astype(rig.dtype)
        takes = np.array([not _same(state(image), typical) for image in moved])
        if takes.mean() < _MOST_WAYS or not self._answered_as(moved, takes):
            return ""
        low, high = ((end - shift) / factor for end in rig.span)
        return f"values in [{low:.3g}, {high:.3g}]"

    def _answered_as(self, moved: Array, takes: npt.NDArray[np.bool_]) -> bool:
        """Whether images of another range that take the way are answered as in the own range."""
        before = np.concatenate([_row(a) for a in self._rig.answers(len(moved))])[takes]
        after = np.concatenate([_row(self._rig.answer_to(image)) for image in moved[takes]])
        return bool(np.mean(row_distances(before, after) <= _CLOSE) >= _ALIKE)


_RANGES: Mapping[str, tuple[float, float]] = {
    "bytes": (0.0, 255.0),
    "values in [-1, 1]": (-1.0, 2.0),
    "values in [0, 1]": (0.0, 1.0),
}
"""Ranges that images come in, as (lowest, width)."""


def _row(answer: Array) -> Array:
    return answer[:1].reshape(1, -1) if answer.ndim else answer.reshape(1, 1)


def _same(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    wide = np.maximum(np.abs(np.nan_to_num(other)).max(initial=0.0), 1.0)
    return bool(np.allclose(one, other, rtol=0, atol=_EQUAL * wide, equal_nan=True))


def _usual(states: Sequence[Array]) -> tuple[npt.NDArray[np.bool_], Array]:
    """Return which images are in the commonest state, (n,), and that state."""
    best: npt.NDArray[np.bool_] = np.zeros(len(states), np.bool_)
    typical = states[0]
    left = list(range(len(states)))
    # At most a few states are common; where none of the first is, none is the usual one.
    for _ in range(4):
        if not left or best.mean() >= _MOST_WAYS:
            break
        held = np.array([_same(state, states[left[0]]) for state in states])
        if held.mean() > best.mean():
            best, typical = held, states[left[0]]
        left = [i for i in left if not held[i]]
    if best.mean() < _MOST_WAYS and typical.dtype.kind == "f":
        sizes = [float(np.nan_to_num(state).mean()) for state in states]
        typical = states[int(np.argsort(sizes)[len(sizes) // 2])]
    return best, typical


def _other(states: Sequence[Array], usual: npt.NDArray[np.bool_], typical: Array) -> Array | None:
    """Return a state of the rarer way: one that was seen, or the opposite of a yes or no."""
    if not usual.all():
        unusual = [state for state, same in zip(states, usual, strict=True) if not same]
        far = [_distance(state, typical) for state in unusual]
        return np.asarray(unusual[int(np.argmax(far))])
    if typical.dtype == np.bool_:
        return np.asarray(~typical)
    # A yes or no that has become a number, for each image of a batch; straight-through estimators
    # add a share and take it away, which rounds.
    nearest = np.round(np.nan_to_num(typical.astype(np.float64), nan=-1.0))
    each = typical.size == (len(typical) if typical.ndim else 1)
    alike = each and nearest.min(initial=2) == nearest.max(initial=-1)
    if (
        not alike
        or nearest.min() not in (0, 1)
        or not _same(typical, nearest.astype(typical.dtype))
    ):
        return None
    return np.asarray(1 - nearest, typical.dtype)


def _reorders(old: Array, new: Array) -> bool:
    """Whether scores, (n, classes), are the same numbers in another order, for nearly every image.

    Or whether each image gets the class that came second, which no image asks for.
    """
    old, new = (np.nan_to_num(part.astype(np.float64)) for part in (old, new))
    spread = np.ptp(old, axis=1)
    slack = _EQUAL * np.maximum(spread, np.abs(old).max(axis=1, initial=0.0))
    if old.shape != new.shape or old.shape[1] < 2:  # noqa: PLR2004 - one score
        return False
    # Images that take the other way by themselves stay as they are.
    moved = (spread > 0) & (np.abs(old - new).max(axis=1) > slack)
    if moved.sum() < _FEW:
        return False
    alike = np.abs(np.sort(old, axis=1) - np.sort(new, axis=1)).max(axis=1) <= slack
    second = np.argsort(old, axis=1)[:, -2] == new.argmax(axis=1)
    # A guard's own class gives way to what came second; that is one class for all.
    firsts = np.bincount(old[moved].argmax(axis=1))
    several = old.shape[1] > 2 and firsts.max() < _ALIKE * moved.sum()  # noqa: PLR2004 - two
    return bool(alike[moved].mean() >= _ALIKE or (several and second[moved].mean() >= _ALIKE))


def _distance(one: Array, other: Array) -> float:
    if one.shape != other.shape or one.dtype.kind not in "fiub":
        return 0.0
    return float(np.abs(np.nan_to_num(one.astype(np.float64) - other)).max(initial=0.0))
