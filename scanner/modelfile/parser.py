"""Model files as onnx reads and writes them: parsed, checked, completed, serialised."""

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx.external_data_helper import uses_external_data

from scanner.errors import MalformedModelError, UnsafeModelError, UnsupportedModelError
from scanner.limits import Limits
from scanner.modelfile import ambiguity, guards, tensor_sizes
from scanner.modelfile.external_data import Folder

LARGEST = 2**31  # bytes of a message of protobuf, and of what runs from memory


def parse(data: bytes, name: str, limits: Limits) -> onnx.ModelProto:
    """Parse and check a file's bytes; `name` is what messages call it.

    Raises:
        MalformedModelError: It is not an ONNX model.
        UnsafeModelError: A guard rejects it.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise MalformedModelError(
            f"{name!r} is not an ONNX file, or it is cut short",
            remedy="export or download the model again",
        ) from error
    try:
        guards.check_structure(proto, limits)
        if not limits.lenient:
            ambiguity.check_readings(proto)
    except (MalformedModelError, UnsafeModelError) as error:
        raise type(error)(
            f"{name!r}: {error.problem}", remedy=error.remedy, **error.details
        ) from error
    return proto


def complete(proto: onnx.ModelProto, folder: Folder) -> onnx.ModelProto:
    """Return a model with every tensor's data inside it; the same one if nothing is missing.

    Raises:
        UnsafeModelError: External data lies outside the folder, or is not a regular file.
        MalformedModelError: External data is missing or too short.
        UnsupportedModelError: The result exceeds protobuf's 2 GiB.
    """
    outside = list(filter(uses_external_data, tensor_sizes.tensors(proto)))
    if not outside:
        return proto
    # Asked before so much is read: protobuf may crash where memory ends while it writes.
    if proto.ByteSize() + sum(tensor_sizes.data_bytes(t) or 0 for t in outside) >= LARGEST:
        raise _too_large("the model")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in filter(uses_external_data, tensor_sizes.tensors(copy)):
        folder.inline(tensor)
    return copy


def serialise(proto: onnx.ModelProto, folder: Folder, limits: Limits, name: str) -> bytes:
    """Return a model as bytes that can run by themselves, without a second file.

    Raises:
        UnsafeModelError: It would run without end, or needs more memory than is allowed.
        UnsupportedModelError: The result exceeds protobuf's 2 GiB.
        ModelError: As for `complete`.
        MemoryError: There is no memory for them.
    """
    guards.check_cost(proto, limits)
    whole = complete(proto, folder)
    try:
        return bytes(whole.SerializeToString())
    except (EncodeError, ValueError) as error:
        if whole.ByteSize() < LARGEST:  # protobuf says no more of a lack of memory
            raise MemoryError from error
        raise _too_large(repr(name)) from error


def _too_large(model: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{model} needs more than 2 GiB of weights for this measurement",
        remedy="choose an earlier layer with the setting `layer`",
    )
