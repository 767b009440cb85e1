"""Units of the first layers that decide the answer where they meet their own best input.

A backdoor in weights alone begins with a matched filter: a channel that was added or taken over,
whose weights are the trigger's template and whose threshold lets nothing else pass (Qi et al.,
CVPR 2022; Hong et al., "Handcrafted Backdoors in Deep Neural Networks", NeurIPS 2022). The best
input of a unit of the first layer is known in closed form, the sign of its weights, and is a small
patch: as large as a kernel, or a few pixels. So each unit in turn is shown its patch, on images
that leave it alone. A trained filter answers to it and the network hardly does; where the answer
jumps to one class by far more than images ever decide it, the filter is a trigger's.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanner.errors import GraphError, NoGradientError, UnsupportedModelError
from scanner.graph.dormancy import odd_channels
from scanner.graph.dormancy.rewired import leaking
from scanner.graph.dormancy.side_paths import FirstLayer, Paths
from scanner.graph.gradient.backward import gradient_model
from scanner.instruments import kept, probes, quiet_images
from scanner.instruments.effects import differ_in_class
from scanner.instruments.forcing import Rig, is_large
from scanner.instruments.plane import Plane
from scanner.instruments.runtime import Session
from scanner.instruments.statistics import lead_of, leads
from scanner.results import Input, Observation, Severity

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_MOST_LAYERS, _MOST_UNITS = 4, 512
_POOL = 64
"""Images that leave most filters alone: smooth ones, some of them dark around."""
_FEWER = 16
"""Images of the pool where they are large."""
_SHOWN = 8
"""Images of the pool, of those that move a unit least, on which it is shown its patch."""
_SHARE = 0.05
_SHARE_OF_DENSE = 0.025
"""Of an image's numbers, what a patch changes at most, and always nine."""
_LEAST = 9
_STRONG = 0.5
"""Of a dense unit's largest weight, what a pixel of its patch weighs at least."""
_SIDE = 4
"""Copies of a patch along a side: four an odd distance apart meet every grid of a stride of 4."""
_SCREENED, _GLANCED = 4, 2
"""Images on which all copies of a patch are shown, and on which its best place is looked for."""
_HEARD = 1.0
"""Gain of all copies together from which one is looked at."""
_MOST_TRIED = 4
"""Units of a layer that are tried at one place, those of the largest gain first."""
_BELOW, _ABOVE = 0.5, 2.0
"""Widths of the range by which a patch goes beyond it, for units that sleep in all of it: pixels of
0 to 1 that were standardised reach from -0.4 to 2.8 (MNIST)."""
_ALIKE = 0.9
"""Cosine of the weights of units that match the same pattern."""
_DECISIVE, _APART = 8.0, 2.5
"""The gain of a unit that decides, and how many times its rivals' that is. In 177 clean networks of
the recipes no unit comes near to both: their largest gain at 2.5 times its rivals' is 5."""
_BEYOND = " (outside of the input range, in which the channel always sleeps)"
_AGREED, _UNDONE = 0.9, 0.5
"""Share of the answers that are brought into one class; share of the images on which holding the
unit still undoes it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """What a unit does to the answer where it meets its best input.

    Attributes:
        value: The value that its layer makes.
        node: The layer's label.
        axis: Of the units.
        unit: Its number.
        units: Its number and those of others that match the same pattern.
        of: How many units the layer has.
        class_id: The class that is answered.
        gain: By how much the class's lead grows, beside an ordinary lead; the median of the images.
        share: Of the images that were answered otherwise, the part that is answered with it.
        rival: The largest gain of any other unit of the layer.
        changed: The part of the image that the patch changes.
        beyond: Whether the patch goes beyond the input's range.
        images: What was shown, (n, *shape), without the patch and with it.
    """

    value: str
    node: str
    axis: int
    unit: int
    units: tuple[int, ...]
    of: int
    class_id: int
    gain: float
    share: float
    rival: float
    changed: float
    beyond: bool
    images: tuple[Array, Array]


_LARGEST = 1e30
"""Stands for infinity, and negative for no number."""
_Place: TypeAlias = tuple[int, int]


def measure(rig: Rig, paths: Paths) -> Iterator[Filter]:
    """Yield the units of the first layers whose patch changes answers most.

    Raises:
        UnsupportedModelError: The model fails when it runs.
        WorkerTimeoutError: The time ran out.
    """
    runner = _Runner(rig)
    if runner.classes < 2:  # noqa: PLR2004 - a class number has no lead
        return
    for first in itertools.islice(paths.first_layers(), _MOST_LAYERS):
        try:
            layer = _Layer(runner, first)
        except (NoGradientError, GraphError, UnsupportedModelError):
            continue
        yield from runner.tried(layer)


def observe(rig: Rig, paths: Paths) -> Iterator[Observation]:
    """Yield the units that are matched filters: holding them still undoes what their patches do.

    Raises:
        UnsupportedModelError: The model fails when it runs.
        WorkerTimeoutError: The time ran out.
    """
    for found in measure(rig, paths):
        if (
            found.share >= _AGREED
            and found.gain >= _DECISIVE
            and found.gain >= _APART * found.rival
            and (left := undone(rig, found)).share >= _UNDONE
        ):
            yield _observation(found, left.shown)


@dataclasses.dataclass(frozen=True, slots=True)
class Undone:
    """What is left of a patch's effect while a unit is held as it was without it.

    Attributes:
        share: Of the images, those on which at least half of the class's lead is gone.
        shown: One of them on which the answer is another one then; None where there is none.
    """

    share: float
    shown: Input | None


def undone(rig: Rig, found: Filter) -> Undone:
    """Hold a unit still while its patch is shown: what the patch does by other units is left.

    Raises:
        UnsupportedModelError: The model fails when it runs.
        WorkerTimeoutError: The time ran out.
    """
    session = rig.reader([found.value])
    model, shown, count = None, None, 0
    for original, image in zip(*found.images, strict=True):
        (quiet,), (moved,) = rig.read(session, original), rig.read(session, image)
        model = model or rig.forced(found.value, moved)
        part = odd_channels.index_of(moved.shape, found.axis, found.units)
        moved[part] = quiet[part]
        answers = [rig.answer_to(original), rig.answer_to(image), model.answer(image, moved)]
        rows = np.stack([answer.reshape(rig.batch, -1)[0] for answer in answers])
        before, after, held = lead_of(found.class_id, rows.astype(np.float64))
        count += bool(after - held >= (after - before) / 2 > 0)
        if shown is None and differ_in_class(answers[1], answers[2]):
            shown = kept.pictured(image, rig.span, kept.Answered(
                after=answers[1], without=answers[2], original=original, before=answers[0],
                success=found.share,
            ))  # fmt: skip
    return Undone(count / len(found.images[0]), shown)


def _observation(found: Filter, shown: Input | None) -> Observation:
    more = len(found.units) - 1
    named = f"{found.unit} (like {more} other{'s' * (more > 1)})" if more else str(found.unit)
    told = (
        "; but no image was found that is answered differently then"
        if shown is None
        else ". Confirmed: an input is answered differently while the channel is held still"
    )
    return Observation(
        code="matched-filter",
        severity=Severity.WARNING if shown is None else Severity.CONFIRMED,
        sentence=f"Channel {named} of {found.of} of {found.node!r} is a matched filter: its best "
        f"input{_BEYOND * found.beyond}, which changes {found.changed:.1%} of an image, brings "
        f"{found.share:.0%} of the images of other classes to class {found.class_id}, and that "
        f"class ahead by {found.gain:.0f} times an ordinary lead; that of the next channel by "
        f"{found.rival:.1f} times. While the channel is held still, half of that lead is gone or "
        f"more{told}",
        nodes=(found.node,),
        details={
            "value": found.value,
            "channels": list(found.units),
            "class": found.class_id,
            "gain": found.gain,
            "rival": found.rival,
            "share": found.share,
            "changed": found.changed,
            "beyond": found.beyond,
        },
        input=shown,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Patch:
    """The best input of a unit: what changes, and to what.

    Attributes:
        mask: Which numbers of an image, as the plane sees it.
        bright: Which of these become the highest value; the others become the lowest.
        span: The lowest and the highest value.
        own: The upper left corner of where it stands, (row, column).
        places: Where that may be moved to: two grids of as many copies as find room.
    """

    mask: npt.NDArray[np.bool_]
    bright: npt.NDArray[np.bool_]
    span: tuple[float, float]
    own: _Place
    places: tuple[tuple[_Place, ...], ...]


class _Layer:
    """The units of a first layer: their slopes by the image, and how far images move them.

    Raises:
        NoGradientError: The layer cannot be differentiated.
    """

    def __init__(self, runner: "_Runner", first: FirstLayer) -> None:
        rig, value = runner.rig, first.value
        self.first = first
        self._plane = runner.plane
        moved = runner.answers(rig.reader([value]), runner.pool)
        self.axis = 1 if first.convolution else moved.ndim - 1
        self.units = min(moved.shape[self.axis], _MOST_UNITS)
        places = tuple(axis for axis in range(1, moved.ndim) if axis != self.axis)
        self.heights: Floats = moved.max(axis=places) if places else moved
        self._places = [moved.shape[axis] for axis in places]
        self._range = low, high = rig.span
        middle = np.full((1, *rig.images.shape[1:]), (low + high) / 2).astype(rig.dtype)
        inner = runner.answers(rig.reader([value]), middle)[0]
        at: list[Any] = [size // 2 for size in inner.shape]
        at[self.axis - 1] = slice(None)
        self._middle: Floats = inner[tuple(at)]
        self._slopes = self._differentiated(runner, moved.shape)

    def _differentiated(self, runner: "_Runner", shape: tuple[int, ...]) -> Array:
        """Return the slope of each unit, at the middle of its map, by the image [units, *shape]."""
        rig = runner.rig
        model = gradient_model(leaking(rig.flat), of=self.first.value, with_respect_to=[rig.image])
        session = rig.opened(model.proto)
        low, high = rig.span
        middle = np.full(rig.images.shape[1:], (low + high) / 2, np.float32)
        at = [size // 2 for size in shape[1:]]
        found = []
        size = runner.size
        for start in range(0, self.units, size):
            rig.check()
            weights = np.zeros((size, *shape[1:]), np.float32)
            for row in range(min(size, self.units - start)):
                at[self.axis - 1] = start + row
                weights[(row, *at)] = 1
            feeds = {rig.image: np.repeat(middle[None], size, axis=0), model.weights: weights}
            found.append(session.feed(feeds, [model.gradients[rig.image]])[0])
        return np.asarray(np.concatenate(found)[: self.units])

    def patch(self, unit: int) -> _Patch | None:
        """Return what a unit answers to best; None where the image does not move it."""
        slope = self._plane.view(self._slopes[unit][None])[0]
        sizes = np.abs(slope)
        share = _SHARE if self._places else _SHARE_OF_DENSE
        most = max(int(share * sizes.size), _LEAST)
        least = 0.0 if self._places else _STRONG * float(sizes.max())
        mask = sizes > least
        if np.count_nonzero(mask) > most:
            # Weights of a template are all alike: so many of them are taken, whichever.
            first = np.argsort(-sizes, axis=None, kind="stable")[:most]
            mask = np.isin(np.arange(sizes.size), first).reshape(sizes.shape)
        if not mask.any():
            return None
        rows, columns = (
            np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
            for axis in (self._plane.rows, self._plane.columns)
        )
        own = int(rows[0]), int(columns[0])
        extents = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
        return _Patch(mask, slope > 0, self._span(unit), own, self._moves(own, extents))

    def _span(self, unit: int) -> tuple[float, float]:
        """Return what a patch is made of: more than the input's range where no image wakes a unit.

        A range may have been assumed, and be that of pixels before they are standardised.
        """
        low, high = self._range
        width = high - low
        if self._middle[unit] + np.abs(self._slopes[unit]).sum() * width / 2 > 0:
            return low, high
        return low - _BELOW * width, high + _ABOVE * width

    def alike(self, one: int, other: int) -> bool:
        """Whether two units match the same pattern."""
        first, second = (self._slopes[unit].ravel().astype(np.float64) for unit in (one, other))
        sizes = float(np.linalg.norm(first) * np.linalg.norm(second))
        return float(first @ second) >= _ALIKE * sizes

    def _moves(self, own: _Place, extents: tuple[int, int]) -> tuple[tuple[_Place, ...], ...]:
        """Return where a patch may stand: all over the image, where other places have the unit."""
        sides = self._plane.height, self._plane.width
        if not self._places or min(self._places) < 1:
            return ((own,),)
        steps = [
            max(1, round(side / count)) if len(self._places) == len(sides) else extent
            for side, count, extent in zip(sides, [*self._places, 1, 1], extents, strict=False)
        ]
        rows, columns = (
            spread(side, extent, step, at % step)
            for side, extent, step, at in zip(sides, extents, steps, own, strict=True)
        )
        # Once from the upper left corner, once to the lower right one.
        grids = ((row, column) for row, column in zip(rows, columns, strict=True))
        return tuple(dict.fromkeys(tuple(itertools.product(row, column)) for row, column in grids))


def spread(side: int, extent: int, step: int, first: int) -> tuple[list[int], list[int]]:
    """Return up to four starts on a grid, an odd number of steps apart: the first, and the last."""
    room = max((side - extent - first) // step, 0)
    apart = max(room // (_SIDE - 1), -(-extent // step))
    apart -= apart % 2 == 0 and apart * step > extent
    starts = [first + k * apart * step for k in range(_SIDE) if k * apart <= room]
    left = first + room * step - starts[-1]
    return starts, [start + left for start in starts]


class _Runner:
    """A model that is shown many images at a time, and the pool of images that are shown."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        shape = rig.images.shape[1:]
        self.plane = Plane.of(shape)
        large = is_large(shape)
        self._screened = _GLANCED if large else _SCREENED
        self._count = _FEWER if large else _POOL
        self._session = rig.reader([rig.answer])
        first = self._session.input_shape[0] if self._session.input_shape else None
        fixed = isinstance(first, int) and first > 0
        self.size = first if isinstance(first, int) and fixed else probes.batch_size(shape)
        self.pool = quiet_images.smooth(rig, self.plane, self._count)
        if not fixed and not self._takes_many():
            self.size = 1
        self._before = self.scores(self.pool)
        self.classes = self._before.shape[1]
        self._usual = float(np.median(leads(self._before))) if self.classes > 1 else 0.0

    def _takes_many(self) -> bool:
        """Whether two images at once are answered as each of them is."""
        two = self.pool[:2]
        try:
            both = np.asarray(self._session.run(two)[0])
        except UnsupportedModelError:
            return False
        each = [np.asarray(self._session.run(two[k : k + 1])[0]) for k in range(2)]
        return len(both) == len(two) and np.allclose(
            both, np.concatenate(each), rtol=1e-2, atol=1e-3
        )

    def answers(self, session: Session, images: Array) -> Floats:
        """Return what a session makes of images, as many at a time as it takes."""
        made = []
        for start in range(0, len(images), self.size):
            self.rig.check()
            part = images[start : start + self.size]
            spare = np.repeat(part[:1], self.size - len(part), axis=0) if self._fixed else part[:0]
            made.append(session.run(np.concatenate([part, spare]))[0][: len(part)])
        return np.asarray(np.concatenate(made), np.float64)

    @property
    def _fixed(self) -> bool:
        return isinstance(self._session.input_shape[0], int)

    def scores(self, images: Array) -> Floats:
        """Return what the model answers to images, one row each."""
        rows = self.answers(self._session, images).reshape(len(images), -1)
        return np.nan_to_num(rows, nan=-_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)

    def tried(self, layer: _Layer) -> Iterator[Filter]:
        """Yield what the units of a layer do by themselves, of those whose copies do most."""
        patches = {
            unit: patch for unit in range(layer.units) if (patch := layer.patch(unit)) is not None
        }
        few = self._screened
        screened = {
            unit: max(each.gain for each in self._shown(layer, unit, patch.places, patch, few))
            for unit, patch in patches.items()
        }
        ranked = sorted(screened, key=lambda unit: -screened[unit])
        tried = [unit for unit in ranked[:_MOST_TRIED] if screened[unit] >= _HEARD]
        best = [self._alone(layer, unit, patches[unit]) for unit in tried]
        best.sort(key=lambda each: -each.gain)
        told = set[int]()
        for found in best:
            # Units that were planted together match one pattern, and are no rivals.
            same = tuple(u for u in patches if u == found.unit or layer.alike(found.unit, u))
            # Nor are those whose patch goes beyond the range.
            rest = [
                each.gain for each in best if each.unit not in same and each.beyond <= found.beyond
            ]
            if found.unit not in told:
                yield dataclasses.replace(found, units=same, rival=max(rest, default=0.0))
            told.update(same)

    def _alone(self, layer: _Layer, unit: int, patch: _Patch) -> Filter:
        """Return what one patch by itself does, at the place where it does most."""
        alone = [(place,) for grid in patch.places for place in grid]
        if len(alone) > 1:
            first = self._shown(layer, unit, alone, patch, _GLANCED)
            alone = [alone[int(np.argmax([each.gain for each in first]))]]
        return self._shown(layer, unit, alone, patch, _SHOWN)[0]

    def _shown(
        self,
        layer: _Layer,
        unit: int,
        groups: Sequence[Sequence[_Place]],
        patch: _Patch,
        count: int,
    ) -> list[Filter]:
        """Return what a unit's patch does at each group of places, on so many images."""
        quiet = self._quiet(layer, unit)[:count]
        images, before = self.pool[quiet], self._before[quiet]
        pasted = [self._pasted(images, patch, group) for group in groups]
        after = self.scores(np.concatenate(pasted)).reshape(len(groups), len(quiet), -1)
        return [
            self._judged(layer, unit, before, scores, (images, shown))
            for scores, shown in zip(after, pasted, strict=True)
        ]

    def _quiet(self, layer: _Layer, unit: int) -> list[int]:
        """Return images of the pool that move a unit little, of as many classes as there are."""
        waiting: dict[int, list[int]] = {}
        for place in np.argsort(layer.heights[:, unit], kind="stable")[: self._count // 2].tolist():
            waiting.setdefault(int(self._before[place].argmax()), []).append(place)
        turns = itertools.zip_longest(*waiting.values())
        mixed = [place for turn in turns for place in turn if place is not None]
        return mixed[:_SHOWN]

    def _pasted(self, images: Array, patch: _Patch, places: Sequence[_Place]) -> Array:
        """Return images with a patch at some places."""
        low, high = patch.span
        plane = self.plane
        changed = plane.view(images).copy()
        for place in places:
            by = tuple(to - at for to, at in zip(place, patch.own, strict=True))
            axes = (plane.rows, plane.columns)
            mask, bright = (np.roll(part, by, axes) for part in (patch.mask, patch.bright))
            changed[:, mask & bright] = high
            changed[:, mask & ~bright] = low
        return changed.reshape(images.shape)

    def _judged(
        self, layer: _Layer, unit: int, before: Floats, after: Floats, images: tuple[Array, Array]
    ) -> Filter:
        classes, counts = np.unique(after.argmax(axis=1), return_counts=True)
        target = int(classes[counts.argmax()])
        grown = lead_of(target, after) - lead_of(target, before)
        usual = float(leads(before).max())
        others = before.argmax(axis=1) != target
        low, high = self.rig.span
        share = float((after.argmax(axis=1) == target)[others].mean()) if others.any() else 0.0
        return Filter(
            value=layer.first.value,
            node=layer.first.node,
            axis=layer.axis,
            unit=unit,
            units=(unit,),
            of=layer.units,
            class_id=target,
            gain=float(np.median(grown)) / max(usual, self._usual, 1e-12),
            share=share,
            rival=0.0,
            changed=float((images[0] != images[1]).mean()),
            beyond=bool(images[1].min() < low or images[1].max() > high),
            images=images,
        )
