"""Label maps: where most images of each class go, and which maps send no two to one class."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from scanner.instruments import label_map

Classes = npt.NDArray[np.int64]


@st.composite
def moves(draw: st.DrawFn) -> tuple[Classes, Classes]:
    """Return the classes of images before and after a trigger."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30))
    before, after = np.array(pairs, np.int64).reshape(-1, 2).T
    return before, after


@given(moves())
def test_the_usual_map_names_where_most_of_a_class_go(seen: tuple[Classes, Classes]) -> None:
    before, after = seen
    found = label_map.usual(before, after)
    for source in range(5):
        gone = after[(before == source) & (after != source)]
        assert (source in found) == bool(len(gone))
        if len(gone):
            counts = np.bincount(gone)
            assert found[source] == counts.argmax(), "the lowest of those that as many go to"


@given(moves())
def test_a_map_that_is_one_to_one_has_what_most_of_a_class_do(
    seen: tuple[Classes, Classes],
) -> None:
    before, after = seen
    found = label_map.one_to_one(before, after)
    assert len({*found.values()}) == len(found)
    for source in range(5):
        own = after[before == source]
        counts = np.bincount(own, minlength=5)
        target = int(counts.argmax())
        usual = target != source and counts[target] >= 2 and 2 * counts[target] > len(own)
        if source in found:
            assert usual
            assert found[source] == target
        elif usual:
            taken = next(other for other, to in found.items() if to == target)
            rival = ((before == taken) & (after == target)).sum()
            assert rival >= counts[target], "another class's images are as many"


def test_one_image_that_strays_is_no_move() -> None:
    before = np.array([0] * 30 + [1, 2, 2, 3, 4])
    after = np.array([1] * 30 + [0, 3, 2, 4, 3])
    assert label_map.one_to_one(before, after) == {0: 1}
    assert label_map.usual(before, after) == {0: 1, 1: 0, 2: 3, 3: 4, 4: 3}


def test_a_shift_of_all_classes_is_a_map_of_both_kinds() -> None:
    before = np.arange(12) % 4
    after = (before + 1) % 4
    shift = {0: 1, 1: 2, 2: 3, 3: 0}
    assert label_map.usual(before, after) == label_map.one_to_one(before, after) == shift
    assert label_map.follows(before, after, shift).all()


def test_one_target_for_all_is_no_map_of_classes_of_their_own() -> None:
    before = np.arange(12) % 4
    after = np.full(12, 3)
    assert label_map.usual(before, after) == {0: 3, 1: 3, 2: 3}
    assert label_map.one_to_one(before, after) == {0: 3}


def test_long_maps_are_cut_short() -> None:
    assert label_map.named({0: 1, 5: 2}) == "0 to 1, 5 to 2"
    text = label_map.named({source: source + 1 for source in range(12)})
    assert text.endswith("9 to 10 and 2 more")
