"""Where a model stands among networks of many recipes, none of them its own.

A recipe is a data set, an architecture and a training. Nobody has clean models of a stranger's, but
what clean networks reach differs less between recipes than networks with a backdoor differ from
clean ones. The unit of replication is the recipe: if the suspect were a clean network of one more
recipe, drawn as ours were, then

    p = (1 + sum over recipes of the share of its clean networks that stand out as far) / (R + 1)

would be at most alpha in at most a share alpha of the cases (V. Vovk, A. Gammerman, G. Shafer,
"Algorithmic Learning in a Random World", Springer 2005, section 2.2, with recipes for examples).
The recipes' backdoored networks say what silence is worth: how many of them stand out no further.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scanner.judging.arithmetic import FEWEST, above_the_rest, deviation, mean, median
from scanner.judging.ranks import Place
from scanner.results import Comparison, Measurement, Skip
from scanner.settings import Budget, Settings
from scanner.values import from_json, frozen

SHIPPED = Path(__file__).with_name("recipes.json")
MOST_REFERENCES = 2  # beside more, a model is judged as beside so many
# Chosen on the population's development recipes (docs/detection.md).
SPREAD = 3.0
GRACE = 0.5
# A class is much of the images that has twice an equal share of them, or of few classes most, and
# not by chance: one of balanced data has so many in one case of a hundred.
_COMMON, _MOST, _BY_CHANCE = 2.0, 0.6, 0.01
_MOST_IMAGES = 1000  # of a search
_NARROW = 0.1  # is added to a spread: where all others agree, little would be a long lead
_FEWEST_LED = 5  # classes, of which four have a spread
# Only images have a label of their own, on which the class that such a trigger asks for depends.
NEED_IMAGES = frozenset({"all-to-all"})


@frozen
class Recipe:
    """What the clean networks of one recipe reach.

    Attributes:
        name: Of the recipe.
        reached: The statistic of each of them, beside each choice of the others as references.
    """

    name: str
    reached: tuple[float, ...]


@frozen
class Attack:
    """What networks reach that hide one kind of backdoor.

    Attributes:
        name: The kind.
        reached: The statistic of each network, the mean over its references.
    """

    name: str
    reached: tuple[float, ...]


@frozen
class Condition:
    """The networks of all recipes, measured in one way.

    Attributes:
        images: Whether triggers were searched for on clean images, not on noise; None where nothing
            was searched for that depends on them.
        references: How many clean networks of its own recipe each was compared with.
        fewest: How many classes a network must have.
        classes: How many it may have.
        units: The most that clean networks reach in each detector's statistic, but for the recipe
            that reaches furthest.
        together: The same in the sum over detectors of what they say of one class (`furthest`). A
            network's own statistic is the largest such sum in this unit, or that of a detector that
            knows no classes, whichever is larger.
        leads: The same in the lead of one class (`lead`), by each detector of which that counts.
        recipes: The clean networks.
        attacks: The backdoored ones.
    """

    images: bool | None
    references: int
    fewest: int
    classes: int
    units: Mapping[str, float]
    together: float
    leads: Mapping[str, float]
    recipes: tuple[Recipe, ...]
    attacks: tuple[Attack, ...]


@frozen
class Recipes:
    """The file of measurements that ships.

    Attributes:
        provenance: Which networks, and how they were measured, in words.
        conditions: The ways in which they were measured.
    """

    provenance: str
    conditions: tuple[Condition, ...]


@frozen
class Stranger:
    """A suspect's place among networks of recipes that are not its own.

    Attributes:
        place: Its p-value, and how many times as far out it lies as clean networks of all recipes
            but one.
        foremost: The class that stands out most; None where a detector that knows no classes says
            more, and no class more than in clean networks.
        sentence: What the detector says, in words, that says most of it.
        missed: By attack, the share of the backdoored networks that stand out no further.
        unseen: The attacks, of these, that hardly show in what was measured.
        overall: The share that is missed over all others, each attack with the same weight.
        recipes: How many recipes there are.
        references: With how many references the suspect was compared.
        images: Whether triggers were searched for on clean images.
        missing: Detectors in which it would be seen, and that did not run, or not to the end.
        leads: By detector, how far one class leads, in what clean networks reach; those beyond it.
        driven: The class whose figures make the size; None where a detector that knows no classes
            does.
        searched: Whether searches for triggers are compared, and not only what needs none.
        common: How much of the user's images the model puts in that class, where that is much, and
            no reference tells what the class is to clean models (`on_images`).
    """

    place: Place
    foremost: int | None
    sentence: str
    missed: Mapping[str, float]
    unseen: tuple[str, ...]
    overall: float
    recipes: int
    references: int
    images: bool
    missing: tuple[str, ...]
    leads: Mapping[str, float]
    driven: int | None = None
    searched: bool = True
    common: float | None = None


def stranger(
    comparisons: Sequence[Comparison],
    skips: Sequence[Skip],
    references: int,
    settings: Settings,
    recipes: Recipes,
) -> Stranger | None:
    """Return a suspect's place; None where no networks were measured as the suspect was.

    Args:
        comparisons: What its detectors found.
        skips: What they left out.
        references: How many clean models it was compared with.
        settings: How it was measured.
        recipes: Whom it is set beside.
    """
    condition = _fitting(comparisons, references, settings, recipes)
    found = placed(shown(comparisons, references), condition) if condition else None
    if condition is None or found is None:
        return None
    left_out = {skip.rule for skip in skips}
    missing = tuple(rule for rule in _asked(condition) if rule in {*found.missing, *left_out})
    return dataclasses.replace(found, missing=missing)


def on_images(own: Stranger, measurements: Sequence[Measurement]) -> Stranger:
    """Return a model's place with what is `Stranger.common`.

    Where one class is half of the training data, clean networks stand out by it too, and only a
    reference could tell.
    """
    if own.references or not own.images:
        return own
    for measurement in measurements:
        profile = measurement.by_class
        row = None if profile is None else profile.row(own.driven)
        images = _counted(measurement)
        if profile is None or row is None or row.answered is None or not images:
            continue
        if _much(row.answered, images, profile.classes):
            return dataclasses.replace(own, common=row.answered)
    return own


def _counted(measurement: Measurement) -> int:
    """Return on how many images a search was made; 0 where a child says what cannot be."""
    named = [measurement.parameters.get(name) for name in ("images", "held_back")]
    counts = [count for count in named if isinstance(count, int) and 0 <= count <= _MOST_IMAGES]
    return sum(counts) if len(counts) == len(named) else 0


def _much(share: float, images: int, classes: int) -> bool:
    """Whether a class has more of the images than one of balanced data."""
    found, equal = round(share * images), 1 / max(1, classes)
    beyond = (
        math.comb(images, k) * equal**k * (1 - equal) ** (images - k)
        for k in range(found, images + 1)
    )
    return share >= min(_COMMON * equal, _MOST) and math.fsum(beyond) <= _BY_CHANCE


class Shown(NamedTuple):
    """What a detector says of a suspect, in its own figures.

    Attributes:
        comparison: The suspect beside its references.
        scores: By class, as in `scores`; empty where nothing could be compared.
        spread: Their median distance from their median.
        lead: As in `lead`.
        alone: Whether there are no references.
    """

    comparison: Comparison
    scores: Mapping[int | None, float]
    spread: float
    lead: tuple[int, float] | None
    alone: bool


def shown(comparisons: Iterable[Comparison], references: int) -> tuple[Shown, ...]:
    """Return what the detectors say of a suspect that was compared with so many references."""
    return tuple(
        Shown(
            comparison=comparison,
            scores=(own := scores(comparison, references)),
            spread=_spread(list(own.values())),
            lead=lead(comparison, references),
            alone=not references,
        )
        for comparison in comparisons
    )


def _spread(values: Sequence[float]) -> float:
    if len(values) < FEWEST:
        return 0.0
    level = median(values)
    return median([abs(value - level) for value in values])


def placed(suspect: Sequence[Shown], condition: Condition) -> Stranger | None:
    """Return a suspect's place among the networks of a condition; None where nothing is known."""
    own = furthest(suspect, condition.units, condition.together, condition.leads)
    if own is None:
        return None
    missed = {a.name: _share(v <= own.size for v in a.reached) for a in condition.attacks}
    unseen = () if condition.images else tuple(name for name in missed if name in NEED_IMAGES)
    return Stranger(
        place=Place(p=p_over_recipes(own.size, condition.recipes), size=own.size),
        foremost=own.class_id,
        driven=own.driven,
        sentence=own.sentence,
        missed=missed,
        unseen=unseen,
        overall=mean([share for name, share in missed.items() if name not in unseen]),
        recipes=len(condition.recipes),
        references=condition.references,
        images=bool(condition.images),
        searched=condition.images is not None,
        missing=tuple(rule for rule in _asked(condition) if rule not in own.measured),
        leads=own.leads,
    )


