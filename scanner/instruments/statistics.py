"""Outliers, margins, the gamma law."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_NORMAL_MAD = 1.4826  # standard deviations per MAD, for a normal law
_NORMAL_MEAN_DEVIATION = 1.2533  # standard deviations per mean absolute deviation, for a normal law
# of a series or a continued fraction, which needs some multiple of the root of its arguments
_TERMS = 10_000
_EPSILON = 1e-15


def quantile(values: npt.ArrayLike, share: float) -> float:
    """Return a quantile, between two values in proportion (definition 7 of Hyndman and Fan, 1996).

    `numpy.quantile` does the same, but imports `numpy.ma` first, which takes longer than many a
    scan of a first layer.

    Args:
        values: Shape (n,), n >= 1; one NaN makes the quantile NaN.
        share: In 0..1; 0.5 asks for the median.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    place = share * (ordered.size - 1)
    low = int(place)
    if np.isnan(ordered[-1]):
        return math.nan
    if place == low or ordered[low] == ordered[low + 1]:  # two infinities have no middle
        return float(ordered[low])
    return float(ordered[low] + (place - low) * (ordered[low + 1] - ordered[low]))


def median(values: npt.ArrayLike) -> float:
    """Return the median of at least one value, shape (n,)."""
    return quantile(values, 0.5)


def anomaly_index(sizes: Sequence[float]) -> float | None:
    """Return how far the smallest value lies below the median, in median absolute deviations.

    None below three values. Source: Neural Cleanse (IEEE S&P 2019), section V-B:
    |min - median| / (1.4826 MAD), where above 2 is an outlier. It is 0 where all values are equal,
    and infinity has no place in a report: a vanishing MAD counts as a thousandth of the median.
    """
    if len(sizes) < 3:  # noqa: PLR2004 - an outlier needs others
        return None
    values = np.asarray(sizes, dtype=np.float64)
    middle = median(values)
    spread = max(_NORMAL_MAD * median(np.abs(values - middle)), 1e-3 * middle, 1e-12)
    return (middle - float(values.min())) / spread


def fit_gamma(values: Sequence[float]) -> tuple[float, float] | None:
    """Return shape and scale of the gamma law on (0, inf) that fits positive values.

    None where they do not vary.
    The likelihood equation log k - digamma(k) = log(mean) - mean(log), solved in closed form to 1.5
    % of the shape k (T. Minka, "Estimating a Gamma distribution", Microsoft Research 2002).
    """
    mean = math.fsum(values) / len(values)
    gap = math.log(mean) - math.fsum(map(math.log, values)) / len(values)
    if gap < _EPSILON:
        return None
    shape = (3 - gap + math.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)
    return shape, mean / shape


def gamma_survival(value: float, shape: float, scale: float) -> float:
    """Return the probability that a gamma variable exceeds a value.

    This is the regularised incomplete gamma function Q. Source: the NIST Digital Library of
    Mathematical Functions: the series 8.7.1 below shape + 1, where it converges fast, the continued
    fraction 8.9.2 above.
    """
    x = value / scale
    if x <= 0:
        return 1.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        return 1.0 - front * _lower_series(x, shape)
    return front * _upper_fraction(x, shape)


def _lower_series(x: float, shape: float) -> float:
    """Return sum over n of x^n / (a (a + 1) ... (a + n)), where a is the shape."""
    term = total = 1 / shape
    for n in range(1, _TERMS):
        term *= x / (shape + n)
        total += term
        if term < total * _EPSILON:
            break
    return total


def _upper_fraction(x: float, shape: float) -> float:
    """Return 1/(x + 1 - a - 1 (1 - a)/(x + 3 - a - 2 (2 - a)/(x + 5 - a - ...))) by Lentz's method.

    Source: W. Lentz, Applied Optics 15 (1976). With x > a + 1 no denominator vanishes.
    """
    bottom = x + 1 - shape
    upper, lower = math.inf, 1 / bottom
    result = lower
    for n in range(1, _TERMS):
        top = -n * (n - shape)
        bottom += 2
        lower = 1 / (top * lower + bottom)
        upper = bottom + top / upper
        factor = lower * upper
        result *= factor
        if abs(factor - 1) < _EPSILON:
            break
    return result


def robust_z(values: npt.ArrayLike, least: float = 0.0) -> npt.NDArray[np.float64]:
    """Return how far each value lies above the median, in units of 1.4826 MAD, shape (n,).

    Where more than half of the values are equal the MAD vanishes; the unit is then the mean
    absolute deviation, times 1.2533, its factor for a normal law. All are 0 where all values are
    equal.

    Args:
        values: Shape (n,).
        least: The smallest meaningful unit: rounding must not make outliers.
    """
    numbers = np.asarray(values, dtype=np.float64)
    above = numbers - median(numbers)
    spread = _NORMAL_MAD * median(np.abs(above)) or _NORMAL_MEAN_DEVIATION * np.abs(above).mean()
    unit = max(float(spread), least)
    return np.asarray(above / unit if unit else above, dtype=np.float64)


def class_margins(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return each class's mean margin z_t - max(z_k, k != t), (classes,).

    It is in standard deviations of a row's logits.

    Args:
        logits: Shape (n, classes), two classes or more.
    """
    classes = logits.shape[1]
    best = np.partition(logits, classes - 2, axis=1)[:, -2:]
    winners = logits.argmax(axis=1)
    rival = np.where(np.arange(classes) == winners[:, None], best[:, :1], best[:, 1:])
    unit = float(logits.std(axis=1).mean()) or 1.0
    return np.asarray((logits - rival).mean(axis=0) / unit, dtype=np.float64)


def softmax(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return the probabilities that scores stand for, (n, classes), in float32."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def leads(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return by how much the best class leads, for each row of scores (n, classes)."""
    return lead_of(scores.argmax(axis=1), scores)


def lead_of(
    classes: int | npt.NDArray[np.int64], scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return by how much classes lead, or how far they are behind, for each row of scores."""
    rows = np.arange(len(scores))
    own = scores[rows, classes]
    rest = scores.copy()
    rest[rows, classes] = -np.inf
    return np.asarray(own - rest.max(axis=1))
