"""Logits are found behind whatever squashes them or picks the largest."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.errors import NoLogitsError, ValueNotFoundError
from scanner.graph.layers.logits import find_logits

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def classifier(
    *tail: onnx.NodeProto, outputs: dict[str, tuple[int, list[Any]]], opset: int = 17
) -> onnx.ModelProto:
    """Return a linear classifier of 3 classes whose scores are `z`, and what follows them."""
    weights = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), *tail]
    image = helper.make_tensor_value_info("x", FLOAT, ["N", 4])
    results = [
        helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in outputs.items()
    ]
    graph = helper.make_graph(nodes, "classifier", [image], results, [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_output_is_taken_as_it_is() -> None:
    found = find_logits(classifier(outputs={"z": (FLOAT, ["N", 3])}))
    assert (found.value, found.cut, found.classes) == ("z", (), 3)


@pytest.mark.parametrize(
    ("tail", "kind", "cut"),
    [
        ([helper.make_node("Softmax", ["z"], ["p"])], FLOAT, ("Softmax",)),
        ([helper.make_node("LogSoftmax", ["z"], ["p"], axis=1)], FLOAT, ("LogSoftmax",)),
        ([helper.make_node("Sigmoid", ["z"], ["p"])], FLOAT, ("Sigmoid",)),
        ([helper.make_node("ArgMax", ["z"], ["p"], axis=1)], INT64, ("ArgMax",)),
        (
            [
                helper.make_node("Softmax", ["z"], ["s"]),
                helper.make_node("ArgMax", ["s"], ["p"], axis=-1, keepdims=0),
            ],
            INT64,
            ("ArgMax", "Softmax"),
        ),
        (
            [helper.make_node("Softmax", ["z"], ["s"]), helper.make_node("Identity", ["s"], ["p"])],
            FLOAT,
            ("Identity", "Softmax"),
        ),
    ],
)
def test_final_operator_is_cut_and_named(
    tail: list[onnx.NodeProto], kind: int, cut: tuple[str, ...]
) -> None:
    found = find_logits(classifier(*tail, outputs={"p": (kind, ["N", None])}))
    assert (found.value, found.cut, found.classes) == ("z", cut, 3)


def test_label_and_probabilities_share_their_logits() -> None:
    tail = [
        helper.make_node("Softmax", ["z"], ["p"]),
        helper.make_node("ArgMax", ["p"], ["label"], axis=1),
    ]
    found = find_logits(
        classifier(*tail, outputs={"label": (INT64, ["N", 1]), "p": (FLOAT, ["N", 3])})
    )
    assert found.value == "z"


def test_softmax_over_images_of_an_old_set_counts_all_axes() -> None:
    tail = [
        helper.make_node("Unsqueeze", ["z"], ["u"], axes=[2, 3]),
        helper.make_node("Softmax", ["u"], ["p"]),
    ]
    assert (
        find_logits(classifier(*tail, outputs={"p": (FLOAT, ["N", 3, 1, 1])}, opset=9)).value == "u"
    )


def test_attention_is_not_logits() -> None:
    tail = [
        helper.make_node("Unsqueeze", ["z", "one"], ["u"]),
        helper.make_node("Softmax", ["u"], ["p"], axis=2),
    ]
    model = classifier(*tail, outputs={"p": (FLOAT, ["N", 1, 3])})
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    assert find_logits(model).value == "p"


def test_a_namesake_from_another_domain_is_not_looked_through() -> None:
    strange = helper.make_node("LogSoftmax", [], ["scores"], domain="acme.ops")
    model = classifier(strange, outputs={"scores": (FLOAT, ["N", 3])})
    model.opset_import.append(helper.make_opsetid("acme.ops", 1))
    assert find_logits(model).value == "scores"


def test_the_user_may_choose() -> None:
    model = classifier(helper.make_node("Softmax", ["z"], ["p"]), outputs={"p": (FLOAT, ["N", 3])})
    assert find_logits(model, "p").value == "p"
    with pytest.raises(ValueNotFoundError, match="'q'"):
        find_logits(model, "q")


def test_without_scores_the_error_says_what_was_looked_for() -> None:
    tail = helper.make_node("Cast", ["z"], ["k"], to=INT64)
    with pytest.raises(NoLogitsError, match=r"looked for an output of scores.*setting `logits`"):
        find_logits(classifier(tail, outputs={"k": (INT64, ["N", 3])}))


def test_several_candidates_are_named() -> None:
    tail = helper.make_node("Relu", ["z"], ["r"])
    model = classifier(tail, outputs={"z": (FLOAT, ["N", 3]), "r": (FLOAT, ["N", 3])})
    with pytest.raises(NoLogitsError, match="'z', 'r'"):
        find_logits(model)


def test_the_scores_in_a_map_are_its_tensor() -> None:
    """As skl2onnx writes by default: a label, and for each image a map from label to score."""
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])
    mapped = helper.make_node(
        "ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=list(range(10))
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "weights"], ["scores"]), mapped],
        "mapped",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4])],
        [helper.make_empty_tensor_value_info("maps")],
        [numpy_helper.from_array(np.ones((4, 10), np.float32), "weights")],
        value_info=[scores],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    found = find_logits(helper.make_model(graph, opset_imports=opsets))
    assert (found.value, found.cut, found.classes) == ("scores", ("ZipMap",), 10)
