"""Model files as onnx reads and writes them: parsed, checked, completed, serialised."""

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx.external_data_helper import uses_external_data

from scanner.errors import MalformedModelError, UnsafeModelError, UnsupportedModelError
from scanner.limits import Limits
from scanner.modelfile import ambiguity, guards, held, tensor_sizes
from scanner.modelfile.external_data import Folder

LARGEST = 2**31  # bytes of a message of protobuf
HELD = 2**30
"""Bytes from which a model's external data is held outside of messages, which copy it each time."""


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


def complete(proto: onnx.ModelProto, folder: Folder, *, hold: bool = False) -> onnx.ModelProto:
    """Return a model with every tensor's data inside it; the same one if nothing is missing.

    Args:
        proto: The model, or a graph derived from it.
        folder: Where its external data is.
        hold: Whether large initialisers stay outside, held in memory and referred to
            (`scanner.modelfile.held`).

    Raises:
        UnsafeModelError: External data lies outside the folder, or is not a regular file.
        MalformedModelError: External data is missing or too short.
        UnsupportedModelError: The result exceeds protobuf's 2 GiB.
    """
    if not any(_missing(proto)):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in filter(_is_missing, copy.graph.initializer) if hold else ():
        if held.can_be(tensor, tensor_sizes.data_bytes(tensor)):
            folder.hold(tensor)
    inside = list(_missing(copy))
    # Asked before so much is read: protobuf may crash where memory ends while it writes.
    if copy.ByteSize() + sum(tensor_sizes.data_bytes(t) or 0 for t in inside) >= LARGEST:
        raise _too_large("the model")
    for tensor in inside:
        folder.inline(tensor)
    return copy


def serialise(
    proto: onnx.ModelProto, folder: Folder, limits: Limits, name: str, *, hold: bool = False
) -> bytes:
    """Return a model as bytes that can run by themselves, without a second file.

    With `hold` they refer to numbers in memory, which `scanner.modelfile.held` puts beside them.

    Raises:
        UnsafeModelError: It would run without end, or needs more memory than is allowed.
        UnsupportedModelError: The result exceeds protobuf's 2 GiB.
        ModelError: As for `complete`.
        MemoryError: There is no memory for them.
    """
    guards.check_cost(proto, limits)
    whole = complete(proto, folder, hold=hold)
    try:
        return bytes(whole.SerializeToString())
    except (EncodeError, ValueError) as error:
        if _is_small(whole):  # protobuf says no more of a lack of memory
            raise MemoryError from error
        raise _too_large(repr(name)) from error


def _is_small(proto: onnx.ModelProto) -> bool:
    """Whether a message that could not be written is within protobuf's 2 GiB."""
    try:
        size: int = proto.ByteSize()
    except EncodeError:  # to find its size, protobuf writes it
        return True
    return size < LARGEST


def _missing(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors whose data is neither inside a model nor held in memory."""
    return filter(_is_missing, tensor_sizes.tensors(proto))


def _is_missing(tensor: onnx.TensorProto) -> bool:
    return uses_external_data(tensor) and held.place_of(tensor) is None


def _too_large(model: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{model} needs more than 2 GiB of weights for this measurement",
        remedy="choose an earlier layer with the setting `layer`",
    )
