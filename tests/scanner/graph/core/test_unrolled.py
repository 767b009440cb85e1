"""Loops that are written out compute the same; those of unknown length stay."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.core.unrolled import unrolled

Array = np.ndarray
ROWS, COLUMNS = 5, 3


def info(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    *nodes: onnx.NodeProto, rows: int | str = ROWS, outputs: tuple[str, ...], **constants: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [info("x", rows, COLUMNS)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def scanning(rows: int | str = ROWS, **options: Any) -> onnx.ModelProto:
    """The running sum of rows or columns, and each of them less what came before it."""
    axis = options.get("scan_input_axes", [0])[0]
    size = COLUMNS if axis == 0 else rows
    body = helper.make_graph(
        [
            helper.make_node("Sub", ["part", "sum"], ["change"]),
            helper.make_node("Add", ["sum", "part"], ["next"], name="x"),
        ],
        "body",
        [info("sum", size), info("part", size)],
        [info("next", size), info("change", size)],
    )
    start = helper.make_node("ReduceMin", ["x", "axis"], ["start"], keepdims=0)
    node = helper.make_node(
        "Scan", ["start", "x"], ["total", "steps"], name="scan", num_scan_inputs=1, body=body,
        **options,
    )  # fmt: skip
    return model(start, node, rows=rows, outputs=("total", "steps"), axis=np.array([axis]))


def looping(
    turns: int = 4, *, goes_on: bool = True, always: bool = True, nested: bool = False
) -> onnx.ModelProto:
    """A state that is multiplied and lifted by the number of the turn."""
    condition = [helper.make_node("Identity", ["going"], ["still"])]
    if not always:
        condition = [
            helper.make_node("ReduceMax", ["state"], ["most"], keepdims=0),
            helper.make_node("Less", ["most", "limit"], ["still"]),
        ]
    inner = [helper.make_node("Mul", ["state", "factor"], ["scaled"])]
    if nested:
        once = helper.make_graph(
            [helper.make_node("Mul", ["held", "factor"], ["made"])],
            "inner",
            [info("n", kind=TensorProto.INT64), info("going2", kind=TensorProto.BOOL),
             info("held", ROWS, COLUMNS)],
            [info("going2", kind=TensorProto.BOOL), info("made", ROWS, COLUMNS)],
        )  # fmt: skip
        inner = [helper.make_node("Loop", ["two", "yes", "state"], ["scaled"], body=once)]
    body = helper.make_graph(
        [
            *condition,
            *inner,
            helper.make_node("Cast", ["turn"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["scaled", "number"], ["after"]),
            helper.make_node("ReduceSum", ["after"], ["sum"], keepdims=0),
        ],
        "body",
        [info("turn", kind=TensorProto.INT64), info("going", kind=TensorProto.BOOL),
         info("state", ROWS, COLUMNS)],
        [info("still", kind=TensorProto.BOOL), info("after", ROWS, COLUMNS), info("sum")],
    )  # fmt: skip
    node = helper.make_node("Loop", ["turns", "yes", "x"], ["end", "sums"], name="loop", body=body)
    return model(
        node, outputs=("end", "sums"), turns=np.array(turns), yes=np.array(goes_on),
        two=np.array(2), factor=np.array(0.5, np.float32), limit=np.array(9, np.float32),
    )  # fmt: skip


def operators(proto: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in proto.graph.node}


def answers(proto: onnx.ModelProto, x: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": x}))


@pytest.mark.parametrize(
    "proto",
    [
        scanning(),
        scanning(scan_input_axes=[1]),
        scanning(scan_input_directions=[1]),
        looping(),
        looping(1),
        looping(nested=True),
    ],
)
def test_what_is_written_out_computes_the_same(proto: onnx.ModelProto) -> None:
    x = np.random.default_rng(7).normal(0, 1, (ROWS, COLUMNS)).astype(np.float32)
    before = proto.SerializeToString(deterministic=True)
    flat = unrolled(proto)
    assert proto.SerializeToString(deterministic=True) == before
    assert not operators(flat) & {"Loop", "Scan"}
    for one, other in zip(answers(proto, x), answers(flat, x), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_scan_over_the_images_has_one_turn_for_one_image() -> None:
    proto = scanning("batch")
    flat = unrolled(proto)
    assert "Scan" not in operators(flat)
    x = np.array([[1, 2, 3]], np.float32)
    for one, other in zip(answers(proto, x), answers(flat, x), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nodes_are_named_by_the_way_to_them() -> None:
    assert "scan/x" in {node.name for node in unrolled(scanning()).graph.node}


@pytest.mark.parametrize(
    "proto",
    [
        looping(always=False),
        looping(goes_on=False),
        looping(0),
        looping(33),
        scanning(33),
        scanning("batch", scan_output_axes=[1]),
    ],
)
def test_a_loop_of_unknown_or_great_length_stays(proto: onnx.ModelProto) -> None:
    assert operators(unrolled(proto)) & {"Loop", "Scan"}


def test_a_graph_without_loops_is_left_as_it_is() -> None:
    proto = model(helper.make_node("Relu", ["x"], ["y"]), outputs=("y",))
    assert unrolled(proto) is proto


@pytest.mark.parametrize("part", ["input", "output"])
@pytest.mark.parametrize("proto", [scanning(), looping()])
def test_a_loop_that_contradicts_its_body_stays(proto: onnx.ModelProto, part: str) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(proto)
    body = next(a.g for a in broken.graph.node[-1].attribute if a.name == "body")
    del getattr(body, part)[-1]
    assert operators(unrolled(broken)) & {"Loop", "Scan"}


def test_a_loop_whose_turns_would_take_too_much_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every turn holds the body's weights once more."""
    loop = scanning()
    assert "Scan" not in operators(unrolled(loop))
    monkeypatch.setattr("scanner.graph.core.unrolled._MOST_BYTES", 100)
    assert "Scan" in operators(unrolled(loop))
