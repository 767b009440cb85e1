"""Ranks among clean images are valid, of one filter and of all; so is what a set shows."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.judging import inputs
from scanner.judging.inputs import Discovering, Ranks, as_many, expected, needed, places, told
from scanner.results import Quantity, Region, Verdict

ALPHAS = st.sampled_from([0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5])


@pytest.mark.parametrize(("alpha", "count"), [(0.01, 99), (0.05, 19), (0.5, 1), (0.0001, 9999)])
def test_how_many_clean_images_are_needed(alpha: float, count: int) -> None:
    assert needed(alpha) == count
    assert places(alpha, count) == 1
    assert count == 1 or places(alpha, count - 1) == 0


def test_a_p_value_by_hand() -> None:
    ranks = Ranks(scenes.readings([[0.1], [0.2], [0.3]], [[0.1], [0.2], [0.3], [0.4]]))
    assert [ranks.ranked(0, scenes.reading(s), 0.2).p_value for s in (0.5, 0.4, 0.25, 0.0)] == [
        0.2,
        0.4,
        0.6,
        1.0,
    ]
    assert ranks.ranked(0, scenes.reading(0.5), 0.2).stands_out
    assert not ranks.ranked(0, scenes.reading(0.4), 0.2).stands_out


def test_a_filter_that_does_not_decide_has_a_p_value_and_no_say() -> None:
    notes = [scenes.note("one"), scenes.note("shown", decides=False)]
    ranks = Ranks(scenes.readings([[0.1, 0.1], [0.2, 0.2]], [[0.1, 0.1]] * 9, notes))
    found = ranks.ranked(0, scenes.reading(0.0, 1.0), 0.1)
    assert [score.p_value for score in found.scores] == [1.0, 0.1]
    assert (found.p_value, found.rule) == (1.0, "one")


@pytest.mark.parametrize(("statistic", "told"), [(0.9, True), (0.3, False)])
def test_a_region_is_told_where_its_filter_alone_sets_the_input_apart(
    statistic: float, told: bool
) -> None:
    ranks = Ranks(scenes.readings([[0.1, 0.1], [0.2, 0.2]], [[0.1, 0.3]] * 19))
    corner = Region(top=0, left=0, height=2, width=2)
    reading = dataclasses.replace(scenes.reading(0.99, statistic), regions=(None, corner))
    found = ranks.ranked(0, reading, 0.05)
    assert (found.rule, found.region) == ("f0", corner if told else None)


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_among_exchangeable_inputs_every_rank_is_as_likely(seed: int, filters: int) -> None:
    """Each of n + 1 distinct images, ranked among the others, gets a rank of its own."""
    generator = np.random.default_rng(seed)
    pool = generator.permutation(40 * filters).reshape(40, filters) / (40 * filters + 1)
    hosts, rest = pool[:10].tolist(), pool[10:].tolist()
    found = sorted(
        Ranks(scenes.readings(hosts, [r for j, r in enumerate(rest) if j != i]))
        .ranked(0, scenes.reading(*row), 0.1)
        .p_value
        for i, row in enumerate(rest)
    )
    # Two images may be as far out by the same filter only if they are equal, which none are.
    assert np.allclose(found, (1 + np.arange(30)) / 30)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_stretch_keeps_the_order(one: float, other: float) -> None:
    if one < other:
        stretched = [inputs._stretched(Quantity.SHARE, share) for share in (one, other)]
        assert stretched[0] <= stretched[1]
        entropies = [inputs._stretched(Quantity.ENTROPY, -bits) for bits in (one, other)]
        assert entropies[0] >= entropies[1]


@given(st.integers(0, 12), st.integers(1, 12), st.integers(20, 60), st.sampled_from([0.05, 0.1]))
def test_the_chance_of_as_many_is_exact(seen: int, count: int, clean: int, alpha: float) -> None:
    """Against the negative hypergeometric law in fractions, term by term."""
    seen, r = min(seen, count), places(alpha, clean)
    exact = sum(
        Fraction(
            math.comb(k + r - 1, k) * math.comb(count - k + clean - r, count - k),
            math.comb(clean + count, count),
        )
        for k in range(seen, count + 1)
    )
    assert as_many(seen, count, alpha, clean) == pytest.approx(float(exact), rel=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_the_chance_of_as_many_is_that_of_ranks(seed: int) -> None:
    """What stands out among shuffled images stands out as often as the law says."""
    generator, count, clean, alpha = np.random.default_rng(seed), 10, 20, 0.1
    r = places(alpha, clean)
    draws = np.array([generator.permutation(count + clean) for _ in range(500)])
    thresholds = np.sort(draws[:, count:], axis=1)[:, -r]
    seen = (draws[:, :count] > thresholds[:, None]).sum(axis=1)
    assert seen.mean() == pytest.approx(expected(count, alpha, clean), abs=0.25)
    assert (seen >= 3).mean() == pytest.approx(as_many(3, count, alpha, clean), abs=0.08)


def test_one_input_that_stands_out_is_told_at_alpha() -> None:
    assert as_many(1, 1, 0.01, 99) == pytest.approx(0.01)
    assert as_many(0, 5, 0.01, 99) == 1.0


def test_a_million_inputs() -> None:
    assert as_many(60_000, 1_000_000, 0.01, 999) < 1e-10
    assert as_many(9_000, 1_000_000, 0.01, 999) > 0.5


@pytest.mark.parametrize(
    ("found", "count", "verdict", "words"),
    [
        (0, 0, Verdict.INCONCLUSIVE, "there are no inputs"),
        (0, 1, Verdict.CLEAN, "the input is indistinguishable"),
        (1, 1, Verdict.SUSPICIOUS, "the input carries a trigger, or is unlike"),
        (0, 40, Verdict.CLEAN, "none of 40 inputs stands out"),
        (1, 30, Verdict.SUSPICIOUS, "1 of 30 inputs lies at least twice as far out"),
        (2, 1000, Verdict.INCONCLUSIVE, "2 of 1,000 inputs lie at least twice as far out"),
        (3, 1000, Verdict.SUSPICIOUS, "3 of 1,000 inputs lie at least twice as far out"),
        (20, 40, Verdict.SUSPICIOUS, "20 of 40 inputs stand out, and 0.4 would by chance: inputs"),
    ],
)
def test_the_verdict_of_a_set(found: int, count: int, verdict: Verdict, words: str) -> None:
    whole = scenes.screening(*[scenes.screened()] * found, inputs=count)
    assert (whole.verdict, whole.reason.startswith(words)) == (verdict, True), whole.reason
    assert told(whole) == (whole.verdict, whole.reason)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.sampled_from([0.05, 0.2, 0.5]))
def test_discoveries_are_those_of_benjamini_and_hochberg(ranks: list[int], share: float) -> None:
    discovering = Discovering(share, 49)
    for rank in ranks:
        discovering.add(rank / 50)
    p_values = sorted(rank / 50 for rank in ranks)
    allowed = [k for k, p in enumerate(p_values, 1) if p * len(ranks) <= share * k]
    found = discovering.found()
    assert found.count == max(allowed, default=0)
    assert found.p_value == (p_values[found.count - 1] if found.count else None)
