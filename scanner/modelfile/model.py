"""An opened ONNX model.

Its bytes are read only once, so that the bytes that were checked are the bytes that run.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanner.errors import MalformedModelError, UnsafeModelError, UsageError
from scanner.limits import Limits
from scanner.modelfile import fast_reader, formats, one_image
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.results import ModelIdentity, ValueInfo

if TYPE_CHECKING:
    import onnx

    from scanner.modelfile import external_data

# TensorProto.DataType, by number.
ELEMENT_TYPES = (
    "undefined", "float", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool",
    "float16", "double", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn",
    "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0",
    "uint2", "int2", "float6e2m3", "float6e3m2",
)  # fmt: skip
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_WEIGHT_WRAPPERS = frozenset({"DequantizeLinear", "Cast", "Identity", "Transpose"})
_MATRIX = 2
# Without O_NONBLOCK, opening a FIFO would hang.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Model:
    """An opened model; onnx is imported, and parses the file, when its graph is first needed.

    Args:
        path: Where it was read from.
        name: What it is called in messages.
        data: The file's bytes.
        limits: What the file, and a graph derived from it, may ask of this machine.

    Attributes:
        plain: The file as `scanner.modelfile.fast_reader` sees it; None if only onnx can read it.
        identity: What the report says about the file.
        idle: Inputs that the file declares and nothing reads; the graph is without them.
        reordered: Whether the file's nodes were in another order than that in which they run.
        rewritten: Why the graph is not the file's own, but one that computes the same; empty where
            it is.

    Raises:
        MalformedModelError: It is not an ONNX model.
        UnsafeModelError: A guard rejects it.
    """

    def __init__(self, path: Path, name: str, data: bytes, limits: Limits) -> None:
        self.path, self.data, self.limits = path, data, limits
        self._name, self.reordered, self.rewritten = name, False, ""
        self.idle: tuple[str, ...] = ()
        self._declared: int | None = None  # operator set, where the graph is in another
        _check_format(data, name)
        self.plain = fast_reader.read(data, limits)
        if self.plain is not None:
            inputs = required_inputs(self.plain.graph)
            if len(inputs) > 1 or one_image.takes_one(inputs, self.plain.graph.output):
                self.plain = None
        identity = _identity(name, data, self.plain or self.proto)
        self.identity = dataclasses.replace(identity, opset=self._declared or identity.opset)

    @functools.cached_property
    def proto(self) -> onnx.ModelProto:
        """The parsed file; treat it as read-only. Its external data is read by `complete`.

        Its nodes are in an order in which they can run, in operator set 7 or later, and its input
        has a batch axis. Inputs that nothing reads are left out.
        """
        from scanner.modelfile import held, idle_inputs, older_sets, order, parser  # noqa: PLC0415 - imports onnx, which takes longer than a small model

        proto = parser.parse(self.data, self._name, self.limits)
        held.claim(self, proto.graph.initializer)
        self.reordered = order.sort_nodes(proto)
        declared = standard_opset(proto)
        if older_sets.raise_set(proto):
            self._declared = declared
            self.rewritten = "ONNX Runtime runs no operator set before 7"
        self.idle = idle_inputs.drop(proto, required_inputs(proto.graph))
        if one_image.give_batch_axis(proto, required_inputs(proto.graph)):
            self.rewritten = "it takes one image, without a batch axis"
        return proto

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the file and of the external data that it claims."""
        if self.plain is not None:  # such a file names no other
            return len(self.data)
        from onnx.external_data_helper import uses_external_data  # noqa: PLC0415 - as above

        from scanner.modelfile import tensor_sizes  # noqa: PLC0415 - as above

        outside = filter(uses_external_data, tensor_sizes.tensors(self.proto))
        return len(self.data) + sum(tensor_sizes.data_bytes(tensor) or 0 for tensor in outside)

    @functools.cached_property
    def folder(self) -> external_data.Folder:
        """The folder that its external data is read from."""
        from scanner.modelfile import external_data  # noqa: PLC0415 - as above

        return external_data.of_model(self.path)

    def complete(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Return `proto`, a graph derived from this model, with every tensor's data inside it.

        If nothing is missing, this is `proto` itself. Of a model of 1 GiB or more the large tensors
        stay outside, held in memory and referred to (`scanner.modelfile.held`).

        Raises:
            UnsafeModelError: External data lies outside the model's folder, is not a regular file,
                or takes more memory than is allowed.
            MalformedModelError: External data is missing or too short.
            UnsupportedModelError: What cannot stay outside exceeds protobuf's 2 GiB.
        """
        from scanner.modelfile import parser  # noqa: PLC0415 - as above

        return parser.complete(proto, self.folder, hold=self._hold())

    def serialise(self, proto: onnx.ModelProto) -> bytes:
        """Return `proto`, a graph derived from this model, as bytes that can run by themselves.

        Raises:
            UnsafeModelError: It would run without end, or needs more memory than is allowed.
            UnsupportedModelError: The result exceeds protobuf's 2 GiB.
            ModelError: As for `complete`.
        """
        from scanner.modelfile import parser  # noqa: PLC0415 - as above

        return parser.serialise(proto, self.folder, self.limits, self._name, hold=self._hold())

    @property
    def is_held(self) -> bool:
        """Whether the model is too large for one message, or for several in memory."""
        from scanner.modelfile import parser  # noqa: PLC0415 - as above

        return self.size >= parser.HELD

    def _hold(self) -> bool:
        """Return `is_held`.

        Raises:
            UnsafeModelError: It is too large for the memory that it may take.
        """
        from scanner.modelfile import tensor_sizes  # noqa: PLC0415 - as above

        if not self.is_held:
            return False
        tensor_sizes.check_memory("the model with its external data", self.size, self.limits)
        return True


def open_model(path: Path, name: str | None = None, limits: Limits | None = None) -> Model:
    """Read, parse and check an ONNX file, called `name` in messages and in the report.

    Raises:
        UsageError: The path is missing, unreadable or not a file.
        MalformedModelError: It is not an ONNX model.
        UnsafeModelError: A guard rejects it.
    """
    name = name or str(path)
    limits = limits or Limits()
    return Model(path, name, _read(path, name, limits), limits)


def required_inputs(graph: Any) -> list[onnx.ValueInfoProto]:
    """Return the graph inputs without a default; IR 3 lists initialisers among the inputs."""
    defaults = {t.name for t in graph.initializer} | {
        t.values.name for t in graph.sparse_initializer
    }
    return [value for value in graph.input if value.name not in defaults]


def standard_opset(proto: onnx.ModelProto) -> int | None:
    """Return the version of the standard operator set that the model imports."""
    return next((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), None)


def _read(path: Path, name: str, limits: Limits) -> bytes:
    try:
        descriptor = os.open(path, _READ)
        try:
            size = _check_file(name, os.fstat(descriptor), limits)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(size)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {name!r}", remedy="check the path") from error
    except OSError as error:
        raise UsageError(
            f"{name!r} cannot be read ({error.strerror})", remedy="check its permissions"
        ) from error
    if not data:
        raise MalformedModelError(f"{name!r} is empty", remedy="export or download the model again")
    return data


def _check_file(name: str, status: os.stat_result, limits: Limits) -> int:
    """Return a file's size, if it is a regular file and not too large."""
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{name!r} is a folder", remedy="name the .onnx file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{name!r} is a pipe or a device, not a file", remedy="name an .onnx file")
    if status.st_size > limits.file_size:
        raise UnsafeModelError(
            f"{name!r} has {status.st_size:,} bytes, more than {limits.file_size:,}",
            remedy="raise the setting `file_size` if you trust the file; beyond protobuf's 2 GiB, "
            "save it with external data",
        )
    return status.st_size


def _check_format(data: bytes, name: str) -> None:
    """Refuse bytes that ONNX Runtime takes for its own format, whatever else they are.

    A FlatBuffer bears its identifier at byte 4, and a loader from memory looks for it first. A file
    of another format is named as what it is.
    """
    if data[4:8] == b"ORTM":
        raise UnsafeModelError(
            f"{name!r} is a model in ONNX Runtime's own format to whoever loads it from memory "
            "(ORTM at byte 4), whatever it is to a reader of ONNX",
            remedy="scan the .onnx file that it was made from",
        )
    if (other := formats.recognise(data)) is not None:
        raise MalformedModelError(
            f"{name!r} is no ONNX file: it is {other.name}", remedy=other.remedy
        )


def _identity(name: str, data: bytes, proto: Any) -> ModelIdentity:
    return ModelIdentity(
        path=name,
        sha256=hashlib.sha256(data).hexdigest(),
        producer=" ".join(filter(None, (proto.producer_name, proto.producer_version))),
        opset=standard_opset(proto),
        inputs=_value_infos(required_inputs(proto.graph)),
        outputs=_value_infos(proto.graph.output),
        architecture=_architecture(proto),
    )


def _architecture(proto: Any) -> str:
    """Fingerprint what all exports of a network share: sizes of the input and, in order, weights.

    Folding a batch normalisation, changing the precision or quantising does not change it: weights
    behind a DequantizeLinear or Cast are found too, and a dense layer's two sizes are sorted, since
    exporters disagree on their order. Weights in Constants count, and layers in branches, loops and
    functions: a second network could hide there, and be judged beside models without it.
    """
    graph = proto.graph
    layers: list[list[int]] = []
    waiting: list[tuple[Any, dict[str, tuple[int, ...]]]] = [
        (body, {}) for body in (graph, *getattr(proto, "functions", ()))
    ]
    while waiting:
        body, around = waiting.pop(0)
        sizes = around | {t.name: tuple(t.dims) for t in getattr(body, "initializer", ())}
        sparse = getattr(body, "sparse_initializer", ())
        sizes |= {tensor.values.name: tuple(tensor.dims) for tensor in sparse}
        for node in body.node:
            layers += _layer_sizes(node, sizes)
            waiting += [
                (inner, sizes)
                for attribute in node.attribute
                for inner in (getattr(attribute, "g", None), *getattr(attribute, "graphs", ()))
                if inner is not None and len(inner.node)
            ]
    inputs = [
        [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in required_inputs(graph)
    ]
    return hashlib.sha256(repr((inputs, layers)).encode()).hexdigest()[:16]


def _layer_sizes(node: Any, sizes: dict[str, tuple[int, ...]]) -> Iterator[list[int]]:
    """Yield the sizes of a layer's weights; who makes or hands on weights adds to `sizes`."""
    if node.op_type == "Constant" and node.output:
        for attribute in node.attribute:
            if getattr(attribute, "t", None) is not None and attribute.t.dims:
                sizes[node.output[0]] = tuple(attribute.t.dims)
    elif node.op_type in _WEIGHT_WRAPPERS and node.input and node.output and node.input[0] in sizes:
        sizes[node.output[0]] = sizes[node.input[0]]
    if any(kind in node.op_type for kind in _WEIGHTED):
        for name in node.input:
            if len(size := sizes.get(name, ())) >= _MATRIX:
                yield sorted(size) if len(size) == _MATRIX else list(size)


def _value_infos(values: Iterable[onnx.ValueInfoProto]) -> tuple[ValueInfo, ...]:
    return tuple(ValueInfo(name=v.name, dtype=_dtype(v), shape=_shape(v)) for v in values)


def _dtype(value: onnx.ValueInfoProto) -> str:
    number = value.type.tensor_type.elem_type
    return ELEMENT_TYPES[number] if 0 <= number < len(ELEMENT_TYPES) else "unknown"


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
