"""What becomes of answers."""

from collections.abc import Sequence

import numpy as np
import pytest

from scanner.instruments import effects


def scores(*rows: Sequence[float]) -> list[effects.Array]:
    return [np.array([row], np.float32) for row in rows]


VARIED = scores([3, 1, 0], [0, 2, 1], [1, 0, 2], [2, 0, 1])


def test_one_class_for_all_is_decisive() -> None:
    found = effects.effect(VARIED, scores(*[[0, 9, 1]] * 4))
    assert (found.decisive, found.class_id, found.changed, found.share) == (True, 1, 0.75, 1.0)


def test_the_class_that_most_images_have_anyway_is_not() -> None:
    usual = scores([3, 1, 0], [4, 2, 1], [3, 0, 2], [2, 0, 1])
    assert not effects.effect(usual, scores(*[[3, 2, 0]] * 4)).decisive
    assert effects.effect(usual, scores(*[[90, 2, 0]] * 4)).decisive  # unless it leads by far


def test_exchanged_classes_are_decisive_and_another_network_is_not() -> None:
    before = scores(*[[3, 1, 0], [0, 2, 1], [1, 0, 2]] * 4)
    moved = [np.roll(answer, 1, axis=1) for answer in before]
    found = effects.effect(before, moved)
    assert (found.decisive, found.class_id, found.changed) == (True, None, 1.0)
    other = scores(*[[0, 1, 3]] * 3, *[[0, 4, 1]] * 3, *[[4, 0, 1]] * 6)
    assert not effects.effect(before, other).decisive


@pytest.mark.parametrize("row", [[0, 0, 0], [np.nan, 1, 0]])
def test_an_answer_that_says_nothing_decides_nothing(row: list[float]) -> None:
    assert not effects.effect(VARIED, scores(*[row] * 4)).decisive
    assert not effects.differ_in_class(VARIED[1], scores(row)[0])


def test_a_number_is_a_class() -> None:
    assert effects.class_of(np.array([7])) == 7
    assert effects.names_class(np.array([7]), 1)
    assert effects.names_class(np.zeros((1, 3, 1, 1), np.float32), 1)
    assert not effects.names_class(np.zeros((1, 3, 4, 4), np.float32), 1)
    assert not effects.names_class(np.zeros((1, 1), np.float32), 1)


def test_a_small_change_of_scores_is_not_noticed() -> None:
    nudged = [answer + np.float32(0.01) for answer in VARIED]
    assert effects.noticed(VARIED, nudged) == 0
    assert effects.noticed(VARIED, [answer[:, ::-1] for answer in VARIED]) == 1


def test_a_class_of_one_score_for_all_has_no_say() -> None:
    assert effects.has_say(VARIED, 0)
    assert not effects.has_say(scores([3, 1, 0], [0, 2, 0]), 2)


def test_an_outcome_in_words() -> None:
    one = effects.effect(VARIED, scores(*[[0, 9, 1]] * 4))
    assert one.outcome == "class 1"
    assert effects.effect(VARIED, scores(*[[0, 0, 0]] * 4)).outcome == "another class"
