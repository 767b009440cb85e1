"""A suspect's rank among clean models: by one detector, and by several together.

The unit of replication is the model, never the image. A p-value is conformal (V. Vovk, A.
Gammerman, G. Shafer, "Algorithmic Learning in a Random World", Springer 2005, section 2.2): if the
suspect were one more clean model of the same recipe, its rank among k clean models would be
uniform, so that p = (1 + #{clean >= suspect}) / (k + 1), and no p below 1/(k + 1) can be claimed.

A rank alone accuses one clean model of every k + 1. Beside it stands the size: how many times
further from the middle of the population the suspect lies than the furthest clean model.
"""

import math
from collections.abc import Mapping, Sequence

from scanner.judging.arithmetic import median
from scanner.results import ClassScores, Comparison, Population
from scanner.values import frozen

# The largest sum over the combined detectors, each in its own unit (`Contribution.beside_one`),
# that clean networks reach beside one other ('python -m benchmarks.detection reach').
TOGETHER = 1.81
# A reference that stands out this many times further than any clean model of a baseline is not
# taken for clean.
_NOT_CLEAN = 2.0
_DOUBTED_AT = 0.05  # and of clean models there must be enough to reach this level
# Chosen on the 68 clean models of the baselines for MNIST, FashionMNIST and GTSRB, each judged by
# the others of its recipe: 67 have a size of at most 1.26, and one has 1.83. Of the 20 models for
# CIFAR-10, measured later, 19 have at most 0.51, and one has 1.95 ('python -m benchmarks.detection
# sizes').
NEAR = 1.3
FAR = 1.9
# How far out a model lies, in words: beyond every clean model, apart from them, far beyond them.
STRENGTHS = ("beyond", "apart", "far-beyond")
_ROUNDING = 1e-9  # relative; a p-value that a result holds as 1 - p comes back a little larger
_LEAST = 1e-12  # where no clean model lies above the middle, anything does by far
_TWO = 2
_WHOLE = -1  # stands for the class where a detector knows none

Profile = Mapping[int, float]  # by class, how far it stands out


def strength(size: float) -> str | None:
    """Return the word for a size (`Place.size`); None for a model amid the clean ones."""
    if size >= FAR:
        return "far-beyond"
    if size > NEAR:
        return "apart"
    return "beyond" if size > 1 else None


@frozen
class Place:
    """Where a value stands among those of clean models.

    Attributes:
        p: How often a clean model would lie as far out.
        size: How many times as far out it lies as the furthest of them.
    """

    p: float
    size: float


@frozen
class Rank:
    """A suspect's place among clean models, by several detectors together.

    Attributes:
        place: Its p-value and size.
        foremost: The class that stands out most; None where the detectors know none.
        sentence: What the detector that says most of this class says, in words.
        rules: The detectors.
        decisive: Whether one of them is decisive.
        models: How many clean models there are.
        source: Which, in words.
    """

    place: Place
    foremost: int | None
    sentence: str
    rules: tuple[str, ...]
    decisive: bool
    models: int
    source: str


def enough(models: int, alpha: float) -> bool:
    """Whether a p-value among so many clean models can reach a level."""
    return (models + 1) * alpha >= 1


def conformal_p(value: float, clean: Sequence[float]) -> float:
    """Return (1 + #{clean >= value}) / (k + 1)."""
    return (1 + sum(other >= value for other in clean)) / (len(clean) + 1)


def discoveries(values: Sequence[float], share: float) -> int:
    """Return how many of several p-values are discoveries, of which this share may be false.

    Source: Y. Benjamini, Y. Hochberg, "Controlling the False Discovery Rate", Journal of the Royal
    Statistical Society B 57 (1995), theorem 1: the largest k with p_(k) <= k q / m. It also holds
    for models ranked among the same clean ones (S. Bates and others, "Testing for outliers with
    conformal p-values", Annals of Statistics 51 (2023), theorem 2).

    Args:
        values: P-values, one per model.
        share: The largest expected share of false ones among the discoveries, q.
    """
    ranked = enumerate(sorted(values), start=1)
    level = share * (1 + _ROUNDING)
    return max((k for k, p in ranked if p <= k * level / len(values)), default=0)


def size(value: float, clean: Sequence[float]) -> float:
    """Return how many times as far from the middle a value lies as the largest of clean models.

    That is (value - m) / (max(clean) - m), m the median of them all; 1 is as far as the furthest.
    Of three values the median may be the furthest clean one itself, so that beside two clean models
    m is the middle of these.
    """
    middle = median(clean if len(clean) <= _TWO else [value, *clean])
    return (value - middle) / max(max(clean) - middle, _LEAST)


def place(value: float, clean: Sequence[float]) -> Place:
    """Return a value's p-value and size among those of clean models."""
    return Place(p=conformal_p(value, clean), size=size(value, clean))


def combined(own: Sequence[Profile], clean: Sequence[Sequence[Profile]]) -> tuple[Place, int]:
    """Return a suspect's place by several detectors together, and its foremost class.

    Detectors differ in scale, so each profile is centred and scaled: by median and MAD, over all k
    + 1 models, of a model's largest entry. A class that several detectors find stands out by the
    sum of what they say of it, and a model by its largest class. The suspect enters like any other
    model, so the rank stays uniform.

    Args:
        own: For each detector, the suspect's profile.
        clean: For each detector, those of the k clean models, in the same order of models.
    """
    (standing, foremost), *others = map(_foremost, zip(*_scores(own, clean), strict=True))
    return place(standing, [other for other, _ in others]), foremost


