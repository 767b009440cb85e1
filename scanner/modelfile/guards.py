"""What is checked on a parsed file before anything walks or runs it.

`check_structure` looks at the whole file when it is opened, `check_cost` at the graph that is about
to run. Both reject only what endangers this machine or what no runtime could load; files that are
strange but harmless are left to the detectors. Behind both stand the child's limits
(`scanner.sandbox.confinement`), for what cannot be known without running the model.
"""

import collections
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import onnx
from onnx import inliner, numpy_helper

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.domains import STANDARD_DOMAINS, canonical
from scanner.modelfile.inference import MOST_DIMENSIONS, has_equation, infer_shapes, most_outputs
from scanner.modelfile.nested import Body, Contents, attribute_graphs, subgraphs, walk
from scanner.modelfile.skeleton import without_weights

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
# ONNX Runtime takes seconds to expand functions to this many nodes, and for twice as many more than
# twice as long. No exporter's functions multiply what is written like that.
_FEW_NODES, _MOST_COPIES = 10_000, 50
_PRINTABLE = 2**80  # bytes; larger numbers are of no use to a reader, and may not fit a float

_Constants = collections.ChainMap[str, onnx.TensorProto]


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
    contents = Contents(proto, limits)
    _check_texts(contents.texts)
    _check_interface(proto.graph, limits)
    for shape in contents.of(onnx.TensorShapeProto):
        _check_dimensions(len(shape.dim))
    _check_opsets(contents.of(onnx.OperatorSetIdProto))
    _compare(len(contents.of(onnx.NodeProto)), limits)
    _Expansion(proto, limits).check()
    bodies: tuple[Body, ...] = (
        *contents.of(onnx.GraphProto),
        *contents.of(onnx.FunctionProto),
    )
    for body in bodies:
        _check_order(body)
    for node in contents.of(onnx.NodeProto):
        _check_bodies(node)
    for tensor in contents.of(onnx.TensorProto):
        _check_dimensions(len(tensor.dims))
        _check_size(tensor)
    for sparse in contents.of(onnx.SparseTensorProto):
        _check_sparse(sparse, limits)
    _check_values(proto.graph.input, limits)


def check_cost(proto: onnx.ModelProto, limits: Limits) -> None:
    """Reject a graph that would certainly run without end or hold more than the memory limit.

    An open dimension counts as 1, which gives a lower bound.

    Raises:
        UnsafeModelError: A limit is exceeded.
    """
    for body in _roots(proto):
        _check_loops(body, limits)
    light = without_weights(proto)
    if proto.functions:
        light.functions.extend(proto.functions)
        try:
            light = inliner.inline_local_functions(light)
        except (onnx.checker.ValidationError, RuntimeError, ValueError):
            return  # ONNX Runtime will say what is wrong with it
    for follow_numbers in (True, False):
        try:
            inferred = infer_shapes(light, follow_numbers=follow_numbers)
        except MalformedModelError:
            continue  # sizes that only numbers contradict are known without them; else as above
        for graph in walk([inferred.graph], limits.depth):
            if isinstance(graph, onnx.GraphProto):
                _check_values([*graph.value_info, *graph.output], limits)
        return


