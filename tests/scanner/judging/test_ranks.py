"""Laws of the p-value, of the combination and of the index."""

import dataclasses
import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from judged import COMBINED, clean, compared

from benchmarks.detection import ALL, beside_one, reached_alone, reached_beside_one
from scanner.judging import population, ranks
from scanner.results import Comparison, Population

FLOATS = st.floats(-1e6, 1e6)


@given(value=FLOATS, clean=st.lists(FLOATS, min_size=1, max_size=40))
def test_p_is_never_below_what_the_population_allows(value: float, clean: list[float]) -> None:
    p = ranks.conformal_p(value, clean)
    assert 1 / (len(clean) + 1) <= p <= 1
    assert ranks.conformal_p(value + 1, clean) <= p


@pytest.mark.parametrize("detectors", [1, 3])
def test_p_is_uniform_for_a_clean_suspect(detectors: int) -> None:
    generator = np.random.default_rng(0)
    models, trials = 20, 2000
    ps = []
    for _ in range(trials):
        shared = generator.standard_normal((1, models))
        draws = (
            generator.standard_normal((detectors, models))
            * np.array([[1.0], [5.0], [0.1]])[:detectors]
            + shared
        )
        profiles = [[{0: value} for value in row] for row in draws.tolist()]
        ps.append(ranks.combined([row[0] for row in profiles], [row[1:] for row in profiles])[0].p)
    for level in (0.05, 0.1, 0.25, 0.5):
        share = np.mean(np.array(ps) <= level + 1e-9)
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / trials)


def profiles_of(generator: np.random.Generator, models: int) -> list[dict[int, float]]:
    return [
        {t: float(value) for t, value in enumerate(generator.standard_normal(4))}
        for _ in range(models)
    ]


@given(value=FLOATS, clean=st.tuples(FLOATS, FLOATS))
def test_beside_two_clean_models_a_size_is_one_too(
    value: float, clean: tuple[float, float]
) -> None:
    """Among three values the furthest clean one may be the median: nothing is measured by that."""
    low, high = sorted(clean)
    assume(high - low > 1e-3)
    expected = (value - (low + high) / 2) / ((high - low) / 2)
    assert ranks.size(value, clean) == pytest.approx(expected, abs=1e-9)


@given(st.floats(0, 10))
def test_a_larger_size_has_no_weaker_word(size: float) -> None:
    words = [None, *ranks.STRENGTHS]
    order = [words.index(ranks.strength(each)) for each in (size, size * 1.1, 1.0, 1.1, 1.5, 1.9)]
    assert order[0] <= order[1]
    assert order[2:] == [0, 1, 2, 3]


def test_the_combination_names_the_foremost_class() -> None:
    generator = np.random.default_rng(1)
    clean = [profiles_of(generator, 20) for _ in range(2)]
    place, foremost = ranks.combined([{0: 0.1}, {0: 0.1, 2: 9.0}], clean)
    assert (place.p, foremost) == (1 / 21, 2)
    assert place.size > 1
    # Two that agree on a class outweigh one that is louder about another.
    place, foremost = ranks.combined([{3: 6.0}, {3: 6.0, 1: 9.0}], clean)
    assert (place.p, foremost) == (1 / 21, 3)


def test_detectors_that_find_one_class_speak_together() -> None:
    """Neither detector alone sets the suspect apart; both do, if they speak of one class."""
    generator = np.random.default_rng(2)
    clean = [profiles_of(generator, 40) for _ in range(2)]
    large = [sorted(max(profile.values()) for profile in row)[-2] for row in clean]
    same = [{3: large[0]}, {3: large[1]}]
    apart = [{3: large[0]}, {1: large[1]}]
    assert ranks.combined(same, clean)[0].p < ranks.combined(apart, clean)[0].p
    assert ranks.combined(same, clean)[0].p == 1 / 41


def test_other_clean_models_for_each_detector_are_no_population() -> None:
    comparisons = [compared("neural_cleanse", 2.0), compared("head", 2.0)]
    same, other = (
        clean(20, "head"),
        dataclasses.replace(clean(20, "head"), models=tuple("abcdefghijklmnopqrst")),
    )
    assert ranks.together(comparisons, [clean(20), same]) is not None
    assert ranks.together(comparisons, [clean(20), other]) is None


