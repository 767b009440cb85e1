"""Hide data in a model file: carriers to test a scanner with, one row per kind.

A place and a load make a carrier: the same load in another place is another kind, and so is another
load in the same place. The networks compute what they computed before, except where the bits of
weights are the place. Loads are harmless: nothing in them does anything if it is opened or run.

After Wang, Liu and Cui, "EvilModel", ISCC 2021, and Wang et al., "EvilModel 2.0", Computers &
Security, 2022; Liu et al., "StegoNet", ACSAC 2020; Hitaj et al., "MaleficNet", ESORICS 2022.
"""

import base64
import dataclasses
import gzip
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainers.errors import TrainerError
from trainers.graph_backdoor import in_numbers

Array = npt.NDArray[Any]
Place = Callable[[onnx.ModelProto, bytes], None]

_NAME = "planted_carrier"
_PIECE = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A way to hide data.

    Attributes:
        place: Puts a load into a model, which it changes.
        known: Whether a load of a known format can be recognised there.
        noise: Whether a load that is compressed or encrypted shows there.
    """

    place: Place
    known: bool = True
    noise: bool = True


def carry(model: onnx.ModelProto, kind: str, load: bytes) -> onnx.ModelProto:
    """Return a copy of a model that carries a load.

    Args:
        model: Any model.
        kind: One of `KINDS`.
        load: What to hide, such as one of `LOADS`.

    Raises:
        TrainerError: There is no such kind, or the model has no room for the load.
    """
    if kind not in KINDS:
        raise TrainerError(f"there is no kind {kind!r}", remedy=f"choose one of {', '.join(KINDS)}")
    carrier = onnx.ModelProto()
    carrier.CopyFrom(model)
    KINDS[kind].place(carrier, load)
    return carrier


def write(model: Path, kind: str, load: str, output: Path | None = None) -> Path:
    """Write a copy of a model file that carries a load, and return where.

    Args:
        model: The file.
        kind: One of `KINDS`.
        load: One of `LOADS`.
        output: Where to write; beside the model where left out.

    Raises:
        TrainerError: As for `carry`, or there is no such load.
    """
    if load not in LOADS:
        raise TrainerError(f"there is no load {load!r}", remedy=f"choose one of {', '.join(LOADS)}")
    path = output or model.with_name(f"{model.stem}-{kind}-{load}.onnx")
    carrier = carry(onnx.ModelProto.FromString(model.read_bytes()), kind, LOADS[load])
    path.write_bytes(carrier.SerializeToString())
    return path


def _program() -> bytes:
    """Return an ELF file's header with no code behind it."""
    head = b"\x7fELF\2\1\1" + bytes(9) + (2).to_bytes(2, "little") + (62).to_bytes(2, "little")
    return head + b"\1\0\0\0" + bytes(36) + b"No code: this program ends before it starts.\n" * 40


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("note.txt"), "Harmless: a planted archive.\n" * 60)
    return file.getvalue()


LOADS: dict[str, bytes] = {
    "program": _program(),
    "pickle": pickle.dumps({"planted": list(range(300)), "note": "harmless"}),
    "archive": _archive(),
    "gzip": gzip.compress(_program(), mtime=0),
    "script": b"#!/bin/sh\necho 'a planted script that does nothing'\n" + b"true # nothing\n" * 60,
    "noise": np.random.default_rng(0).bytes(6000),
}


def _text(load: bytes) -> str:
    return load.decode() if load.isascii() else base64.b64encode(load).decode()


def _tensor(load: bytes, name: str = _NAME) -> onnx.TensorProto:
    return numpy_helper.from_array(np.frombuffer(load, np.uint8), name)


def _floats(load: bytes) -> onnx.TensorProto:
    """Return a tensor with one byte of the load in each number."""
    return numpy_helper.from_array(np.frombuffer(load, np.uint8).astype(np.float32), _NAME)


def _doc_of_model(model: onnx.ModelProto, load: bytes) -> None:
    model.doc_string = _text(load)


