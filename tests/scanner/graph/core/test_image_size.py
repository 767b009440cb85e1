"""A graph takes images of another size, and the file's own graph stays as it was."""

from typing import Any

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from scanner.graph.core.image_size import taking


def test_it_answers_images_of_another_size() -> None:
    model = models.plain()
    model.graph.value_info.append(
        onnx.helper.make_tensor_value_info("activated", 1, ["N", models.CHANNELS, 8, 8])
    )
    before = model.SerializeToString()
    resized = taking(model, (1, 12, 6))
    assert model.SerializeToString() == before
    assert not resized.graph.value_info
    image = np.random.default_rng(0).random((2, 1, 12, 6), dtype=np.float32)
    (answers,) = ort.InferenceSession(resized.SerializeToString()).run(None, {"image": image})
    assert answers.shape == (2, models.CLASSES)


def test_open_sizes_are_settled() -> None:
    resized = taking(models.plain(input_shape=("N", 1, "H", "W")), (1, 4, 4))
    sizes = resized.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in sizes] == ["N", 1, 4, 4]


@pytest.mark.parametrize(
    ("options", "is_global"),
    [({}, True), ({"strides": [1, 1]}, True), ({"pads": [4, 4, 0, 0]}, False),
     ({"auto_pad": "SAME_UPPER"}, False), ({"kernel_shape": [4, 4]}, False)],
)  # fmt: skip
def test_a_window_over_the_whole_map_stays_one(options: dict[str, Any], is_global: bool) -> None:
    model = models.plain()
    (pool,) = [node for node in model.graph.node if node.op_type == "GlobalAveragePool"]
    window = {"kernel_shape": [models.SIDE, models.SIDE], **options}
    pool.CopyFrom(helper.make_node("AveragePool", ["activated"], ["pooled"], **window))
    resized = taking(model, (1, 4, 4))
    kinds = {node.op_type for node in resized.graph.node}
    assert ("GlobalAveragePool" in kinds) == is_global
    assert ("AveragePool" in kinds) != is_global
    if is_global:
        image = np.random.default_rng(0).random((2, 1, 4, 4), dtype=np.float32)
        expected = taking(models.plain(), (1, 4, 4))
        here, there = (
            ort.InferenceSession(each.SerializeToString()).run(None, {"image": image})[0]
            for each in (resized, expected)
        )
        np.testing.assert_array_equal(here, there)
