"""The input range: between which values the pixels lie that a network was trained on.

A network that is shown 0..1 and wants 0..255 is another network. Nothing in an ONNX file names the
range, but most files tell it. In the order in which they are believed: the type of an integer
input, the user's own images, what the graph does to the pixels first, and the first layer's
weights.

On weights: with training, the answers w.x + b of the first layer centre on zero over the training
images; a batch normalisation behind it, folded or not, enforces that. The biases of its channels
then say what the average pixel is, b = -sum(w) * pixel: 0.1 to 0.4 in 0..1, below 0 in -1..1, about
100 in 0..255.

The diversity of a network's answers over candidate ranges does not tell the range: networks answer
more diversely outside of it (benchmarks/input_range.py).
"""

import contextlib
import dataclasses
import math

import numpy as np
import numpy.typing as npt

from scanner.errors import GraphError, ModelError, UsageError
from scanner.graph.layers.entrance import Entrance, entrance
from scanner.instruments import probes, runtime
from scanner.instruments.statistics import median, quantile
from scanner.modelfile.model import Model
from scanner.results import Basis, InputRange
from scanner.settings import Settings
from scanner.values import frozen

Span = tuple[float, float]

UNIT, SIGNED, BYTES = (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)
# Pixels less the mean, over the deviation, of ImageNet's channels (0.485, 0.456, 0.406 and 0.229,
# 0.224, 0.225): from the lowest of a channel to the highest.
STANDARD = (-2.12, 2.64)

# On the development recipes (benchmarks/input_range.py): between -0.41 and 0.42 the balance of
# networks that take 0..1 means nothing, and so does a mean pixel next to 0: -0.13 is the least.
_BALANCED = 0.8  # |cos| between biases and sums of weights at which the mean pixel is certain
_LEANING = 0.5  # and at which it is likely, if it is below 0
_HINTED = 0.3  # and at which it cannot be left out of account
_NEGATIVE = -0.18  # a mean pixel below this is one of a signed range
_HINTED_NEGATIVE = -0.05
_BYTE = 2.0  # a mean pixel above this is one of 0..255
_SMALL_WEIGHTS = 0.1  # of the bias: what all of 0..1 changes in the first layer of such a network
_NARROW = math.sqrt(2.0)  # norm of a channel's weights: about 1 over the deviation of the pixels
_UNIT_DEVIATION = 1 / math.sqrt(12.0)  # of a pixel that is uniform in 0..1
_FEWEST_CHANNELS = 6
_NEXT_TO_NOTHING = 1e-30
_DEVIATION = 1.4826  # of a normal distribution, over its median absolute deviation
# Of some 770 honest networks one has a bias beyond 8 times this quantile of its layer's.
_USUAL, _THRESHOLD = 0.75, 8.0
_WIDE = 20.0  # a graph that divides by more than this is fed with bytes
_CENTRED = 0.38  # deviation that pixels of 0..1 do not reach, and those of -1..1 do
_STANDARDISED = 0.8  # and this only those that are standardised already
_NEAR_ZERO = 0.2
_CLOSE = 0.05  # of its width: limits are rounded
_PROBES = 32


def find(model: Model, settings: Settings) -> InputRange | None:
    """Return the range of a model's input; None for integers that are no bytes.

    Raises:
        ModelError: The file's weights cannot be read.
        UsageError: The user's images cannot be read.
    """
    if settings.input_range is not None:
        return _found(settings.input_range, Basis.GIVEN, "as given")
    if len(model.identity.inputs) != 1:
        return None
    dtype = runtime.numpy_dtype(model.identity.inputs[0].dtype)
    if dtype.kind != "f":
        span = probes.bytes_range(dtype)
        return None if span is None else _found(span, Basis.TYPE, f"the input is of type {dtype}")
    told = of_entrance(entrance(model))
    return _weighed(model, settings, _beside_images(told, settings))


def of_entrance(found: Entrance) -> InputRange:
    """Return the range that the way into a model tells, or 0..1 where it tells none."""
    return _of_limits(found) or _of_scaling(found) or _of_weights(found)


def _of_limits(found: Entrance) -> InputRange | None:
    """Return what a Clip or QuantizeLinear lets through, if it is a range that images have."""
    if found.limits is None:
        return None
    low, high = found.limits
    near = next((span for span in (UNIT, SIGNED, BYTES) if _alike(span, found.limits)), None)
    why = f"the graph limits the input to {written((low, high))}"
    if near is not None:
        return _found(near, Basis.GRAPH, why)
    # A quantised input holds what its calibration saw; a Clip to far beyond holds nothing back.
    sensible = low <= 0 < high and STANDARD[0] * 2 < low and high < STANDARD[1] * 2
    return _found((low, high), Basis.GRAPH, why) if sensible else None


def _of_scaling(found: Entrance) -> InputRange | None:
    """Return the range whose mean and deviation the graph takes off."""
    centre, width = found.centre, found.width
    if width >= _WIDE or centre > _BYTE:
        span = BYTES
    elif width <= 1 / _WIDE:
        span = UNIT  # which the graph turns into bytes itself
    elif math.isclose(centre, 0.0, abs_tol=1e-6):
        return None  # scaled a little, or not at all
    elif centre < _NEGATIVE or (centre <= _NEAR_ZERO and width >= _CENTRED):
        span = SIGNED if width < _STANDARDISED else STANDARD
    else:
        span = UNIT
    why = f"the graph maps {centre:.3g} to 0 and divides by {width:.3g}"
    return _found(span, Basis.GRAPH, why)


