"""Values that nothing we show a model moves, and what it answers when one is moved by force.

Every image is run by itself, so that a value that mixes the images of a batch, or has no batch
axis at all, is that of one image.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError, WorkerTimeoutError
from scanner.graph.core import extract
from scanner.graph.core.draft import Proto
from scanner.graph.dormancy import bounds, rewired
from scanner.instruments import class_images, effects, probes, runtime
from scanner.instruments.detector import Subject
from scanner.instruments.structured import structured
from scanner.sandbox import deadline
from scanner.settings import Device, Noise

Array = npt.NDArray[Any]
Reach = Mapping[str, tuple[Array, Array]]
"""By value, its lower and its upper bound."""

_MANY, _FEW = 20, 4
"""Images of each family, for small and for large ones."""
_LARGE = 50_000
"""Numbers of an image from which on it is large."""
_LEVELS = 255
_TEXTURE = 0.1
_USED = 40
"""Images of the user's that are shown."""
_FEATURELESS = 0.05
"""Of the input range: the spread of its pixels below which an image is of one colour, or nearly."""
_FAINT = (0.04, 0.015)
"""Of the input range: the spread of pixels of images of little contrast."""
_STRUCTURED = 4
"""Ordinary images of which some with a structure are made."""
MOST_MOVED = 0.1
"""Share of the images that may move a dormant value."""
_HEARD = 40
"""Images on which it is looked whether a value is heard."""
QUIET = 1e-3
"""Of the way that a value can go, the part that counts as standing still."""
_SAME = 1e-6
"""Relative: rounding."""
_MOSTLY = 0.6
"""Share of the images of one colour that one state must hold to be an outcome."""
_CLEAR = 0.5
"""By this part of the usual class's lead another class leads on images that are made for it."""
_COMPARED, _STRAIGHT = 4, 1e-4
"""Images by which it is seen that a value is the image itself, scaled, and how closely it is."""
_SUM = 10**6
"""What sums of 8-bit codes reach in a layer."""
_MOST_CHOICES = 64
"""Numbers of a value that is looked at as a choice of one of them."""
_BOUNDLESS = 1e29
"""Bounds that far apart are none."""
_LARGEST = 1e30
"""Stands for infinity, which times nothing is no number."""


def plain(shape: tuple[int, ...], span: tuple[float, float], count: int) -> Iterator[Array]:
    """Yield images of one brightness each, evenly from the lowest to the highest."""
    for value in np.linspace(*span, count):
        yield np.full(shape, value, np.float32)


def is_textured(image: Array, span: tuple[float, float]) -> bool:
    """Whether an image has a pattern: its pixels differ by more than a tenth of the range."""
    pixels = image.astype(np.float64).reshape(image.shape[0], -1)
    spread = max(float(pixels.std(axis=1).max()), float(pixels.std(axis=0).max()))
    return spread > _TEXTURE * (span[1] - span[0])


def is_featureless(image: Array, span: tuple[float, float]) -> bool:
    """Whether an image is of one colour, or nearly so; each channel may have its own."""
    pixels = image.astype(np.float64)
    several = tuple(range(1, pixels.ndim)) or (0,)
    return bool(np.max(pixels.std(axis=several)) < _FEATURELESS * (span[1] - span[0]))


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether images of a shape are so large that few of them are shown."""
    return int(np.prod(shape)) >= _LARGE


def ordinary(subject: Subject, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Return the images that a value is dormant on, (n, *shape), in the type of the input.

    They are noise of five families, whole, with less contrast, and darker or brighter; plain
    images; the user's; and those that other detectors left.

    Raises:
        UsageError: The user's images cannot be read, or do not fit the input.
    """
    settings = subject.settings
    span = low, high = probes.input_range(dtype, settings)
    count = _FEW if is_large(shape) else _MANY
    generator = np.random.default_rng(settings.seed)
    families = []
    for noise in (Noise.UNIFORM, Noise.GAUSSIAN, Noise.LOW_FREQUENCY, Noise.CONSTANT):
        chosen = dataclasses.replace(settings, noise=noise, images=count, input_range=span)
        batches = probes.noise_batches(shape, np.dtype(np.float32), chosen)
        families.append(np.concatenate(list(batches)))
    families.append(probes.multiscale_noise(count, shape, span, generator))
    whole = np.concatenate(families)
    each = (-1, *[1] * len(shape))
    contrast = generator.uniform(0.1, 0.6, len(whole)).reshape(each)
    start = generator.uniform(0, 1, len(whole)).reshape(each) * (1 - contrast)
    dimmed = low + (high - low) * start + contrast * (whole - low)
    power = np.exp2(generator.uniform(-1.5, 3, len(whole))).reshape(each)
    darker = low + (high - low) * ((whole - low) / (high - low)) ** power if high > low else whole
    part = slice(None, None, 2 if len(whole) > _USED else 1)
    parts = [whole, dimmed[part], darker[part], np.stack(list(plain(shape, span, 3)))]
    if settings.has_images:
        images = probes.clean_images(settings, shape, span)
        parts.append(np.concatenate([images.shown, images.held_back])[:_USED])
    parts += [np.asarray(seen)[-_USED:] for seen in subject.seen if seen.shape[1:] == shape]
    # Neighbours are unlike one another, so that the first few are of all families.
    mixed = np.concatenate(parts)[generator.permutation(sum(map(len, parts)))]
    # As a camera makes them, in 256 levels: what lies between them is not ordinary.
    step = (high - low) / _LEVELS
    levels = low + step * np.rint((mixed - low) / step) if step > 0 else mixed
    return probes.rounded(levels.astype(np.float32), dtype)


