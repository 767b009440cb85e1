"""The stem: a model cut off behind one activation, with that activation's maximum as its output.

A plain file (`scanner.modelfile.fast_reader`) whose first activation is a ReLU behind convolutions
is cut as bytes, so that neither onnx is imported nor the rest of the file parsed. The result is
byte for byte what the transforms of this package produce for the same file; where that is not
certain, the transforms do the work.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scanner.errors import UnsupportedModelError
from scanner.limits import Limits
from scanner.modelfile.fast_reader import Attribute, File, Graph, Node, Tensor, Value
from scanner.modelfile.model import Model
from scanner.modelfile.wire_format import write_field, write_number_field

MAXIMUM = "overactivation_maximum"
_FLOAT = 1  # TensorProto.DataType
_FLOAT_BYTES = 4
_FREE_INITIALISERS = 4  # the IR version, as in `scanner.graph.core.extract`
_CHANNELS, _FEATURE_MAP = 1, 3  # the axis of channels, the least rank


class Stem(NamedTuple):
    """A model that ends at an activation.

    Attributes:
        value: Name of the activation's value.
        operator: What it is, in the field's words.
        data: The serialised model; its one output is `MAXIMUM`.
    """

    value: str
    operator: str
    data: bytes


def cut(model: Model, layer: str | None) -> Stem:
    """Return the stem of a model up to `layer`, else up to its first activation.

    Raises:
        NoLayerError: There is no activation.
        UnsupportedModelError: It does not depend on the input.
        ValueNotFoundError: There is no such layer.
        ModelError: As for `scanner.modelfile.model.Model.serialise`.
    """
    plain = (
        None if layer is not None or model.plain is None else _plain_stem(model.plain, model.limits)
    )
    return plain or _parsed_stem(model, layer)


def _parsed_stem(model: Model, layer: str | None) -> Stem:
    from scanner.graph.core import extract, flatten  # noqa: PLC0415 - onnx, which a plain stem does without
    from scanner.graph.layers import activations, reductions  # noqa: PLC0415 - onnx, which a plain stem does without

    flat = flatten.flatten(model.proto)
    activation = activations.choose(flat, layer)
    upstream = extract.upstream(flat, [activation.value])
    if not upstream.graph.input:
        raise UnsupportedModelError(
            f"the value {activation.value!r} does not depend on the input",
            remedy="choose another value with the setting `layer`",
        )
    reduced = reductions.per_image_maximum(upstream, activation, MAXIMUM)
    return Stem(activation.value, activation.operator, model.serialise(reduced))


def _plain_stem(file: File, limits: Limits) -> Stem | None:
    """Return the stem of a file that begins with convolutions of the image and a ReLU, else None.

    Normalisations may stand between them.
    """
    nodes = _chain(file.graph)
    image = file.graph.input[0] if len(file.graph.input) == 1 else None
    if image is None or not nodes or nodes[0].input[0] != image.name or not _is_image(image):
        return None
    weights = {tensor.name: tensor for tensor in file.graph.initializer}
    shape: Sequence[int] | None = [d.dim_value for d in image.type.tensor_type.shape.dim]
    for node in nodes[:-1]:
        shape = shape and _shape_after(node, shape, weights)
        if shape is None or math.prod(map(_at_least_one, shape)) * _FLOAT_BYTES > limits.memory:
            return None
    read = {name for node in nodes for name in node.input}
    data = b"".join(
        _model_fields(file, nodes, [t for t in file.graph.initializer if t.name in read], image)
    )
    return Stem(nodes[-1].output[0], "Relu", data)


def _chain(graph: Graph) -> list[Node]:
    """Return the nodes up to the first ReLU, if they form a chain; else nothing.

    In a chain, each node computes with the result of the one before it and with constants only. No
    other node comes before the ReLU, which could be an activation.
    """
    before = itertools.takewhile(lambda node: node.op_type != "Relu", graph.node)
    earlier = sum(node.op_type != "Constant" for node in before)
    last = next((node for node in graph.node if node.op_type == "Relu"), None)
    maker = {name: node for node in graph.node for name in node.output}
    chain = []
    node = last
    while node is not None:
        chain.append(node)
        node = maker.get(node.input[0])
    wanted = {"Relu": 1, "BatchNormalization": 5}
    alone = all(
        len(n.output) == 1
        and len(n.input) <= wanted.get(n.op_type, 3)
        and not maker.keys() & set(n.input[1:])
        for n in chain
    )
    return chain[::-1] if alone and len(chain) == earlier + 1 else []


def _is_image(value: Value) -> bool:
    """Whether an input is a float32 batch of known sizes."""
    kind = value.type.tensor_type
    batch, sizes = kind.shape.dim[:1], kind.shape.dim[1:]
    return (
        kind.elem_type == _FLOAT
        and len(kind.shape.dim) >= _FEATURE_MAP
        and all(d.dim_value > 0 or not d.HasField("dim_value") for d in batch)
        and all(d.dim_value > 0 for d in sizes)
    )


def _at_least_one(size: int) -> int:
    return max(size, 1)


def _shape_after(
    node: Node, shape: Sequence[int], weights: dict[str, Tensor]
) -> Sequence[int] | None:
    """Return the shape behind a node, given the shape before it.

    None where the node does not fit that shape, or is neither a Conv nor a BatchNormalization.
    """
    tensors = [weights.get(name) for name in node.input[1:]]
    known = [t for t in tensors if t is not None and t.data_type == _FLOAT]
    if len(known) < len(tensors):
        return None
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "BatchNormalization":
        fits = all(list(t.dims) == [shape[_CHANNELS]] for t in known)
        return shape if fits and "training_mode" not in attributes else None
    return _convolved(shape, known, attributes) if node.op_type == "Conv" else None


def _convolved(
    shape: Sequence[int], tensors: Sequence[Tensor], attributes: dict[str, Attribute]
) -> Sequence[int] | None:
    kernel, *bias = tensors
    sides, group = list(kernel.dims[2:]), attributes["group"].i if "group" in attributes else 1
    rank = len(shape) - 2
    listed = {name: list(attribute.ints) for name, attribute in attributes.items()}
    strides, dilations = listed.get("strides", [1] * rank), listed.get("dilations", [1] * rank)
    pads = listed.get("pads", [0] * (2 * rank))
    if (
        len(kernel.dims) != len(shape)
        or min([*sides, *strides, *dilations, *kernel.dims, group]) < 1
        or min(pads) < 0
        or (len(strides), len(dilations), len(pads)) != (rank, rank, 2 * rank)
        or listed.get("kernel_shape", sides) != sides
        or ("auto_pad" in attributes and attributes["auto_pad"].s != b"NOTSET")
        or kernel.dims[1] * group != shape[_CHANNELS]
        or kernel.dims[0] % group
        or any(list(t.dims) != [kernel.dims[0]] for t in bias)
    ):
        return None
    room = [
        size + before + after - ((side - 1) * dilation + 1)
        for size, before, after, side, dilation in zip(
            shape[2:], pads[:rank], pads[rank:], sides, dilations, strict=True
        )
    ]
    return (
        [shape[0], kernel.dims[0], *(r // s + 1 for r, s in zip(room, strides, strict=True))]
        if min(room) >= 0
        else None
    )


def _model_fields(
    file: File, nodes: Sequence[Node], weights: Sequence[Tensor], image: Value
) -> Iterator[bytes]:
    """Yield a ModelProto's fields in the order of their numbers, as protobuf writes them."""
    graph = b"".join(_graph_fields(file.graph.name or "graph", nodes, weights, image))
    yield write_number_field(1, max(file.ir_version, _FREE_INITIALISERS))
    yield write_field(7, graph)
    yield from (write_field(8, opset.data) for opset in file.opset_import)


def _graph_fields(
    name: str, nodes: Sequence[Node], weights: Sequence[Tensor], image: Value
) -> Iterator[bytes]:
    pool = (
        write_field(1, nodes[-1].output[0].encode()),
        write_field(2, MAXIMUM.encode()),
        write_field(4, b"GlobalMaxPool"),
    )
    yield from (write_field(1, node.data) for node in nodes)
    yield write_field(1, b"".join(pool))
    yield write_field(2, name.encode())
    yield from (write_field(5, tensor.data) for tensor in weights)
    yield write_field(11, image.data)
    yield write_field(12, write_field(1, MAXIMUM.encode()))
