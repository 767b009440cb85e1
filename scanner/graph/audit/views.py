"""The numbers of a tensor as streams of bytes, in each way in which bytes are hidden in numbers.

Sources: Wang, Liu and Cui, "EvilModel: Hiding Malware Inside of Neural Network Models", ISCC 2021,
and Wang et al., "EvilModel 2.0", Computers & Security, 2022 (three bytes of four, half of them,
fast substitution); Liu et al., "StegoNet: Turn Deep Neural Network into a Stegomalware", ACSAC 2020
(the lowest bits).
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

Array = npt.NDArray[Any]

PLAIN = frozenset({"bytes", "numbers"})
"""Views of whole numbers; the others take a part of each."""

_HEAD = 8192
"""Numbers from which the start of each stream is taken."""
_MOST = 1 << 24
"""Numbers of a tensor that are turned into streams, so that memory stays bounded."""
_LEAST = 32
"""Numbers below which nothing worth a name can be hidden."""
_SHARES = range(1, 16)  # low bits of a number


def size(tensor: onnx.TensorProto) -> int:
    """Return the bytes that a tensor's content takes in the file."""
    if tensor.raw_data:
        return len(tensor.raw_data)
    if tensor.string_data:
        return sum(map(len, tensor.string_data))
    return int(tensor.ByteSize())


def of_tensor(tensor: onnx.TensorProto, *, whole: bool) -> Iterator[tuple[str, bytes]]:
    """Yield each view of a tensor's numbers, with what it is called.

    Args:
        tensor: A tensor of numbers whose data lies in the file.
        whole: Whether all of the content is wanted (up to 16 million numbers), or only the start of
            each stream.
    """
    array = numbers(tensor)
    if array is None:
        return
    if array.size < _LEAST:
        yield "bytes", array.tobytes()
        return
    part = array[: _MOST if whole else _HEAD]
    yield "bytes", part.tobytes()
    yield from (("numbers", stream) for stream in packed(part))
    yield from _low(part[:_HEAD])


def numbers(tensor: onnx.TensorProto) -> Array | None:
    """Return a tensor's numbers in one row, little-endian, copied only where they must be."""
    if uses_external_data(tensor) or tensor.string_data:
        return None
    raw = tensor.raw_data  # each access makes a copy
    if raw:
        kind = _RAW.get(tensor.data_type, np.dtype("u1"))
        return np.frombuffer(raw, kind, len(raw) // kind.itemsize)
    try:
        array = numpy_helper.to_array(tensor).reshape(-1)
    except (ValueError, TypeError, KeyError):
        return None
    return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("<"))


_RAW: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype("<f4"),
    onnx.TensorProto.DOUBLE: np.dtype("<f8"),
    onnx.TensorProto.FLOAT16: np.dtype("<f2"),
    onnx.TensorProto.BFLOAT16: np.dtype("<u2"),
    onnx.TensorProto.INT8: np.dtype("i1"),
    onnx.TensorProto.UINT8: np.dtype("u1"),
    onnx.TensorProto.INT16: np.dtype("<i2"),
    onnx.TensorProto.UINT16: np.dtype("<u2"),
    onnx.TensorProto.INT32: np.dtype("<i4"),
    onnx.TensorProto.UINT32: np.dtype("<u4"),
    onnx.TensorProto.INT64: np.dtype("<i8"),
    onnx.TensorProto.UINT64: np.dtype("<u8"),
}


def packed(array: Array) -> Iterator[bytes]:
    """Yield numbers as bytes, where they are made of bytes: one in each, or eight in each.

    Args:
        array: Integers or fractions.
    """
    if array.size < _LEAST or array.dtype.kind not in "fiu":
        return
    if array.dtype.itemsize > 1:
        if array.dtype.kind in "iu":
            yield array.tobytes()
            yield array.byteswap().tobytes()
        yield from _one_in_each(array)


def _one_in_each(array: Array) -> Iterator[bytes]:
    """Yield the bytes of numbers that are one byte each, as they are or times a step."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        head = array[:_HEAD].astype(np.float64)
    if not bool(np.isfinite(head).all()):
        return
    for step in {1.0, _step(head)} - {0.0} if array.dtype.kind == "f" else {1.0}:
        codes = head / step
        whole = np.abs(codes - np.rint(codes)).max() < 0.02  # noqa: PLR2004 - of float16's rounding
        if whole and codes.min() > -128.5 and codes.max() < 255.5:  # noqa: PLR2004 - a byte
            every = np.rint(np.nan_to_num(array.astype(np.float64)) / step)
            yield every.astype(np.int64).astype(np.uint8).tobytes()
            if every.min() < 0:  # bytes that were moved to lie around zero, of which one is a zero
                yield (every - every.min()).astype(np.int64).astype(np.uint8).tobytes()


def _step(numbers: npt.NDArray[np.float64]) -> float:
    """Return the distance of numbers that lie on a lattice of at most 256; 0 for others."""
    levels = np.unique(numbers)
    if not 1 < len(levels) <= 256:  # noqa: PLR2004
        return 0.0
    return float(np.diff(levels).min())


def _low(array: Array) -> Iterator[tuple[str, bytes]]:
    """Yield the low bytes and bits of numbers: one stream for each way to write them."""
    width = array.dtype.itemsize
    if array.dtype.kind not in "fiu":
        return
    rows = np.ascontiguousarray(array).view(np.uint8).reshape(-1, width)
    for count in range(1, width):
        low = rows[:, :count]
        yield f"the low {count} bytes of each number", low.tobytes()
        if count > 1:
            yield f"the low {count} bytes of each number", low[:, ::-1].tobytes()
    # In each order of bits within a number and within a byte; of whole bytes the views above tell.
    every = np.unpackbits(np.ascontiguousarray(rows[:, :2]), axis=1, bitorder="little")
    for bits in _SHARES:
        if bits < 8 * width:
            named = f"the low {bits} bits of each number"
            yield from ((named, stream) for stream in _in_each_order(every[:, :bits]))
    for step in _STEPS:
        for bits in _STRIDED:
            if bits < 8 * width:
                named = f"the low {bits} bits of every {step} numbers"
                sparse = every[: step * _FIRST : step, :bits]
                yield from ((named, stream) for stream in _in_each_order(sparse))


_STEPS = (2, 3, 4)
_STRIDED = (1, 2, 4, 8)
_FIRST = 2048  # numbers of each such stream


def _in_each_order(rows: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield bits one after another, eight to a byte; what is left of less than one is left out."""
    turned = rows[:, ::-1]
    for numbers in (turned,) if rows.shape[1] == 1 else (turned, rows):
        stream = np.packbits(numbers.reshape(-1)[: rows.size // 8 * 8]).tobytes()
        yield stream
        yield stream.translate(_MIRRORED)


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Each byte with its bits in the other order."""
