"""What is checked on a parsed file before anything walks or runs it.

`check_structure` looks at the whole file when it is opened, `check_cost` at the graph that is about
to run. Both reject only what endangers this machine or what no runtime could load; files that are
strange but harmless are left to the detectors. Behind both stand the child's limits
(`scanner.sandbox.confinement`), for what cannot be known without running the model.
"""

from collections.abc import Iterable, Iterator, Sequence

import onnx
from onnx import inliner

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.bounds import has_equation, most_outputs
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.expansion import Expansion, check_nodes
from scanner.modelfile.inference import infer_shapes
from scanner.modelfile.loops import check_loops
from scanner.modelfile.nested import Body, Contents, attribute_graphs, walk
from scanner.modelfile.order import check_order
from scanner.modelfile.skeleton import without_weights
from scanner.modelfile.tensor_sizes import (
    check_dimensions,
    check_size,
    check_sparse,
    check_values,
)

_AGAIN = "export or download the model again"
_BODIES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}
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
    contents = Contents(proto, limits)
    _check_texts(contents.texts)
    _check_interface(proto.graph, limits)
    for shape in contents.of(onnx.TensorShapeProto):
        check_dimensions(len(shape.dim))
    _check_opsets(contents.of(onnx.OperatorSetIdProto))
    check_nodes(len(contents.of(onnx.NodeProto)), limits)
    Expansion(proto, limits).check()
    bodies: tuple[Body, ...] = (
        *contents.of(onnx.GraphProto),
        *contents.of(onnx.FunctionProto),
    )
    for body in bodies:
        check_order(body)
    for node in contents.of(onnx.NodeProto):
        _check_bodies(node)
    for tensor in contents.of(onnx.TensorProto):
        check_dimensions(len(tensor.dims))
        check_size(tensor)
    for sparse in contents.of(onnx.SparseTensorProto):
        check_sparse(sparse, limits)
    check_values(proto.graph.input, limits)


def check_cost(proto: onnx.ModelProto, limits: Limits) -> None:
    """Reject a graph that would certainly run without end or hold more than the memory limit.

    An open dimension counts as 1, which gives a lower bound.

    Raises:
        UnsafeModelError: A limit is exceeded.
    """
    for body in _roots(proto):
        check_loops(body, limits)
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
                check_values([*graph.value_info, *graph.output], limits)
        return


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


def _roots(proto: onnx.ModelProto) -> Iterator[Body]:
    """Yield the graphs that lie within no other graph."""
    yield proto.graph
    yield from proto.functions
    for function in proto.functions:
        yield from attribute_graphs(function.attribute_proto)
    for training in proto.training_info:
        yield from (training.initialization, training.algorithm)
