"""The same function with less in it: constants computed, halves widened, normalisation folded away.

The steps here change a draft in place; a transform that needs several copies its model once.
"""

import collections
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from scanner.errors import MalformedModelError
from scanner.graph.core.draft import Draft
from scanner.graph.core.facts import FLOATING, HALVES, Facts, infer
from scanner.graph.core.open_sizes import Shape
from scanner.graph.core.structure import attribute, numbers_of, reads, subgraphs
from scanner.modelfile import held
from scanner.modelfile.domains import STANDARD_DOMAINS

Magnitudes = npt.NDArray[np.float64]
"""Absolute values of the elements of an argument."""

Numbers = npt.NDArray[Any] | None

_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype"})
_FOLDED_ELEMENTS, _FOLDED_SHARE = 2**18, 4
"""Elements that folding may compute, and as many more for each that the model holds.

A few small nodes can describe an endless constant, which takes seconds each time it is folded.
"""
_ROUNDS = 4
"""A shape that one round computes may fix what the next one can fold."""
_FOLDABLE = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape", "CumSum",
    "DequantizeLinear", "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "Reshape", "Round", "ScatterND", "Shape", "Sign", "Size", "Slice",
    "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
_PICKS = frozenset({"Gather", "Slice"})
"""What takes some of the sizes that a Shape node tells."""
_CONSTANT_TYPES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""Types of the numbers that a Constant node holds in an attribute other than a tensor."""
_REFUSALS = (
    ArithmeticError, AssertionError, LookupError, NotImplementedError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What onnx's evaluator raises at a node that makes no sense."""
_BIAS = 2  # its place among the inputs of Conv(X, W, B)


def _largest_sum(sizes: list[Magnitudes]) -> float:
    return float(sum(size.max() for size in sizes))


_MAGNITUDES: Mapping[str, Callable[[list[Magnitudes]], float]] = {
    "Add": _largest_sum,
    "Sub": _largest_sum,
    "Mul": lambda sizes: float(np.prod([size.max() for size in sizes])),
    "Pow": lambda sizes: float(max(sizes[0].max(), 1.0) ** sizes[-1].max()),
    "ReduceProd": lambda sizes: float(np.maximum(sizes[0], 1).prod()),
    "ReduceSum": lambda sizes: float(sizes[0].sum()),
    "CumSum": lambda sizes: float(sizes[0].sum()),
    "Cast": lambda sizes: float(sizes[0].max()),
}
"""By operator, a bound on its results, given the absolute values of its arguments."""


def widen_halves(model: Draft) -> None:
    """Turn every float16 and bfloat16 into float32.

    After: the graph and its bodies hold no value of 16 bits.
    """
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        _widen_info(info)
    _widen_graph(model.graph)


def _widen_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        for item in node.attribute:
            if item.name in _TYPE_ATTRIBUTES and item.i in HALVES:
                item.i = onnx.TensorProto.FLOAT
            if item.HasField("t"):
                _widen_tensor(item.t)
        for body in subgraphs(node):
            for info in (*body.input, *body.output, *body.value_info):
                _widen_info(info)
            _widen_graph(body)


def _widen_info(info: onnx.ValueInfoProto) -> None:
    if info.type.tensor_type.elem_type in HALVES:
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in HALVES:
        wide = numbers_of(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def fold_constants(model: Draft, keep: Collection[str], rounds: int = _ROUNDS) -> Facts:
    """Replace what depends on no input by its numbers, and return what is then known of the values.

    Shapes count as numbers where inference fixes them, and of a shape with open sizes those that a
    node takes of it, where they are fixed.

    Args:
        model: The draft.
        keep: Values that stay.
        rounds: How many times inference may follow what was folded.

    Before: the model is flat, and its tensors' data lie inside it.
    After: the values named in `keep` are computed as before; other nodes of the operators that
    can be folded read something that depends on an input, or are too large.

    Raises:
        MalformedModelError: The graph's shapes contradict one another.
    """
    facts = infer(model)
    budget = _FOLDED_ELEMENTS + _FOLDED_SHARE * sum(map(_elements, facts.tensors.values()))
    for _ in range(rounds):
        count = len(model.graph.node)
        budget = _fold_once(model, facts, keep, budget)
        if len(model.graph.node) == count:
            break
        facts = infer(model)
    return facts


def _fold_once(model: Draft, facts: Facts, keep: Collection[str], budget: int) -> int:
    """Fold each node that can be folded now, and return what is left of the budget."""
    known = dict(facts.tensors)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    sizes: dict[str, Shape] = {}
    left: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Shape" and (told := _told(node, facts)) is not None:
            sizes[node.output[0]] = told
        folded = None
        if not set(node.output) & set(keep):
            folded = _picked(node, sizes, known, opsets)
            folded = folded or _folded(node, facts, known, opsets, budget)
        if folded is None:
            left.append(node)
            continue
        budget -= sum(_elements(tensor) for tensor in folded)
        known |= {tensor.name: tensor for tensor in folded}
        model.graph.initializer.extend(folded)
    _replace_nodes(model.graph, left)
    return budget


def _elements(tensor: onnx.TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))