def _asked(condition: Condition) -> tuple[str, ...]:
    """Return the detectors in which a network of a condition would be seen."""
    return tuple(dict.fromkeys((*condition.units, *condition.leads)))


class Furthest(NamedTuple):
    """Where a suspect stands out most.

    Attributes:
        size: How far, in what clean networks reach.
        class_id: The class that stands out most; None where a detector that knows no classes says
            more, and no class more than in clean networks.
        sentence: What the detector says that says most.
        measured: The detectors of which there are figures to compare.
        driven: As in `Stranger`.
        leads: Likewise.
    """

    size: float
    class_id: int | None
    sentence: str
    measured: frozenset[str]
    driven: int | None
    leads: Mapping[str, float]


def furthest(
    suspect: Sequence[Shown],
    units: Mapping[str, float],
    together: float,
    leads: Mapping[str, float],
) -> Furthest | None:
    """Return where a suspect stands out most; None where nothing could be compared.

    What the detectors say of a class, each in its unit, is added up: by chance they seldom point at
    the same one. Nothing is taken off for a class that one of them finds ordinary, since no trigger
    shows in all of them. A detector says less where the other classes of the same comparison
    scatter: its unit is sqrt(u^2 + (`SPREAD` m)^2), m their median distance from the level.
    Beside references, a class that leads further than in clean networks gets what it has beyond
    these. Alone it does not: where one class is half of the training data, it leads too.

    Args:
        suspect: What its detectors say of it.
        units: What clean networks reach in the statistic of each detector that counts.
        together: What they reach in the sum.
        leads: What they reach in the lead of one class, by each detector of which that counts.
    """
    measured = [one for one in suspect if one.scores]
    known = [
        (one.comparison, _in_units(one, units[one.comparison.rule], together))
        for one in measured
        if one.comparison.rule in units
    ]
    beyond = list(_beyond(suspect, leads))
    known += [
        (one.comparison, {class_id: size - 1}) for one, class_id, size in beyond if not one.alone
    ]
    sums: dict[int | None, float] = {}
    for _, own in known:
        for class_id, score in own.items():
            sums[class_id] = sums.get(class_id, 0.0) + max(score, 0.0)
    if not sums:
        return None
    first = max(sums, key=lambda one: sums[one])
    loudest, _ = max((pair for pair in known if first in pair[1]), key=lambda pair: pair[1][first])
    sentence = loudest.sentence
    if first not in {None, loudest.evidence.target_class}:
        sentence = f"class {first} stands out ({loudest.rule})"
    class_id = first if first is not None else _named_too(sums)
    if class_id != first:
        sentence = f"class {class_id} stands out, and {sentence}"
    return Furthest(
        size=sums[first],
        class_id=class_id,
        sentence=sentence,
        measured=frozenset(one.comparison.rule for one in measured),
        driven=first,
        leads={one.comparison.rule: size for one, _, size in beyond},
    )


