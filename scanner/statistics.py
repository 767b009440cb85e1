"""Paired differences and their intervals; outliers."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_RESAMPLES = 2_000
_NORMAL_MAD = 1.4826  # standard deviations a MAD, for a normal law


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """The mean of paired differences and its interval.

    Attributes:
        mean: Mean of suspect minus reference.
        low: Lower end of the interval.
        high: Upper end.
        confidence: Its nominal coverage over draws of the *images*. Two clean models differ too, so an interval that
            excludes 0 says "different", not "backdoored".
    """

    mean: float
    low: float
    high: float
    confidence: float


def paired_difference(
    suspect: npt.NDArray[np.float64],
    reference: npt.NDArray[np.float64],
    generator: np.random.Generator,
    confidence: float = 0.95,
) -> PairedDifference:
    """Return the mean difference of two paired samples with its percentile bootstrap interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.

    Args:
        suspect: Shape (n,).
        reference: Shape (n,), the same images in the same order.
        generator: Draws the resamples.
        confidence: Nominal coverage.
    """
    difference = suspect - reference
    draws = generator.integers(0, len(difference), (_RESAMPLES, len(difference)))
    means = difference[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedDifference(mean=float(difference.mean()), low=float(low), high=float(high), confidence=confidence)


def anomaly_index(sizes: Sequence[float]) -> float | None:
    """Return how far the smallest value lies below the median, in median absolute deviations; None below three values.

    Source: Neural Cleanse (IEEE S&P 2019), section V-B: |min - median| / (1.4826 MAD), where above 2 is an outlier. It is
    0 where all values are equal, and infinity has no place in a report: a vanishing MAD counts as a thousandth of the
    median.
    """
    if len(sizes) < 3:  # noqa: PLR2004 - an outlier needs a crowd
        return None
    values = np.asarray(sizes, dtype=np.float64)
    median = float(np.median(values))
    spread = max(_NORMAL_MAD * float(np.median(np.abs(values - median))), 1e-3 * median, 1e-12)
    return (median - float(values.min())) / spread