def _replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = onnx.GraphProto(node=nodes)
    del graph.node[:]
    graph.node.extend(kept.node)


def _folded(  # noqa: PLR0911 - one for each reason to leave a node as it is
    node: onnx.NodeProto,
    facts: Facts,
    known: dict[str, onnx.TensorProto],
    opsets: dict[str, int],
    budget: int,
) -> list[onnx.TensorProto] | None:
    """Return a node's outputs as tensors, or None where it must stay."""
    if node.op_type == "Constant":
        return _constant(node)
    if node.op_type == "Shape" and (sizes := _told(node, facts)) is not None and _fixed(sizes):
        return [numpy_helper.from_array(np.array(sizes, np.int64), node.output[0])]
    if node.domain or node.op_type not in _FOLDABLE or not _at_hand(node.input, known):
        return None
    counts = [facts.elements(name) for name in node.output if name]
    if any(count is None or count > budget for count in counts):
        return None
    try:
        feeds = {name: numpy_helper.to_array(known[name]) for name in node.input if name}
        if _may_overflow(node, list(feeds.values())):
            return None  # what a runtime makes of it, only the runtime knows
        return [
            numpy_helper.from_array(np.asarray(array), name)
            for name, array in zip(node.output, _run(node, feeds, opsets), strict=True)
            if name
        ]
    except _REFUSALS:
        return None  # whatever is odd about it, ONNX Runtime judges it