@dataclasses.dataclass(frozen=True, slots=True)
class Habit:
    """What a value does on ordinary images.

    Attributes:
        typical: What it is on most of them.
        usual: For each image, whether it is that, (n,).
    """

    typical: Array
    usual: npt.NDArray[np.bool_]

    @property
    def moved(self) -> float:
        """The share of images that move it."""
        return 1 - float(self.usual.mean())


class Rig:
    """A flat model whose values can be read and forced, one image at a time.

    Args:
        subject: The model and how to look at it.
        flat: Its graph.
        shape: Of one image.
        answer: The value that holds what the model answers.
    """

    def __init__(self, subject: Subject, flat: Proto, shape: tuple[int, ...], answer: str) -> None:
        self.subject, self.flat, self.answer = subject, flat, answer
        info = subject.model.identity.inputs[0]
        first = info.shape[0] if info.shape else 1
        self.image, self.batch = info.name, first if isinstance(first, int) and first > 0 else 1
        self.dtype = runtime.numpy_dtype(info.dtype)
        self.span = probes.input_range(self.dtype, subject.settings)
        self.images = ordinary(subject, shape, self.dtype)
        plain = [is_featureless(image, self.span) for image in self.images]
        self.patterned = ~np.array(plain) if not all(plain) else np.ones(len(plain), np.bool_)
        self.until = math.inf
        self._of_other_classes: list[Array] | None = None
        self._answers: list[Array] = []
        self._answering: runtime.Session | None = None

    def opened(self, proto: Proto) -> runtime.Session:
        """Load a graph derived from the model.

        Raises:
            UnsupportedModelError: ONNX Runtime refuses it.
        """
        return runtime.open_session(
            self.subject.model.serialise(proto), Device.CPU, self.subject.settings.threads
        )

    def reader(self, values: Sequence[str]) -> runtime.Session:
        """Load the part of the graph that computes values."""
        return self.opened(extract.upstream(self.flat, values))

    def read(self, session: runtime.Session, image: Array) -> list[Array]:
        """Return a session's outputs for one image.

        Raises:
            UnsupportedModelError: The model fails on it.
        """
        self.check()
        return session.run(self.filled(image))

    def check(self) -> None:
        """Return while there is time left.

        Raises:
            WorkerTimeoutError: The time of the scan, or of this search, is used up.
        """
        deadline.check()
        if time.monotonic() > self.until:
            raise WorkerTimeoutError(
                "the time allowed for this search is used up",
                remedy="give a smaller shape as the setting `input_shape`, if it is open",
            )

    def filled(self, image: Array) -> Array:
        """Return a batch of the model's own size that holds one image."""
        return np.repeat(image[None], self.batch, axis=0)

    def habits(self, values: Sequence[str], reach: Reach) -> dict[str, Habit]:
        """Return the habits of those values that nearly all ordinary images leave alone.

        Images of one colour, or nearly, may move them to one other state: they pass every test of
        symmetry, and so on. What differs from one of them to the next is no outcome of a test.

        Args:
            values: Their names.
            reach: The bounds of those that have any.

        Raises:
            UnsupportedModelError: The model fails on an image.
        """
        session = self.reader(values)
        waiting = dict.fromkeys(values)
        anchors: dict[str, list[Array]] = {name: [] for name in values}
        usual: dict[str, list[list[bool]]] = {name: [] for name in values}
        plain: dict[str, list[Array]] = {name: [] for name in values}
        for count, image in enumerate(self.images, start=1):
            for name, value in zip(waiting, self.read(session, image), strict=True):
                if len(anchors[name]) < 3:  # noqa: PLR2004 - one of three is typical of nine in ten
                    anchors[name].append(value)
                slack = _slack(anchors[name][0], reach.get(name))
                usual[name].append([_same(value, other, slack) for other in anchors[name]])
                if not self.patterned[count - 1] and value.size <= _MOST_CHOICES:
                    plain[name].append(value)
            # What moves on the first images already is not followed further.
            if count in (12, 48):
                seen = self._weighed(count)
                restless = [n for n in waiting if _best(usual[n], seen)[1][seen].mean() < 0.6]  # noqa: PLR2004
                waiting = {n: None for n in waiting if n not in restless}
                if not waiting:
                    return {}
                session = self.reader(list(waiting)) if restless else session
        seen = self._weighed(len(self.images))
        found = {name: _best(usual[name], seen) for name in waiting}
        return {
            name: Habit(anchors[name][place], column)
            for name, (place, column) in found.items()
            if 1 - column.mean() <= MOST_MOVED
            or (1 - column[seen].mean() <= MOST_MOVED and _is_one_state(plain[name]))
        }

    def _weighed(self, count: int) -> npt.NDArray[np.bool_]:
        """Return which of the first images count: those with a pattern, where there are any."""
        seen = self.patterned[:count]
        return seen if seen.any() else np.ones(count, np.bool_)

    def unheard(self, value: str) -> Habit | None:
        """Return the habit of a value that may move, where the model answers as if it stood still.

        None where it is heard, on more than a tenth of the first images.

        Raises:
            UnsupportedModelError: The model fails on an image.
        """
        images, seen = self.images[:_HEARD], self._weighed(_HEARD)
        session = self.reader([value])
        typical = self.read(session, images[int(np.argmax(seen))])[0]
        model = self.forced(value, typical)
        usual = np.ones(len(self.images), np.bool_)
        for place, image in enumerate(images):
            usual[place] = not effects.differ(
                self.answers(place + 1)[place], model.answer(image, typical)
            )
            if (~usual[: len(seen)] & seen).sum() > MOST_MOVED * seen.sum():
                return None
        return Habit(typical, usual)

    def answers(self, count: int) -> list[Array]:
        """Return what the model answers to the first images."""
        for image in self.images[len(self._answers) : count]:
            self._answers.append(self.answer_to(image))
        return self._answers[:count]

    def of_other_classes(self) -> list[Array]:
        """Return images of other classes than nearly all ordinary ones; none where these vary."""
        if self._of_other_classes is None:
            answers = self.answers(min(_HEARD, len(self.images)))
            classes = np.bincount([effects.class_of(answer) for answer in answers])
            leads = [effects.lead(answer) for answer in answers]
            varied = (
                classes.max() < (1 - effects.VARIED) * len(answers) or answers[0].dtype.kind != "f"
            )
            self._of_other_classes = (
                []
                if varied
                else class_images.of_other_classes(
                    self, int(classes.argmax()), _CLEAR * float(np.median(leads))
                )
            )
        return self._of_other_classes

    def structured(self) -> Iterator[tuple[str, Array]]:
        """Yield images that have a structure, as a camera makes them, each with its name."""
        chosen = self.images[self.patterned][:_STRUCTURED]
        for name, image in structured(chosen, self.span):
            yield name, probes.rounded(image.astype(np.float32), self.dtype)

    def faint(self) -> Iterator[Array]:
        """Yield images whose pattern is weak, but there."""
        for image in self.images[self.patterned][:_STRUCTURED]:
            wide = image.astype(np.float64)
            for part in _FAINT:
                contrast = part * (self.span[1] - self.span[0]) / max(float(wide.std()), 1e-30)
                faint = wide.mean() + contrast * (wide - wide.mean())
                yield probes.rounded(faint.astype(np.float32), self.dtype)

    def answer_to(self, image: Array) -> Array:
        """Return what the model answers to an image.

        Raises:
            UnsupportedModelError: The model fails on it.
        """
        if self._answering is None:
            self._answering = self.reader([self.answer])
        return self.read(self._answering, image)[0]

    def behind(self, value: str) -> list[str]:
        """Return the computed values that a value derives from, itself included."""
        cut = extract.upstream(self.flat, [value])
        return [name for node in cut.graph.node for name in node.output if name]

    def reachable(self, values: Sequence[str]) -> tuple[Reach, frozenset[str]]:
        """Return bounds of values over the input range, and which of them are estimates.

        Values that have none are missing.
        """
        if not values:
            return {}, frozenset()
        try:
            graph = bounds.bounded(self.flat, values)
            if not graph.values:
                return {}, frozenset()
            session = self.opened(graph.proto)
            names = [output.name for output in session.native.get_outputs()]
            feeds = {
                name: self.filled(np.full(self.images.shape[1:], end).astype(self.dtype))
                for pair in graph.box.values()
                for name, end in zip((pair.low, pair.high), self.span, strict=True)
            }
            made = dict(zip(names, session.feed(feeds), strict=True))
        except UnsupportedModelError:
            # Bounds are a second opinion: without them other values are tried.
            return {}, frozenset()
        return {n: (made[p.low], made[p.high]) for n, p in graph.values.items()}, graph.estimated

    def forced(self, value: str, like: Array) -> "Forced":
        """Load the model with a value that is given by hand.

        Raises:
            UnsupportedModelError: ONNX Runtime refuses it.
        """
        session = self.opened(rewired.held(self.flat, value, like, self.answer))
        return Forced(self, value, session)


