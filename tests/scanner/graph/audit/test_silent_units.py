"""Units that never fire, and the weights that read them."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from scanner.graph.audit import silent_units

GENERATOR = np.random.default_rng(11)


def network(bias: float, factor: float, *, normalised: bool = False) -> onnx.GraphProto:
    """Return Conv (16 units), Relu, MaxPool, Conv; the last two units of the first are special."""
    first = GENERATOR.normal(0, 0.2, (16, 3, 3, 3)).astype(np.float32)
    shift, scale = np.full(16, -0.1, np.float32), np.ones(16, np.float32)
    shift[14:] = bias
    if normalised:
        scale[14:] = factor
    else:
        first[14:] *= factor
    constants = {
        "first": first,
        "shift": shift,
        "second": GENERATOR.normal(0, 0.2, (32, 16, 3, 3)).astype(np.float32),
    }
    nodes = [helper.make_node("Conv", ["image", "first", "shift"], ["c"])]
    if normalised:
        constants |= {"scale": scale, "zero": np.zeros(16, np.float32), "one": scale * 0 + 1}
        nodes = [
            helper.make_node("Conv", ["image", "first"], ["conv"]),
            helper.make_node(
                "BatchNormalization", ["conv", "scale", "shift", "zero", "one"], ["c"]
            ),
        ]
    nodes += [
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("Conv", ["p", "second"], ["y"]),
    ]
    image = helper.make_tensor_value_info("image", 1, ["N", 3, 8, 8])
    output = helper.make_tensor_value_info("y", 1, None)
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return helper.make_graph(nodes, "g", [image], [output], held)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_bias_that_nothing_lifts(normalised: bool) -> None:
    graph = network(-20.0, 0.01, normalised=normalised)
    ((name, units, held),) = silent_units.rows(graph)
    second = numpy_helper.to_array(graph.initializer[2])
    assert (name, units) == ("second", 2)
    np.testing.assert_array_equal(
        numpy_helper.to_array(held), np.moveaxis(second, 1, 0)[14:].reshape(-1)
    )


def test_units_that_are_multiplied_by_nothing_hold_their_own_weights_too() -> None:
    graph = network(0.0, 0.0, normalised=True)
    ((_, units, held),) = silent_units.rows(graph)
    assert units == 2
    assert held.dims[0] == 2 * (32 + 3) * 9


@pytest.mark.parametrize(("bias", "factor"), [(-0.1, 1.0), (0.5, 0.0), (-1.0, 1.0), (20.0, 0.01)])
def test_units_that_may_fire_are_none(bias: float, factor: float) -> None:
    assert list(silent_units.rows(network(bias, factor))) == []


def test_they_are_told_as_room() -> None:
    (told,) = silent_units.told(list(silent_units.rows(network(-20.0, 0.01))))
    assert told.code == "silent-units"
    assert told.nodes == ("second",)
    assert list(silent_units.told([])) == []
