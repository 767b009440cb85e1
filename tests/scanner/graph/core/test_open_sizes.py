"""Sizes beside an open batch: what -1 stands for, and what it does not."""

import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from scanner.errors import MalformedModelError
from scanner.graph.core.facts import infer

SHAPE = (16, 16, 32)  # of an image
BATCH = [
    helper.make_node("Shape", ["image"], ["sizes"]),
    helper.make_node("Gather", ["sizes", "0"], ["batch"]),
    helper.make_node("Unsqueeze", ["batch", "[0]"], ["[N]"]),
    *(helper.make_node("Mul", ["[N]", f"[{k}]"], [f"[{k}N]"]) for k in (2, 4, -1)),
    helper.make_node("Mul", ["[N]", "[N]"], ["[NN]"]),
]


def model(
    nodes: Sequence[onnx.NodeProto], shape: Sequence[int] = SHAPE, output: str = "result"
) -> onnx.ModelProto:
    """Return a model of these nodes, behind those that make lists of the batch's size."""
    every = [*BATCH, *nodes]
    made = {name for node in every for name in node.output}
    lists = {name for node in every for name in node.input} - made - {"image"}
    constants = [
        numpy_helper.from_array(np.array(json.loads(name), np.int64), name) for name in lists
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *shape])
    graph = helper.make_graph(
        every, "g", [image], [helper.make_empty_tensor_value_info(output)], constants
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def reshaped(*target: str, source: str = "image", result: str = "result") -> list[onnx.NodeProto]:
    return [
        helper.make_node("Concat", target, [f"{result} sizes"], axis=0),
        helper.make_node("Reshape", [source, f"{result} sizes"], [result]),
    ]


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (("[N]", "[-1]", "[32]"), ("N", 256, 32)),
        (("[-1]", "[256]", "[32]"), ("N", 256, 32)),
        (("[N]", "[0]", "[-1]"), ("N", 16, 512)),
        (("[4N]", "[-1]", "[32]"), (None, 64, 32)),
        (("[-1]", "[64]", "[32]"), (None, 64, 32)),
        (("[NN]", "[-1]"), (None, None)),
        (("[32]", "[-1]"), (32, None)),
        (("[N]", "[-1]", "[7]"), ("N", None, 7)),
        (("[-1N]", "[-1]"), (None, None)),  # of one image, it is the first -1
    ],
)
def test_what_the_rest_of_a_reshape_is(
    target: tuple[str, ...], shape: tuple[int | str | None, ...]
) -> None:
    known = infer(model(reshaped(*target))).shapes["result"]
    given = (size if size == "N" or isinstance(size, int) else None for size in known)
    assert tuple(given) == shape


def test_sizes_are_followed_to_the_next_list() -> None:
    """Windows of an image, and the image again: as a Swin transformer has them."""
    nodes = [
        *reshaped("[-1]", "[64]", "[32]", result="windows"),
        helper.make_node("Relu", ["windows"], ["positive"]),
        helper.make_node("Add", ["windows", "positive"], ["added"]),
        helper.make_node("Shape", ["added"], ["count"], end=1),
        *reshaped("count", "[4]", "[16]", "[-1]", source="added", result="heads"),
        *reshaped("[-1]", "[4]", "[64]", "[32]", source="heads"),
    ]
    facts = infer(model(nodes))
    assert facts.shapes["heads"][1:] == (4, 16, 32)
    assert facts.shapes["result"] == ("N", 4, 64, 32)


