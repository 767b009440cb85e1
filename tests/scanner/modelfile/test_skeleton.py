"""A skeleton keeps the numbers that shapes need and declares all other constants."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from scanner.modelfile.skeleton import SMALL, declare_constants


def test_small_constants_keep_their_numbers_and_large_ones_their_type() -> None:
    small = numpy_helper.from_array(np.zeros(SMALL, np.float32))
    large = numpy_helper.from_array(np.zeros(SMALL + 1, np.float16))
    outside = TensorProto(dims=[2], data_type=TensorProto.INT64)
    outside.data_location = TensorProto.EXTERNAL
    graph = onnx.GraphProto()
    declare_constants(graph, [("small", small), ("large", large), ("outside", outside)])
    assert [tensor.name for tensor in graph.initializer] == ["small"]
    kinds = {value.name: value.type.tensor_type for value in graph.input}
    assert {name: kind.elem_type for name, kind in kinds.items()} == {
        "large": TensorProto.FLOAT16,
        "outside": TensorProto.INT64,
    }
    assert [d.dim_value for d in kinds["large"].shape.dim] == [SMALL + 1]
    assert small.name == ""


def test_the_bound_can_be_moved() -> None:
    graph = onnx.GraphProto()
    three = numpy_helper.from_array(np.zeros(3))
    declare_constants(graph, [("three", three)], largest=2)
    assert not graph.initializer
