"""One score before a Sigmoid, as the scores of two classes.

A classifier of two classes may end in a single number z, whose Sigmoid is the probability of
class 1. The scores -z/2 and z/2 have the same Softmax, so that whatever asks for a score per class
can be asked of it as well.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.core.draft import copied
from scanner.graph.core.facts import FLOATING
from scanner.graph.core.shapes import value_types
from scanner.graph.layers.logits import Logits

BOTH = "scores of both classes"
_COLUMN, _HALVES = "score of one class", "halves"


def scored(proto: onnx.ModelProto, logits: Logits) -> tuple[onnx.ModelProto, str]:
    """Return a model and the value that holds a score for each class.

    Args:
        proto: The model, flat (`scanner.graph.core.flatten.flatten`).
        logits: Its logits. If they are one score, a copy of the model has the further value `BOTH`,
            (N, 2).
    """
    if logits.single is None:
        return proto, logits.value
    kind = value_types(proto).get(logits.value)
    known = kind is not None and kind.dtype in FLOATING
    dtype = helper.tensor_dtype_to_np_dtype(kind.dtype if kind and known else TensorProto.FLOAT)
    copy = copied(proto)
    halves = np.array([[-0.5, 0.5]]).astype(dtype)
    copy.graph.initializer.append(numpy_helper.from_array(halves, _HALVES))
    copy.graph.node.append(helper.make_node("Flatten", [logits.value], [_COLUMN], axis=1))
    copy.graph.node.append(helper.make_node("Mul", [_COLUMN, _HALVES], [BOTH]))
    return copy, BOTH


def both(score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the scores of both classes, (n, 2), of one score for each of n images."""
    column = score.reshape(len(score), 1)
    return np.concatenate([-column, column], axis=1) / 2


def single(scores: npt.NDArray[Any], rank: int) -> npt.NDArray[Any]:
    """Return the one score of which two were made, in its own number of dimensions."""
    return np.reshape(scores[:, 1] - scores[:, 0], (-1, *(1,) * (rank - 1)))
