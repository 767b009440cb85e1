"""A changed model as files: one, or two where the model keeps tensors outside itself."""

from collections.abc import Iterator

import onnx
from onnx.external_data_helper import uses_external_data

from scanner.graph.core.draft import Proto, copied
from scanner.modelfile import tensor_sizes

_ALIGNMENT = 4096  # as onnx itself aligns, so that a runtime can map the data


def outside(proto: Proto) -> set[str]:
    """Return the names of the tensors that a model keeps in other files."""
    return {t.name for t in tensor_sizes.tensors(proto) if uses_external_data(t)}


def packed(complete: Proto, names: set[str], location: str) -> tuple[bytes, bytes]:
    """Return a model's file, and the file of the tensors that it keeps outside.

    Before: every tensor's data lies inside the model.
    After: those named lie in the second file, aligned; without any, that is empty.

    Args:
        complete: The model.
        names: Of the tensors that are to lie outside.
        location: Name of the second file, as the first is to state it.
    """
    if not names:
        return complete.SerializeToString(), b""
    moved = copied(complete)
    data = bytearray()
    for tensor in _movable(moved, names):
        raw = tensor.raw_data
        data.extend(bytes(-len(data) % _ALIGNMENT))
        entries = {"location": location, "offset": str(len(data)), "length": str(len(raw))}
        data.extend(raw)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    return bytes(onnx.ModelProto.SerializeToString(moved)), bytes(data)


def _movable(proto: Proto, names: set[str]) -> Iterator[onnx.TensorProto]:
    for tensor in tensor_sizes.tensors(proto):
        if tensor.name in names and tensor.HasField("raw_data"):
            yield tensor
