"""How often Loops run, where nothing that a model computes can end them before."""

import collections
import math

import onnx

from scanner.errors import UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.nested import Body, subgraphs
from scanner.modelfile.tensor_sizes import scalar

_Constants = collections.ChainMap[str, onnx.TensorProto]


def check_loops(root: Body, limits: Limits) -> None:
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
