"""Paired differences and their intervals."""

import dataclasses

import numpy as np
import numpy.typing as npt

_RESAMPLES = 2_000


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
