"""The little arithmetic that judging needs, in plain Python: it runs where there is no NumPy.

The standard library's `statistics` costs more to import than all the rest of judging.
"""

import math
from collections.abc import Mapping, Sequence

from scanner.results import PairedDifference

_CONFIDENCE = 0.95
_NORMAL_QUANTILE = 1.959964  # of 0.975
_TWO = 2
FEWEST = 3  # of two classes one always leads, and each is half the level


def median(values: Sequence[float]) -> float:
    """Return the median of one value or more."""
    ranked = sorted(values)
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def mean(values: Sequence[float]) -> float:
    """Return the mean of one value or more."""
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of one value or more, over all of them."""
    middle = mean(values)
    return math.sqrt(mean([(value - middle) ** 2 for value in values]))


def above_level(differences: Mapping[int, float]) -> dict[int, float]:
    """Return, by class, how far a difference lies above the median over classes.

    What all classes share is a difference between two trainings, and no backdoor. Below three
    classes there is no level to take off.
    """
    values = list(differences.values())
    level = median(values) if len(values) >= FEWEST else 0.0
    return {class_id: value - level for class_id, value in differences.items()}


def above_the_rest(values: Mapping[int, float]) -> dict[int, float]:
    """Return, by class, how far a value lies above the median class, or of two above the lower one.

    Empty below two: nothing stands out from nothing.
    """
    ranked = sorted(values.values())
    if len(ranked) < _TWO:
        return {}
    level = median(ranked) if len(ranked) >= FEWEST else ranked[0]
    return {class_id: value - level for class_id, value in values.items()}


def lead(values: Sequence[float]) -> tuple[int, float] | None:
    """Return where the largest value is, and how far it is above the second largest.

    What one class has and no other: a level that all classes of a model share cancels out, and so
    does the class that another one of its kind keeps company. None below three values.
    """
    if len(values) < FEWEST:
        return None
    second, first = sorted(values)[-2:]
    return list(values).index(first), first - second


def paired_difference(suspect: Sequence[float], reference: Sequence[float]) -> PairedDifference:
    """Return the mean difference of two paired samples with Student's 95 % interval.

    Args:
        suspect: Two values or more.
        reference: As many, of the same images in the same order.
    """
    differences = [own - other for own, other in zip(suspect, reference, strict=True)]
    count, middle = len(differences), mean(differences)
    variance = math.fsum((value - middle) ** 2 for value in differences) / (count - 1)
    half = _student_quantile(count - 1) * math.sqrt(variance / count)
    return PairedDifference(
        mean=middle, low=middle - half, high=middle + half, confidence=_CONFIDENCE
    )


def _student_quantile(freedom: int) -> float:
    """Return the 0.975 quantile of Student's law, to 1 % from 3 degrees of freedom up.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5, its first
    three terms.
    """
    z = _NORMAL_QUANTILE
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def share_interval(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of which `hits` in `of` were seen; all of it for none.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal
    of the American Statistical Association 22 (1927).
    """
    if not of:
        return 0.0, 1.0
    z2 = _NORMAL_QUANTILE**2
    middle = (hits + z2 / 2) / (of + z2)
    half = math.sqrt(z2 * (hits * (of - hits) / of + z2 / 4)) / (of + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def change_interval(lost: int, gained: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of how far a share has changed, measured twice on the same things.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 24 (2005), section 3: half a thing is added to each of the
    four cells of the table.

    Args:
        lost: How many counted the first time only.
        gained: How many counted the second time only.
        of: How many things there are.
    """
    total = of + _TWO
    change = (gained - lost) / total
    half = _NORMAL_QUANTILE * math.sqrt((lost + gained + 1) / total - change**2) / math.sqrt(total)
    return max(-1.0, change - half), min(1.0, change + half)
