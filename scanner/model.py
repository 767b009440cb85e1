"""An opened, checked ONNX model: its bytes are read once, and the bytes that were checked are the bytes that run."""

import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx.external_data_helper import uses_external_data

from scanner import external, guards
from scanner.errors import MalformedModelError, UnsafeModelError, UnsupportedModelError, UsageError
from scanner.limits import Limits
from scanner.results import ModelIdentity, ValueInfo

STANDARD_DOMAINS = ("", "ai.onnx")
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_WEIGHT_WRAPPERS = frozenset({"DequantizeLinear", "Cast", "Identity", "Transpose"})
_MATRIX = 2
_READ = (
    os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
)  # a FIFO would hang the one who opens it


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """An opened model.

    Attributes:
        path: Where it was read.
        data: The file's bytes.
        proto: The parsed file; treat it as read-only. External data stays outside until `serialise`.
        identity: What the report says about the file.
        limits: What a graph derived from it may ask of this machine.
        folder: Where its external data is read.
    """

    path: Path
    data: bytes
    proto: onnx.ModelProto
    identity: ModelIdentity
    limits: Limits = dataclasses.field(default_factory=Limits)
    folder: external.Folder = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", external.Folder(self.path.parent))

    def complete(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Return `proto`, a graph derived from this model, with every tensor's data inside it; itself where it is so.

        Raises:
            UnsafeModelError: External data lies outside the model's folder, or is not a regular file.
            MalformedModelError: External data is missing or too short.
        """
        if not any(map(uses_external_data, guards.tensors(proto))):
            return proto
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        for tensor in filter(uses_external_data, guards.tensors(copy)):
            self.folder.inline(tensor)
        return copy

    def serialise(self, proto: onnx.ModelProto) -> bytes:
        """Return `proto`, a graph derived from this model that is to run, as bytes that name no second file.

        Raises:
            UnsafeModelError: It would run without end, or needs more memory than is allowed.
            UnsupportedModelError: The result passes protobuf's 2 GiB.
            ModelError: As for `complete`.
        """
        guards.check_cost(proto, self.limits)
        try:
            return bytes(self.complete(proto).SerializeToString())
        except (EncodeError, ValueError) as error:
            raise UnsupportedModelError(
                f"{self.identity.path!r} needs more than 2 GiB of weights for this measurement",
                remedy="choose an earlier layer with --layer",
            ) from error


def open_model(path: Path, name: str | None = None, limits: Limits | None = None) -> Model:
    """Read, parse and check an ONNX file, called `name` in messages and in the report.

    Raises:
        UsageError: The path is missing, unreadable or not a file.
        MalformedModelError: It is not an ONNX model.
        UnsafeModelError: A guard refuses it.
    """
    name = name or str(path)
    limits = limits or Limits()
    data = _read(path, name, limits)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise MalformedModelError(
            f"{name!r} is not an ONNX file, or it is cut short", remedy="export or download the model again"
        ) from error
    try:
        guards.check_structure(proto, limits)
    except (MalformedModelError, UnsafeModelError) as error:
        raise type(error)(f"{name!r}: {error.problem}", remedy=error.remedy, **error.details) from error
    return Model(path, data, proto, _identity(name, data, proto), limits)


def required_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the graph inputs without a default; IR 3 lists initialisers among the inputs."""
    defaults = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
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
        raise UsageError(f"{name!r} cannot be read ({error.strerror})", remedy="check its permissions") from error
    if not data:
        raise MalformedModelError(f"{name!r} is empty", remedy="export or download the model again")
    return data


def _check_file(name: str, status: os.stat_result, limits: Limits) -> int:
    """Return a file's size, if it is a regular file that is not too long."""
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{name!r} is a folder", remedy="name the .onnx file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{name!r} is a pipe or a device, not a file", remedy="name an .onnx file")
    if status.st_size > limits.file_size:
        raise UnsafeModelError(
            f"{name!r} has {status.st_size:,} bytes, more than {limits.file_size:,}",
            remedy="raise --max-file-size if you trust the file; beyond protobuf's 2 GiB, save it with external data",
        )
    return status.st_size


def _identity(name: str, data: bytes, proto: onnx.ModelProto) -> ModelIdentity:
    return ModelIdentity(
        path=name,
        sha256=hashlib.sha256(data).hexdigest(),
        producer=" ".join(filter(None, (proto.producer_name, proto.producer_version))),
        opset=standard_opset(proto),
        inputs=_value_infos(required_inputs(proto.graph)),
        outputs=_value_infos(proto.graph.output),
        architecture=_architecture(proto.graph),
    )


def _architecture(graph: onnx.GraphProto) -> str:
    """Fingerprint what every export of one network shares: the input's size, and the weights' sizes in order.

    Folding a batch normalisation, changing the precision or quantising leaves it as it is: weights are looked for
    behind a DequantizeLinear or Cast too, and a dense layer's two sizes are sorted, since exporters disagree on them.
    """
    sizes = {t.name: tuple(t.dims) for t in graph.initializer}
    for node in graph.node:
        if node.op_type in _WEIGHT_WRAPPERS and node.input and node.output and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    layers = [
        sorted(size) if len(size) == _MATRIX else list(size)
        for node in graph.node
        if any(kind in node.op_type for kind in _WEIGHTED)
        for name in node.input
        if len(size := sizes.get(name, ())) >= _MATRIX
    ]
    inputs = [[d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in required_inputs(graph)]
    return hashlib.sha256(repr((inputs, layers)).encode()).hexdigest()[:16]


def _value_infos(values: Iterable[onnx.ValueInfoProto]) -> tuple[ValueInfo, ...]:
    return tuple(ValueInfo(name=v.name, dtype=_dtype(v), shape=_shape(v)) for v in values)


def _dtype(value: onnx.ValueInfoProto) -> str:
    number = value.type.tensor_type.elem_type
    return onnx.TensorProto.DataType.Name(number).lower() if number in onnx.TensorProto.DataType.values() else "unknown"


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