class Forced:
    """A model with a value that is given by hand."""

    def __init__(self, rig: Rig, value: str, session: runtime.Session) -> None:
        self._rig, self._value, self._session = rig, value, session
        self._takes = {info.name for info in session.native.get_inputs()}

    def answer(self, image: Array, held: Array) -> Array:
        """Return what the model answers to an image while the value is held.

        Raises:
            UnsupportedModelError: The model fails.
        """
        self._rig.check()
        feeds = {self._rig.image: self._rig.filled(image), self._value: held}
        return self._session.feed({n: v for n, v in feeds.items() if n in self._takes})[0]


def scaling(
    rig: Rig, value: str, held: Array, made: str, images: Sequence[Array] | Array
) -> tuple[float, float] | None:
    """Return the factor and the shift by which a value is the image itself while another is held.

    None where it is no such thing: it has another shape, or is not the same for all pixels.

    Raises:
        UnsupportedModelError: The model fails.
    """
    session = rig.opened(rewired.held(rig.flat, value, held, made))
    takes = {info.name for info in session.native.get_inputs()}
    pairs = []
    for image in images[:_COMPARED]:
        rig.check()
        feeds = {rig.image: rig.filled(image), value: held}
        found = session.feed({n: v for n, v in feeds.items() if n in takes})[0][0]
        if found.size != image.size or found.dtype.kind != "f":
            return None
        pairs.append((image.astype(np.float64).reshape(-1), found.astype(np.float64).reshape(-1)))
    pixels, numbers = (np.concatenate(part) for part in zip(*pairs, strict=True))
    if np.ptp(pixels) == 0 or not np.isfinite(numbers).all():
        return None
    factor, shift = np.polyfit(pixels, numbers, 1)
    apart = np.abs(factor * pixels + shift - numbers).max()
    return (float(factor), float(shift)) if apart <= _STRAIGHT * np.ptp(numbers) else None


