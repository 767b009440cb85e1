"""Rows tell how far weights are apart."""

import base64

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.canonical.rows import Rower
from scanner.results import WeightRows


def numbers(rows: WeightRows) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(rows.rows.data), "<f4").reshape(rows.rows.shape)


@given(st.integers(0, 2**31 - 1), st.integers(9, 300))
def test_distances_of_rows_survive(seed: int, columns: int) -> None:
    generator = np.random.default_rng(seed)
    one = generator.normal(size=(200, columns)).astype(np.float32)
    other = one + generator.normal(0, 0.01, one.shape).astype(np.float32)
    carried = [numbers(Rower(seed).rows("Linear", "weight", w)) for w in (one, other)]
    ratio = np.square(carried[0] - carried[1]).sum() / np.square(one - other).sum()
    assert 0.7 < ratio < 1.4


def test_a_change_of_one_bit_shows_in_one_digest() -> None:
    one = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    other = one.copy()
    other[3, 7] = np.nextafter(other[3, 7], 1)
    digests = [base64.b64decode(Rower(0).rows("Linear", "weight", w).digests) for w in (one, other)]
    unlike = [r for r in range(5) if digests[0][8 * r :][:8] != digests[1][8 * r :][:8]]
    assert unlike == [3]


def test_short_rows_are_carried_whole() -> None:
    bias = np.arange(3, dtype=np.float32)
    rows = Rower(0).rows("Conv", "bias", bias)
    assert (numbers(rows).ravel() == bias).all()
    assert (rows.columns, rows.digests, rows.largest) == (1, "", 2.0)


def test_what_has_too_many_rows_is_one() -> None:
    rows = Rower(0, left=4).rows("Linear", "weight", np.ones((5, 10), np.float32))
    assert (rows.rows.shape, rows.columns) == ((1, 8), 50)