def together(comparisons: Sequence[Comparison], populations: Sequence[Population]) -> Rank | None:
    """Return a suspect's rank by a whole scan.

    What the calibrated detectors that are combined (all, where none of those ran) say of each class
    becomes one figure; its rank among the same clean models gives the p-value: one test in all.
    None where no clean models were measured by all that is combined.
    """
    clean = {p.rule: p for p in populations if p.values}
    calibrated = [c for c in comparisons if c.statistic is not None and c.rule in clean]
    chosen = [c for c in calibrated if c.contribution.combined] or calibrated
    judges = [clean[c.rule] for c in chosen]
    if len({p.models for p in judges}) != 1:
        return None
    own, foremost = combined(*_both(chosen, judges))
    known = None if foremost == _WHOLE else foremost
    said = [scores[0].get(foremost, -math.inf) for scores in _scores(*_both(chosen, judges))]
    loudest = chosen[said.index(max(said))]
    about = known in {None, loudest.evidence.target_class}
    return Rank(
        place=own,
        foremost=known,
        sentence=loudest.sentence if about else f"class {foremost} stands out ({loudest.rule})",
        rules=tuple(c.rule for c in chosen),
        decisive=any(c.contribution.decisive for c in chosen),
        models=len(judges[0].values),
        source=judges[0].source,
    )


@frozen
class Driver:
    """What an index is about.

    Attributes:
        index: The index.
        rule: The detector that contributes most to it.
        class_id: The class that it is about.
        value: What this detector says of this class, in units of what clean networks of the shipped
            recipes reach.
    """

    index: float
    rule: str
    class_id: int
    value: float


def index(comparisons: Sequence[Comparison]) -> float | None:
    """Return how far a model stands out, as `driver` finds it."""
    found = driver(comparisons)
    return None if found is None else found.index


def driver(comparisons: Sequence[Comparison]) -> Driver | None:
    """Return how far a model stands out, and by what: to rank models without a population.

    Beside references, what the combined detectors say of one class together, for the class of which
    they say most; without, the largest lead of a class over the next. Both are in units of what
    clean networks of the shipped recipes reach. No p-value, and no verdict rests on it. None where
    nothing is known.
    """
    combined = [c for c in comparisons if c.contribution.combined]
    profiles = {
        c.rule: _divided(c.scores, c.contribution.beside_one)
        for c in combined
        if c.scores and c.contribution.beside_one is not None
    }
    if profiles:
        total, class_id = _foremost(list(profiles.values()))
        value, rule = max((p[class_id], rule) for rule, p in profiles.items() if class_id in p)
        return Driver(index=total / TOGETHER, rule=rule, class_id=class_id, value=value)
    leads = [
        (c.evidence.lead.distance / c.contribution.alone, c.rule, c.evidence.lead.class_id)
        for c in combined
        if c.evidence.lead is not None and c.contribution.alone is not None
    ]
    if not leads:
        return None
    value, rule, class_id = max(leads)
    return Driver(index=value, rule=rule, class_id=class_id, value=value)


def stands_apart(pairs: Sequence[tuple[Comparison, Population | None]]) -> bool:
    """Whether a model is far beyond every clean model of a population, by the combined detectors.

    Never among few: beside 19 others none of the clean networks of the shipped baselines is called
    so, beside 3 every seventh.
    """
    compared = [
        (c, p)
        for c, p in pairs
        if c.contribution.combined and c.statistic is not None and p is not None
    ]
    if len({p.models for _, p in compared}) != 1 or not enough(
        len(compared[0][1].values), _DOUBTED_AT
    ):
        return False
    scores = _scores([_profile(c) for c, _ in compared], [_profiles(p) for _, p in compared])
    own, *clean = (_foremost(profiles)[0] for profiles in zip(*scores, strict=True))
    return own > _NOT_CLEAN * max(clean)


def _both(
    comparisons: Sequence[Comparison], populations: Sequence[Population]
) -> tuple[list[Profile], list[list[Profile]]]:
    return list(map(_profile, comparisons)), list(map(_profiles, populations))


def _profile(comparison: Comparison) -> Profile:
    """Return what a detector says of each class, or of the whole model where it knows none."""
    return dict(comparison.scores) or {_WHOLE: comparison.statistic or 0.0}


def _profiles(population: Population) -> list[Profile]:
    """Return the same of the clean models."""
    known: Sequence[ClassScores] = population.classes or ((),) * len(population.values)
    pairs = zip(known, population.values, strict=True)
    return [dict(classes) or {_WHOLE: value} for classes, value in pairs]


def _scores(own: Sequence[Profile], clean: Sequence[Sequence[Profile]]) -> list[list[Profile]]:
    """Return each detector's robust z-scores by class, the suspect's first."""
    return [_robust_scores([profile, *others]) for profile, others in zip(own, clean, strict=True)]


def _robust_scores(profiles: Sequence[Profile]) -> list[Profile]:
    largest = [max(profile.values()) for profile in profiles]
    middle = median(largest)
    spread = median([abs(value - middle) for value in largest]) or 1e-12
    return [
        {name: (value - middle) / spread for name, value in profile.items()} for profile in profiles
    ]


def _foremost(profiles: Sequence[Profile]) -> tuple[float, int]:
    """Return how far a model's foremost class stands out, and that class.

    That is the sum of what speaks against it, or the largest of what there is.
    """
    found: dict[int, list[float]] = {}
    for profile in profiles:
        for class_id, value in profile.items():
            found.setdefault(class_id, []).append(value)
    return max(
        (sum(v for v in values if v > 0) or max(values), class_id)
        for class_id, values in found.items()
    )


def _divided(scores: ClassScores, unit: float) -> Profile:
    return {class_id: value / unit for class_id, value in scores}