def test_the_index_is_in_units_of_what_clean_networks_reach() -> None:
    reach = {rule: part.beside_one or 0 for rule, part in COMBINED.items()}
    alone = {rule: part.alone or 0 for rule, part in COMBINED.items()}
    assert ranks.index([]) is None
    assert ranks.index([compared("overactivation", 99.0)]) is None
    assert ranks.index([compared("head", None)]) is None
    assert ranks.index(
        [compared(rule, None, limit) for rule, limit in alone.items()]
    ) == pytest.approx(1)
    agreed = [compared(rule, limit) for rule, limit in reach.items()]
    assert ranks.index(agreed) == pytest.approx(len(reach) / ranks.TOGETHER)
    divided = [compared(rule, limit, target=t) for t, (rule, limit) in enumerate(reach.items())]
    assert ranks.index(divided) == pytest.approx(1 / ranks.TOGETHER)
    # What one detector compared outweighs the lead of another: with a reference, differences are
    # evidence.
    mixed = [compared("head", None, 99.0), compared("mm_bd", 3 * reach["mm_bd"])]
    assert ranks.index(mixed) == pytest.approx(3 / ranks.TOGETHER)


def test_the_reach_is_that_of_the_shipped_baselines() -> None:
    baselines = [
        population.read_baseline(path).records for path in population.SHIPPED.glob("*.json")
    ]
    beside = [found for records in baselines if (found := reached_beside_one(beside_one(records)))]
    alone = [reached_alone(records) for records in baselines]
    for rule, part in COMBINED.items():
        assert part.beside_one == pytest.approx(max(found[rule] for found in beside), abs=0.005)
        assert part.alone == pytest.approx(max(found[rule] for found in alone), abs=0.005)
    # In units of its own largest: the index of a clean network beside one other reaches 1.
    assert max(found[ALL] for found in beside) == pytest.approx(1, abs=0.005)


def test_who_stands_apart() -> None:
    def pair(statistic: float, rule: str = "head") -> tuple[Comparison, Population]:
        return compared(rule, statistic), dataclasses.replace(clean(20), rule=rule)

    assert ranks.stands_apart([pair(9.0)])
    assert ranks.stands_apart([pair(9.0), pair(0.5, "mm_bd")])
    # The clean ones reach 1 about a median of 0.5: twice as far out is 1.5.
    assert not ranks.stands_apart([pair(1.0)])
    assert not ranks.stands_apart([pair(1.45)])
    assert ranks.stands_apart([pair(1.6)])
    assert not ranks.stands_apart([pair(9.0, "overactivation")])
    assert not ranks.stands_apart([])


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=30),
    st.floats(-100, 100),
    st.floats(0.1, 10),
    st.floats(-50, 50),
)
def test_a_size_has_no_unit(clean: list[float], value: float, scale: float, shift: float) -> None:
    assume(max(clean) - statistics.median([value, *clean]) > 1e-3)
    moved = ranks.size(scale * value + shift, [scale * c + shift for c in clean])
    assert moved == pytest.approx(ranks.size(value, clean), rel=1e-6, abs=1e-6)


def test_the_furthest_clean_model_has_size_one_and_the_middle_zero() -> None:
    clean = [float(i) for i in range(20)]
    assert ranks.size(19.0, clean) == 1.0
    assert ranks.size(9.5, clean) == 0.0
    assert ranks.size(29.0, clean) == pytest.approx(2.11, abs=0.01)
    assert ranks.size(2.0, [1.0, 1.0]) > 1e6


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_discoveries_are_those_of_benjamini_and_hochberg(values: list[float], share: float) -> None:
    count = ranks.discoveries(values, share)
    ranked = sorted(values)
    assert count == 0 or ranked[count - 1] <= count * share / len(values)
    assert all(ranked[k - 1] > k * share / len(values) for k in range(count + 1, len(values) + 1))


def test_a_rank_among_few_clean_models_discovers_nothing_in_a_registry() -> None:
    """1/25 is the least p-value among 24 clean models: two in 200 models are no discovery."""
    assert ranks.discoveries([0.04] * 2 + [0.5] * 198, 0.1) == 0
    assert ranks.discoveries([0.04] * 90 + [0.5] * 110, 0.1) == 90
