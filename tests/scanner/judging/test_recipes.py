"""A model's place among networks of other recipes, and what may be said of it."""

import dataclasses
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import compared

from scanner.judging import recipes, verdict
from scanner.judging.recipes import Attack, Condition, Recipe, Recipes, Stranger
from scanner.results import (
    ByClass,
    ClassDifference,
    ClassRow,
    Comparison,
    Measurement,
    Skip,
    Verdict,
)
from scanner.settings import Budget, Settings

SEARCH, OTHER, MAP = "neural_cleanse", "head", "source_dependent"
BESIDE_ONE = Condition(
    images=False,
    references=1,
    fewest=2,
    classes=12,
    units={SEARCH: 2.0},
    together=1.0,
    leads={},
    recipes=tuple(Recipe(name=f"recipe {i}", reached=(i / 40, i / 20)) for i in range(20)),
    attacks=(
        Attack(name="patch", reached=(0.1, 1.0, 1.5, 2.0)),
        Attack(name="blended", reached=(0.9, 1.1)),
    ),
)
KNOWN = Recipes(provenance="test", conditions=(BESIDE_ONE,))


def place(*comparisons: Comparison, condition: Condition = BESIDE_ONE) -> Stranger:
    found = recipes.placed(recipes.shown(comparisons, condition.references), condition)
    assert found is not None
    return found


def test_p_by_hand() -> None:
    found = (Recipe(name="a", reached=(1.0, 3.0)), Recipe(name="b", reached=(2.0,)))
    assert recipes.p_over_recipes(2.0, found) == pytest.approx((1 + 0.5 + 1) / 3)
    assert recipes.p_over_recipes(4.0, found) == pytest.approx(1 / 3)


@given(
    groups=st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=6), min_size=2, max_size=12),
    alpha=st.sampled_from([0.05, 0.1, 0.25, 0.5]),
)
def test_clean_recipes_have_small_p_values_as_rarely_as_they_should(
    groups: list[list[float]], alpha: float
) -> None:
    """Of one network of each recipe, judged by the others, no more than alpha is accused.

    That is Vovk's bound where every recipe has one network; with several it holds for their mean
    share, but for the suspect's own recipe counting as one more example.
    """
    known = [Recipe(name=str(i), reached=(max(g),)) for i, g in enumerate(groups)]
    ps = [
        recipes.p_over_recipes(own.reached[0], [r for r in known if r is not own]) for own in known
    ]
    assert sum(p <= alpha for p in ps) <= alpha * len(known) + 1e-9


@given(low=st.floats(-3, 3), further=st.floats(0, 3))
def test_who_stands_out_further_is_never_less_suspicious(low: float, further: float) -> None:
    near, far = (place(compared(SEARCH, value)) for value in (low, low + further))
    assert far.place.p <= near.place.p
    assert far.place.size >= near.place.size
    assert far.overall >= near.overall


def number(value: float, reference: float = 0.0) -> Comparison:
    """What a detector says that knows no classes, beside a reference."""
    return dataclasses.replace(compared(MAP, None), alone=value, statistic=value - reference)


def test_the_detector_that_says_most_speaks() -> None:
    both = dataclasses.replace(BESIDE_ONE, units={SEARCH: 2.0, MAP: 0.5})
    search, moved = compared(SEARCH, 1.0), number(2.0)
    found = place(search, moved, condition=both)
    assert (found.place.size, found.foremost) == (4.0, None)
    assert found.sentence == moved.sentence
    assert not found.missing
    assert place(search, condition=both).missing


@pytest.mark.parametrize(("reach", "named"), [(2.0, 3), (1.9, None)])
def test_a_class_is_named_beside_what_knows_no_classes(reach: float, named: int | None) -> None:
    """Where it stands out further than in clean networks by itself."""
    both = dataclasses.replace(BESIDE_ONE, units={SEARCH: 2.0, MAP: 0.5})
    moved = number(2.0)
    found = place(compared(SEARCH, reach), moved, condition=both)
    assert (found.place.size, found.foremost) == (4.0, named)
    assert found.sentence.endswith(moved.sentence)
    assert (f"class {named} stands out, and " in found.sentence) == (named is not None)