def _doc_of_graph(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.doc_string = _text(load)


def _doc_of_node(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.node[0].doc_string = _text(load)


def _doc_of_attribute(model: onnx.ModelProto, load: bytes) -> None:
    node = next(node for node in model.graph.node if node.attribute)
    node.attribute[0].doc_string = _text(load)


def _doc_of_tensor(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.initializer[0].doc_string = _text(load)


def _doc_of_value(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.input[0].doc_string = _text(load)


def _value_info(model: onnx.ModelProto, load: bytes) -> None:
    value = helper.make_tensor_value_info(_text(load), TensorProto.FLOAT, [1])
    model.graph.value_info.append(value)


def _function(model: onnx.ModelProto, load: bytes) -> None:
    opsets = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Neg", ["a"], ["b"])]
    function = helper.make_function("planted", "Idle", ["a"], ["b"], body, opsets)
    function.doc_string = _text(load)
    model.functions.append(function)


def _metadata_of_model(model: onnx.ModelProto, load: bytes) -> None:
    model.metadata_props.add(key=_NAME, value=_text(load))


def _metadata_of_node(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.node[0].metadata_props.add(key=_NAME, value=_text(load))


def _metadata_of_graph(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.metadata_props.add(key=_NAME, value=_text(load))


def _metadata_of_tensor(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.initializer[0].metadata_props.add(key=_NAME, value=_text(load))


def _key_of_metadata(model: onnx.ModelProto, load: bytes) -> None:
    model.metadata_props.add(key=_text(load), value="1")


def _hexadecimal(model: onnx.ModelProto, load: bytes) -> None:
    model.metadata_props.add(key=_NAME, value=load.hex())


def _base85(model: onnx.ModelProto, load: bytes) -> None:
    model.metadata_props.add(key=_NAME, value=base64.b85encode(load).decode())


def _latin(model: onnx.ModelProto, load: bytes) -> None:
    model.metadata_props.add(key=_NAME, value=load.decode("latin-1"))


def _graph_name(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.name = _text(load)


def _node_name(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.node[0].name = _text(load)


def _producer(model: onnx.ModelProto, load: bytes) -> None:
    model.producer_name = _text(load)


def _producer_version(model: onnx.ModelProto, load: bytes) -> None:
    model.producer_version = _text(load)


def _domain(model: onnx.ModelProto, load: bytes) -> None:
    model.opset_import.append(helper.make_opsetid(_text(load), 1))


def _dimension(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = _text(load)


def _denotation(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.input[0].type.denotation = _text(load)


def _annotation(model: onnx.ModelProto, load: bytes) -> None:
    annotation = model.graph.quantization_annotation.add(tensor_name=model.graph.node[0].output[0])
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=_text(load))


def _pieces(load: bytes) -> list[str]:
    text = base64.b64encode(load).decode()
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]


def _pieces_of_metadata(model: onnx.ModelProto, load: bytes) -> None:
    for number, piece in enumerate(_pieces(load)):
        model.metadata_props.add(key=str(number), value=piece)


def _pieces_of_names(model: onnx.ModelProto, load: bytes) -> None:
    for piece in _pieces(load):
        model.graph.value_info.append(helper.make_tensor_value_info(piece, TensorProto.FLOAT, [1]))


def _labelled_pieces(model: onnx.ModelProto, load: bytes) -> None:
    """Cut a load into names, each with a counter before it."""
    for number, start in enumerate(range(0, len(load), 10)):
        piece = base64.b32encode(load[start : start + 10]).decode().rstrip("=").lower()
        value = helper.make_tensor_value_info(f"{number}_{piece}", TensorProto.FLOAT, [1])
        model.graph.value_info.append(value)


def _texts(texts: list[bytes]) -> onnx.TensorProto:
    return onnx.TensorProto(
        name=_NAME, data_type=TensorProto.STRING, dims=[len(texts)], string_data=texts
    )


def _strings(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.initializer.append(_texts([base64.b64encode(load)]))


def _many_strings(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.initializer.append(_texts([piece.encode() for piece in _pieces(load)]))


def _unused(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.initializer.append(_tensor(load))


def _unused_numbers(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.initializer.append(_floats(load))


def _unused_integers(model: onnx.ModelProto, load: bytes) -> None:
    numbers = np.frombuffer(load + bytes(-len(load) % 8), np.int64)
    model.graph.initializer.append(
        helper.make_tensor(_NAME, TensorProto.INT64, [len(numbers)], numbers.tolist())
    )


def _sparse(model: onnx.ModelProto, load: bytes) -> None:
    values = _tensor(load)
    indices = numpy_helper.from_array(np.arange(len(load)), _NAME + "_indices")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, indices, [2 * len(load)])
    )


def _dead_node(model: onnx.ModelProto, load: bytes) -> None:
    node = helper.make_node("Constant", [], [_NAME], name=_NAME, value=_tensor(load))
    model.graph.node.append(node)


def _dead_path(model: onnx.ModelProto, load: bytes) -> None:
    model.graph.initializer.append(_tensor(load))
    model.graph.node.append(helper.make_node("Identity", [_NAME], [_NAME + "_copy"], name=_NAME))


def _dead_attribute(model: onnx.ModelProto, load: bytes) -> None:
    node = helper.make_node("Constant", [], [_NAME], name=_NAME, value_string=load)
    model.graph.node.append(node)


def _dead_integers(model: onnx.ModelProto, load: bytes) -> None:
    node = helper.make_node("Constant", [], [_NAME], name=_NAME, value_ints=list(load))
    model.graph.node.append(node)


def _number(model: onnx.ModelProto, load: bytes) -> str:
    """Graft nodes that come down to one number, the load's sum; return its name."""
    model.graph.initializer.append(_tensor(load))
    nodes = [
        helper.make_node("Cast", [_NAME], [_NAME + "_f"], name=_NAME + "_cast", to=1),
        helper.make_node("ReduceMax", [_NAME + "_f"], [_NAME + "_max"], name=_NAME + "_reduce"),
    ]
    model.graph.node.extend(nodes)
    return _NAME + "_max"


def _times(factor: float) -> Place:
    """Return a place whose data is multiplied by a factor and added to the logits."""

    def place(model: onnx.ModelProto, load: bytes) -> None:
        number = _number(model, load)
        constant = numpy_helper.from_array(np.asarray([factor], np.float32), _NAME + "_factor")
        model.graph.initializer.append(constant)
        product = [number, _NAME + "_factor"]
        model.graph.node.append(
            helper.make_node("Mul", product, [_NAME + "_product"], name=_NAME + "_times")
        )
        in_numbers.onto_logits(model, _NAME + "_product")

    return place


def _beyond_index(operator: str, *places: int) -> Place:
    """Return a place behind the first number of a table, which alone is taken."""

    def place(model: onnx.ModelProto, load: bytes) -> None:
        table = np.concatenate([[0], np.frombuffer(load, np.uint8)]).astype(np.float32) / 255
        names = [f"{_NAME}_{number}" for number in range(len(places))]
        model.graph.initializer.append(numpy_helper.from_array(table, _NAME))
        for name, at in zip(names, places, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray([at]), name))
        taken = helper.make_node(operator, [_NAME, *names], [_NAME + "_taken"], name=_NAME)
        model.graph.node.append(taken)
        in_numbers.onto_logits(model, _NAME + "_taken")

    return place


def _minus_itself(model: onnx.ModelProto, load: bytes) -> None:
    number = _number(model, load)
    model.graph.node.append(
        helper.make_node("Sub", [number, number], [_NAME + "_zero"], name=_NAME + "_minus")
    )
    in_numbers.onto_logits(model, _NAME + "_zero")


def _dead_branch(model: onnx.ModelProto, load: bytes) -> None:
    branches = {}
    nothing = numpy_helper.from_array(np.zeros((), np.float32))
    for name in ("then", "else"):
        out = f"{_NAME}_{name}"
        nodes = [helper.make_node("Constant", [], [out], value=nothing)]
        outputs = [helper.make_tensor_value_info(out, TensorProto.FLOAT, [])]
        branches[f"{name}_branch"] = helper.make_graph(nodes, name, [], outputs)
    branches["else_branch"].initializer.append(_tensor(load))
    always = numpy_helper.from_array(np.asarray(True), _NAME + "_always")
    model.graph.initializer.append(always)
    model.graph.node.append(
        helper.make_node("If", [_NAME + "_always"], [_NAME + "_if"], name=_NAME + "_if", **branches)
    )
    in_numbers.onto_logits(model, _NAME + "_if")


def _output(model: onnx.ModelProto, load: bytes) -> None:
    _dead_node(model, load)
    value = helper.make_tensor_value_info(_NAME, TensorProto.UINT8, [len(load)])
    model.graph.output.append(value)


def _training(model: onnx.ModelProto, load: bytes) -> None:
    model.training_info.add().initialization.initializer.append(_tensor(load))


def _unknown_field(model: onnx.ModelProto, load: bytes) -> None:
    """Put a load into a field that ONNX does not define; parsers hand it on."""
    model.MergeFromString(_field(500, load))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:  # noqa: PLR2004
        written.append(number & 127 | 128)
        number >>= 7
    return bytes((*written, number))


def _used(model: onnx.ModelProto, load: bytes) -> None:
    """Put a load into a constant that the answer depends on, if only by a millionth."""
    _times(1e-6)(model, load)


KINDS: dict[str, Kind] = {
    "doc-of-model": Kind(_doc_of_model),
    "doc-of-graph": Kind(_doc_of_graph),
    "doc-of-node": Kind(_doc_of_node),
    "doc-of-attribute": Kind(_doc_of_attribute),
    "doc-of-tensor": Kind(_doc_of_tensor),
    "doc-of-value": Kind(_doc_of_value),
    "doc-of-function": Kind(_function),
    "value-info": Kind(_value_info),
    "metadata-of-model": Kind(_metadata_of_model),
    "metadata-of-graph": Kind(_metadata_of_graph),
    "metadata-of-node": Kind(_metadata_of_node),
    "metadata-of-tensor": Kind(_metadata_of_tensor),
    "key-of-metadata": Kind(_key_of_metadata),
    "metadata-hexadecimal": Kind(_hexadecimal),
    "metadata-base85": Kind(_base85),
    "metadata-latin": Kind(_latin),
    "metadata-pieces": Kind(_pieces_of_metadata),
    "name-pieces": Kind(_pieces_of_names),
    "graph-name": Kind(_graph_name),
    "node-name": Kind(_node_name),
    "producer": Kind(_producer),
    "producer-version": Kind(_producer_version),
    "domain": Kind(_domain),
    "dimension": Kind(_dimension),
    "denotation": Kind(_denotation),
    "quantisation-annotation": Kind(_annotation),
    "labelled-pieces": Kind(_labelled_pieces),
    "string-tensor": Kind(_strings),
    "string-pieces": Kind(_many_strings),
    "unused-bytes": Kind(_unused),
    "unused-floats": Kind(_unused_numbers),
    "unused-integers": Kind(_unused_integers),
    "unused-sparse": Kind(_sparse),
    "training-info": Kind(_training),
    "dead-constant": Kind(_dead_node),
    "dead-path": Kind(_dead_path),
    "dead-string": Kind(_dead_attribute),
    "dead-integers": Kind(_dead_integers),
    "dead-branch": Kind(_dead_branch),
    "constant-output": Kind(_output),
    "times-zero": Kind(_times(0.0)),
    "times-nearly-zero": Kind(_times(1e-35)),
    "cut-off-by-slice": Kind(_beyond_index("Slice", 0, 1, 0)),
    "rows-beyond-index": Kind(_beyond_index("Gather", 0)),
    "minus-itself": Kind(_minus_itself),
    "used-constant": Kind(_used),
    "unknown-field": Kind(_unknown_field),
    "three-bytes": Kind(in_numbers.low_bytes(3)),
    "fast-substitution": Kind(in_numbers.FAST_SUBSTITUTION),
    "half-substitution": Kind(in_numbers.low_bytes(2), noise=False),
    "lowest-byte": Kind(in_numbers.low_bytes(1), noise=False),
    "lowest-bit": Kind(in_numbers.LOWEST_BIT, noise=False),
    "subnormal-numbers": Kind(in_numbers.SUBNORMAL, noise=False),
    "upper-bits-of-indices": Kind(in_numbers.upper_bits, known=False),
    "thresholds-of-leaves": Kind(in_numbers.thresholds, known=False),
    "spread": Kind(in_numbers.SPREAD, known=False, noise=False),
}
