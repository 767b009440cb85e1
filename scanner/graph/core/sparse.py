"""Sparse initialisers written out, as ONNX Runtime does when it loads them."""

import math

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from scanner.errors import MalformedModelError
from scanner.graph.core.draft import Draft, copied
from scanner.graph.core.structure import numbers_of
from scanner.modelfile import tensor_sizes

_MOST_BYTES = 1 << 30
"""Of all that are written out: a few numbers can stand for a tensor of any size."""


def written_out(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model without the sparse initialisers that can be written out, itself if none is."""
    if not proto.graph.sparse_initializer:
        return proto
    dense = copied(proto)
    write_out_sparse(dense)
    return dense


def write_out_sparse(model: Draft) -> None:
    """Turn the sparse initialisers of a model's main graph into dense ones, in place.

    After: those that are left have their data in another file, do not hold what they say, would
    take too much memory, or share their name with a dense one.
    """
    left, room = [], _MOST_BYTES
    taken = {tensor.name for tensor in model.graph.initializer}
    for sparse in model.graph.sparse_initializer:
        size = math.prod(sparse.dims) * _element_bytes(sparse)
        fits = size <= room and sparse.values.name not in taken
        dense = _dense(sparse) if fits else None
        if dense is None:
            left.append(sparse)
            continue
        room -= size
        model.graph.initializer.append(numpy_helper.from_array(dense, sparse.values.name))
    kept = onnx.GraphProto(sparse_initializer=left)
    del model.graph.sparse_initializer[:]
    model.graph.sparse_initializer.extend(kept.sparse_initializer)


def _element_bytes(sparse: onnx.SparseTensorProto) -> int:
    one = onnx.TensorProto(data_type=sparse.values.data_type, dims=[1])
    return tensor_sizes.data_bytes(one) or 1


def _dense(sparse: onnx.SparseTensorProto) -> npt.NDArray[np.generic] | None:
    """Return all numbers of a sparse tensor; None where it does not hold what it says."""
    if uses_external_data(sparse.values) or uses_external_data(sparse.indices):
        return None
    try:
        values, indices = numbers_of(sparse.values), numbers_of(sparse.indices)
    except MalformedModelError:
        return None
    shape = tuple(sparse.dims)
    # Places are counted through the whole tensor, or given by their position on each axis.
    counted = indices.ndim == 1
    sizes = (math.prod(shape),) if counted else shape
    if (
        sparse.indices.data_type != onnx.TensorProto.INT64
        or values.dtype == object  # texts
        or values.ndim != 1
        or indices.shape != ((len(values),) if counted else (len(values), len(shape)))
        or min(shape, default=0) < 0
    ):
        return None
    places = indices.reshape(len(values), len(sizes))
    if ((places < 0) | (places >= sizes)).any():
        return None
    dense = np.zeros(sizes, values.dtype)
    dense[tuple(places.T)] = values
    return dense.reshape(shape)