def test_what_detectors_say_of_one_class_is_added_up() -> None:
    """In the unit of such sums; what one of them finds ordinary takes nothing off."""
    units = {SEARCH: 2.0, OTHER: 0.5}
    three = dataclasses.replace(BESIDE_ONE, units=units, together=1.5)
    for other, size in ((0.4, (0.5 + 0.8) / 1.5), (0.0, 0.5 / 1.5), (-3.0, 0.5 / 1.5)):
        found = place(compared(SEARCH, 1.0), compared(OTHER, other), condition=three)
        assert found.place.size == pytest.approx(size)
        assert found.foremost == 3
    apart = place(compared(SEARCH, 1.0), compared(OTHER, 0.4, target=5), condition=three)
    assert apart.place.size == pytest.approx(0.8 / 1.5)
    assert apart.foremost == 5


def test_where_other_classes_scatter_a_detector_says_less() -> None:
    """Of 2, 0.5, 0 and -0.5 the median is 0.25, and the median distance from it 0.5."""
    near = of_scores(SEARCH, {3: 2.0, 7: 0.5, 8: 0.0, 9: -0.5})
    found = recipes.furthest(recipes.shown([near], 1), {SEARCH: 2.0}, 1.0, {})
    assert found is not None
    assert found.size == pytest.approx(2.0 / math.hypot(2.0, recipes.SPREAD * 0.5))


def test_a_sentence_is_about_the_class_that_stands_out() -> None:
    """Where no detector by itself names the class that they name together, its name is all."""
    said = {SEARCH: {4: 1.0, 3: 0.9}, OTHER: {5: 1.0, 3: 0.9}}
    both = [of_scores(rule, {**own, 7: 0.0, 8: 0.0, 9: 0.0}) for rule, own in said.items()]
    found = recipes.furthest(recipes.shown(both, 1), dict.fromkeys(said, 1.0), 1.0, {})
    assert found is not None
    assert (found.class_id, found.sentence) == (3, f"class 3 stands out ({SEARCH})")


def of_scores(rule: str, above: dict[int, float], ahead: float | None = None) -> Comparison:
    """What a detector says of several classes; it names the first."""
    said = compared(rule, 1.0, target=next(iter(above)))
    rows = tuple(
        ClassDifference(class_id=one, suspect=1.0, above=value, ahead=ahead)
        for one, value in above.items()
    )
    return dataclasses.replace(said, evidence=dataclasses.replace(said.evidence, classes=rows))


LEADING = {3: 1.6, 5: 0.0, 6: 0.2, 7: 0.0, 8: 0.2}  # the others' median is 0.1, as is their spread


def test_a_lead_by_hand() -> None:
    """Of these five the median is 0.2; alone the class stands out from its own model."""
    led = recipes.lead(of_scores(OTHER, LEADING), references=1)
    assert led is not None
    assert led[0] == 3
    assert led[1] == pytest.approx((1.6 - 0.2) / (0.1 + 0.1))
    assert recipes.lead(of_scores(OTHER, dict(list(LEADING.items())[:4])), references=1) is None
    assert recipes.lead(of_scores(OTHER, LEADING), references=0) is None
    alone = of_scores(OTHER, dict.fromkeys(LEADING, 9.0))
    rows = tuple(
        dataclasses.replace(row, above=None, ahead=LEADING[row.class_id])
        for row in alone.evidence.classes
    )
    alone = dataclasses.replace(alone, evidence=dataclasses.replace(alone.evidence, classes=rows))
    assert recipes.lead(alone, references=0) == led


@given(
    values=st.lists(st.floats(-9, 9), min_size=5, max_size=12),
    level=st.floats(-9, 9),
)
def test_a_lead_is_that_of_any_order_and_any_level(values: list[float], level: float) -> None:
    """What all classes share is no lead, and a class that moves further leads further."""
    own = recipes.lead(of_scores(OTHER, dict(enumerate(values))), references=1)
    moved = [value + level for value in reversed(values)]
    other = recipes.lead(of_scores(OTHER, dict(enumerate(moved))), references=1)
    assert own is not None
    assert other is not None
    assert other[1] == pytest.approx(own[1], abs=1e-9)
    values[own[0]] += 1.0
    further = recipes.lead(of_scores(OTHER, dict(enumerate(values))), references=1)
    assert further is not None
    assert further[0] == own[0]
    assert further[1] >= own[1]


