"""How weights are related, by the measures and thresholds of the module."""

import numpy as np
import onnx
import onnx.compose
import planting
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.canonical.drawing import draw
from scanner.judging.differences import differences
from scanner.results import Differences, Relation

Weights = dict[str, np.ndarray]
SEEDS = st.integers(0, 2**31 - 1)


def related(change: Weights, seed: int = 0) -> Differences:
    """Return a model with some weights changed beside itself."""
    model = planting.deep(seed)
    changed = draw(planting.with_weights(model, **change), seed)
    return differences(changed, draw(model, seed))


def noisy(weights: Weights, share: float, seed: int) -> Weights:
    generator = np.random.default_rng(seed + 7)  # not the one that the weights came from
    return {
        name: value + generator.normal(0, share * value.std(), value.shape).astype(np.float32)
        for name, value in weights.items()
    }


def test_equal_bit_for_bit() -> None:
    found = related({})
    assert (found.weights, found.layers) == (Relation.EQUAL, ())


@given(SEEDS)
def test_rounded_to_16_or_8_bits(seed: int) -> None:
    weights = planting.weights_of(planting.deep(seed))
    halves = {n: v.astype(np.float16).astype(np.float32) for n, v in weights.items()}
    steps = {n: np.abs(v).max() / 127 for n, v in weights.items()}
    codes = {n: np.round(v / steps[n]) * steps[n] for n, v in weights.items() if n[0] == "w"}
    assert related(halves, seed).weights is Relation.ROUNDED
    assert related(codes, seed).weights is Relation.ROUNDED


@given(SEEDS, st.sampled_from([0.02, 0.1, 0.3]))
def test_fine_tuned(seed: int, share: float) -> None:
    found = related(noisy(planting.weights_of(planting.deep(seed)), share, seed), seed)
    assert found.weights is Relation.FINE_TUNED
    assert not found.grave


@given(SEEDS)
def test_unrelated(seed: int) -> None:
    found = related(planting.weights_of(planting.deep(seed + 1)), seed)
    assert found.weights is Relation.UNRELATED
    assert not found.grave


@given(SEEDS, st.integers(0, 15), st.sampled_from([0.0, 0.02]))
def test_replaced_channels_are_named(seed: int, row: int, share: float) -> None:
    weights = planting.weights_of(planting.deep(seed))
    changed = noisy(weights, share, seed) if share else {"w1": weights["w1"].copy()}
    length = np.linalg.norm(weights["w1"][row])
    new = np.random.default_rng(seed + 1).normal(size=16).astype(np.float32)
    changed["w1"][row] = 2 * max(float(length), 1.0) * new / np.linalg.norm(new)
    found = related(changed, seed)
    assert found.weights is Relation.REPLACED
    assert [(x.node, x.standing_out) for x in found.standing_out] == [("dense1", (row,))]


@given(SEEDS)
def test_a_layer_in_the_middle_that_was_replaced(seed: int) -> None:
    other = planting.weights_of(planting.deep(seed + 1))
    # Twice as long, since of so few rows two may be alike by chance.
    found = related({"w1": 2 * other["w1"]}, seed)
    assert found.grave
    assert [layer.node for layer in found.standing_out] == ["dense1"]


@given(SEEDS)
def test_a_last_layer_may_be_trained_anew(seed: int) -> None:
    other = planting.weights_of(planting.deep(seed + 1))
    assert not related({"w3": other["w3"], "b3": other["b3"]}, seed).grave


def ensemble(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """Return the sum of two networks that read one input."""
    one, other = (onnx.compose.add_prefix(m, p) for m, p in ((first, "a/"), (second, "b/")))
    for node in other.graph.node:
        node.input[:] = [n.replace("b/", "a/") if n == "b/image" else n for n in node.input]
    one.graph.node.extend(other.graph.node)
    one.graph.initializer.extend(other.graph.initializer)
    outputs = [m.graph.output[0].name for m in (one, other)]
    one.graph.node.append(onnx.helper.make_node("Add", outputs, ["sum"], name="sum"))
    one.graph.output[0].name = "sum"
    return one


@given(SEEDS)
def test_a_member_that_was_trained_anew_beside_one_that_was_not(seed: int) -> None:
    kept, *members = (planting.deep(seed + i) for i in range(3))
    suspect, reference = (draw(ensemble(member, kept), seed) for member in members)
    found = differences(suspect, reference)
    assert not found.obstacle
    assert not found.grave
    assert found.weights is Relation.FINE_TUNED


@given(SEEDS)
def test_a_first_layer_alone_is_no_part_that_was_trained_anew(seed: int) -> None:
    other = planting.weights_of(planting.deep(seed + 1))
    assert related({"w0": other["w0"]}, seed).grave


def test_one_bias_moved_by_a_millionth_is_said() -> None:
    """Findings S4: a copy with one bias moved is no other network."""
    bias = planting.weights_of(planting.deep())["b3"]
    bias[2] += 1e-6
    found = related({"b3": bias})
    assert found.weights is Relation.EDITED
    assert found.grave
    ((layer),) = found.standing_out
    assert (layer.node, layer.role, layer.standing_out) == ("dense3", "bias", (2,))
    assert 0 < layer.apart < 1e-3


@given(SEEDS)
def test_scaled_channels(seed: int) -> None:
    weights = planting.weights_of(planting.deep(seed))
    gains = np.random.default_rng(seed).uniform(0.5, 2, (16, 1)).astype(np.float32)
    change = {"w1": weights["w1"] * gains, "b1": weights["b1"] * gains[:, 0]}
    assert related(change, seed).weights is Relation.SCALED


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_numbers_that_are_none_are_far_apart(value: float) -> None:
    weights = planting.weights_of(planting.deep())["w1"]
    weights[0, 0] = value
    found = related({"w1": weights})
    assert found.grave
    assert 0 in found.standing_out[0].standing_out


@given(SEEDS)
def test_a_vector_of_statistics_may_stay_in_part_where_all_matrices_were_trained(seed: int) -> None:
    weights = planting.weights_of(planting.deep(seed))
    matrices = noisy({n: v for n, v in weights.items() if n[0] == "w"}, 0.1, seed)
    vector = weights["b0"].copy()
    vector[:2] += 1
    assert not related({**matrices, "b0": vector}, seed).grave
    matrices.pop("w2")  # a layer that was left as it was
    assert related({**matrices, "b0": vector}, seed).grave
