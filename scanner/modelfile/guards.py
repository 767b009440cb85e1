"""What is checked on a parsed file before anything walks or runs it.

`check_structure` looks at the whole file when it is opened, `check_cost` at the graph that is about
to run. Both reject only what endangers this machine or what no runtime could load; files that are
strange but harmless are left to the detectors. Behind both stand the child's limits
(`scanner.sandbox.confinement`), for what cannot be known without running the model.
"""

import collections
import math
from collections.abc import Iterable, Iterator, Sequence

import onnx
from onnx import numpy_helper

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.domains import STANDARD_DOMAINS, canonical
from scanner.modelfile.nested import Body, subgraphs, walk
from scanner.modelfile.skeleton import declare_constants

_AGAIN = "export or download the model again"
_BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64,
    "BOOL": 8, "FLOAT16": 16, "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "COMPLEX64": 64,
    "COMPLEX128": 128, "BFLOAT16": 16, "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8,
    "FLOAT8E5M2FNUZ": 8, "FLOAT8E8M0": 8, "UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2,
    "INT2": 2,
}  # fmt: skip
_NUMBERS = dict(onnx.TensorProto.DataType.items())
_ELEMENT_BITS = {_NUMBERS[name]: bits for name, bits in _BITS.items() if name in _NUMBERS}
_FIELDS = {
    "FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data",
    "COMPLEX128": "double_data", "INT64": "int64_data", "UINT32": "uint64_data",
    "UINT64": "uint64_data", "STRING": "string_data",
}  # fmt: skip
_WIDE_FIELDS = {_NUMBERS[name]: field for name, field in _FIELDS.items()}
_BODIES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}
_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
_LARGEST_OPSET = 2**31 - 1  # onnx reads it as 32 bits


def check_structure(proto: onnx.ModelProto, limits: Limits) -> None:
    """Reject a file that is malformed, or exceeds the limits once its functions are expanded.

    Raises:
        MalformedModelError: There is no graph, a value is produced twice or depends on itself, or a
            tensor's size does not match its data.
        UnsafeModelError: A limit is exceeded, or a name is not text.
    """
    if not proto.graph.node or not proto.graph.output:
        raise MalformedModelError(
            "the file holds no ONNX graph", remedy="export the model to ONNX again"
        )
    _check_texts(_model_texts(proto))
    _check_opsets(proto)
    _Expansion(proto, limits).check()
    for body in (proto.graph, *proto.functions):
        for graph in walk([body], limits.depth):
            _check_texts(_graph_texts(graph))
            _check_order(graph.node)
            for node in graph.node:
                _check_bodies(node)
            for tensor in _tensors(graph):
                _check_size(tensor)
    _check_values(proto.graph.input, limits)


def check_cost(proto: onnx.ModelProto, limits: Limits) -> None:
    """Reject a graph that would certainly run without end or hold more than the memory limit.

    An open dimension counts as 1, which gives a lower bound.

    Raises:
        UnsafeModelError: A limit is exceeded.
    """
    _check_loops(proto.graph, 1, {}, limits)
    light = _without_weights(proto)
    # The second pass follows the numbers in shapes, which a doubling Concat multiplies, so it comes
    # only if the first one passed.
    for follow_numbers in (False, True):
        try:
            inferred = onnx.shape_inference.infer_shapes(light, data_prop=follow_numbers)
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            RuntimeError,
            ValueError,
        ):
            return  # ONNX Runtime will say what is wrong with it
        for graph in walk([inferred.graph], limits.depth):
            if isinstance(graph, onnx.GraphProto):
                _check_values([*graph.value_info, *graph.output], limits)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that can take part in a run: of the graph, sub-graphs and functions."""
    for body in (proto.graph, *proto.functions):
        for graph in walk([body]):
            yield from _tensors(graph)


def scalar(tensor: onnx.TensorProto | None) -> float | None:
    """Return a tensor's only number; None if it is not one real number in this very file."""
    if (
        tensor is None
        or tensor.data_location == onnx.TensorProto.EXTERNAL
        or math.prod(tensor.dims) != 1
    ):
        return None
    if tensor.data_type not in _ELEMENT_BITS or tensor.data_type in _COMPLEX:
        return None
    return float(numpy_helper.to_array(tensor).reshape(-1)[0])