@pytest.mark.parametrize(("reach", "more", "beyond"), [(3.5, 1.0, 2.0), (7.5, 0.0, None)])
def test_what_a_lead_has_beyond_clean_networks_is_added(
    reach: float, more: float, beyond: float | None
) -> None:
    """Here it leads by 7; what is within their reach adds nothing."""
    condition = dataclasses.replace(BESIDE_ONE, leads={OTHER: reach})
    led = dataclasses.replace(of_scores(OTHER, LEADING), sentence="class 3 leads")
    found = place(compared(SEARCH, 0.4), led, condition=condition)
    assert found.place.size == pytest.approx(0.2 + more)
    assert found.foremost == 3
    assert found.leads == ({} if beyond is None else {OTHER: pytest.approx(beyond)})
    assert (found.sentence == led.sentence) == (beyond is not None)


def test_nobody_is_clean_of_whom_a_class_leads_too_far() -> None:
    """However many backdoored networks stand out further."""
    innocent = dataclasses.replace(place(compared(SEARCH, -0.2)), leads={OTHER: 1.4})
    judgement = verdict.among_recipes(innocent, Settings())
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason.endswith(
        "; it is not called clean because head finds one class 1.4 times as far ahead of the "
        "others as in clean networks of all recipes but one"
    )


def test_who_was_not_asked_for_a_lead_is_not_clean() -> None:
    """With two classes there is none, and nothing is missing."""
    condition = dataclasses.replace(BESIDE_ONE, leads={OTHER: 3.0})
    assert place(compared(SEARCH, -0.2), condition=condition).missing == (OTHER,)
    both = of_scores(SEARCH, {3: 0.0, 4: 0.0}), of_scores(OTHER, {3: 0.0, 4: 0.0})
    assert not place(*both, condition=condition).missing


def test_a_number_counts_by_what_it_has_beyond_the_references() -> None:
    assert recipes.scores(number(2.0, reference=1.5), references=1) == {None: 0.5}
    assert recipes.scores(number(2.0, reference=1.5), references=0) == {None: 2.0}


def test_classes_stand_out_from_references_or_from_their_own_model() -> None:
    searched = of_scores(SEARCH, {3: 0.1, 8: -1.0, 9: -1.0}, ahead=0.2)
    assert recipes.scores(searched, references=1) == {3: 0.1, 8: -1.0, 9: -1.0}
    assert recipes.scores(searched, references=0) == dict.fromkeys((3, 8, 9), 0.2)


def test_a_class_that_is_ordinary_in_its_own_model_hardly_stands_out() -> None:
    """A reference's search that went astray makes the suspect's class look easy."""
    astray = of_scores(SEARCH, {3: 4.0, 8: 0.0, 9: 0.0}, ahead=0.2)
    assert recipes.scores(astray, references=1)[3] == 0.2 + recipes.GRACE
    unknown = of_scores(SEARCH, {3: 4.0, 8: 0.0, 9: 0.0})
    assert recipes.scores(unknown, references=1)[3] == 4.0


def test_of_two_classes_the_other_is_the_level() -> None:
    assert recipes.scores(of_scores(SEARCH, {3: 0.1, 8: -1.0}), references=1) == {3: 1.1, 8: 0.0}
    assert not recipes.scores(of_scores(SEARCH, {3: 0.1}), references=1)


def test_beside_references_that_cannot_be_compared_nothing_is_said() -> None:
    """The suspect by itself is not what networks beside a reference are."""
    alone = dataclasses.replace(compared(SEARCH, 0.1), alone=2.0, statistic=None)
    rows = tuple(dataclasses.replace(row, above=None, ahead=2.0) for row in alone.evidence.classes)
    alone = dataclasses.replace(alone, evidence=dataclasses.replace(alone.evidence, classes=rows))
    assert recipes.furthest(recipes.shown([alone], 1), {SEARCH: 1.0}, 1.0, {}) is None
    found = recipes.furthest(recipes.shown([alone], 0), {SEARCH: 1.0}, 1.0, {})
    assert found is not None
    assert found.size == 2.0


