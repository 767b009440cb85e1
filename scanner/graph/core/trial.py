"""A model as small as can be that still needs a device's kernels."""

from onnx import TensorProto, helper

SHAPE = (1, 1, 4, 4)


def model() -> bytes:
    """Return a serialised model: y is the convolution of x with w, all float32, both of `SHAPE`."""
    x, w = (helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "xw")
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1, 1, 1))
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "trial", [x, w], [y])
    opset = helper.make_opsetid("", 13)
    made: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return made