def _at_hand(names: Iterable[str], known: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether the numbers of values are known, and lie in the graph.

    Of what is held outside, a result would not fit into the graph either.
    """
    return all(name in known and held.place_of(known[name]) is None for name in names if name)


def _run(node: onnx.NodeProto, feeds: dict[str, Any], opsets: dict[str, int]) -> list[Any]:
    if node.op_type == "Slice" and _starts_before(*(feeds.get(name) for name in node.input)):
        raise NotImplementedError
    if node.op_type == "Clip" and not all(np.isfinite(array).all() for array in feeds.values()):
        raise NotImplementedError  # of what is no number, evaluators make one or another
    # Imported late: the evaluator costs half as much again as onnx itself, and most models have
    # nothing to fold.
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    # Of a copy: an evaluator is a ring that Python finds late, and a node that lies in one keeps
    # the whole model in memory until then.
    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    results: Any = ReferenceEvaluator(alone, opsets=opsets).run(None, feeds)
    return list(results)


def _may_overflow(node: onnx.NodeProto, arrays: list[npt.NDArray[np.generic]]) -> bool:
    """Whether whole numbers may overflow, where some evaluators wrap and others saturate."""
    measure = _MAGNITUDES.get(node.op_type)
    if measure is None or not arrays or not all(array.size for array in arrays):
        return False
    if node.op_type == "Cast":
        whole = attribute(node, "to") not in FLOATING and arrays[0].dtype.kind == "f"
        return whole and not np.abs(arrays[0].astype(np.float64)).max() < 2.0**31
    if arrays[0].dtype.kind not in "iu":
        return False
    sizes = [np.abs(array.astype(np.float64)) for array in arrays if array.dtype.kind in "iuf"]
    return not measure(sizes) < 2.0 ** (8 * arrays[0].dtype.itemsize - 1)


def _starts_before(
    data: Numbers,
    starts: Numbers = None,
    ends: Numbers = None,  # noqa: ARG001 - the order of Slice's inputs
    axes: Numbers = None,
    steps: Numbers = None,
) -> bool:
    """Whether a Slice goes backwards from before the first element.

    ONNX then takes that element, and onnx's evaluator, like NumPy, takes nothing.
    """
    if data is None or starts is None or steps is None:
        return False
    along = np.arange(len(starts)) if axes is None else axes
    sizes = np.array(data.shape)[along]
    return bool(((steps < 0) & (starts < -sizes)).any())


def _told(node: onnx.NodeProto, facts: Facts) -> Shape | None:
    """Return the sizes that a Shape node tells, open ones by name; None where no rank is known."""
    sizes = facts.shapes.get(node.input[0])
    if sizes is None:
        return None
    return sizes[slice(attribute(node, "start", 0), attribute(node, "end"))]


def _fixed(sizes: Shape) -> bool:
    return not any(isinstance(size, str) for size in sizes)


def _picked(
    node: onnx.NodeProto,
    sizes: Mapping[str, Shape],
    known: Mapping[str, onnx.TensorProto],
    opsets: dict[str, int],
) -> list[onnx.TensorProto] | None:
    """Return what a node takes of a shape, where those of its sizes are fixed."""
    told = sizes.get(node.input[0]) if node.op_type in _PICKS and not node.domain else None
    if told is None or not _at_hand(node.input[1:], known):
        return None
    feeds = {name: numpy_helper.to_array(known[name]) for name in node.input[1:] if name}
    try:
        (places,) = _run(node, {**feeds, node.input[0]: np.arange(len(told))}, opsets)
    except _REFUSALS:
        return None  # as above
    taken = tuple(told[place] for place in np.ravel(places))
    if not _fixed(taken):
        return None
    numbers = np.array(taken, np.int64).reshape(np.shape(places))
    return [numpy_helper.from_array(numbers, node.output[0])]


def _constant(node: onnx.NodeProto) -> list[onnx.TensorProto] | None:
    """Return what a Constant node holds, or None where that is text or a sparse tensor."""
    if not node.attribute:  # of another domain
        return None
    given = node.attribute[0]
    try:
        value = helper.get_attribute_value(given)
    except ValueError as error:
        raise MalformedModelError(
            f"the Constant node {node.name or node.output[0]!r} holds nothing that its attribute's "
            "type names",
            remedy="export the model to ONNX again",
        ) from error
    if given.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        return [tensor]
    if given.name not in _CONSTANT_TYPES:
        return None
    numbers = np.array(value, _CONSTANT_TYPES[given.name])
    return [numpy_helper.from_array(numbers, node.output[0])]


def fold_batch_normalisation(model: Draft, keep: Collection[str]) -> None:
    """Fold each inference-time BatchNormalization into the constant convolution right before it.

    Before: constants are initialisers (`fold_constants`).
    After: the values named in `keep` are computed as before; a folded convolution makes the value
    that its normalisation made.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    users: dict[str, int] = dict.fromkeys(keep, 2)  # as if read once more than it may be
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    gone = set[int]()
    for position, node in enumerate(graph.node):
        conv = producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if (
            conv is None
            or conv.op_type != "Conv"
            or users[conv.output[0]] > 1
            or attribute(node, "training_mode", 0)
        ):
            continue
        names = [*conv.input[1:], *node.input[1:]]
        if all(name in tensors for name in names if name):
            graph.initializer.extend(_folded_convolution(conv, node, tensors))
            gone.add(position)
    _replace_nodes(graph, [node for place, node in enumerate(graph.node) if place not in gone])


def _folded_convolution(
    conv: onnx.NodeProto, norm: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]
) -> list[onnx.TensorProto]:
    """Let a convolution make its normalisation's value, and return the weights and bias it needs.

    With gain = scale / sqrt(variance + epsilon): w' = w gain, b' = (b - mean) gain + shift.
    """
    weights = numbers_of(tensors[conv.input[1]])
    scale, shift, mean, variance = (numbers_of(tensors[name]) for name in norm.input[1:5])
    gain = scale / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    biased = len(conv.input) > _BIAS and conv.input[_BIAS]
    bias = numbers_of(tensors[conv.input[_BIAS]]) if biased else 0
    folded = weights * gain.reshape(-1, *[1] * (weights.ndim - 1))
    shifted = (bias - mean) * gain + shift
    stem = norm.output[0]
    conv.input[1:] = [f"{stem}/weights", f"{stem}/bias"]
    conv.output[0] = stem
    return [
        numpy_helper.from_array(folded.astype(weights.dtype), f"{stem}/weights"),
        numpy_helper.from_array(shifted.astype(weights.dtype), f"{stem}/bias"),
    ]


def pool_before_relu(model: Draft, keep: Collection[str]) -> None:
    """Let each Relu that only a MaxPool reads follow it instead, where there are fewer numbers.

    Relu is monotone: the largest of its values is its value of the largest. Its gradient is the
    same too: where it now stops that of a window, it stopped that of each of its numbers.

    Before: no pool has been asked for the places of its maxima.
    After: the values named in `keep` are computed as before.
    """
    graph = model.graph
    readers = collections.Counter([*keep, *(name for node in graph.node for name in reads(node))])
    # The places of the maxima may be others where no number is positive.
    pooled = {
        node.input[0] for node in graph.node if _reads_as(node, "MaxPool") and len(node.output) == 1
    }
    ahead: dict[str, onnx.NodeProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        made = node.output[0] if node.output else ""
        if _reads_as(node, "Relu") and made in pooled and readers[made] == 1:
            ahead[made] = node
            continue
        nodes.append(node)
        relu = ahead.pop(node.input[0], None) if _reads_as(node, "MaxPool") else None
        if relu is not None:
            largest = f"{relu.output[0]}/pooled"
            node.input[0], relu.input[0] = relu.input[0], largest
            node.output[0], relu.output[0] = largest, made
            nodes.append(relu)
    _replace_nodes(graph, nodes)


def _reads_as(node: onnx.NodeProto, kind: str) -> bool:
    """Whether a node is a standard operator of a kind, and reads something."""
    return node.op_type == kind and node.domain in STANDARD_DOMAINS and bool(node.input)