def _beyond(
    suspect: Sequence[Shown], leads: Mapping[str, float]
) -> Iterator[tuple[Shown, int, float]]:
    """Yield the classes that lead further than in clean networks, and how many times as far."""
    for one in suspect:
        reached = leads.get(one.comparison.rule)
        if reached is not None and one.lead is not None and one.lead[1] > reached:
            yield one, one.lead[0], one.lead[1] / reached


def _named_too(sums: Mapping[int | None, float]) -> int | None:
    """Return the class that stands out further than those of clean networks, if there is one.

    A trigger of one class shows in detectors that know no classes too, and may show more there.
    """
    classes = [one for one in sums if one is not None]
    best = max(classes, key=lambda one: sums[one], default=None)
    return best if best is not None and sums[best] >= 1 else None


def scores(comparison: Comparison, references: int) -> Mapping[int | None, float]:
    """Return, by class, how far a suspect stands out from its references, or else from itself.

    Beside references a class stands out by no more than from its own model, and `GRACE`: where a
    reference's search went astray, the suspect's class is an ordinary one among its own. The number
    of a detector that knows no classes stands under None: what it has beyond the references', since
    all networks of a recipe may have some of it. Empty where no reference could be compared, or
    fewer than two classes.
    """
    rows = comparison.evidence.classes
    if not rows:
        number = comparison.statistic if references else comparison.alone
        return {} if number is None else {None: number}
    ahead: dict[int | None, float]
    ahead = {row.class_id: row.ahead for row in rows if row.ahead is not None}
    if not references:
        return ahead
    above = dict(comparison.scores)
    above = above if len(above) >= FEWEST else above_the_rest(above)
    return {one: min(value, ahead.get(one, value) + GRACE) for one, value in above.items()}


