"""Which constants of a model no output depends on: unused, in dead nodes, or without effect.

A constant counts as read if a path of nodes leads from it to an output of the graph. Paths that
carry nothing are not followed: into a product with zero, the branch of an If that a constant never
takes, an input that an operator ignores, a shape. Nor is an output that depends on no input of the
model, unless no output does. So what is left is a lower bound: arithmetic that comes to nothing in
another way counts as reading, and what is recognised by its content is found there all the same.
"""

import collections
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from scanner.graph.audit import folding
from scanner.graph.core.structure import attribute, held_tensor, label
from scanner.modelfile import nested
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.nested import Contents, subgraphs

Key = tuple[str, str, str]
Zeros = collections.ChainMap[str, bool | None]
"""Whether a value is zero throughout (True) or nowhere (False); None, or missing: not known."""

_TINY = 1e-12
"""A factor that leaves nothing of any weight that is added to something else."""

_SAME_ZEROS = frozenset({
    "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Neg",
    "Abs", "Relu", "Slice", "Gather", "Tile", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin",
    "Sqrt", "Sin", "Tan", "Tanh", "Sign", "Floor", "Ceil", "Round", "Split", "Dropout", "Mul",
    "MatMul", "Div", "CastLike",
})  # fmt: skip
"""Operators whose first input alone makes the result zero where it is zero."""
_ALL_ZEROS = frozenset({"Add", "Sub", "Sum", "Concat", "Max", "Min", "Mean"})
_TERMS = frozenset({"Add", "Sub", "Sum"})
_FACTORS = frozenset({"Mul", "MatMul", "And"})
_SMALL = 4096
"""Numbers of a tensor up to which each is looked at; beyond, only bytes that are all zero count."""