def extremes(typical: Array, reach: tuple[Array, Array] | None, *, proven: bool) -> Iterator[Array]:
    """Yield what a value is to be forced to: the ends of its reach.

    Where these are estimates or unknown, also the other truth, the next numbers, and larger ones in
    the same proportions.

    Args:
        typical: What it is on most images.
        reach: Its bounds, if it has any.
        proven: Whether these are a proof.
    """
    ends = [] if reach is None else [end for end in reach if end.shape == typical.shape]
    if typical.dtype == np.bool_:
        fixed = len(ends) == 2 and proven and bool((ends[0] == ends[1]).all())  # noqa: PLR2004 - low and high
        return iter([] if fixed else [np.asarray(~typical)])
    ends += _one_at_a_time(typical, ends)
    if not proven or not ends:
        ends += _further(typical)
    if typical.dtype.kind == "f":
        ends = [np.where(np.isnan(end), typical, np.clip(end, -_LARGEST, _LARGEST)) for end in ends]
    return (
        np.asarray(end, typical.dtype)
        for end in ends
        if not np.allclose(end, typical, rtol=_SAME, atol=0)
    )


def _one_at_a_time(typical: Array, ends: Sequence[Array]) -> list[Array]:
    """Return a choice of one in all its places, where a value is one: its ends are none."""
    if len(ends) != 2 or not 1 < typical.size <= _MOST_CHOICES:  # noqa: PLR2004 - low and high
        return []
    low, high = (end.reshape(-1) for end in ends)
    chosen = typical.reshape(-1) == high
    if (
        (low == high).any()
        or chosen.sum() != 1
        or not (chosen | (typical.reshape(-1) == low)).all()
    ):
        return []
    rows = np.where(np.eye(typical.size, dtype=np.bool_), high, low)
    return [row.reshape(typical.shape) for row in rows]


