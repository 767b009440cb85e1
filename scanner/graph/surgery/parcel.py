"""A changed model as files: one, or two where the model keeps tensors outside itself."""

import hashlib
from collections.abc import Iterator, Sequence

import onnx
from onnx.external_data_helper import uses_external_data

from scanner.graph.core.draft import Proto, copied
from scanner.modelfile import external_data, held, tensor_sizes

_ALIGNMENT = 4096  # as onnx itself aligns, so that a runtime can map the data


class Bulk:
    """The bytes of a file, in parts that are not put together: a file may be as large as memory.

    Args:
        parts: One behind the other.
    """

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self._parts = [memoryview(part) for part in parts]
        self.size = sum(map(len, self._parts))

    def __bytes__(self) -> bytes:
        """Return all of them at once."""
        return b"".join(self._parts)

    def sha256(self) -> str:
        """Return the digest of them."""
        digest = hashlib.sha256()
        for part in self._parts:
            digest.update(part)
        return digest.hexdigest()

    def piece(self, start: int, size: int) -> bytes:
        """Return the bytes from a place on, at most so many."""
        found, place = [], 0
        for part in self._parts:
            found.append(part[max(0, start - place) : max(0, start + size - place)])
            place += len(part)
        return b"".join(found)


def outside(proto: Proto) -> set[str]:
    """Return the names of the tensors that a model keeps in other files."""
    return {t.name for t in tensor_sizes.tensors(proto) if uses_external_data(t)}


def locations(proto: Proto) -> set[str]:
    """Return the files in which a model keeps tensors, relative to its folder."""
    kept = (t for t in tensor_sizes.tensors(proto) if uses_external_data(t))
    return {external_data.location(tensor).path for tensor in kept}


def packed(complete: Proto, names: set[str], location: str) -> tuple[Bulk, Bulk]:
    """Return a model's file, and the file of the tensors that it keeps outside.

    Before: every tensor's data lies inside the model, or is held in memory.
    After: those named lie in the second file, aligned; without any, that is empty.

    Args:
        complete: The model.
        names: Of the tensors that are to lie outside; all that are held are among them.
        location: Name of the second file, as the first is to state it.
    """
    if not names:
        return Bulk([complete.SerializeToString()]), Bulk([])
    moved, parts, end = copied(complete), list[bytes | memoryview](), 0
    for tensor, raw in _movable(moved, names):
        gap = -end % _ALIGNMENT
        parts += [bytes(gap), raw]
        entries = {"location": location, "offset": str(end + gap), "length": str(len(raw))}
        end += gap + len(raw)
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    return Bulk([onnx.ModelProto.SerializeToString(moved)]), Bulk(parts)


def _movable(
    proto: Proto, names: set[str]
) -> Iterator[tuple[onnx.TensorProto, bytes | memoryview]]:
    """Yield the tensors that are to lie outside, with their bytes."""
    for tensor in tensor_sizes.tensors(proto):
        numbers = held.numbers_of(tensor)
        if numbers is not None:
            yield tensor, numbers.reshape(-1).view("u1").data
        elif tensor.name in names and tensor.HasField("raw_data"):
            yield tensor, tensor.raw_data