def data_bytes(tensor: onnx.TensorProto) -> int | None:
    """Return the bytes that a tensor's declared shape takes; None if its type has no fixed size.

    Raises:
        MalformedModelError: A dimension is negative.
    """
    bits = _ELEMENT_BITS.get(tensor.data_type)
    return None if bits is None else -(-_elements(tensor) * bits // 8)


def _elements(tensor: onnx.TensorProto) -> int:
    if any(size < 0 for size in tensor.dims):
        raise MalformedModelError(f"the tensor {tensor.name!r} has a negative size", remedy=_AGAIN)
    return math.prod(tensor.dims)


def _check_size(tensor: onnx.TensorProto) -> None:
    """Reject a tensor whose declared size is not that of its data: 10^12 elements in 432 bytes."""
    if tensor.data_type not in _NUMBERS.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise MalformedModelError(
            f"the tensor {tensor.name!r} has an unknown element type", remedy=_AGAIN
        )
    declared, elements = data_bytes(tensor), _elements(tensor)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return  # compared with the data file when it is read
    if tensor.HasField("raw_data"):
        have, want = len(tensor.raw_data), declared
    else:
        have, want = _stored(tensor), elements
    if want is not None and have != want:
        unit = "bytes" if tensor.HasField("raw_data") else "elements"
        raise MalformedModelError(
            f"the tensor {tensor.name!r} declares {want:,} {unit} and holds {have:,}", remedy=_AGAIN
        )


def _stored(tensor: onnx.TensorProto) -> int:
    """Return how many elements are stored in the field for the tensor's type."""
    field = _WIDE_FIELDS.get(tensor.data_type, "int32_data")
    count = len(getattr(tensor, field))
    bits = _ELEMENT_BITS.get(tensor.data_type, 32)
    if tensor.data_type in _COMPLEX:
        return count // 2
    if bits < 8:  # noqa: PLR2004 - packed into bytes, the last one perhaps in part
        packed = 8 // bits
        return min(count * packed, max(_elements(tensor), (count - 1) * packed + 1))
    return count


def _tensors(graph: Body) -> Iterator[onnx.TensorProto]:
    if isinstance(graph, onnx.GraphProto):
        yield from graph.initializer
        yield from (
            tensor
            for sparse in graph.sparse_initializer
            for tensor in (sparse.values, sparse.indices)
        )
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from [attribute.t] if attribute.HasField("t") else []
        yield from attribute.tensors
        sparse_tensors = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for sparse in (*sparse_tensors, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)


def _check_texts(texts: Iterable[object]) -> None:
    """Reject a string that is not UTF-8: protobuf returns it as bytes, yet a runtime takes it."""
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise UnsafeModelError(
            f"the file holds a name that is not text, {wrong!r:.80}", remedy="do not use this file"
        )


def _check_opsets(proto: onnx.ModelProto) -> None:
    for opset in (
        *proto.opset_import,
        *(o for function in proto.functions for o in function.opset_import),
    ):
        if not 0 <= opset.version <= _LARGEST_OPSET:
            raise MalformedModelError(
                f"the file names the operator set {opset.version}", remedy=_AGAIN
            )


def _model_texts(proto: onnx.ModelProto) -> Iterator[object]:
    yield from (proto.producer_name, proto.producer_version, proto.domain, proto.doc_string)
    yield from (text for entry in proto.metadata_props for text in (entry.key, entry.value))
    yield from (opset.domain for opset in proto.opset_import)
    for function in proto.functions:
        yield from (function.domain, *function.input, *function.output, *function.attribute)
        yield from (opset.domain for opset in function.opset_import)


def _graph_texts(graph: Body) -> Iterator[object]:
    yield from (graph.name, graph.doc_string)
    if isinstance(graph, onnx.GraphProto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield from (
                value.name,
                value.doc_string,
                *(d.dim_param for d in value.type.tensor_type.shape.dim),
            )
    for tensor in _tensors(graph):
        yield from (
            tensor.name,
            *(text for entry in tensor.external_data for text in (entry.key, entry.value)),
        )
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _check_bodies(node: onnx.NodeProto) -> None:
    """Reject an If, Loop or Scan that lacks a body, or an If whose bodies have other outputs."""
    wanted = _BODIES.get(node.op_type, ()) if node.domain in STANDARD_DOMAINS else ()
    bodies = {
        a.name: a.g
        for a in node.attribute
        if a.type == onnx.AttributeProto.GRAPH and a.HasField("g")
    }
    complete = all(name in bodies for name in wanted)
    if not complete or (
        node.op_type == "If" and any(len(bodies[n].output) != len(node.output) for n in wanted)
    ):
        raise MalformedModelError(
            f"the {node.op_type} node {node.name!r} does not have the bodies it needs",
            remedy="export the model to ONNX again",
        )


def _check_order(nodes: Sequence[onnx.NodeProto]) -> None:
    """Reject a value that is produced twice or depends on itself."""
    producer: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in producer:
                raise MalformedModelError(
                    f"the value {name!r} is produced twice", remedy="export the model to ONNX again"
                )
            producer[name] = position
    inputs = [{producer[name] for name in node.input if name in producer} for node in nodes]
    if all(before < position for position, own in enumerate(inputs) for before in own):
        return
    if cyclic := _on_a_cycle(inputs):
        raise MalformedModelError(
            f"the node {nodes[cyclic[0]].name!r} ({nodes[cyclic[0]].op_type}) depends on its own "
            "output",
            remedy="export the model to ONNX again",
        )


def _on_a_cycle(inputs: Sequence[set[int]]) -> list[int]:
    """Return the nodes that can never run, given those each one waits for (Kahn's algorithm)."""
    waiting = [len(own) for own in inputs]
    followers = collections.defaultdict(list)
    for position, own in enumerate(inputs):
        for before in own:
            followers[before].append(position)
    ready = [position for position, count in enumerate(waiting) if not count]
    while ready:
        for after in followers[ready.pop()]:
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
    return [position for position, count in enumerate(waiting) if count]


class _Expansion:
    """The number of nodes once all functions are expanded, counted without expanding them."""

    def __init__(self, proto: onnx.ModelProto, limits: Limits) -> None:
        self._proto, self._limits = proto, limits
        self._bodies = {(canonical(f.domain), f.name): f for f in proto.functions}
        self._sizes: dict[tuple[str, str], int] = {}

    def check(self) -> None:
        self._size(self._proto.graph.node, ())
        # Functions that are never called count too: they are read all the same.
        for function in self._proto.functions:
            self._size(function.node, ((canonical(function.domain), function.name),))
        self._compare(sum(len(function.node) for function in self._proto.functions))

    def _size(self, nodes: Iterable[onnx.NodeProto], calling: tuple[tuple[str, str], ...]) -> int:
        if len(calling) > self._limits.depth:
            raise UnsafeModelError(
                f"functions call one another deeper than {self._limits.depth}",
                remedy="raise the setting `depth` if you trust the file",
            )
        total = 0
        for node in nodes:
            nested = sum(self._size(body.node, calling) for body in subgraphs(node))
            total += self._call(node, calling) + nested
            self._compare(total)
        return total

    def _call(self, node: onnx.NodeProto, calling: tuple[tuple[str, str], ...]) -> int:
        key = (canonical(node.domain), node.op_type)
        if key in calling:
            raise UnsafeModelError(
                f"the function {node.op_type!r} calls itself", remedy="do not run this file"
            )
        if key in self._bodies and key not in self._sizes:
            self._sizes[key] = self._size(self._bodies[key].node, (*calling, key))
        return self._sizes.get(key, 1)

    def _compare(self, count: int) -> None:
        if count > self._limits.nodes:
            raise UnsafeModelError(
                f"the graph has more than {self._limits.nodes:,} nodes, its functions expanded",
                remedy="raise the setting `nodes` if you trust the file",
            )


def _check_values(values: Iterable[onnx.ValueInfoProto], limits: Limits) -> None:
    for value in values:
        kind = value.type.tensor_type
        bits = _ELEMENT_BITS.get(kind.elem_type, 8)
        size = math.prod(d.dim_value for d in kind.shape.dim if d.dim_value > 0) * bits // 8
        if size > limits.memory:
            raise UnsafeModelError(
                f"the value {value.name!r} takes {size / 2**30:,.1f} GiB, more than the limit on "
                "memory",
                remedy="raise the setting `memory` if you trust the file",
            )


def _check_loops(
    graph: onnx.GraphProto, outer: int, around: dict[str, onnx.TensorProto], limits: Limits
) -> None:
    """Reject Loops that nothing can end before too many trips; trips of nested ones multiply."""
    constants = around | _constants(graph)
    for node in graph.node:
        trips = outer
        if node.op_type == "Loop" and len(node.input) > 1:
            trips *= _trips(node, constants, limits)
            if trips > limits.trips:
                raise UnsafeModelError(
                    f"the Loop {node.name!r} runs more than {limits.trips:,} times",
                    remedy="raise the setting `trips` if you trust the file",
                )
        for body in subgraphs(node):
            _check_loops(body, trips, constants, limits)


def _trips(loop: onnx.NodeProto, constants: dict[str, onnx.TensorProto], limits: Limits) -> int:
    """Return how often a Loop certainly runs; 1 if that depends on what it computes."""
    count, condition = loop.input[0], loop.input[1]
    body = next(iter(subgraphs(loop)), None)
    if body is None or not body.output or not (condition == "" or scalar(constants.get(condition))):
        return 1
    if not _always_continues(body, constants):
        return 1
    if count == "":
        return limits.trips + 1
    known = scalar(constants.get(count))
    return 1 if known is None else max(1, int(known))


def _always_continues(body: onnx.GraphProto, around: dict[str, onnx.TensorProto]) -> bool:
    """Whether a Loop body passes on the condition it was given, or one that is always true."""
    producers = {name: node for node in body.node for name in node.output}
    name = body.output[0].name
    while name in producers and producers[name].op_type == "Identity":
        name = producers[name].input[0]
    given = len(body.input) > 1 and name == body.input[1].name
    return given or bool(scalar((around | _constants(body)).get(name)))


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            values = [a.t for a in node.attribute if a.name == "value"]
            found.update(zip(node.output, values, strict=False))
    return found


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its large constants declared as inputs, so they are not copied."""
    light = onnx.ModelProto(
        ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions
    )
    graph, names = light.graph, {tensor.name for tensor in proto.graph.initializer}
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    graph.input.extend(value for value in proto.graph.input if value.name not in names)
    graph.output.extend(proto.graph.output)
    declare_constants(graph, ((tensor.name, tensor) for tensor in proto.graph.initializer))
    return light
