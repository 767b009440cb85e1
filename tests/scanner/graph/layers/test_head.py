"""The last linear layer is found, and the part behind it runs alone."""

from typing import Any

import models
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper

from scanner.errors import NoHeadError
from scanner.graph.core import extract
from scanner.graph.layers.head import as_input, head_input

Array = npt.NDArray[Any]


def test_the_last_linear_layer() -> None:
    assert head_input(models.plain(), "logits") == "flat"


def test_a_bias_and_a_shape_behind_it_are_passed() -> None:
    nodes = [models.convolution(), models.relu(), *models.head("activated")]
    nodes[-1].output[0] = "product"
    nodes += [
        helper.make_node("Add", ["product", "offset"], ["sum"]),
        helper.make_node("Flatten", ["sum"], ["logits"]),
    ]
    model = models.build(nodes, {**models.weights(False), "offset": np.ones(3, np.float32)})
    assert head_input(model, "logits") == "flat"


@pytest.mark.parametrize(
    ("nodes", "made"),
    [
        ([helper.make_node("Relu", ["image"], ["logits"])], "a Relu node"),
        ([helper.make_node("MatMul", ["image", "image"], ["logits"])], "a MatMul node"),
        ([helper.make_node("Identity", ["image"], ["logits"])], "the input"),
    ],
)
def test_without_a_linear_layer(nodes: list[onnx.NodeProto], made: str) -> None:
    with pytest.raises(NoHeadError, match=f"they come from {made}"):
        head_input(models.build(nodes, {}), "logits")


def test_the_features_then_the_head_equal_the_whole() -> None:
    model = models.plain(True)
    images = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)

    def run(part: onnx.ModelProto, name: str, values: Array) -> Array:
        session = onnxruntime.InferenceSession(
            part.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        result: Array = session.run(None, {name: values})[0]
        return result

    features = run(extract.upstream(model, ["flat"]), "image", images)
    head = extract.between(model, as_input("flat", features, None), ["logits"])
    assert [n.op_type for n in head.graph.node] == ["MatMul"]
    np.testing.assert_allclose(run(head, "flat", features), run(model, "image", images), rtol=1e-6)


def test_what_depends_on_the_input() -> None:
    model = models.quantised()
    assert extract.dependent(model.graph) >= {"image", "image_codes", "convolved", "logits"}
    assert not extract.dependent(model.graph) & {"kernel", "bias", "scale"}