def test_sizes_that_follow_reach_inference() -> None:
    """A convolution behind a Reshape, whose own result inference alone knows."""
    nodes = [
        *reshaped("[N]", "[16]", "[16]", "[-1]", result="maps"),
        helper.make_node("MaxPool", ["maps"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        *reshaped("[N]", "[-1]", source="pooled"),
    ]
    facts = infer(model(nodes))
    assert facts.shapes["pooled"] == ("N", 16, 8, 16)
    assert facts.shapes["result"] == ("N", 2048)


def test_a_size_that_may_be_nothing_is_none() -> None:
    """0 in a list of sizes stands for another size, which the rest then is not what it was."""
    nodes = [
        helper.make_node("Slice", ["image", "[5]", "[99]"], ["later"]),
        helper.make_node("Transpose", ["later"], ["turned"], perm=[1, 0]),
        helper.make_node("Shape", ["later"], ["left"], end=1),
        *reshaped("left", "[-1]", source="turned"),
    ]
    built = model(nodes, shape=[4])
    session = onnxruntime.InferenceSession(built.SerializeToString())
    four, eight = (session.run(None, {"image": np.ones((n, 4), np.float32)})[0] for n in (4, 8))
    assert (four.shape, eight.shape) == ((4, 0), (3, 4))
    assert isinstance(infer(built).shapes["result"][1], str)


def test_lists_and_numbers_without_end_are_not_followed() -> None:
    doubled = [
        helper.make_node("Concat", [f"list{i}"] * 2, [f"list{i + 1}"], axis=0) for i in range(30)
    ]
    squared = [helper.make_node("Mul", [f"number{i}"] * 2, [f"number{i + 1}"]) for i in range(60)]
    nodes = [
        helper.make_node("Identity", ["[2N]"], ["list0"]),
        helper.make_node("Identity", ["[2N]"], ["number0"]),
        *doubled,
        *squared,
        *reshaped("number60", "[-1]"),
    ]
    assert isinstance(infer(model(nodes)).shapes["result"][1], str)


MADE: dict[str, Callable[[int], int]] = {
    "[N]": lambda n: n, "[2N]": lambda n: 2 * n, "[4N]": lambda n: 4 * n, "[NN]": lambda n: n * n,
    "[-1N]": lambda n: -n,
}  # fmt: skip


def test_a_long_chain_is_not_inferred_again_for_each_link(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    inferred = onnx.shape_inference.infer_shapes

    def counted(proto: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
        calls.append(proto)
        return inferred(proto, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", counted)
    nodes = [helper.make_node("Identity", ["image"], ["value0"])]
    for i in range(40):
        nodes += reshaped("[N]", "[16]", "[-1]", "[32]", source=f"value{i}", result=f"maps{i}")
        pool = helper.make_node("MaxPool", [f"maps{i}"], [f"value{i + 1}"], kernel_shape=[1, 1])
        nodes.append(pool)
    infer(model(nodes, output="value40"))
    assert len(calls) < 12


SIZES = st.sampled_from([*MADE, "[-1]", "[0]", "[1]", "[2]", "[6]", "[12]"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(SIZES, min_size=1, max_size=4), min_size=1, max_size=3))
@example([["[2N]", "[-1]"], ["[N]", "[2]", "[-1]"], ["[-1]", "[6]"]])
def test_whatever_is_told_is_so_for_every_batch(targets: list[list[str]]) -> None:
    nodes = []
    for i, target in enumerate(targets):
        source = f"value{i - 1}" if i else "image"
        nodes += reshaped(*target, source=source, result=f"value{i}")
    last = f"value{len(targets) - 1}"
    try:
        known = infer(model(nodes, shape=(2, 6), output=last)).shapes.get(last)
    except MalformedModelError:  # a contradiction that inference finds
        return
    if known is None:
        return
    for batch in (1, 2, 3, 6):
        value = np.zeros((batch, 2, 6))
        try:
            for target in targets:
                value = value.reshape(list(sizes_of(target, batch, value.shape)))
        except (ValueError, IndexError):  # which no runtime computes
            continue
        told = [batch if size == "N" else size for size in known]
        pairs = zip(value.shape, told, strict=True)
        assert all(size == claim for size, claim in pairs if isinstance(claim, int))


def sizes_of(target: Sequence[str], batch: int, source: Sequence[int]) -> Iterator[int]:
    """Yield the sizes that are asked of a Reshape; 0 is the source's."""
    for place, name in enumerate(target):
        yield (MADE[name](batch) if name in MADE else int(name[1:-1])) or source[place]


@pytest.mark.parametrize("opset", [11, 12, 13, 17])
def test_older_sets_tell_the_rank_too(opset: int) -> None:
    """A flatten by PyTorch; before set 13, inference follows no list of sizes."""
    nodes = [
        helper.make_node("Shape", ["image"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "[0]", "[2]", "[0]"], ["kept"]),
        helper.make_node("Concat", ["kept", "[-1]"], ["target"], axis=0),
        helper.make_node("Reshape", ["image", "target"], ["places"]),
        helper.make_node("Softmax", ["places"], ["result"], axis=-1),
    ]
    lists = ("[0]", "[2]", "[-1]")
    graph = helper.make_graph(
        nodes,
        "flattened",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 5, 7, 7])],
        [helper.make_empty_tensor_value_info("result")],
        [numpy_helper.from_array(np.array(json.loads(name), np.int64), name) for name in lists],
    )
    opsets = [helper.make_opsetid("", opset)]
    known = infer(helper.make_model(graph, opset_imports=opsets, ir_version=6))
    assert known.shapes["places"] == ("N", 5, 49)
    assert known.shapes["result"][1:] == (5, 49)
