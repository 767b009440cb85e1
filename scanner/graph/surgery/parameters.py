"""The weights and biases of a file's layers: found, put in place of, and made inputs of a graph."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from scanner.errors import UnsupportedModelError
from scanner.graph.core.draft import Proto, copied
from scanner.graph.core.facts import FLOATING
from scanner.graph.core.structure import Uses, attribute, numbers_of
from scanner.modelfile import held

Array = npt.NDArray[Any]

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_HANDED_ON = frozenset({"Identity", "Transpose", "Cast"})
_QUANTISED = frozenset(
    {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DequantizeLinear"}
)
_MATRIX = 2
_BIAS = 2  # its place among the inputs of Conv(X, W, B) and Gemm(A, B, C)


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or dense layer whose weights are stored in the file as they are read.

    Attributes:
        node: Name of its first output, by which the node is found.
        source: The value that it reads.
        operator: Of the node.
        weights: Name of the tensor of weights.
        bias: Name of the tensor of biases, one for each output channel; empty without one.
        axis: Along which the weights' output channels lie.
        inputs: Along which their input channels lie.
        group: Of a convolution.
    """

    node: str
    source: str
    operator: str
    weights: str
    bias: str
    axis: int
    inputs: int
    group: int = 1


def layers(flat: Proto) -> Iterator[Layer]:
    """Yield the layers of a flat graph whose weights are floats, in graph order.

    Raises:
        UnsupportedModelError: The weights are quantised.
    """
    uses = Uses(flat.graph)
    if quantised := next((n for n in flat.graph.node if _is_quantised(n, uses)), None):
        raise UnsupportedModelError(
            f"the weights are quantised ({quantised.op_type}, node "
            f"{quantised.name or quantised.output[0]!r}), and only those of floating point can be "
            "repaired",
            remedy="repair the model that it was quantised from, and quantise the result",
        )
    for node in flat.graph.node:
        if node.op_type not in _LAYERS or node.domain not in {"", "ai.onnx"}:
            continue
        found = _weights(node, uses)
        if found is None:
            continue
        place, name, (axis, inputs) = found
        bias = node.input[_BIAS] if len(node.input) > _BIAS else ""
        channels = uses.constants[name].dims[axis]
        yield Layer(
            node=node.output[0],
            source=node.input[place],
            operator=node.op_type,
            weights=name,
            bias=bias if _is_stored(bias, uses) and _size(bias, uses) == channels else "",
            axis=axis,
            inputs=inputs,
            group=attribute(node, "group", 1),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Normalisation:
    """A batch normalisation whose statistics are stored in the file.

    Attributes:
        source: The value that it normalises.
        mean: Name of the tensor of means.
        variance: Name of that of variances.
    """

    source: str
    mean: str
    variance: str


def normalisations(flat: Proto) -> Iterator[Normalisation]:
    """Yield the batch normalisations of a flat graph, in graph order."""
    uses = Uses(flat.graph)
    for node in flat.graph.node:
        if node.op_type == "BatchNormalization" and not attribute(node, "training_mode", 0):
            mean, variance = node.input[3], node.input[4]
            if _is_stored(mean, uses) and _is_stored(variance, uses):
                yield Normalisation(node.input[0], mean, variance)


def _is_quantised(node: onnx.NodeProto, uses: Uses) -> bool:
    """Whether a node reads stored integers as weights."""
    if node.op_type not in _QUANTISED:
        return False
    return any(
        len(uses.constants[name].dims) >= _MATRIX for name in node.input if name in uses.constants
    )


def _weights(node: onnx.NodeProto, uses: Uses) -> tuple[int, str, tuple[int, int]] | None:
    """Return a layer's input that is no weights, their tensor, and its axes of channels.

    Those are of the output's channels, then of the input's.
    """
    for place in (1, 0) if node.op_type == "MatMul" else (1,):
        name, order = _stored(node.input[place], uses)
        if name is not None and len(order) >= _MATRIX:
            output, inputs = _axes(node, place, len(order))
            return 1 - place, name, (order[output], order[inputs])
    return None


def _axes(node: onnx.NodeProto, place: int, rank: int) -> tuple[int, int]:
    """Return the axes of the output's and of the input's channels of the weights that are read."""
    if node.op_type == "Conv" or attribute(node, "transB", 0):
        return 0, 1
    if node.op_type == "ConvTranspose":
        return 1, 0
    return (rank - 1, rank - 2) if place == 1 else (rank - 2, rank - 1)


def _stored(name: str, uses: Uses) -> tuple[str | None, list[int]]:
    """Return the tensor of floats behind a value, and which of its axes each of the value's is."""
    turns: list[list[int] | None] = []
    while not _is_stored(name, uses):
        maker = uses.producer(name)
        if maker is None or maker.op_type not in _HANDED_ON:
            return None, []
        if maker.op_type == "Transpose":
            turns.append(attribute(maker, "perm"))
        name = maker.input[0]
    axes = list(range(len(uses.constants[name].dims)))
    order = axes
    for turn in turns:
        permutation = axes[::-1] if turn is None else turn
        if sorted(permutation) != axes:
            return None, []
        order = [permutation[axis] for axis in order]
    return name, order


def _is_stored(name: str, uses: Uses) -> bool:
    return name in uses.constants and uses.constants[name].data_type in FLOATING


def _size(name: str, uses: Uses) -> int:
    return math.prod(uses.constants[name].dims)


def values(flat: Proto, names: Iterator[str] | list[str]) -> dict[str, Array]:
    """Return the numbers of stored tensors, in float32: the model's own, not to be changed.

    Raises:
        MalformedModelError: A tensor does not hold what its shape and type say.
    """
    constants = Uses(flat.graph).constants
    return {name: numbers_of(constants[name]).astype(np.float32, copy=False) for name in names}


def as_inputs(flat: Proto, names: list[str]) -> Proto:
    """Return a flat graph that takes these stored tensors as inputs."""
    wanted, opened = set(names), copied(flat)
    constants = Uses(flat.graph).constants
    graph = opened.graph
    tensors = [tensor for tensor in graph.initializer if tensor.name not in wanted]
    nodes = [n for n in graph.node if n.op_type != "Constant" or n.output[0] not in wanted]
    inputs = [value for value in graph.input if value.name not in wanted]
    inputs += [
        helper.make_tensor_value_info(n, constants[n].data_type, list(constants[n].dims))
        for n in names
    ]
    kept = onnx.GraphProto(initializer=tensors, node=nodes, input=inputs)
    for field in ("initializer", "node", "input"):
        del getattr(graph, field)[:]
        getattr(graph, field).extend(getattr(kept, field))
    return opened


def replaced(proto: Proto, numbers: Mapping[str, Array]) -> Proto:
    """Return a model with other numbers in stored tensors of its graph; all else is as it was.

    Each keeps its name, shape and type, and where they were text-like fields they become bytes.
    """
    changed = copied(proto)
    for name, tensor in _tensors(changed):
        if name not in numbers or held.numbers_of(tensor) is numbers[name]:
            continue
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        new = np.ascontiguousarray(numbers[name].astype(dtype, copy=False))
        if held.place_of(tensor) is not None:
            held.put(tensor, new)
            continue
        written = numpy_helper.from_array(new.reshape(tuple(tensor.dims)), tensor.name)
        written.doc_string = tensor.doc_string
        tensor.CopyFrom(written)
    return changed


def _tensors(proto: Proto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for tensor in proto.graph.initializer:
        yield tensor.name, tensor
    for node in proto.graph.node:
        if node.op_type == "Constant":
            for item in node.attribute:
                if item.name == "value":
                    yield node.output[0], item.t
