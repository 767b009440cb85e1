"""Inputs beside clean ones: ranks, one answer of all filters, and what a whole set of them shows.

**One filter.** With s the statistic of an input and s_1..s_n those of clean images measured alike,

    p = (1 + #{s_i >= s}) / (n + 1),

a conformal p-value: if the input is clean too, P(p <= a) <= a (V. Vovk, A. Gammerman and G. Shafer,
"Algorithmic Learning in a Random World", 2005, chapter 2).

**All together.** Filters measure in units of their own. Let centre and unit of a filter be the
median of its statistic on the hosts, and how far the upper tenth lies above it. An input's distance
is S = max over the filters that decide of (s - centre) / unit, and its p-value is its rank by S. It
is as valid as that of one filter, whatever the filters' dependence, and has the same resolution,
1 / (n + 1), where a correction for the number of filters would need so many times as many images:
centre and unit come from the hosts, which are not ranked, so that S is a fixed function of an
input.

**A set of inputs.** An input stands out if p <= alpha, that is, if at most r - 1 clean images lie
as far out, r = floor(alpha (n + 1)). Of m clean inputs, K stand out by chance. All are ranked among
the same images, so that K is not binomial: by exchangeability the positions of the n images among
the n + m are uniform, and

    P(K = k) = C(k + r - 1, k) C(m - k + n - r, m - k) / C(n + m, m),

the negative hypergeometric law. P(K >= what was seen) is the p-value of the set. For one input it
is r / (n + 1) <= alpha where it stands out.
"""

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence

from scanner.results import (
    CleanReadings,
    Discoveries,
    FilterScore,
    InputReading,
    ScreenedInput,
    Verdict,
)

_TAIL = 0.9  # the quantile whose distance from the median is a filter's unit
_LEAST_UNIT = 1e-3  # statistics are shares and bits: less is rounding
_ROUNDING = 1e-9  # relative, of alpha (n + 1)


def needed(alpha: float) -> int:
    """Return among how many clean images an input must be ranked, so that its p can be alpha."""
    return max(1, math.ceil(1 / alpha - _ROUNDING) - 1)


class Ranks:
    """Clean images, among which inputs are ranked.

    Args:
        clean: What was read off them.
    """

    def __init__(self, clean: CleanReadings) -> None:
        self._rules = [note.rule.id for note in clean.filters]
        self._deciding = [place for place, note in enumerate(clean.filters) if note.decides]
        self._scales = [_scale(column) for column in _columns(clean.hosts, len(self._rules))]
        self._sorted = [sorted(column) for column in _columns(clean.ranked, len(self._rules))]
        self._distances = sorted(self._furthest(reading)[0] for reading in clean.ranked)
        self.count = len(clean.ranked)

    def ranked(self, number: int, reading: InputReading, alpha: float) -> ScreenedInput:
        """Return an input beside the clean images."""
        (distance, place), furthest = self._furthest(reading), self._distances[-1]
        p_value = _rank(self._distances, distance)
        return ScreenedInput(
            number=number,
            name=reading.name,
            class_id=reading.class_id,
            stands_out=p_value <= alpha * (1 + _ROUNDING),
            p_value=p_value,
            size=distance / furthest if furthest > 0 else None,
            scores=tuple(
                FilterScore(rule=rule, statistic=statistic, p_value=_rank(clean, statistic))
                for rule, statistic, clean in zip(
                    self._rules, reading.statistics, self._sorted, strict=True
                )
            ),
            rule=self._rules[place],
            region=reading.regions[place],
        )

    def _furthest(self, reading: InputReading) -> tuple[float, int]:
        """Return S, and the place of the filter that sets the input apart most."""
        return max(
            ((reading.statistics[place] - self._scales[place][0]) / self._scales[place][1], place)
            for place in self._deciding
        )


def _columns(readings: Sequence[InputReading], filters: int) -> Iterator[list[float]]:
    for place in range(filters):
        yield [reading.statistics[place] for reading in readings]