class Unread:
    """The constants and nodes of a model that no output depends on.

    Args:
        proto: A model.
        contents: All that lies within it.

    Attributes:
        tensors: Why a tensor is not read, by its identity; tensors that are read are missing.
        nodes: The nodes that no output depends on.
        attributes: The identities of their attributes.
    """

    def __init__(self, proto: onnx.ModelProto, contents: Contents) -> None:
        # What is held by `contents` keeps its identity: protobuf would make new objects for it.
        self._contents = contents
        self.tensors: dict[int, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.attributes: set[int] = set()
        self._functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
        self._idle_inputs = {key: _idle_inputs(f) for key, f in self._functions.items()}
        self._live: set[int] = set()
        self._called: set[Key] = set()
        self._waiting: list[Key] = []
        self._folded: set[str] = set()
        self._budget = folding.Budget()
        self._from_graph(proto.graph, _outputs(proto.graph), Zeros())
        while self._waiting:
            function = self._functions[self._waiting.pop()]
            self._from_nodes(function.node, set(function.output), Zeros())
        self._collect()

    def _from_graph(self, graph: onnx.GraphProto, needed: set[str], outer: Zeros) -> set[str]:
        """Mark what is read of a graph, and return the outer values that it needs."""
        # A new layer, not a copy: there may be as many bodies as constants around them.
        zeros = outer.new_child(
            {**dict.fromkeys(v.name for v in graph.input), **_zero_tensors(graph)}
        )
        needed = self._from_nodes(graph.node, needed, zeros, graph.initializer)
        for tensor in graph.initializer:
            if tensor.name in needed:
                self._live.add(id(tensor))
        for sparse in graph.sparse_initializer:
            if sparse.values.name in needed:
                self._live |= {id(sparse.values), id(sparse.indices)}
        own = {value.name for value in graph.input} | {t.name for t in graph.initializer}
        return needed - own

    def _from_nodes(
        self,
        nodes: Iterable[onnx.NodeProto],
        needed: set[str],
        zeros: Zeros,
        tensors: Iterable[onnx.TensorProto] = (),
    ) -> set[str]:
        listed = list(nodes)
        folded = folding.fold(listed, tensors, self._budget)
        self._folded |= folded.keys()
        known = _zeros(listed, zeros.new_child(), folded)
        needed = set(needed)
        for node in reversed(listed):
            if needed.isdisjoint(node.output):
                continue
            self._live.add(id(node))
            needed |= self._needs(node, known)
        return needed

    def _needs(self, node: onnx.NodeProto, zeros: Zeros) -> set[str]:
        """Return the values that a node needs, what its bodies capture included."""
        key = (node.domain, node.op_type, node.overload)
        if key in self._functions and key not in self._called:
            self._called.add(key)
            self._waiting.append(key)
        ignored = self._idle_inputs.get(key) or set()
        if key not in self._functions and node.domain in STANDARD_DOMAINS:
            ignored = _ignored(node, zeros)
        needed = {name for place, name in enumerate(node.input) if place not in ignored}
        if node.op_type in _TERMS:
            # A zero that was worked out; one that stands in the file is a bias, and small.
            needed -= {name for name in needed & self._folded if zeros.get(name)}
        bodies = subgraphs(node)
        chosen = zeros.get(node.input[0]) if node.op_type == "If" and node.input else None
        if chosen is not None:
            taken = "else_branch" if chosen else "then_branch"
            bodies = [a.g for a in node.attribute if a.name == taken and a.HasField("g")] or bodies
        for body in bodies:
            needed |= self._from_graph(body, {value.name for value in body.output}, zeros)
        return needed - {""}

    def _collect(self) -> None:
        """Tell the tensors that are not read, and why."""
        for node in self._contents.of(onnx.NodeProto):
            if id(node) in self._live:
                continue
            self.nodes.append(node)
            for held in node.attribute:
                self.attributes.add(id(held))
                for tensor in _held(held):
                    self.tensors[id(tensor)] = f"no output depends on {label(node)!r}"
        for graph in self._contents.of(onnx.GraphProto):
            read = {name for node in graph.node for name in node.input}
            for tensor in _initialisers(graph):
                if id(tensor) not in self._live:
                    why = "no output depends on it" if tensor.name in read else "no node reads it"
                    self.tensors[id(tensor)] = why


def _initialisers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices


def _held(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of an attribute itself; graphs in it are looked at by themselves."""
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for each in (*sparse, *attribute.sparse_tensors):
        yield each.values
        yield each.indices


def _outputs(graph: onnx.GraphProto) -> set[str]:
    """Return the outputs that depend on an input; all of them where none does."""
    constants = {tensor.name for tensor in _initialisers(graph)}
    reached = {value.name for value in graph.input} - constants
    for node in graph.node:
        if not reached.isdisjoint(node.input) or _draws(node) or subgraphs(node):
            reached |= set(node.output)
    outputs = {value.name for value in graph.output}
    return outputs & reached or outputs


def _draws(node: onnx.NodeProto) -> bool:
    return node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")


def _idle_inputs(function: onnx.FunctionProto) -> set[int]:
    """Return the positions of the inputs that nothing in a function reads."""
    bodies = nested.walk([function])
    read = {name for body in bodies for node in body.node for name in node.input}
    read |= {value.name for body in nested.walk([function]) if isinstance(body, onnx.GraphProto)
             for value in body.output} | {*function.output}  # fmt: skip
    return {place for place, name in enumerate(function.input) if name not in read}


def _ignored(node: onnx.NodeProto, zeros: Mapping[str, bool | None]) -> set[int]:
    """Return the positions of the inputs of which nothing reaches the result."""
    rule = _IGNORED.get(node.op_type)
    # Whether each input is zero throughout; padded, so that a missing one reads as not known.
    zero = [zeros.get(name) for name in (*node.input, "", "", "")]
    return set() if rule is None else set(rule(node, zero))


Zero = Sequence[bool | None]


def _of_product(node: onnx.NodeProto, zero: Zero) -> Iterator[int]:
    places = range(len(node.input))
    yield from (at for at in places if any(zero[other] for other in places if other != at))


def _of_layer(node: onnx.NodeProto, zero: Zero) -> Iterator[int]:
    if zero[0] or zero[1] or attribute(node, "alpha", 1.0) == 0:
        yield from (place for place in (0, 1) if not zero[place])
    if attribute(node, "beta", 1.0) == 0:
        yield 2


def _of_choice(node: onnx.NodeProto, zero: Zero) -> Iterator[int]:
    if len(node.input) > 2 and node.input[1] == node.input[2]:  # noqa: PLR2004
        yield 0
    elif zero[0] is not None:
        yield 1 if zero[0] else 2


def _of_difference(node: onnx.NodeProto, _zero: Zero) -> Iterator[int]:
    if len(set(node.input)) == 1:
        yield from range(len(node.input))


def _of_pad(node: onnx.NodeProto, _zero: Zero) -> Iterator[int]:
    if attribute(node, "mode", b"constant") != b"constant":
        yield 2


def _of_resize(node: onnx.NodeProto, _zero: Zero) -> Iterator[int]:
    if attribute(node, "coordinate_transformation_mode") != b"tf_crop_and_resize":
        yield 1


def _of_dropout(node: onnx.NodeProto, zero: Zero) -> Iterator[int]:
    if len(node.input) <= 2 or not node.input[2] or zero[2]:  # noqa: PLR2004 - its mode: training
        yield 1


_IGNORED: dict[str, Callable[[onnx.NodeProto, Zero], Iterable[int]]] = {
    "Mul": _of_product,
    "MatMul": _of_product,
    "And": _of_product,
    "Conv": _of_layer,
    "ConvTranspose": _of_layer,
    "Gemm": _of_layer,
    "Where": _of_choice,
    "Sub": _of_difference,
    "Shape": lambda _node, _zero: (0,),
    "Size": lambda _node, _zero: (0,),
    "Dropout": _of_dropout,
    "CastLike": lambda _node, _zero: (1,),
    "EyeLike": lambda _node, _zero: (0,),
    "RandomNormalLike": lambda _node, _zero: (0,),
    "RandomUniformLike": lambda _node, _zero: (0,),
    "Pad": _of_pad,
    "Resize": _of_resize,
    "Clip": lambda _node, zero: (0,) if zero[1] and zero[2] else (),
    "Pow": lambda _node, zero: (0,) if zero[1] else (),
    "Equal": _of_difference,
}


def _zero_tensors(graph: onnx.GraphProto) -> dict[str, bool | None]:
    return {tensor.name: _all_zero(tensor) for tensor in graph.initializer}


def _all_zero(tensor: onnx.TensorProto) -> bool | None:
    count = math.prod(tensor.dims)
    if uses_external_data(tensor) or count <= 0:
        return None
    if count > _SMALL:
        return True if tensor.raw_data and not tensor.raw_data.strip(b"\0") else None
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):
        return None
    return _all_tiny(array) if array.dtype.kind in "fiub" else None


def _all_tiny(numbers: npt.ArrayLike) -> bool | None:
    with np.errstate(invalid="ignore"):
        tiny = np.abs(np.asarray(numbers, np.float64)) <= _TINY
    return True if bool(tiny.all()) else None if bool(tiny.any()) else False


def _zeros(
    nodes: Iterable[onnx.NodeProto], known: Zeros, folded: Mapping[str, npt.ArrayLike]
) -> Zeros:
    """Add what is plain of the results of nodes."""
    counts: set[str] = set()
    for node in nodes:
        if not node.output or node.domain not in STANDARD_DOMAINS:
            continue
        if node.op_type in _COUNTS or (
            node.op_type in _SAME_COUNTS and node.input and node.input[0] in counts
        ):
            counts.update(node.output)
        zero = _zero(node, known)
        if zero is None and node.op_type in _BELOW and counts & {*node.input[:1]}:
            # No count is below zero.
            zero = _BELOW[node.op_type] if any(map(known.get, node.input[1:2])) else None
        if zero is None and node.output[0] in folded:
            zero = _all_tiny(folded[node.output[0]])
        if zero is not None:
            known.update(dict.fromkeys(filter(None, node.output), zero))
    return known


_COUNTS = frozenset({"ArgMax", "ArgMin", "NonZero", "Shape", "Size"})
_SAME_COUNTS = frozenset({"Cast", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"})
_BELOW = {"Less": True, "GreaterOrEqual": False}


def _zero(node: onnx.NodeProto, known: Mapping[str, bool | None]) -> bool | None:  # noqa: PLR0911 - one rule after another
    kind, inputs = node.op_type, list(node.input)
    if kind == "Constant":
        return _constant(node)
    if kind == "ConstantOfShape":
        value = held_tensor(node, "value")
        return True if value is None else _all_zero(value)
    if not inputs:
        return None
    if kind == "Sub" and len(set(inputs)) == 1:
        return True
    if kind in _FACTORS and any(known.get(name) for name in inputs):
        return True
    if kind in _SAME_ZEROS and known.get(inputs[0]):
        return True
    if kind in _ALL_ZEROS and all(known.get(name) for name in inputs):
        return True
    if kind == "Clip" and len(inputs) > 2 and all(map(known.get, inputs[1:])):  # noqa: PLR2004
        return True
    given = known.get(inputs[0])
    if kind == "Not" and given is not None:
        return not given
    return given if kind == "Identity" else None


def _constant(node: onnx.NodeProto) -> bool | None:
    """Return whether a Constant is zero throughout (True) or nowhere (False)."""
    held = node.attribute[0] if node.attribute else None
    if held is None:
        return None
    if held.HasField("t"):
        return _all_zero(held.t)
    numbers = [*held.floats, *held.ints]
    numbers += {"value_float": [held.f], "value_int": [held.i]}.get(held.name, [])
    return _all_tiny(numbers) if numbers else None
