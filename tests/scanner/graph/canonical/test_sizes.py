"""Sizes that are the batch's, and sizes that are not."""

import models
import numpy as np
from onnx import helper

from scanner.graph.canonical.sizes import known, settle, written
from scanner.graph.core.draft import copied
from scanner.graph.core.facts import infer


def test_sizes_of_the_batch_are_told_from_others() -> None:
    nodes = [
        helper.make_node("Reshape", ["image", "pairs"], ["halves"]),
        helper.make_node("Relu", ["halves"], ["logits"]),
    ]
    model = copied(models.build(nodes, {"pairs": np.array([-1, 32], np.int64)}))
    shapes = known(model, infer(model).shapes)
    assert shapes["image"] == ("N", 1, 8, 8)
    assert shapes["halves"] == ("2N", 32)
    assert written(shapes["halves"]) == "2N,32"


def test_what_is_picked_from_a_shape_is_a_number_unless_it_is_the_batch() -> None:
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["side"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "side"], ["logits"], axis=0),
    ]
    places = {"last": np.array([3], np.int64), "first": np.array([0], np.int64)}
    model = copied(models.build(nodes, places))
    assert settle(model, known(model, infer(model).shapes), ["logits"])
    assert [node.output[0] for node in model.graph.node] == ["shape", "batch", "logits"]
    assert not settle(model, known(model, infer(model).shapes), ["logits"])
