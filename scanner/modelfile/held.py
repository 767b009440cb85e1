"""Tensors that a message of protobuf is too small for: held once in memory, and referred to.

protobuf ends a message at 2 GiB, and so ends what runs from bytes alone. The tensors of a larger
model are read once, by the rules of `scanner.modelfile.external_data`, and held here. The graphs
that are made of the model refer to them, in ONNX's own form for data outside the message: their
copies copy references, and ONNX Runtime is handed the numbers beside the bytes. It never opens a
file. A reference names a secret of this process, so that no file can state one.
"""

import itertools
import secrets
import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from scanner.modelfile import nested

Array = npt.NDArray[Any]

LEAST = 1 << 16
"""Bytes of a tensor that is worth it; smaller ones are shapes, axes and biases."""

_SECRET = secrets.token_hex(16)
_arrays: dict[str, Array] = {}
_owners: Counter[str] = Counter()
_numbers = itertools.count()


def can_be(tensor: onnx.TensorProto, size: int | None) -> bool:
    """Whether a tensor of so many bytes is large enough, and of a type that NumPy knows."""
    return size is not None and size >= LEAST and _dtype(tensor).kind in "fiu"


def put(tensor: onnx.TensorProto, numbers: Array) -> None:
    """Hold numbers of a tensor's type, and let it refer to them.

    They are let go when nobody claims them any more.
    """
    place = f"{_SECRET}/{next(_numbers)}"
    _arrays[place] = numbers.reshape(tuple(tensor.dims))
    _arrays[place].flags.writeable = False
    refer(tensor, place)


def refer(tensor: onnx.TensorProto, place: str) -> None:
    """Let a tensor refer to numbers that are held at a place."""
    reference = onnx.TensorProto(
        name=tensor.name,
        dims=tensor.dims,
        data_type=tensor.data_type,
        data_location=onnx.TensorProto.EXTERNAL,
        doc_string=tensor.doc_string if tensor.HasField("doc_string") else None,
    )
    reference.external_data.add(key="location", value=place)
    tensor.CopyFrom(reference)


def place_of(tensor: onnx.TensorProto) -> str | None:
    """Return where a tensor's numbers are held; None where they are not."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL or not _arrays:
        return None
    place = next((e.value for e in tensor.external_data if e.key == "location"), "")
    return place if place in _arrays else None


def numbers_of(tensor: onnx.TensorProto) -> Array | None:
    """Return the numbers that a tensor refers to, not to be changed; None if none are held."""
    place = place_of(tensor)
    return None if place is None else _arrays[place]


def beside(data: bytes) -> dict[str, Array]:
    """Return the numbers that a serialised model refers to, by the initialiser's name.

    Those that no node reads are left out: ONNX Runtime drops such initialisers, and refuses them
    afterwards.
    """
    if not _arrays or _SECRET.encode() not in data:
        return {}
    proto = onnx.ModelProto.FromString(data)
    read = {name for node in nested.Contents(proto).of(onnx.NodeProto) for name in node.input}
    read |= {output.name for output in proto.graph.output}
    found = ((t.name, numbers_of(t)) for t in proto.graph.initializer if t.name in read)
    return {name: numbers for name, numbers in found if numbers is not None}


def claim(owner: object, tensors: Iterable[onnx.TensorProto]) -> None:
    """Keep what tensors refer to for as long as an object lives."""
    places = [place for tensor in tensors if (place := place_of(tensor)) is not None]
    _owners.update(places)
    weakref.finalize(owner, _let_go, places).atexit = False


def read_as(tensor: onnx.TensorProto, data: bytes) -> Array:
    """Return raw data as numbers of a tensor's type, without a copy."""
    return np.frombuffer(data, _dtype(tensor))


def _let_go(places: Iterable[str]) -> None:
    for place in places:
        _owners[place] -= 1
        if not _owners[place]:
            del _owners[place], _arrays[place]


def _dtype(tensor: onnx.TensorProto) -> np.dtype[Any]:
    return helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