def test_of_more_classes_than_were_measured_nothing_is_said() -> None:
    """Counted by their numbers: a class that no search reached has no row."""
    many = compared(SEARCH, 1.0, target=BESIDE_ONE.classes)
    assert recipes.stranger([many], (), 1, Settings(), KNOWN) is None


def test_of_fewer_classes_than_were_measured_nothing_is_said() -> None:
    three = Recipes(provenance="test", conditions=(dataclasses.replace(BESIDE_ONE, fewest=3),))
    pair = of_scores(SEARCH, {0: 1.0, 1: 0.0})
    assert recipes.stranger([pair], (), 1, Settings(), three) is None
    assert recipes.stranger([pair], (), 1, Settings(), KNOWN) is not None


def test_misses_by_attack() -> None:
    found = place(compared(SEARCH, 2.0))  # as far as clean networks reach
    assert found.missed == {"patch": 0.5, "blended": 0.5}
    assert found.overall == 0.5


def test_what_noise_cannot_show_is_named_and_not_counted() -> None:
    attacks = (*BESIDE_ONE.attacks, Attack(name="all-to-all", reached=(0.0, 0.1)))
    on_noise = place(
        compared(SEARCH, 0.4), condition=dataclasses.replace(BESIDE_ONE, attacks=attacks)
    )
    on_images = place(
        compared(SEARCH, 0.4),
        condition=dataclasses.replace(BESIDE_ONE, attacks=attacks, images=True),
    )
    assert on_noise.missed == on_images.missed
    assert on_noise.overall == 0.125  # patches 1 of 4, blended ones none
    assert on_images.overall == pytest.approx((0.25 + 0 + 1) / 3)
    said = [verdict.among_recipes(one, Settings(miss=0.2)) for one in (on_noise, on_images)]
    assert [one.verdict for one in said] == [Verdict.CLEAN, Verdict.INCONCLUSIVE]
    assert "not counted are those that only images show (all-to-all 100%)" in said[0].reason
    assert "not counted" not in said[1].reason


@pytest.mark.parametrize(
    ("statistic", "expected", "words"),
    [
        (2.0, Verdict.SUSPICIOUS, "p = 0.0476 among clean networks of 20 other recipes, 1 times"),
        (1.85, Verdict.INCONCLUSIVE, "of backdoored ones 38% stand out no further"),
        (-0.2, Verdict.CLEAN, "of backdoored networks of 20 other recipes only 0% "),
    ],
)
def test_what_is_said(statistic: float, expected: Verdict, words: str) -> None:
    judgement = verdict.among_recipes(place(compared(SEARCH, statistic)), Settings())
    assert judgement.verdict is expected
    assert words in judgement.reason
    assert judgement.target_class == (3 if expected is Verdict.SUSPICIOUS else None)


def test_nobody_is_clean_of_whom_not_everything_was_measured() -> None:
    innocent = dataclasses.replace(place(compared(SEARCH, -0.2)), missing=("mm_bd", "head"))
    judgement = verdict.among_recipes(innocent, Settings())
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason.endswith(
        "; it is not called clean because mm_bd and head gave no complete result"
    )


def images_answered(shares: Sequence[float], images: int = 64) -> Measurement:
    """What a search on images says of its classes."""
    rows = tuple(
        ClassRow(class_id=one, course=(None,), answered=share) for one, share in enumerate(shares)
    )
    return Measurement(
        rule=SEARCH,
        statistic=None,
        parameters={"images": images - 4, "held_back": 4},
        by_class=ByClass(classes=len(rows), rows=rows),
    )


def alone_on_images(size: float = 3.0) -> Stranger:
    """A model whose class 3 stands out; the unit is 2."""
    return dataclasses.replace(place(compared(SEARCH, size)), references=0, images=True)


