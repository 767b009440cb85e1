"""Units that the next layer multiplies by zero, and what their weights hold."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit import carried, spare_units
from scanner.results import Severity

Array = np.ndarray
GENERATOR = np.random.default_rng(1)


def two_layers(first: Array, second: Array, *between: str, turned: bool = False) -> onnx.ModelProto:
    """Two dense layers, (inputs, units) and (units, classes), with steps between them."""
    names = ["hidden", *(f"step{n}" for n in range(len(between)))]
    nodes = [helper.make_node("MatMul", ["x", "first"], ["hidden"])]
    nodes += [
        helper.make_node(operator, [names[n]], [names[n + 1]]) for n, operator in enumerate(between)
    ]
    nodes.append(helper.make_node("Gemm", [names[-1], "second"], ["y"], transB=int(turned)))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(first)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(first, "first"),
            numpy_helper.from_array(second.T.copy() if turned else second, "second"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def layers(spare: int) -> tuple[Array, Array]:
    """Trained-looking layers of 40 units, the last of which the second does not read."""
    first = GENERATOR.normal(0, 0.1, (300, 40)).astype(np.float32)
    second = GENERATOR.normal(0, 0.1, (40, 10)).astype(np.float32)
    second[40 - spare :] = 0
    return first, second


@pytest.mark.parametrize("turned", [False, True])
def test_units_that_are_not_read_are_found(turned: bool) -> None:
    first, second = layers(8)
    (found,) = spare_units.rows(two_layers(first, second, "Relu", "Dropout", turned=turned).graph)
    name, units, held = found
    assert (name, units) == ("first", 8)
    np.testing.assert_array_equal(numpy_helper.to_array(held), first[:, 32:].T.reshape(-1))


def test_units_that_are_read_elsewhere_are_not() -> None:
    first, second = layers(8)
    assert not list(spare_units.rows(two_layers(first, layers(0)[1], "Relu").graph))
    model = two_layers(first, second, "Relu")
    model.graph.output.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, None))
    assert not list(spare_units.rows(model.graph))
    assert not list(spare_units.rows(two_layers(first, second, "Softmax").graph))


def test_channels_behind_a_flatten_have_several_columns_each() -> None:
    kernel = GENERATOR.normal(0, 0.1, (6, 20, 3, 3)).astype(np.float32)
    dense = GENERATOR.normal(0, 0.1, (10, 6 * 4)).astype(np.float32)
    dense[:, 4:16] = 0  # of the second to the fourth channel
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["maps"]),
            helper.make_node("Flatten", ["maps"], ["flat"]),
            helper.make_node("Gemm", ["flat", "dense"], ["y"], transB=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 20, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(dense, "dense")],
    )
    ((_, units, held),) = spare_units.rows(graph)
    assert (units, held.dims[0]) == (3, 540)
    small = kernel[:, :9]
    graph.initializer[0].CopyFrom(numpy_helper.from_array(small, "kernel"))
    assert not list(spare_units.rows(graph))  # 243 numbers hold nothing worth a name
    kernel = np.concatenate([kernel] * 3, axis=1)
    graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    ((_, units, held),) = spare_units.rows(graph)
    assert units == 3
    np.testing.assert_array_equal(numpy_helper.to_array(held), kernel[1:4].reshape(-1))


def test_noise_in_them_is_told_and_pruned_units_are_not() -> None:
    first, second = layers(8)
    pruned = two_layers(first, second, "Relu")
    (noted,) = carried.observe(pruned, pruned.SerializeToString())
    assert (noted.code, noted.severity, noted.nodes) == ("spare-units", Severity.NOTE, ("first",))
    assert noted.details == {"count": 8, "bytes": 4 * 8 * 300}
    codes = GENERATOR.integers(0, 256, (300, 8)).astype(np.uint8)
    first[:, 32:] = (codes.astype(np.float32) - 128) / 256
    loaded = two_layers(first, second, "Relu")
    (found,) = (
        o for o in carried.observe(loaded, loaded.SerializeToString()) if o.code == "carried-data"
    )
    assert "8 units that nothing reads" in found.sentence


@pytest.mark.parametrize("place", [0, 1])
def test_a_tensor_of_another_size_than_it_says_is_passed_over(place: int) -> None:
    model = two_layers(*layers(8), "Relu")
    model.graph.initializer[place].raw_data += b"1234"
    assert not list(spare_units.rows(model.graph))
    model.graph.initializer[place].dims[:] = [0, 40]
    assert not list(spare_units.rows(model.graph))


@pytest.mark.parametrize("place", [0, 1])
def test_a_node_without_outputs_hands_nothing_on(place: int) -> None:
    model = two_layers(*layers(8), "Relu")
    del model.graph.node[place].output[:]
    assert not list(spare_units.rows(model.graph))


@pytest.mark.parametrize("step", ["Mul", "Slice", "Gather"])
def test_units_that_a_constant_step_takes_out_are_found(step: str) -> None:
    first, second = layers(0)
    model = two_layers(first, second, "Relu")
    mask = np.ones(40, np.float32)
    mask[32:] = 0
    constants = {
        "Mul": [mask],
        "Slice": [np.asarray([0]), np.asarray([32]), np.asarray([-1])],
        "Gather": [np.arange(32)],
    }[step]
    names = [f"c{number}" for number in range(len(constants))]
    model.graph.initializer.extend(map(numpy_helper.from_array, constants, names))
    keys: dict[str, Any] = {"axis": -1} if step == "Gather" else {}
    model.graph.node.insert(2, helper.make_node(step, ["step0", *names], ["kept"], **keys))
    model.graph.node[3].input[0] = "kept"
    if step != "Mul":
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(second[:32], "second"))
    ((_, units, held),) = spare_units.rows(model.graph)
    assert units == 8
    np.testing.assert_array_equal(numpy_helper.to_array(held), first[:, 32:].T.reshape(-1))
    model.graph.output.append(helper.make_tensor_value_info("step0", TensorProto.FLOAT, None))
    assert not list(spare_units.rows(model.graph))


@pytest.mark.parametrize("step", ["BatchNormalization", "Gather", "Mul", "Slice"])
def test_a_step_that_lacks_its_other_inputs_reads_all(step: str) -> None:
    model = two_layers(*layers(8), "Relu")
    model.graph.node[1].op_type = step
    assert not list(spare_units.rows(model.graph))
