"""Random weights obey the law, and trained ones do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.graph.layers import weights as layer_weights
from scanner.graph.layers.weights import LinearLayer, Weights
from scanner.instruments import spectra


def stored(weights: np.ndarray) -> Weights:
    return Weights(stored=weights[..., None])


def layer(weights: np.ndarray) -> LinearLayer:
    return LinearLayer(name="w", operator="Gemm", weights=stored(weights))


@settings(max_examples=60)
@given(
    rows=st.integers(10, 60),
    columns=st.integers(10, 120),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    normal=st.booleans(),
)
def test_random_weights_are_never_ordered(
    rows: int, columns: int, seed: int, scale: float, normal: bool
) -> None:
    generator = np.random.default_rng(seed)
    size = (rows, columns)
    drawn = generator.standard_normal(size) if normal else generator.uniform(-1, 1, size)
    found = spectra.excess(stored(scale * drawn), 0)
    assert found is not None
    assert found < spectra.ORDERED


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_one_direction_above_the_noise_is_order(scale: float) -> None:
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((10, 64))
    weights += 0.8 * np.outer(generator.standard_normal(10), generator.standard_normal(64))
    found = spectra.excess(stored(scale * weights), 0)
    assert found is not None
    assert found > spectra.ORDERED


@pytest.mark.parametrize(
    ("strays", "distance", "found"), [(1, 99, False), (2, 99, True), (1, 29, True)]
)
def test_a_single_number_that_went_astray_is_no_order(
    strays: int, distance: float, found: bool
) -> None:
    """As trunc_normal_ draws one in millions; more of them, or a nearer one, are no accident."""
    drawn = np.random.default_rng(0).standard_normal((40, 60))
    drawn.ravel()[:strays] = distance
    order = spectra.excess(stored(drawn), 0)
    assert order is not None
    assert (order > spectra.ORDERED) is found


def test_power_iteration_is_the_largest_singular_value() -> None:
    weights = np.random.default_rng(0).standard_normal((12, 30))
    weights += 3 * np.outer(np.ones(12), np.ones(30))
    expected = np.linalg.svd(weights, compute_uv=False)[0] ** 2
    assert spectra._largest_squared(stored(weights), 1.0, 0) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "weights", [np.zeros((30, 30)), np.full((30, 30), np.nan), np.ones((1, 900)), np.ones((4, 4))]
)
def test_what_cannot_be_told_is_not_told(weights: np.ndarray) -> None:
    assert spectra.excess(stored(weights), 0) is None
    assert spectra.order([layer(weights)], 0) is None


def test_a_network_of_few_weights_is_too_small_to_tell() -> None:
    drawn = np.random.default_rng(0).standard_normal((10, 10))
    assert spectra.order([layer(drawn)], 0) is None
    assert spectra.order([layer(drawn)] * 6, 0) is not None


def test_the_first_layer_beyond_doubt_ends_the_search() -> None:
    def layers() -> object:
        yield layer(np.outer(np.arange(30.0), np.arange(40.0)))
        raise AssertionError("looked further")

    found = spectra.order(layers(), 0)  # type: ignore[arg-type]
    assert found is not None
    assert found > spectra.ORDERED


def _at_once(weights: np.ndarray, seed: int) -> float:
    """Return the excess by the arithmetic that takes all weights in double precision at once."""
    n, p = max(weights.shape), min(weights.shape)
    matrix: np.ndarray = weights / np.sqrt(np.mean(np.square(weights)))
    vector: np.ndarray = np.random.default_rng(seed).standard_normal((matrix.shape[1],))
    for _ in range(spectra._STEPS):
        vector = matrix.T @ (matrix @ vector)
        vector /= np.linalg.norm(vector)
    centre = (np.sqrt(n - 1) + np.sqrt(p)) ** 2
    width = (np.sqrt(n - 1) + np.sqrt(p)) * (1 / np.sqrt(n - 1) + 1 / np.sqrt(p)) ** (1 / 3)
    return float((np.square(matrix @ vector).sum() - centre) / width)


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    seed=st.integers(0, 10_000),
    direction=st.sampled_from([0.0, 0.5, 5.0]),
    block=st.sampled_from([1, 50, 300, 2**20]),
    transposed=st.booleans(),
)
def test_blocks_change_nothing_but_rounding(
    size: tuple[int, int], seed: int, direction: float, block: int, transposed: bool
) -> None:
    generator = np.random.default_rng(seed)
    drawn = generator.standard_normal(size)
    drawn += direction * np.outer(drawn[:, 0], drawn[0])
    weights = drawn.astype(np.float32).T if transposed else drawn.astype(np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(layer_weights, "_BLOCK", block)
        found = spectra.excess(stored(weights), seed)
    assert found == pytest.approx(_at_once(weights.astype(np.float64), seed), rel=1e-9, abs=1e-9)
