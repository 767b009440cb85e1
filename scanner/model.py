"""An opened, checked ONNX model: its bytes are read once, and the bytes that were checked are the bytes that run."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import external_data_helper

from scanner import guards
from scanner.errors import MalformedModelError, UnsafeModelError, UnsupportedModelError, UsageError
from scanner.results import ModelIdentity, ValueInfo

STANDARD_DOMAINS = ("", "ai.onnx")


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """An opened model.

    Attributes:
        path: Where it was read.
        data: The file's bytes.
        proto: The parsed file; treat it as read-only. External data stays outside until `serialise`.
        identity: What the report says about the file.
    """

    path: Path
    data: bytes
    proto: onnx.ModelProto
    identity: ModelIdentity

    def complete(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Return `proto`, a graph derived from this model, with every tensor's data inside it; itself where it is so.

        Raises:
            UnsafeModelError: External data lies outside the model's folder, or is not a regular file.
            MalformedModelError: External data is missing or too short.
        """
        if not any(map(external_data_helper.uses_external_data, proto.graph.initializer)):
            return proto
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        for tensor in filter(external_data_helper.uses_external_data, copy.graph.initializer):
            _inline(tensor, self.path.parent)
        return copy

    def serialise(self, proto: onnx.ModelProto) -> bytes:
        """Return `proto`, a graph derived from this model, as bytes that name no second file.

        Raises:
            UnsupportedModelError: The result passes protobuf's 2 GiB.
            ModelError: As for `complete`.
        """
        try:
            return bytes(self.complete(proto).SerializeToString())
        except (EncodeError, ValueError) as error:
            raise UnsupportedModelError(
                f"{self.identity.path!r} needs more than 2 GiB of weights for this measurement",
                remedy="choose an earlier layer with --layer",
            ) from error


def open_model(path: Path, name: str | None = None, limits: guards.Limits | None = None) -> Model:
    """Read, parse and check an ONNX file, called `name` in messages and in the report.

    Raises:
        UsageError: The path is missing, unreadable or not a file.
        MalformedModelError: It is not an ONNX model.
        UnsafeModelError: A guard refuses it.
    """
    name = name or str(path)
    data = _read(path, name)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise MalformedModelError(
            f"{name!r} is not an ONNX file, or it is cut short", remedy="export or download the model again"
        ) from error
    try:
        guards.check_structure(proto, limits or guards.Limits())
    except (MalformedModelError, UnsafeModelError) as error:
        raise type(error)(f"{name!r}: {error.problem}", remedy=error.remedy, **error.details) from error
    return Model(path, data, proto, _identity(name, data, proto))


def required_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the graph inputs without a default; IR 3 lists initialisers among the inputs."""
    defaults = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in defaults]


def standard_opset(proto: onnx.ModelProto) -> int | None:
    """Return the version of the standard operator set that the model imports."""
    return next((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), None)


def _read(path: Path, name: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {name!r}", remedy="check the path") from error
    except IsADirectoryError as error:
        raise UsageError(f"{name!r} is a folder", remedy="name the .onnx file inside it") from error
    except OSError as error:
        raise UsageError(f"{name!r} cannot be read ({error.strerror})", remedy="check its permissions") from error
    if not data:
        raise MalformedModelError(f"{name!r} is empty", remedy="export or download the model again")
    return data


def _identity(name: str, data: bytes, proto: onnx.ModelProto) -> ModelIdentity:
    return ModelIdentity(
        path=name,
        sha256=hashlib.sha256(data).hexdigest(),
        producer=" ".join(filter(None, (proto.producer_name, proto.producer_version))),
        opset=standard_opset(proto),
        inputs=_value_infos(required_inputs(proto.graph)),
        outputs=_value_infos(proto.graph.output),
    )


def _value_infos(values: Iterable[onnx.ValueInfoProto]) -> tuple[ValueInfo, ...]:
    return tuple(ValueInfo(name=v.name, dtype=_dtype(v), shape=_shape(v)) for v in values)


def _dtype(value: onnx.ValueInfoProto) -> str:
    number = value.type.tensor_type.elem_type
    return onnx.TensorProto.DataType.Name(number).lower() if number in onnx.TensorProto.DataType.values() else "unknown"


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims)


def _inline(tensor: onnx.TensorProto, folder: Path) -> None:
    """Replace a reference to external data with the data.

    Only a regular file with one name below the model's own folder is read: `..`, absolute paths, symbolic links and
    hard links are how a model reads somebody else's files.
    """
    info = external_data_helper.ExternalDataInfo(tensor)
    location = folder / info.location
    problem = f"tensor {tensor.name!r} takes its data from {info.location!r}"
    relative = Path(info.location)
    if relative.is_absolute() or ".." in relative.parts:
        raise UnsafeModelError(f"{problem}, outside the model's folder", remedy="do not use this file")
    steps = [folder.joinpath(*relative.parts[: i + 1]) for i in range(len(relative.parts))]
    if any(step.is_symlink() for step in steps):
        raise UnsafeModelError(f"{problem}, a symbolic link", remedy="replace the link with the file itself")
    if not location.is_file():
        raise MalformedModelError(f"{problem}, which is not a file", remedy="put the data file next to the model")
    if location.stat().st_nlink > 1:
        raise UnsafeModelError(f"{problem}, a hard link", remedy="copy the data file, so that it has one name")
    offset, length = info.offset or 0, info.length or location.stat().st_size - (info.offset or 0)
    if offset < 0 or length < 0 or offset + length > location.stat().st_size:
        raise MalformedModelError(f"{problem}, which is too short", remedy="download the data file again")
    with location.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