@pytest.mark.parametrize(
    ("share", "classes", "images", "expected"),
    [
        (0.5, 5, 64, True),
        (0.41, 5, 64, True),
        (0.39, 5, 64, False),  # less than twice an equal share
        (0.2, 10, 20, False),  # four of 20 images, as often by chance
        (0.3, 10, 100, True),
        (0.59, 4, 20, True),
        (0.7, 4, 64, True),
    ],
)
def test_alone_a_class_that_is_much_of_the_images_accuses_nobody(
    share: float, classes: int, images: int, expected: bool
) -> None:
    """It is class 3 that is accused."""
    rest = (1 - share) / (classes - 1)
    shares = [share if one == 3 else rest for one in range(classes)]
    own = recipes.on_images(alone_on_images(), [images_answered(shares, images)])
    assert (own.common == share) == expected
    judgement = verdict.among_recipes(own, Settings())
    assert judgement.verdict is (Verdict.INCONCLUSIVE if expected else Verdict.SUSPICIOUS)
    said = f"but to the model {share:.0%} of the images are of class 3, and a class"
    assert (said in judgement.reason) == expected


def test_of_two_classes_most_images_are_much() -> None:
    most = images_answered((0.1, 0.9))
    accused = dataclasses.replace(alone_on_images(), driven=1)
    assert recipes.on_images(accused, [most]).common == 0.9
    assert recipes.on_images(accused, [images_answered((0.45, 0.55))]).common is None


def test_beside_a_reference_or_without_images_no_class_is_common() -> None:
    searched = images_answered((0.1, 0.1, 0.1, 0.6, 0.1))
    accused = alone_on_images()
    assert recipes.on_images(accused, [searched]).common == 0.6
    for changed in ({"references": 1}, {"images": False}, {"driven": None}, {"driven": 4}):
        other = dataclasses.replace(accused, **changed)
        assert recipes.on_images(other, [searched]) is other
    assert recipes.on_images(accused, [compared_on_noise()]) is accused


@pytest.mark.parametrize("images", [None, "many", -4, 10**12, 60.5])
def test_what_a_child_makes_up_of_the_images_is_not_counted(images: object) -> None:
    searched = images_answered((0.1, 0.1, 0.1, 0.6, 0.1))
    parameters = {**searched.parameters, "images": images}
    made_up = dataclasses.replace(searched, parameters=parameters)
    accused = alone_on_images()
    assert recipes.on_images(accused, [made_up]) is accused
    none = dataclasses.replace(images_answered((0.5,)), by_class=ByClass(classes=0, rows=(FIRST,)))
    assert recipes.on_images(dataclasses.replace(accused, driven=0), [none]).common is None


FIRST = ClassRow(class_id=0, course=(None,), answered=0.5)


def compared_on_noise() -> Measurement:
    """A search that did not say what the images are to the model."""
    rows = (ClassRow(class_id=3, course=(None,)),)
    profile = ByClass(classes=5, rows=rows)
    return Measurement(rule=SEARCH, statistic=None, parameters={}, by_class=profile)


def test_a_size_that_is_enough_beside_references_only_says_so() -> None:
    near = dataclasses.replace(place(compared(SEARCH, 2.9)), references=0, images=True)
    judgement = verdict.among_recipes(near, Settings(miss=0.5))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason.endswith(
        "; it is not called suspicious because without a reference that takes 1.5 times as far out "
        "as those of all recipes but one, and it lies 1.4 times"
    )


def test_nobody_is_clean_who_stands_alone() -> None:
    alone = dataclasses.replace(place(compared(SEARCH, -0.2)), references=0)
    judgement = verdict.among_recipes(alone, Settings())
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason.endswith(
        "; it is not called clean because neither a clean model nor images are at hand"
    )
    on_images = dataclasses.replace(alone, images=True)
    assert verdict.among_recipes(on_images, Settings()).verdict is Verdict.CLEAN
    accused = dataclasses.replace(place(compared(SEARCH, 3.0)), references=0)
    assert verdict.among_recipes(accused, Settings()).verdict is Verdict.SUSPICIOUS
    # Beside a reference 1 is enough, alone it takes 1.5.
    near = dataclasses.replace(place(compared(SEARCH, 2.9)), references=0)
    assert verdict.among_recipes(near, Settings()).verdict is Verdict.INCONCLUSIVE


