"""Inputs beside clean ones: ranks, one answer of all filters, and what a whole set of them shows.

**One filter.** With s the statistic of an input and s_1..s_n those of clean images measured alike,

    p = (1 + #{s_i >= s}) / (n + 1),

a conformal p-value: if the input is clean too, P(p <= a) <= a (V. Vovk, A. Gammerman and G. Shafer,
"Algorithmic Learning in a Random World", 2005, chapter 2).

**All together.** Filters measure in units of their own, and shares and entropies end where much is
left to tell. So each statistic is stretched, t(s) = log((s + e) / (1 - s + e)) of a share and
-log(H + 2e) of an entropy H, e = 0.01, and set in units of its filter: how far the furthest host
lies above the median host. An input's distance is

    S = max over the filters that decide of (t(s) - median) / unit,

and its p-value is its rank by S. It is as valid as that of one filter, whatever the filters'
dependence, and has the same resolution, 1 / (n + 1), where a correction for the number of filters
would need so many times as many images: median and unit come from the hosts, which are not ranked,
so that S is a fixed function of an input. Stretch and unit were chosen on the development recipes
(docs/inputs.md).

An input's size is S over the largest S of the ranked clean images. Below the smallest p-value,
1 / (n + 1), ranks tell nothing more, and three triggers among a thousand inputs are lost among the
ten that stand out by chance. Sizes tell them: an input of size 2 or more is called far out.

**A set of inputs.** An input stands out if p <= alpha, that is, if at most r - 1 clean images lie
as far out, r = floor(alpha (n + 1)). Of m clean inputs, K stand out by chance. All are ranked among
the same images, so that K is not binomial: by exchangeability the positions of the n images among
the n + m are uniform, and

    P(K = k) = C(k + r - 1, k) C(m - k + n - r, m - k) / C(n + m, m),

the negative hypergeometric law. P(K >= what was seen) is the p-value of the set. For one input it
is r / (n + 1) <= alpha where it stands out.

Of clean inputs at most `FAR_RATE` are far out: that was measured and not derived, and is the upper
end of the 95 % interval for none of 10,200 on the development recipes (three of so many, the rule
of three; docs/inputs.md has the count of the others). Of m clean inputs, as many as a Poisson law
of mean m FAR_RATE gives are far out by chance. More make a set suspicious; so few that chance
explains them leave it undecided.
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
    Quantity,
    Region,
    ScreenedInput,
    Screening,
    Verdict,
)

FAR = 2.0  # the size from which on an input is far out
FAR_RATE = 3e-4
_END = 0.01  # how close to 0 and 1 a share is told apart
_LEAST_UNIT = 0.1  # of a stretched statistic: less is rounding
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
        notes = clean.filters
        self._rules = [note.rule.id for note in notes]
        self._quantities = [note.quantity for note in notes]
        self._deciding = [place for place, note in enumerate(notes) if note.decides]
        self._scales = [
            _scale([_stretched(note.quantity, s) for s in column])
            for note, column in zip(notes, _columns(clean.hosts, len(notes)), strict=True)
        ]
        self._sorted = [sorted(column) for column in _columns(clean.ranked, len(notes))]
        self._distances = sorted(self._furthest(reading)[0] for reading in clean.ranked)
        self.count = len(clean.ranked)

    def ranked(self, number: int, reading: InputReading, alpha: float) -> ScreenedInput:
        """Return an input beside the clean images."""
        (distance, place), furthest = self._furthest(reading), self._distances[-1]
        p_value = _rank(self._distances, distance)
        size = distance / max(furthest, _LEAST_UNIT)
        return ScreenedInput(
            number=number,
            name=reading.name,
            class_id=reading.class_id,
            stands_out=p_value <= alpha * (1 + _ROUNDING),
            far_out=size >= FAR,
            p_value=p_value,
            size=size,
            scores=tuple(
                FilterScore(rule=rule, statistic=statistic, p_value=_rank(clean, statistic))
                for rule, statistic, clean in zip(
                    self._rules, reading.statistics, self._sorted, strict=True
                )
            ),
            rule=self._rules[place],
            region=self._region(reading, alpha),
        )

    def _region(self, reading: InputReading, alpha: float) -> Region | None:
        """Return where the input stands out, if it does so by a filter that tells a place.

        Of several such filters it is the one that sets it apart most.
        """
        local = [place for place in self._deciding if reading.regions[place] is not None]
        if not local:
            return None
        place = max(local, key=lambda each: self._distance(reading, each))
        alone = _rank(self._sorted[place], reading.statistics[place])
        return reading.regions[place] if alone <= alpha * (1 + _ROUNDING) else None

    def _furthest(self, reading: InputReading) -> tuple[float, int]:
        """Return S, and the place of the filter that sets the input apart most."""
        return max((self._distance(reading, place), place) for place in self._deciding)

    def _distance(self, reading: InputReading, place: int) -> float:
        median, unit = self._scales[place]
        return (_stretched(self._quantities[place], reading.statistics[place]) - median) / unit


def _stretched(quantity: Quantity, statistic: float) -> float:
    """Return t(s)."""
    if quantity is Quantity.ENTROPY:
        return -math.log(max(-statistic, 0.0) + 2 * _END)
    share = min(max(statistic, 0.0), 1.0)
    return math.log((share + _END) / (1 - share + _END))


def _columns(readings: Sequence[InputReading], filters: int) -> Iterator[list[float]]:
    for place in range(filters):
        yield [reading.statistics[place] for reading in readings]


def _scale(stretched: Sequence[float]) -> tuple[float, float]:
    """Return the median of the hosts, and how far the furthest lies above it."""
    ordered = sorted(stretched)
    median = ordered[len(ordered) // 2]
    return median, max(ordered[-1] - median, _LEAST_UNIT)


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


def told(screening: Screening) -> tuple[Verdict, str]:
    """Return what a set of inputs shows, and the sentence that says so.

    Args:
        screening: The set; its verdict and reason are not read.
    """
    if not screening.inputs:
        return Verdict.INCONCLUSIVE, "there are no inputs"
    if screening.inputs > 1:
        return _of_several(screening)
    if screening.standing_out:
        return Verdict.SUSPICIOUS, "the input carries a trigger, or is unlike the clean images"
    return Verdict.CLEAN, "the input is indistinguishable from the clean images"


def _of_several(screening: Screening) -> tuple[Verdict, str]:
    seen, far, inputs = screening.standing_out, screening.far_out, screening.inputs
    if not seen:
        return Verdict.CLEAN, f"none of {inputs:,} inputs stands out"
    stand = "stands" if seen == 1 else "stand"
    counted = f"{seen:,} of {inputs:,} inputs {stand} out, and {screening.expected:,.1f} would by "
    if screening.p_value <= screening.alpha:
        return Verdict.SUSPICIOUS, f"{counted}chance: inputs carry a trigger"
    if far:
        lies = "lies" if far == 1 else "lie"
        beyond = f"{far:,} of {inputs:,} inputs {lies} at least twice as far out as any clean image"
        if _poisson_tail(far, inputs * FAR_RATE) <= screening.alpha:
            return Verdict.SUSPICIOUS, f"{beyond}: inputs carry a trigger"
        return Verdict.INCONCLUSIVE, f"{beyond}, and so few may by chance: look at them"
    return Verdict.CLEAN, f"{counted}chance: no more than clean inputs explain"


def _poisson_tail(count: int, mean: float) -> float:
    """Return the probability of so many or more."""
    terms = (math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count))
    return 1 - math.fsum(terms)


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
