"""A graph with a value given by hand, or with rectifiers that let a slope through."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.core.draft import Draft, copied
from scanner.graph.core.extract import between

_LEAK = 0.1


def held(flat: onnx.ModelProto, value: str, like: npt.NDArray[Any], answer: str) -> Draft:
    """Return the part of a graph that computes an answer from a value that is given by hand.

    Before and after: as for `scanner.graph.core.extract.between`.

    Args:
        flat: The graph.
        value: The value.
        like: What it holds: it is declared in its type and shape.
        answer: The value to compute.

    Raises:
        ValueNotFoundError: There is no such answer.
    """
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(like.dtype))
    info = onnx.helper.make_tensor_value_info(value, kind, list(like.shape))
    return between(flat, info, [answer])


def leaking(flat: onnx.ModelProto) -> Draft:
    """Return a graph whose rectifiers let a tenth through where they are shut.

    A path that sleeps has no slope of its own to be climbed by.
    """
    leaky = copied(flat)
    for node in leaky.graph.node:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"
            node.attribute.append(onnx.helper.make_attribute("alpha", _LEAK))
    return leaky