def test_the_level_of_misses_is_the_users() -> None:
    doubtful = place(compared(SEARCH, 0.3))
    words = [verdict.among_recipes(doubtful, Settings(miss=m)).verdict for m in (0.1, 0.2)]
    assert words == [Verdict.INCONCLUSIVE, Verdict.CLEAN]


def stranger(
    settings: Settings, references: int = 1, skips: tuple[Skip, ...] = ()
) -> Stranger | None:
    return recipes.stranger([compared(SEARCH, 1.0)], skips, references, settings, KNOWN)


@pytest.mark.parametrize(
    "settings",
    [Settings(budget=Budget.STANDARD), Settings(classes=(3,)), Settings(images_file="images.npz")],
    ids=["another budget", "one class", "images"],
)
def test_who_was_measured_otherwise_is_not_judged(settings: Settings) -> None:
    assert stranger(Settings()) is not None
    assert stranger(settings) is None


def test_of_several_ways_the_first_counts_in_which_all_was_measured() -> None:
    units = {SEARCH: 2.0, OTHER: 1.0}
    more = dataclasses.replace(BESIDE_ONE, units=units, recipes=BESIDE_ONE.recipes[:19])
    ways = Recipes(provenance="test", conditions=(more, BESIDE_ONE))
    both = [compared(SEARCH, 1.0), compared(OTHER, 1.0)]
    for comparisons, count in ((both, 19), (both[:1], 20)):
        found = recipes.stranger(comparisons, (), 1, Settings(), ways)
        assert found is not None
        assert (found.recipes, found.missing) == (count, ())


def test_what_needs_no_images_judges_on_them_too() -> None:
    """Where the networks that were searched on images have too few classes, or the suspect more."""
    on_images = dataclasses.replace(BESIDE_ONE, images=True, recipes=BESIDE_ONE.recipes[:19])
    without = dataclasses.replace(BESIDE_ONE, images=None, units={OTHER: 1.0}, fewest=4)
    ways = Recipes(provenance="test", conditions=(on_images, without))
    shown = Settings(images_file="images.npz")
    for rule, settings, count in (
        (SEARCH, shown, 19),
        (OTHER, shown, 20),
        (OTHER, Settings(), 20),
    ):
        found = recipes.stranger([compared(rule, 1.0)], (), 1, settings, ways)
        assert found is not None
        assert found.recipes == count
        assert found.images == found.searched == (count == 19)
    quiet = recipes.stranger([compared(OTHER, -2.0)], (), 1, shown, ways)
    assert quiet is not None
    judgement = verdict.among_recipes(quiet, Settings())
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason.endswith(
        "; it is not called clean because searches for triggers in so many classes cannot be "
        "compared with those in other networks"
    )


def test_beside_no_reference_other_networks_judge() -> None:
    assert stranger(Settings(), references=0) is None


def test_half_a_search_is_not_the_whole() -> None:
    ran_out = Skip(rule=SEARCH, reason="the time ran out before class 7")
    cut = stranger(Settings(), skips=(ran_out,))
    assert cut is not None
    assert cut.missing


def test_what_ships() -> None:
    known = recipes.shipped()
    asked = {(c.images, c.references) for c in known.conditions}
    assert asked == {
        *((images, count) for images in (False, True) for count in (0, 1, 2)),
        *((None, count) for count in (1, 2)),  # beyond 12 classes, by what needs no search
    }
    for condition in known.conditions:
        assert len(condition.recipes) >= 19  # so that p can reach 0.05
        values = [v for r in condition.recipes for v in r.reached]
        values += [v for a in condition.attacks for v in a.reached]
        assert all(map(math.isfinite, values))
        assert all(unit > 0 for unit in (*condition.units.values(), *condition.leads.values()))
        assert bool(condition.leads) == bool(condition.references or condition.images)
        # Noise falls into one class: of two, one always leads.
        assert (condition.fewest == 3) == (not condition.images and not condition.references)
        assert (
            (condition.fewest > 12)
            == (condition.images is None)
            == ({*condition.units} == {"head"})
        )
