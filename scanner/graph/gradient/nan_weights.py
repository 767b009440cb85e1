"""Weights that are NaN."""

from collections.abc import Iterator

import numpy as np
import onnx

from scanner.graph.core.structure import numbers_of


def weights_with_nan(proto: onnx.ModelProto) -> Iterator[str]:
    """Yield the names of the main graph's floating-point initialisers that hold NaN.

    Args:
        proto: A model whose tensors' data lie inside it.
    """
    for tensor in proto.graph.initializer:
        values = numbers_of(tensor)
        if values.dtype.kind == "f" and np.isnan(values).any():
            yield tensor.name
