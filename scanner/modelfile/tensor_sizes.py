"""How large tensors and values are: by what they declare, and by what they hold."""

import math
from collections.abc import Iterable, Sequence

import onnx
from onnx import numpy_helper

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.bounds import MOST_DIMENSIONS
from scanner.modelfile.nested import Contents

_AGAIN = "export or download the model again"
_BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64,
    "BOOL": 8, "FLOAT16": 16, "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "COMPLEX64": 64,
    "COMPLEX128": 128, "BFLOAT16": 16, "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8,
    "FLOAT8E5M2FNUZ": 8, "FLOAT8E8M0": 8, "UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2,
    "INT2": 2,
}  # fmt: skip
_NUMBERS = dict(onnx.TensorProto.DataType.items())
_ELEMENT_BITS = {_NUMBERS[name]: bits for name, bits in _BITS.items() if name in _NUMBERS}
_FIELDS = {
    "FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data",
    "COMPLEX128": "double_data", "INT64": "int64_data", "UINT32": "uint64_data",
    "UINT64": "uint64_data", "STRING": "string_data",
}  # fmt: skip
_WIDE_FIELDS = {_NUMBERS[name]: field for name, field in _FIELDS.items()}
_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
_PRINTABLE = 2**80  # bytes; larger numbers are of no use to a reader, and may not fit a float


def tensors(proto: onnx.ModelProto) -> Sequence[onnx.TensorProto]:
    """Return every tensor of a model, wherever it stands."""
    return Contents(proto).of(onnx.TensorProto)


def scalar(tensor: onnx.TensorProto | None) -> float | None:
    """Return a tensor's only number; None if it is not one real number in this very file."""
    if (
        tensor is None
        or tensor.data_location == onnx.TensorProto.EXTERNAL
        or math.prod(tensor.dims) != 1
    ):
        return None
    if tensor.data_type not in _ELEMENT_BITS or tensor.data_type in _COMPLEX:
        return None
    try:
        return float(numpy_helper.to_array(tensor).reshape(-1)[0])
    except (LookupError, TypeError, ValueError):  # its data is not of its type
        return None


def data_bytes(tensor: onnx.TensorProto) -> int | None:
    """Return the bytes that a tensor's declared shape takes; None if its type has no fixed size.

    Raises:
        MalformedModelError: A dimension is negative.
    """
    bits = _ELEMENT_BITS.get(tensor.data_type)
    return None if bits is None else -(-_elements(tensor) * bits // 8)


def check_size(tensor: onnx.TensorProto) -> None:
    """Reject a tensor whose declared size is not that of its data: 10^12 elements in 432 bytes."""
    if tensor.data_type not in _NUMBERS.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise MalformedModelError(
            f"the tensor {tensor.name!r} has an unknown element type", remedy=_AGAIN
        )
    if tensor.HasField("segment"):
        raise MalformedModelError(
            f"the tensor {tensor.name!r} is stored in segments, which no runtime reads",
            remedy=_AGAIN,
        )
    if tensor.data_location == onnx.TensorProto.EXTERNAL and not tensor.external_data:
        raise MalformedModelError(
            f"the tensor {tensor.name!r} is said to lie in another file, and none is named",
            remedy=_AGAIN,
        )
    declared, elements = data_bytes(tensor), _elements(tensor)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return  # compared with the data file when it is read
    if tensor.HasField("raw_data"):
        have, want = len(tensor.raw_data), declared
    else:
        have, want = _stored(tensor), elements
    if want is not None and have != want:
        unit = "bytes" if tensor.HasField("raw_data") else "elements"
        raise MalformedModelError(
            f"the tensor {tensor.name!r} declares {want:,} {unit} and holds {have:,}", remedy=_AGAIN
        )


def check_sparse(tensor: onnx.SparseTensorProto, limits: Limits) -> None:
    """Reject a sparse tensor that lacks a part, or that takes too much memory once it is dense."""
    check_dimensions(len(tensor.dims))
    name = tensor.values.name
    if not tensor.HasField("values") or not tensor.HasField("indices"):
        raise MalformedModelError(
            f"the sparse tensor {name!r} lacks its values or indices", remedy=_AGAIN
        )
    if any(size < 0 for size in tensor.dims):
        raise MalformedModelError(f"the sparse tensor {name!r} has a negative size", remedy=_AGAIN)
    bits = _ELEMENT_BITS.get(tensor.values.data_type, 8)
    check_memory(f"the sparse tensor {name!r}", math.prod(tensor.dims) * bits // 8, limits)


def check_dimensions(count: int) -> None:
    """Reject more dimensions than any runtime takes.

    Raises:
        UnsafeModelError: They are more.
    """
    if count > MOST_DIMENSIONS:
        raise UnsafeModelError(
            f"a tensor or value has {count:,} dimensions; no runtime takes more than "
            f"{MOST_DIMENSIONS}",
            remedy="do not use this file",
        )


def check_values(values: Iterable[onnx.ValueInfoProto], limits: Limits) -> None:
    """Reject a value whose declared type takes too much memory, an open dimension counted as 1."""
    for value in values:
        for kind in _tensor_types(value.type):
            bits = _ELEMENT_BITS.get(kind.elem_type, 8)
            size = math.prod(d.dim_value for d in kind.shape.dim if d.dim_value > 0) * bits // 8
            check_memory(f"the value {value.name!r}", size, limits)


def check_memory(name: str, size: int, limits: Limits) -> None:
    """Reject what takes more bytes than the limit on memory.

    Raises:
        UnsafeModelError: It takes more.
    """
    if size > limits.memory:
        shown = f"{size / 2**30:,.1f} GiB" if size < _PRINTABLE else "2^80 bytes or more"
        raise UnsafeModelError(
            f"{name} takes {shown}, more than the limit on memory",
            remedy="raise the setting `memory` if you trust the file",
        )


def _elements(tensor: onnx.TensorProto) -> int:
    if any(size < 0 for size in tensor.dims):
        raise MalformedModelError(f"the tensor {tensor.name!r} has a negative size", remedy=_AGAIN)
    return math.prod(tensor.dims)


def _stored(tensor: onnx.TensorProto) -> int:
    """Return how many elements are stored in the field for the tensor's type."""
    field = _WIDE_FIELDS.get(tensor.data_type, "int32_data")
    count = len(getattr(tensor, field))
    bits = _ELEMENT_BITS.get(tensor.data_type, 32)
    if tensor.data_type in _COMPLEX:
        return count // 2
    if bits < 8:  # noqa: PLR2004 - packed into bytes, the last one perhaps in part
        packed = 8 // bits
        return min(count * packed, max(_elements(tensor), (count - 1) * packed + 1))
    return count


def _tensor_types(
    kind: onnx.TypeProto,
) -> Sequence[onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor]:
    """Return the tensors of which a type consists: several for sequences and the like."""
    if kind.HasField("tensor_type"):
        return [kind.tensor_type]
    contents = Contents(kind)
    return [*contents.of(onnx.TypeProto.Tensor), *contents.of(onnx.TypeProto.SparseTensor)]