def tensors(proto: onnx.ModelProto) -> Sequence[onnx.TensorProto]:
    """Return every tensor of a model, wherever it stands."""
    return Contents(proto).of(onnx.TensorProto)


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
    try:
        return float(numpy_helper.to_array(tensor).reshape(-1)[0])
    except (LookupError, TypeError, ValueError):  # its data is not of its type
        return None


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
    if tensor.HasField("segment"):
        raise MalformedModelError(
            f"the tensor {tensor.name!r} is stored in segments, which no runtime reads",
            remedy=_AGAIN,
        )
    if tensor.data_location == onnx.TensorProto.EXTERNAL and not tensor.external_data:
        raise MalformedModelError(
            f"the tensor {tensor.name!r} is said to lie in another file, and none is named",
            remedy=_AGAIN,
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


def _check_sparse(tensor: onnx.SparseTensorProto, limits: Limits) -> None:
    """Reject a sparse tensor that lacks a part, or that takes too much memory once it is dense."""
    _check_dimensions(len(tensor.dims))
    name = tensor.values.name
    if not tensor.HasField("values") or not tensor.HasField("indices"):
        raise MalformedModelError(
            f"the sparse tensor {name!r} lacks its values or indices", remedy=_AGAIN
        )
    if any(size < 0 for size in tensor.dims):
        raise MalformedModelError(f"the sparse tensor {name!r} has a negative size", remedy=_AGAIN)
    bits = _ELEMENT_BITS.get(tensor.values.data_type, 8)
    _check_memory(f"the sparse tensor {name!r}", math.prod(tensor.dims) * bits // 8, limits)


def _check_dimensions(count: int) -> None:
    if count > MOST_DIMENSIONS:
        raise UnsafeModelError(
            f"a tensor or value has {count:,} dimensions; no runtime takes more than "
            f"{MOST_DIMENSIONS}",
            remedy="do not use this file",
        )


def _check_interface(graph: onnx.GraphProto, limits: Limits) -> None:
    """Reject more inputs and outputs than a report can list."""
    constants = {tensor.name for tensor in graph.initializer}
    count = len(graph.output) + sum(value.name not in constants for value in graph.input)
    if count > limits.interface:
        raise UnsafeModelError(
            f"the graph has {count:,} inputs and outputs, more than {limits.interface:,}",
            remedy="raise the setting `interface` if you trust the file",
        )


def _check_texts(wrong: Sequence[bytes]) -> None:
    """Reject a string that is not UTF-8: protobuf returns it as bytes, yet a runtime takes it."""
    if wrong:
        raise UnsafeModelError(
            f"the file holds a name that is not text, {wrong[0]!r:.80}",
            remedy="do not use this file",
        )


def _check_opsets(opsets: Iterable[onnx.OperatorSetIdProto]) -> None:
    for opset in opsets:
        if not 0 <= opset.version <= _LARGEST_OPSET:
            raise MalformedModelError(
                f"the file names the operator set {opset.version}", remedy=_AGAIN
            )


def _check_bodies(node: onnx.NodeProto) -> None:
    """Reject an If, Loop or Scan that lacks a body, and outputs that there are no values for."""
    if node.domain in STANDARD_DOMAINS and len(node.output) > most_outputs(node):
        raise MalformedModelError(
            f"the Split node {node.name!r} has more outputs than it makes pieces", remedy=_AGAIN
        )
    if node.domain in STANDARD_DOMAINS and not has_equation(node):
        raise MalformedModelError(
            f"the Einsum node {node.name!r} has an equation that is none", remedy=_AGAIN
        )
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


def _check_order(body: Body) -> None:
    """Reject a value that is produced twice or depends on itself.

    An input or a constant is produced before the first node.
    """
    nodes = body.node
    inputs = [v if isinstance(v, str) else v.name for v in body.input]
    given = {*inputs, *_constants_of(body)}
    if len(set(inputs)) < len(inputs):
        twice = next(name for name in inputs if inputs.count(name) > 1)
        raise MalformedModelError(
            f"the input {twice!r} is declared twice", remedy="export the model to ONNX again"
        )
    producer: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in producer or name in given:
                raise MalformedModelError(
                    f"the value {name!r} is produced twice", remedy="export the model to ONNX again"
                )
            producer[name] = position
    reads = [{producer[name] for name in node.input if name in producer} for node in nodes]
    if all(before < position for position, own in enumerate(reads) for before in own):
        return
    if cyclic := _on_a_cycle(reads):
        raise MalformedModelError(
            f"the node {nodes[cyclic[0]].name!r} ({nodes[cyclic[0]].op_type}) depends on its own "
            "output",
            remedy="export the model to ONNX again",
        )


def _constants_of(body: Body) -> set[str]:
    """Return the names of a graph's constants; a function has none."""
    if isinstance(body, onnx.FunctionProto):
        return set()
    sparse = (tensor.values.name for tensor in body.sparse_initializer)
    return {*(tensor.name for tensor in body.initializer), *sparse}


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


class _Expanded(NamedTuple):
    """What a list of nodes comes to once all functions in it are expanded.

    Attributes:
        nodes: How many they are.
        size: Bytes of all of them: each call copies the constants of the body.
        depth: How deep calls and bodies nest in them.
    """

    nodes: int
    size: int
    depth: int


_Key = tuple[str, str, str]


class _Expansion:
    """The number of nodes once all functions are expanded, counted without expanding them."""

    def __init__(self, proto: onnx.ModelProto, limits: Limits) -> None:
        self._proto, self._limits = proto, limits
        self._bodies = {(canonical(f.domain), f.name, f.overload): f for f in proto.functions}
        self._known: dict[_Key, _Expanded] = {}

    def check(self) -> None:
        if not self._bodies:
            return
        count = self._expanded(self._proto.graph.node, (), 0).nodes
        # Functions that are never called count too: they are read all the same.
        for key in self._bodies:
            self._called(key, ())
        written = len(Contents(self._proto).of(onnx.NodeProto))
        if count > max(_FEW_NODES, _MOST_COPIES * written):
            raise UnsafeModelError(
                f"its functions make {count:,} nodes of {written:,}, which ONNX Runtime expands "
                "slowly",
                remedy="export the model without model-local functions",
            )

    def _expanded(
        self, nodes: Iterable[onnx.NodeProto], calling: tuple[_Key, ...], nesting: int
    ) -> _Expanded:
        self._compare_depth(len(calling) + nesting)
        count = size = depth = 0
        for node in nodes:
            key = (canonical(node.domain), node.op_type, node.overload)
            inner = [self._expanded(body.node, calling, nesting + 1) for body in subgraphs(node)]
            if key in self._bodies:
                inner.append(self._called(key, calling))
            else:
                count += 1
                size += node.ByteSize()
            count += sum(each.nodes for each in inner)
            size += sum(each.size for each in inner)
            depth = max(depth, *(1 + each.depth for each in inner), 0)
            _compare(count, self._limits)
            _check_memory("the graph, its functions expanded,", size, self._limits)
        self._compare_depth(len(calling) + nesting + depth)
        return _Expanded(count, size, depth)

    def _called(self, key: _Key, calling: tuple[_Key, ...]) -> _Expanded:
        if key in calling:
            raise UnsafeModelError(
                f"the function {key[1]!r} calls itself", remedy="do not run this file"
            )
        if key not in self._known:
            function, inside = self._bodies[key], (*calling, key)
            parts = [self._expanded(function.node, inside, 0)]
            parts += [
                self._expanded(graph.node, inside, 1)
                for graph in attribute_graphs(function.attribute_proto)
            ]
            defaults = sum(attribute.ByteSize() for attribute in function.attribute_proto)
            self._known[key] = _Expanded(
                sum(part.nodes for part in parts),
                sum(part.size for part in parts) + defaults,
                max(part.depth for part in parts),
            )
        return self._known[key]

    def _compare_depth(self, depth: int) -> None:
        if depth > self._limits.depth:
            raise UnsafeModelError(
                f"functions call one another deeper than {self._limits.depth}",
                remedy="raise the setting `depth` if you trust the file",
            )


def _compare(nodes: int, limits: Limits) -> None:
    if nodes > limits.nodes:
        raise UnsafeModelError(
            f"the graph has more than {limits.nodes:,} nodes, its functions expanded",
            remedy="raise the setting `nodes` if you trust the file",
        )


def _roots(proto: onnx.ModelProto) -> Iterator[Body]:
    """Yield the graphs that lie within no other graph."""
    yield proto.graph
    yield from proto.functions
    for function in proto.functions:
        yield from attribute_graphs(function.attribute_proto)
    for training in proto.training_info:
        yield from (training.initialization, training.algorithm)


def _check_values(values: Iterable[onnx.ValueInfoProto], limits: Limits) -> None:
    """Reject a value whose declared type takes too much memory, an open dimension counted as 1."""
    for value in values:
        for kind in _tensor_types(value.type):
            bits = _ELEMENT_BITS.get(kind.elem_type, 8)
            size = math.prod(d.dim_value for d in kind.shape.dim if d.dim_value > 0) * bits // 8
            _check_memory(f"the value {value.name!r}", size, limits)


def _tensor_types(
    kind: onnx.TypeProto,
) -> Sequence[onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor]:
    """Return the tensors of which a type consists: several for sequences and the like."""
    if kind.HasField("tensor_type"):
        return [kind.tensor_type]
    contents = Contents(kind)
    return [*contents.of(onnx.TypeProto.Tensor), *contents.of(onnx.TypeProto.SparseTensor)]


def _check_memory(name: str, size: int, limits: Limits) -> None:
    if size > limits.memory:
        shown = f"{size / 2**30:,.1f} GiB" if size < _PRINTABLE else "2^80 bytes or more"
        raise UnsafeModelError(
            f"{name} takes {shown}, more than the limit on memory",
            remedy="raise the setting `memory` if you trust the file",
        )


def _check_loops(root: Body, limits: Limits) -> None:
    """Reject Loops that nothing can end before too many trips; trips of nested ones multiply."""
    waiting: list[tuple[Body, int, _Constants]] = [(root, 1, _Constants({}))]
    while waiting:
        graph, outer, around = waiting.pop()
        constants = around.new_child(_constants(graph))
        for node in graph.node:
            trips = outer
            if node.op_type == "Loop" and node.input:
                trips *= _trips(node, constants, limits)
                if trips > limits.trips:
                    raise UnsafeModelError(
                        f"the Loop {node.name!r} runs more than {limits.trips:,} times",
                        remedy="raise the setting `trips` if you trust the file",
                    )
            waiting += [(body, trips, constants) for body in subgraphs(node)]


def _trips(loop: onnx.NodeProto, constants: _Constants, limits: Limits) -> int:
    """Return how often a Loop certainly runs; 1 if that depends on what it computes."""
    count, condition = (*loop.input, "", "")[:2]
    body = next(iter(subgraphs(loop)), None)
    if body is None or not body.output or not (condition == "" or scalar(constants.get(condition))):
        return 1
    if not _always_continues(body, constants):
        return 1
    if count == "":
        return limits.trips + 1
    known = scalar(constants.get(count))
    return max(1, int(known)) if known is not None and math.isfinite(known) else 1


def _always_continues(body: onnx.GraphProto, around: _Constants) -> bool:
    """Whether a Loop body passes on the condition it was given, or one that is always true."""
    copies = {
        node.output[0]: node.input[0]
        for node in body.node
        if node.op_type == "Identity" and node.input and node.output
    }
    name = body.output[0].name
    while name in copies:
        name = copies.pop(name)  # taken out, so that copies in a circle end too
    given = len(body.input) > 1 and name == body.input[1].name
    return given or bool(scalar(around.new_child(_constants(body)).get(name)))


def _constants(graph: Body) -> dict[str, onnx.TensorProto]:
    found = {}
    if isinstance(graph, onnx.GraphProto):
        found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute:
            found[node.output[0]] = _held(node.attribute[0])
    return found


def _held(attribute: onnx.AttributeProto) -> onnx.TensorProto:
    """Return the one number of a Constant, whichever field of its attribute holds it."""
    if attribute.HasField("t"):
        return attribute.t
    if attribute.HasField("i") or len(attribute.ints) == 1:
        number = attribute.i if attribute.HasField("i") else attribute.ints[0]
        return onnx.TensorProto(data_type=onnx.TensorProto.INT64, int64_data=[number])
    fraction = attribute.f if attribute.HasField("f") else sum(attribute.floats[:1])
    return onnx.TensorProto(data_type=onnx.TensorProto.FLOAT, float_data=[fraction])
