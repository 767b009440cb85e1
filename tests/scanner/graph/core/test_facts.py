"""What is known of values without running the graph."""

from typing import Any

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from scanner.errors import MalformedModelError
from scanner.graph.core.facts import FLOATING, dimensions, infer


def test_types_shapes_and_numbers() -> None:
    facts = infer(models.plain())
    assert facts.shapes["convolved"] == ("N", 4, 8, 8)
    assert facts.elem_types["convolved"] == TensorProto.FLOAT
    assert facts.elements("convolved") is None
    assert facts.elements("kernel") == 36
    np.testing.assert_array_equal(facts.constant("bias"), np.zeros(4))
    assert facts.constant("convolved") is None


def test_a_constant_that_lacks_its_numbers_is_refused() -> None:
    model = models.plain()
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    bias.raw_data = b""
    with pytest.raises(MalformedModelError, match="'bias'"):
        infer(model).constant("bias")


def test_large_weights_do_not_reach_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = onnx.shape_inference.infer_shapes

    def watched(model: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
        seen.append(model.ByteSize())
        return original(model, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watched)
    constants = {**models.weights(False), "dense": np.zeros((4, 10000), np.float32)}
    nodes = [models.convolution(), models.relu(), *models.head("activated")]
    facts = infer(models.build(nodes, constants))
    assert facts.shapes["logits"] == ("N", 10000)
    assert max(seen) < 4000


def test_shapes_that_contradict_one_another_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_model: onnx.ModelProto, **_options: bool) -> onnx.ModelProto:
        raise onnx.shape_inference.InferenceError("this and that\nand a long tail")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", refuse)
    with pytest.raises(MalformedModelError, match=r"contradict one another \(this and that\)"):
        infer(models.plain())


@pytest.mark.parametrize("operator", ["GroupNormalization", "MeanVarianceNormalization"])
def test_normalisation_keeps_the_shape_where_inference_does_not_see_it(operator: str) -> None:
    grouped = operator == "GroupNormalization"
    inputs = ["convolved", "bias", "bias"] if grouped else ["convolved"]
    options: dict[str, Any] = {"num_groups": 4} if grouped else {}
    nodes = [
        models.convolution(),
        helper.make_node(operator, inputs, ["normal"], **options),
        helper.make_node("Relu", ["normal"], ["activated"]),
        *models.head("activated"),
    ]
    facts = infer(models.build(nodes, models.weights(False), opset=18))
    assert facts.shapes["activated"] == ("N", 4, 8, 8)


def test_a_tile_keeps_the_rank_where_nothing_says_how_many_repeats_there_are() -> None:
    graph = helper.make_graph(
        [helper.make_node("Tile", ["x", "repeats"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        "tiled",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("repeats", TensorProto.INT64, ["many"]),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    known = infer(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    for name in ("y", "z"):
        assert known.elem_types[name] == TensorProto.FLOAT
        assert [isinstance(size, str) for size in known.shapes[name]] == [True, True]


def test_a_nameless_dimension_equals_only_itself() -> None:
    info = helper.make_tensor_value_info("v", TensorProto.FLOAT, [None, 3, "N"])
    assert dimensions(info) == ("v[0]", 3, "N")


def test_floating_types_are_the_four_of_networks() -> None:
    dtypes = {helper.tensor_dtype_to_np_dtype(kind).itemsize for kind in FLOATING}
    assert (len(FLOATING), dtypes) == (4, {2, 4, 8})