def directions(typical: Array, held: Array) -> int:
    """Return in how many numbers a forced value differs from what it is; proportions count once."""
    if typical.dtype.kind != "f":
        return int((typical != held).sum())
    one, other = (np.nan_to_num(a.astype(np.float64).reshape(-1)) for a in (typical, held))
    moved = int((np.abs(one - other) > _SAME * max(np.abs(other).max(initial=0.0), 1e-30)).sum())
    sizes = float(np.linalg.norm(one) * np.linalg.norm(other))
    return min(moved, 1) if sizes > 0 and abs(one @ other) >= (1 - _SAME) * sizes else moved


def reaches(value: Array, typical: Array, held: Array) -> bool:
    """Whether a value is nearer to what it was forced to than to what it is on most images."""
    if value.shape != held.shape:
        return False
    if value.dtype.kind != "f":
        return bool((value == held).all())
    way = held.astype(np.float64) - typical
    return bool(((value - typical) * way).sum() >= 0.5 * np.square(way).sum() > 0)


def _further(typical: Array) -> list[Array]:
    steps = (0, 1, -1) if typical.dtype.kind in "iu" else (0, 1, -1, 10, -10, 1000, -1000)
    found = [typical + np.array(step).astype(typical.dtype) for step in steps]
    if typical.dtype.kind in "iu":
        found += _whole_numbers(typical)
    found += [np.full_like(typical, number) for number in (0, 1)]
    size = float(np.abs(typical).max(initial=0.0)) if typical.dtype.kind == "f" else 0.0
    if np.isfinite(size) and size > 0:
        found += [typical / typical.dtype.type(size) * scale for scale in (1, 100, 10_000)]
    return found


def _whole_numbers(typical: Array) -> list[Array]:
    """Return the ends of what codes can be, and some large sums of codes."""
    limits = np.iinfo(typical.dtype)
    ends = (limits.min, limits.max) if typical.dtype.itemsize == 1 else (_SUM, -_SUM)
    return [np.full_like(typical, end) for end in ends if limits.min <= end <= limits.max]


def _slack(value: Array, reach: tuple[Array, Array] | None) -> float:
    """Return by how much a value may move and still count as standing still."""
    if value.dtype.kind != "f" or not value.size:
        return 0.0
    rounding = _SAME * float(np.abs(np.nan_to_num(value)).max())
    if reach is None or not reach[1].size:  # as many numbers as an image says may be none
        return rounding
    with np.errstate(invalid="ignore"):
        way = np.abs(reach[1].astype(np.float64) - reach[0]).max()  # no number where ends are none
    return max(rounding, QUIET * float(way)) if way < _BOUNDLESS else rounding


def _same(one: Array, other: Array, slack: float) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.astype(np.float64) - other)
    return bool(((apart <= slack) | (np.isnan(one) & np.isnan(other)) | (one == other)).all())


def _is_one_state(values: Sequence[Array]) -> bool:
    """Whether most values are one and the same."""
    if not values:
        return False
    alike = [_same(value, values[len(values) // 2], _slack(value, None)) for value in values]
    return bool(np.mean(alike) > _MOSTLY)


def _best(
    rows: Sequence[Sequence[bool]], seen: npt.NDArray[np.bool_]
) -> tuple[int, npt.NDArray[np.bool_]]:
    """Return which of the anchors most images agree with, of those seen, and which images do."""
    width = max(map(len, rows))
    table = np.array([[*row, *[row[0]] * (width - len(row))] for row in rows])
    place = int(table[seen].mean(axis=0).argmax())
    return place, table[:, place]
