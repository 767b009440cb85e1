"""No graph runs in which a window is larger than its map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scanner.errors import UnsupportedModelError
from scanner.graph.core.image_size import taking

SIDE, CHANNELS = 16, 2
LISTS = {
    "weights": np.ones((CHANNELS, CHANNELS, 3, 3), np.float32),
    "crop": np.array([0, 0, -3, -3, 0, 0, -3, -3]),
    "grow": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "one": np.array([1]),
    "three": np.array([3]),
    "channels": np.array([1]),
    "rows": np.array([2]),
    "both": np.array([2, 3]),
    "flat": np.array([0, CHANNELS, -1]),
    "square": np.array([0, CHANNELS, 4, -1]),
}


def network(*steps: onnx.NodeProto) -> onnx.ModelProto:
    """A chain of operators from "image", (N, 2, 16, 16), each of which makes the next one's "x"."""
    nodes, value = list[onnx.NodeProto](), "image"
    for place, step in enumerate(steps):
        node = onnx.NodeProto()
        node.CopyFrom(step)
        node.input[0] = value
        del node.output[:]
        node.output.append(value := f"v{place}")
        nodes.append(node)
    shape: list[str | int | None] = ["N", CHANNELS, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(values, name) for name, values in LISTS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def node(kind: str, *others: str, **options: Any) -> onnx.NodeProto:
    return helper.make_node(kind, ["x", *others], ["y"], **options)


def pool(kernel: int, stride: int = 1, kind: str = "MaxPool", **options: Any) -> onnx.NodeProto:
    return node(kind, kernel_shape=[kernel] * 2, strides=[stride] * 2, **options)


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    return taking(model, (CHANNELS, SIDE // 2, SIDE // 2))


@pytest.mark.parametrize(
    "steps",
    [
        [pool(9)],
        [pool(2, 2), pool(2, 2), pool(3)],
        [pool(2, 2), pool(2, 2), pool(3, kind="AveragePool"), node("GlobalAveragePool")],
        [node("Conv", "weights"), node("Relu"), node("Conv", "weights"), pool(5)],
        [node("Conv", "weights", dilations=[4, 4])],
        [node("Pad", "crop"), node("Pad", "crop")],
        [node("Slice", "one", "three", "rows")],
        [node("Slice", "one", "three")],
        [node("Split", num_outputs=1, axis=2)],
        [node("Reshape", "flat"), node("Slice", "one", "three", "rows")],
        [node("Reshape", "square"), pool(2)],
        [
            node("Reshape", "square"),
            pool(3, pads=[1, 1, 1, 1]),
            node("Slice", "one", "three", "rows"),
        ],
    ],
)
def test_what_may_leave_no_pixels_is_refused(steps: Sequence[onnx.NodeProto]) -> None:
    with pytest.raises(UnsupportedModelError, match="no pixels of a map"):
        half(network(*steps))


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        ([pool(8)], (2, 1, 1)),
        ([pool(2, 2), pool(2, 2), pool(3, pads=[1, 1, 1, 1])], (2, 2, 2)),
        ([pool(9, auto_pad="SAME_UPPER")], (2, 8, 8)),
        ([node("Conv", "weights"), node("Relu"), pool(6)], (2, 1, 1)),
        ([node("Pad", "grow"), pool(10)], (2, 1, 1)),
        ([node("Transpose", perm=[0, 1, 3, 2]), pool(8)], (2, 1, 1)),
        ([node("ReduceMean", "both"), node("Sigmoid")], (2, 1, 1)),
        ([node("GlobalAveragePool"), pool(1)], (2, 1, 1)),
        ([node("Reshape", "square"), pool(3, pads=[1, 1, 1, 1])], (2, 4, 16)),
        ([node("Reshape", "square"), node("Reshape", "flat")], (2, 64)),
    ],
)
def test_what_leaves_some_runs(steps: Sequence[onnx.NodeProto], shape: tuple[int, ...]) -> None:
    session = ort.InferenceSession(half(network(*steps)).SerializeToString())
    image = np.zeros((1, CHANNELS, SIDE // 2, SIDE // 2), np.float32)
    assert session.run(None, {"image": image})[0].shape == (1, *shape)


def test_a_part_of_the_channels_may_be_taken() -> None:
    steps = [
        node("Conv", "weights"),
        node("Slice", "one", "three", "channels"),
        pool(6),
    ]
    session = ort.InferenceSession(half(network(*steps)).SerializeToString())
    image = np.zeros((1, CHANNELS, SIDE // 2, SIDE // 2), np.float32)
    assert session.run(None, {"image": image})[0].shape == (1, 1, 1, 1)


STEPS = st.one_of(
    st.builds(
        lambda kernel, stride, kind, ceil: pool(
            kernel, stride, kind, pads=[(kernel - 1) // 2] * 4, ceil_mode=ceil
        ),
        st.integers(1, 6),
        st.integers(1, 3),
        st.sampled_from(["MaxPool", "AveragePool"]),
        st.integers(0, 1),
    ),
    st.builds(
        pool, st.integers(1, 6), st.integers(1, 3), st.sampled_from(["MaxPool", "AveragePool"])
    ),
    st.builds(
        lambda stride, dilation: node(
            "Conv", "weights", strides=[stride] * 2, dilations=[dilation] * 2
        ),
        st.integers(1, 3),
        st.integers(1, 3),
    ),
    st.sampled_from([node("Relu"), node("Pad", "grow"), node("Pad", "crop")]),
)


@settings(max_examples=150)
@given(st.lists(STEPS, min_size=1, max_size=5))
def test_what_is_not_refused_has_pixels_in_every_map(steps: list[onnx.NodeProto]) -> None:
    try:
        resized = half(network(*steps))
    except UnsupportedModelError:
        return
    for place in range(len(steps)):
        resized.graph.output.append(helper.make_empty_tensor_value_info(f"v{place}"))
    del resized.graph.output[0]
    session = ort.InferenceSession(resized.SerializeToString())
    image = np.zeros((1, CHANNELS, SIDE // 2, SIDE // 2), np.float32)
    assert all(min(made.shape) > 0 for made in session.run(None, {"image": image}))