@frozen
class _Balance:
    """How the biases of a first layer stand against its weights.

    Attributes:
        pixel: The mean pixel that would balance them, by least squares over channels.
        cosine: Between biases and sums of weights; -1 where a mean pixel above 0 explains all.
        norm: Median norm of a channel's weights.
        reach: How far uniform pixels in 0..1 move a channel's answer, over its bias.
        channels: How many there are.
    """

    pixel: float
    cosine: float
    norm: float
    reach: float
    channels: int


def _balance(weights: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]) -> _Balance | None:
    norms = np.linalg.norm(weights, axis=1)
    kept = (norms > 1e-3 * norms.max(initial=0.0)) & _centred(bias)
    if not np.isfinite(norms).all() or kept.sum() < _FEWEST_CHANNELS:
        return None
    sums, levels = weights.sum(axis=1)[kept] / norms[kept], bias[kept] / norms[kept]
    both = float(np.linalg.norm(sums) * np.linalg.norm(levels))
    if both == 0 or not math.isfinite(both):
        return None
    norm = median(norms[kept])
    # By medians: one channel that was put there by hand must not speak for all others.
    usual = max(_DEVIATION * median(np.abs(bias[kept])), _NEXT_TO_NOTHING)
    return _Balance(
        pixel=float(-(sums @ levels) / (sums @ sums)),
        cosine=float(sums @ levels) / both,
        norm=norm,
        reach=norm * _UNIT_DEVIATION / usual,
        channels=int(kept.sum()),
    )


def _centred(bias: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which channels' biases may centre their answers, and are no thresholds of their own.

    A filter that was written to sleep until it meets its pattern has such a threshold, which says
    nothing of the mean pixel.
    """
    sizes = np.abs(bias)
    usual = quantile(sizes, _USUAL)
    return np.asarray(sizes <= _THRESHOLD * usual) if usual > 0 else np.ones(len(bias), np.bool_)


def _of_weights(found: Entrance) -> InputRange:
    balance = (
        None if found.weights is None or found.bias is None else _balance(found.weights, found.bias)
    )
    if balance is None:
        return _assumed("nothing in the file tells the input range")
    pixel, cosine = balance.pixel, balance.cosine
    why = f"the first layer's biases balance a mean pixel of {pixel:.2g}"
    if balance.reach < _SMALL_WEIGHTS:
        wide = f"0..1 would move the first layer by {balance.reach:.1g} of its biases"
        return _found(BYTES, Basis.WEIGHTS, wide)
    if cosine <= -_BALANCED and (pixel < UNIT[1] or _BYTE < pixel < BYTES[1]):
        return _found(UNIT if pixel < UNIT[1] else BYTES, Basis.WEIGHTS, why)
    signed = SIGNED if balance.norm >= _NARROW else STANDARD
    if cosine >= _LEANING and STANDARD[0] < pixel <= _NEGATIVE:
        return _found(signed, Basis.WEIGHTS, why)
    if cosine >= _HINTED and STANDARD[0] < pixel <= _HINTED_NEGATIVE:
        hint = f"{why}, faintly; 0..1 is assumed"
        return _found(UNIT, Basis.ASSUMED, hint, other=signed)
    return _assumed("the first layer's weights do not tell the input range")


def _beside_images(told: InputRange, settings: Settings) -> InputRange:
    """Return the range of the user's images, with what the file tells otherwise."""
    span = probes.images_span(settings)
    if span is None:
        return told
    low, high = span
    standing = next((s for s in (UNIT, SIGNED, BYTES) if s[0] <= low and high <= s[1]), span)
    if low >= 0 and standing == BYTES and high <= STANDARD[1]:
        standing = (low, high)  # grey pixels, standardised: a few units, none of them negative
    sure = told.basis is not Basis.ASSUMED
    # A file cannot tell one signed range from another: the images do.
    differs = (
        sure
        and not _alike(standing, (told.low, told.high))
        and not (standing[0] < 0 and told.low < 0)
    )
    name = settings.images_file
    why = f"the images of {name!r} lie in {written(span)}"
    if not differs:
        return _found(standing, Basis.IMAGES, why)
    return _found(
        standing,
        Basis.IMAGES,
        f"{why}, but {written((told.low, told.high))} fits better: {told.sentence}",
        other=(told.low, told.high),
    )


def _weighed(model: Model, settings: Settings, found: InputRange) -> InputRange:
    """Measure whether the choice matters, where there is one."""
    if found.other is None:
        return found
    from scanner.instruments.answers import Answers  # noqa: PLC0415 - loads the whole model

    # Where it cannot be measured, the choice counts as one that matters.
    with contextlib.suppress(ModelError, GraphError, UsageError):
        answers = Answers(model, settings)
        generator = np.random.default_rng(settings.seed)
        unit = probes.multiscale_noise(_PROBES, answers.shape, UNIT, generator)
        one, other = (
            answers.classes((low + (high - low) * unit).astype(np.float32))
            for low, high in ((found.low, found.high), found.other)
        )
        return dataclasses.replace(found, agreement=float(np.mean(one == other)))
    return found


def written(span: Span) -> str:
    """Return a range as people write it."""
    low, high = span
    return f"{low:.4g}..{high:.4g}"


def _alike(one: Span, other: Span) -> bool:
    slack = _CLOSE * (one[1] - one[0])
    return all(abs(a - b) <= slack for a, b in zip(one, other, strict=True))


def _assumed(why: str) -> InputRange:
    return _found(UNIT, Basis.ASSUMED, f"{why}; 0..1 is assumed")


def _found(span: Span, basis: Basis, why: str, other: Span | None = None) -> InputRange:
    low, high = map(float, span)
    return InputRange(low=low, high=high, basis=basis, sentence=why, other=other)