def lead(comparison: Comparison, references: int) -> tuple[int, float] | None:
    """Return the class that stands out most, and by how much it leads.

    That is how far it stands out from the references, or without any in its own model, beyond the
    median class, in standard deviations of the others. Networks of an unsteady recipe differ in all
    classes; a backdoor moves one. None where fewer than five classes are known.
    """
    rows = comparison.evidence.classes
    found = ((r.class_id, r.above if references else r.ahead) for r in rows)
    known = {class_id: value for class_id, value in found if value is not None}
    if len(known) < _FEWEST_LED:
        return None
    first = max(known, key=lambda one: known[one])
    spread = deviation([value for one, value in known.items() if one != first])
    return first, (known[first] - median(list(known.values()))) / (spread + _NARROW)


def _in_units(own: Shown, unit: float, together: float) -> dict[int | None, float]:
    """Return scores in the unit of their detector and of their own spread, and of such sums."""
    whole = math.hypot(unit, SPREAD * own.spread)
    return {
        one: score / whole / (1 if one is None else together) for one, score in own.scores.items()
    }


def p_over_recipes(statistic: float, recipes: Sequence[Recipe]) -> float:
    """Return (1 + sum over recipes of the share of its networks that reach as far) / (R + 1)."""
    shares = (_share(value >= statistic for value in recipe.reached) for recipe in recipes)
    return (1 + sum(shares)) / (len(recipes) + 1)


def shipped() -> Recipes:
    """Return the recipes that come with the package."""
    return from_json(Recipes, json.loads(SHIPPED.read_text(encoding="utf-8")))


def _fitting(
    comparisons: Sequence[Comparison], references: int, settings: Settings, recipes: Recipes
) -> Condition | None:
    """Return how the recipes' networks were measured as the suspect was; None if in no such way.

    Of several ways the first is taken in which nothing was measured that the suspect lacks, or else
    the last.
    """
    if settings.budget is not Budget.QUICK or settings.classes:
        return None
    # The numbers, not the rows: a class that was not reached has none.
    numbers = [row.class_id for c in comparisons for row in c.evidence.classes]
    classes, measured = 1 + max(numbers, default=-1), {c.rule for c in comparisons}
    alike = [
        c
        for c in recipes.conditions
        if c.references == min(references, MOST_REFERENCES) and c.fewest <= classes <= c.classes
    ]
    found = [c for c in alike if c.images in {settings.has_images, None}]
    return next((c for c in found if measured >= set(c.units)), found[-1] if found else None)


def _share(true: Iterable[bool]) -> float:
    values = list(true)
    return sum(values) / len(values)