def _scale(statistics: Sequence[float]) -> tuple[float, float]:
    """Return centre and unit of a filter."""
    ordered = sorted(statistics)
    centre, tail = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, _TAIL))
    return centre, max(tail - centre, _LEAST_UNIT)


def _rank(ordered: Sequence[float], value: float) -> float:
    """Return (1 + #{clean >= value}) / (n + 1)."""
    as_far = len(ordered) - bisect.bisect_left(ordered, value)
    return (1 + as_far) / (len(ordered) + 1)


def places(alpha: float, clean: int) -> int:
    """Return r: with which rank among so many clean images an input still stands out."""
    return math.floor(alpha * (clean + 1) * (1 + _ROUNDING))


def expected(inputs: int, alpha: float, clean: int) -> float:
    """Return how many of so many clean inputs stand out by chance, on average."""
    return inputs * places(alpha, clean) / (clean + 1)


def as_many(seen: int, inputs: int, alpha: float, clean: int) -> float:
    """Return the probability that so many of so many clean inputs stand out, or more."""
    if not seen:
        return 1.0
    chances = _chances(inputs, places(alpha, clean), clean)
    return min(1.0, math.fsum(itertools.islice(chances, seen, None)))


def _chances(inputs: int, r: int, clean: int) -> Iterator[float]:
    """Yield P(K = k) for k = 0, 1, ..., inputs, each from the one before."""
    chance = sum(math.log((clean - i) / (clean + inputs - i)) for i in range(r))
    for k in range(inputs + 1):
        yield math.exp(chance)
        if k < inputs:
            chance += math.log((k + r) / (k + 1) * (inputs - k) / (inputs - k - 1 + clean - r + 1))


def told(
    seen: int, inputs: int, chance: float, p_value: float, alpha: float
) -> tuple[Verdict, str]:
    """Return what a set of inputs shows, and the sentence that says so.

    Args:
        seen: How many inputs stand out.
        inputs: Of how many.
        chance: How many clean ones would, on average.
        p_value: Probability that as many clean ones do, or more.
        alpha: The level.
    """
    if not inputs:
        return Verdict.INCONCLUSIVE, "there are no inputs"
    if inputs == 1:
        return (
            (Verdict.SUSPICIOUS, "the input carries a trigger, or is unlike the clean images")
            if seen
            else (Verdict.CLEAN, "the input is indistinguishable from the clean images")
        )
    counted = f"{seen:,} of {inputs:,} inputs stand out, and {chance:,.1f} would by chance"
    if not seen:
        return Verdict.CLEAN, f"none of {inputs:,} inputs stands out"
    if p_value <= alpha:
        return Verdict.SUSPICIOUS, f"{counted}: inputs carry a trigger"
    return Verdict.CLEAN, f"{counted}: no more than clean inputs explain"


class Discovering:
    """Counts inputs by p-value, to say which stand out at a share of false discoveries.

    Source: Y. Benjamini and Y. Hochberg, JRSS B 57, 1995; that it holds for conformal p-values that
    share their clean images: S. Bates et al., "Testing for outliers with conformal p-values",
    Annals of Statistics 51, 2023, theorem 2. Memory does not grow with the inputs: of n clean
    images there are n + 1 p-values.

    Args:
        share: The share of false discoveries that is allowed.
        clean: How many clean images there are.
    """

    def __init__(self, share: float, clean: int) -> None:
        self._share, self._counts = share, [0] * (clean + 2)

    def add(self, p_value: float) -> None:
        """Take note of an input."""
        self._counts[round(p_value * (len(self._counts) - 1))] += 1

    def found(self) -> Discoveries:
        """Return what stands out: p_(k) <= share k / m for the largest such k."""
        inputs, total = sum(self._counts), 0
        best = Discoveries(share=self._share, count=0)
        for rank, count in enumerate(self._counts):
            total += count
            p_value = rank / (len(self._counts) - 1)
            if count and p_value * inputs <= self._share * total:
                best = Discoveries(share=self._share, count=total, p_value=p_value)
        return best
