"""Values that a file holds in float16, and how far the layer before each can drive it.

Searches run on a graph in which 16 bits became 32. What exceeds 65,504 is infinite in the file and
a number there, so that a unit which only a trigger drives so far does everything in the one and
nothing in the other.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from scanner.graph.core.draft import Draft, copied
from scanner.graph.core.extract import dependent, upstream
from scanner.graph.core.simplify import fold_constants, widen_halves
from scanner.graph.core.sparse import write_out_sparse
from scanner.graph.dormancy.bounding import Interval
from scanner.graph.dormancy.bounds import bounded

_LAYERS = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}
"""The axis of the channels that a layer reads."""
_CARRIES = frozenset({
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Div", "Dropout", "Flatten",
    "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "MaxPool", "Mul", "Pad", "PRelu",
    "ReduceMax", "ReduceMean", "Relu", "Reshape", "Slice", "Squeeze", "Sub", "Transpose",
    "Unsqueeze",
})  # fmt: skip
"""What moves a layer's numbers, bounds them, or scales and shifts them by constants."""


@dataclasses.dataclass(frozen=True, slots=True)
class HalfValues:
    """The values in float16 that layers make, each from numbers that can be watched.

    Attributes:
        widened: The graph in float32, its constants computed.
        entrances: What layers read, with the axis of its channels.
        values: What layers make, and what carries it on, where the file holds it in float16.
    """

    widened: Draft
    entrances: Mapping[str, int]
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """A graph that computes how far values can go.

    Attributes:
        proto: The graph.
        box: By entrance, the inputs that take the ends of what it can be.
        values: By value, the outputs that hold the lowest and the highest number.
    """

    proto: Draft
    box: Mapping[str, Interval]
    values: Mapping[str, Interval]


def find(flat: onnx.ModelProto) -> HalfValues | None:
    """Return the values of a graph that are in float16 behind a layer; None where none are.

    Before: the model is flat, and its tensors' data lie inside it.

    Raises:
        MalformedModelError: The graph contradicts itself.
    """
    if not _names_halves(flat.graph):
        return None
    draft = copied(flat)
    write_out_sparse(draft)
    facts = fold_constants(draft, keep=[value.name for value in draft.graph.output])
    moving = dependent(draft.graph)
    entrances: dict[str, int] = {}
    carried: dict[str, None] = {}
    for node in draft.graph.node:
        read = [name for name in node.input if name in moving]
        if len(read) != 1 or node.domain not in {"", "ai.onnx"}:
            continue
        if node.op_type in _LAYERS:
            entrances.setdefault(read[0], _LAYERS[node.op_type])
        elif node.op_type not in _CARRIES or read[0] not in carried:
            continue
        carried |= dict.fromkeys(node.output[:1])
    halves = [name for name in carried if facts.elem_types.get(name) == TensorProto.FLOAT16]
    if not halves:
        return None
    widen_halves(draft)
    return HalfValues(draft, entrances, tuple(halves))


def reach(found: HalfValues, shapes: Mapping[str, Sequence[int]]) -> Reach:
    """Return a graph that bounds the values, given a box of what each layer reads.

    Args:
        found: The values.
        shapes: Of the entrances that were watched, for one image. What comes from others is left
            out, and so is what an operator without a rule makes.
    """
    cut = copied(found.widened)
    for node in cut.graph.node:
        for slot, name in enumerate(node.output):
            if name in shapes:
                node.output[slot] = f"{name}/as it was computed"
    kept = [value for value in cut.graph.input if value.name not in shapes]
    del cut.graph.value_info[:]
    del cut.graph.input[:]
    cut.graph.input.extend(
        [
            *kept,
            *(
                helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s))
                for n, s in shapes.items()
            ),
        ]
    )
    unwatched = _behind(cut, {value.name for value in kept})
    made = {name for node in cut.graph.node for name in node.output}
    values = [name for name in found.values if name in made - unwatched]
    if not values:
        return Reach(upstream(cut, []), {}, {})
    whole = bounded(cut, values)
    ends: dict[str, Interval] = {}
    del whole.proto.graph.output[:]
    for number, name in enumerate(n for n in whole.values if n not in whole.estimated):
        pair, ends[name] = whole.values[name], Interval(f"lowest/{number}", f"highest/{number}")
        for operator, bound, end in (
            ("ReduceMin", pair.low, ends[name].low),
            ("ReduceMax", pair.high, ends[name].high),
        ):
            whole.proto.graph.node.append(helper.make_node(operator, [bound], [end], keepdims=0))
            whole.proto.graph.output.append(helper.make_empty_tensor_value_info(end))
    return Reach(whole.proto, whole.box, ends)


def _names_halves(graph: onnx.GraphProto) -> bool:
    """Whether anything in a graph may be of float16: an input, a constant, what a node is told."""
    kinds = {value.type.tensor_type.elem_type for value in graph.input}
    kinds |= {tensor.data_type for tensor in graph.initializer}
    told = [attribute for node in graph.node for attribute in node.attribute]
    kinds |= {attribute.i for attribute in told} | {attribute.t.data_type for attribute in told}
    return TensorProto.FLOAT16 in kinds


def _behind(model: onnx.ModelProto, names: set[str]) -> set[str]:
    """Return what is computed from some of the inputs."""
    found = set(names)
    for node in model.graph.node:
        if found.intersection(node.input):
            found.update(node.output)
    return found
