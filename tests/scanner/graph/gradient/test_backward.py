"""What the gradient of a model promises beyond its numbers."""

import dataclasses
import gc
import weakref
from typing import Any

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from finite_differences import Function, assert_gradient, node, run
from onnx import TensorProto, helper, numpy_helper

from scanner.errors import NoGradientError, UnsupportedModelError, ValueNotFoundError
from scanner.graph.core.facts import Facts
from scanner.graph.gradient import backward
from scanner.graph.gradient.backward import Objective, gradient_model
from scanner.graph.gradient.tape import Tape

RNG = np.random.default_rng(5)
X = RNG.standard_normal((3, 4))


def linear(*, opset: int = 18) -> Function:
    """Return two layers: x -> h -> y."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Tanh", ["a"], ["h"]),
        node("MatMul", "h v"),
    ]
    constants = {"w": RNG.standard_normal((4, 5)), "v": RNG.standard_normal((5, 3))}
    return Function(nodes, {"x": X}, constants, opset=opset, open_axes=1)


def outputs(model: onnx.ModelProto, names: list[str], **feeds: Any) -> list[Any]:
    return list(ort.InferenceSession(model.SerializeToString()).run(names, feeds))


def test_argument_is_not_touched() -> None:
    model = linear(opset=12).model(np.float32)
    before = model.SerializeToString()
    gradient_model(model, of="y", with_respect_to=["x"])
    assert model.SerializeToString() == before


def test_batch_axis_stays_open() -> None:
    backward = gradient_model(linear().model(np.float32), of="y", with_respect_to=["x"])
    for value in (*backward.proto.graph.input, *backward.proto.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param
    for batch in (1, 7):
        x, weights = np.zeros((batch, 4), np.float32), np.ones((batch, 3), np.float32)
        found = run(backward, {"x": x, backward.weights: weights})
        assert found["x"].shape == (batch, 4)


def test_each_image_has_its_own_gradient() -> None:
    """The objective sums over the batch, so that images do not share a gradient scale."""
    backward = gradient_model(
        linear().model(np.float32), of="y", with_respect_to=["x"], objective=Objective.CROSS_ENTROPY
    )
    x, targets = X.astype(np.float32), np.eye(3, dtype=np.float32)
    together = run(backward, {"x": x, backward.weights: targets})["x"]
    alone = run(backward, {"x": x[1:2], backward.weights: targets[1:2]})["x"]
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-5)


@pytest.mark.parametrize("objective", Objective)
def test_objective_is_what_is_differentiated(objective: Objective) -> None:
    backward = gradient_model(
        linear().model(np.float32), of="y", with_respect_to=["x"], objective=objective
    )
    onnx.checker.check_model(backward.proto, full_check=True)
    targets = np.eye(3, dtype=np.float32)
    x, direction = X.astype(np.float32), RNG.standard_normal(X.shape).astype(np.float32)
    names = [backward.objective, backward.gradients["x"]]
    _, gradient = outputs(backward.proto, names, x=x, **{backward.weights: targets})
    step = np.float32(1e-2)
    ahead, behind = (
        outputs(backward.proto, names[:1], x=x + h * direction, **{backward.weights: targets})[0]
        for h in (step, -step)
    )
    expected = (gradient * direction).sum(axis=1)
    np.testing.assert_allclose((ahead - behind) / (2 * step), expected, rtol=1e-2, atol=1e-3)


def test_margin_leads_over_the_best_other_class() -> None:
    backward = gradient_model(
        linear().model(np.float32), of="y", with_respect_to=["x"], objective=Objective.MARGIN
    )
    targets = np.eye(3, dtype=np.float32)
    names = [backward.value, backward.objective]
    logits, margin = outputs(
        backward.proto, names, x=X.astype(np.float32), **{backward.weights: targets}
    )
    others = np.where(targets > 0, -np.inf, logits).max(axis=1)
    np.testing.assert_allclose(margin, np.diag(logits) - others, rtol=1e-5)


def test_inner_values_may_be_differentiated_by() -> None:
    function = linear()
    w, v = function.constants["w"], function.constants["v"]
    backward = gradient_model(function.model(np.float32), of="y", with_respect_to=["h", "x"])
    weights = RNG.standard_normal((3, 3))
    found = run(backward, {"x": X.astype(np.float32), backward.weights: weights.astype(np.float32)})
    by_hidden = weights @ v.T
    np.testing.assert_allclose(found["h"], by_hidden, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found["x"], (by_hidden * (1 - np.tanh(X @ w) ** 2)) @ w.T, rtol=1e-4, atol=1e-5
    )


def test_value_may_be_an_inner_one() -> None:
    backward = gradient_model(linear().model(np.float32), of="a", with_respect_to=["x"])
    assert not any(item.op_type == "Tanh" for item in backward.proto.graph.node)


def test_value_used_twice_adds_up() -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "x"], ["m"]),
        helper.make_node("Add", ["m", "s"], ["a"]),
        node("Concat", "a x s", axis=1),
    ]
    assert_gradient(Function(nodes, {"x": X}), np.random.default_rng(0))


def test_integers_and_comparisons_contribute_nothing() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=1),
        helper.make_node("Cast", ["best"], ["number"], to=TensorProto.FLOAT),
        node("Mul", "x number"),
    ]
    backward = gradient_model(
        Function(nodes, {"x": X}).model(np.float32), of="y", with_respect_to=["x"]
    )
    x = X.astype(np.float32)
    found = run(backward, {"x": x, backward.weights: np.ones_like(x)})["x"]
    np.testing.assert_array_equal(found, np.repeat(x.argmax(1)[:, None], 4, axis=1))


def test_no_way_back_is_an_error() -> None:
    nodes = [helper.make_node("Floor", ["x"], ["f"]), node("Exp", "f")]
    with pytest.raises(NoGradientError, match="'y' does not depend on 'x'"):
        gradient_model(Function(nodes, {"x": X}).model(np.float32), of="y", with_respect_to=["x"])


def test_unknown_values_are_named() -> None:
    with pytest.raises(ValueNotFoundError, match="'nothing'"):
        gradient_model(linear().model(np.float32), of="nothing", with_respect_to=["x"])
    with pytest.raises(ValueNotFoundError, match="'nothing'"):
        gradient_model(linear().model(np.float32), of="y", with_respect_to=["nothing"])


def test_operator_that_is_not_on_the_way_needs_no_rule() -> None:
    nodes = [
        helper.make_node("Det", ["square"], ["d"]),
        node("Mul", "x d"),
    ]
    function = Function(nodes, {"x": X}, {"square": np.eye(3)})
    assert_gradient(function, np.random.default_rng(0))


def test_operator_of_another_domain_is_refused() -> None:
    model = linear().model(np.float32)
    model.graph.node[1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(NoGradientError, match=r"com\.example\.Tanh"):
        gradient_model(model, of="y", with_respect_to=["x"])


def test_loop_on_the_way_is_refused_by_name() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Mul", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [3, 4]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4]),
        ],
    )
    loop = helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)
    model = Function([loop], {"x": X}, {"trips": np.array(2, np.int64)}).model(np.float32)
    with pytest.raises(NoGradientError, match="Loop"):
        gradient_model(model, of="y", with_respect_to=["x"])


def test_function_is_inlined() -> None:
    square = helper.make_function(
        "local",
        "Square",
        ["a"],
        ["b"],
        [helper.make_node("Mul", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    model = Function([helper.make_node("Square", ["x"], ["y"], domain="local")], {"x": X}).model(
        np.float32
    )
    model.functions.append(square)
    model.opset_import.append(helper.make_opsetid("local", 1))
    backward = gradient_model(model, of="y", with_respect_to=["x"])
    x = X.astype(np.float32)
    np.testing.assert_allclose(
        run(backward, {"x": x, backward.weights: np.ones_like(x)})["x"], 2 * x
    )


def test_quantisation_is_straight_through_and_clamps() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Mul", "d three"),
    ]
    constants = {"s": np.array(0.01), "z": np.array(3, np.int8), "three": np.array(3.0)}
    x = np.array([[-9.0, -0.5, 0.004, 1.2, 1.3]])
    function = Function(nodes, {"x": x}, constants)
    backward = gradient_model(function.model(np.float32), of="y", with_respect_to=["x"])
    found = run(
        backward, {"x": x.astype(np.float32), backward.weights: np.ones((1, 5), np.float32)}
    )["x"]
    np.testing.assert_allclose(found, [[0, 3, 3, 3, 0]], rtol=1e-6)


def test_constants_are_computed_and_dead_nodes_dropped() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "one"], ["width"]),
        helper.make_node("Concat", ["minus", "width"], ["target"], axis=0),
        helper.make_node("Exp", ["x"], ["unused"]),
        node("Reshape", "x target"),
    ]
    constants = {"one": np.array([1], np.int64), "minus": np.array([-1], np.int64)}
    function = Function(nodes, {"x": X}, constants)
    backward = gradient_model(function.model(np.float32), of="y", with_respect_to=["x"])
    kinds = {item.op_type for item in backward.proto.graph.node}
    assert not kinds & {"Shape", "Gather", "Concat", "Exp"}
    assert_gradient(function, np.random.default_rng(0))
    assert_gradient(dataclasses.replace(function, open_axes=1), np.random.default_rng(0))


OLD = {
    "axes as attributes": (
        11,
        [
            helper.make_node("Unsqueeze", ["x"], ["u"], axes=[1]),
            helper.make_node("ReduceSum", ["u"], ["r"], axes=[2], keepdims=1),
            node("Squeeze", "r", axes=[1]),
        ],
    ),
    "softmax of the last axis": (9, [node("LogSoftmax", "x")]),
    "slice and pad": (
        9,
        [
            helper.make_node("Slice", ["x"], ["s"], starts=[1], ends=[4], axes=[1]),
            node("Pad", "s", pads=[0, 1, 1, 0], value=0.5),
        ],
    ),
    "clip": (7, [node("Clip", "x", min=-0.5, max=0.5)]),
    "dropout and split": (
        10,
        [
            helper.make_node("Dropout", ["x"], ["d"], ratio=0.3),
            helper.make_node("Split", ["d"], ["a", "b"], axis=1, split=[1, 3]),
            node("Mul", "a b"),
        ],
    ),
    "halves": (
        13,
        [helper.make_node("Split", ["x"], ["a", "b"], axis=1), node("Mul", "a b")],
    ),
    "reduction": (17, [node("ReduceMean", "x", axes=[1])]),
}


@pytest.mark.parametrize("name", OLD)
def test_old_operator_sets_are_lifted(name: str) -> None:
    opset, nodes = OLD[name]
    function = Function(nodes, {"x": X}, opset=opset)
    backward = gradient_model(function.model(np.float32), of="y", with_respect_to=["x"])
    assert backward.proto.opset_import[0].version == 18
    assert_gradient(function, np.random.default_rng(0), tolerance=1e-4)


def test_old_softmax_takes_all_axes_together() -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    function = Function([node("Softmax", "x", axis=1)], {"x": x}, opset=11)
    backward = gradient_model(function.model(np.float32), of="y", with_respect_to=["x"])
    weights = RNG.standard_normal(x.shape).astype(np.float32)
    found = run(backward, {"x": x, backward.weights: weights})
    y = np.exp(x) / np.exp(x).sum((1, 2), keepdims=True)
    np.testing.assert_allclose(found["y"], y, rtol=1e-5)
    np.testing.assert_allclose(
        found["x"], y * (weights - (weights * y).sum((1, 2), keepdims=True)), atol=1e-6
    )


def test_upsample_is_lifted() -> None:
    image = RNG.standard_normal((1, 2, 3, 3))
    scales = {"s": np.array([1, 1, 2, 3], np.float32)}
    assert_gradient(
        Function([node("Upsample", "x s")], {"x": image}, scales, opset=9), RNG, linear=True
    )
    resize = node("Resize", "x s", mode="linear")
    assert_gradient(Function([resize], {"x": image}, scales, opset=10), RNG, linear=True)


def test_too_old_a_set_is_refused() -> None:
    model = linear().model(np.float32)
    model.opset_import[0].version = 6
    with pytest.raises(UnsupportedModelError, match="operator set 6"):
        gradient_model(model, of="y", with_respect_to=["x"])


def test_initialisers_that_are_inputs_too_are_constants() -> None:
    model = linear().model(np.float32)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    backward = gradient_model(model, of="y", with_respect_to=["x"])
    assert [value.name for value in backward.proto.graph.input] == ["x", backward.weights]


def test_names_of_the_model_are_kept_and_not_reused() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["weights"], name="objective"),
        node("Mul", "weights weights"),
    ]
    function = Function(nodes, {"x": X})
    backward = gradient_model(function.model(np.float32), of="y", with_respect_to=["x"])
    assert backward.weights != "weights"
    assert_gradient(function, np.random.default_rng(0))


def test_weights_are_shared_with_the_forward_pass() -> None:
    """A gradient model holds one matrix once: Gemm and MatMul read it transposed."""
    backward = gradient_model(linear().model(np.float32), of="y", with_respect_to=["x"])
    large = [t for t in backward.proto.graph.initializer if numpy_helper.to_array(t).size >= 15]
    assert len(large) == 2


def test_nothing_but_what_is_returned_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights would stay there until Python looks for rings of objects."""
    tapes = list[weakref.ref[Tape]]()

    class Noted(Tape):
        def __init__(self, facts: Facts, taken: set[str]) -> None:
            super().__init__(facts, taken)
            tapes.append(weakref.ref(self))

    monkeypatch.setattr(backward, "Tape", Noted)
    made = models.plain()
    gc.disable()
    try:
        found = gradient_model(made, of="logits", with_respect_to=["image"])
        assert [tape() for tape in tapes] == [None]
    finally:
        gc.enable()
    assert found.gradients
