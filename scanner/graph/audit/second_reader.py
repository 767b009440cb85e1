"""ONNX's reference evaluator: a second reading of a small model, in plain NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.audit import mixing
from scanner.modelfile.nested import walk

Array = npt.NDArray[Any]

MOST_PIXELS = 4096
"""Numbers of an input beyond which plain Python takes too long."""

_MOST_NODES = 200
_MOST_BYTES = 4 << 20
_LOOPS = frozenset({"Loop", "Scan"})
_OTHERWISE = frozenset({"SVMClassifier"})
"""Operators for which the evaluator is known to answer otherwise than ONNX Runtime: probabilities
of a support vector machine differ by some hundredths.
"""


def is_small(proto: onnx.ModelProto) -> bool:
    """Whether a model is small enough to run in plain Python."""
    return len(proto.graph.node) <= _MOST_NODES and proto.ByteSize() <= _MOST_BYTES


def is_brief(proto: onnx.ModelProto) -> bool:
    """Whether plain Python runs a model in good time, and as ONNX Runtime does.

    Loops take too long, what is drawn differs each time, and a few operators are defined loosely.
    """
    return not any(
        node.op_type in mixing.RANDOM | _LOOPS | _OTHERWISE
        for body in walk([proto.graph, *proto.functions])
        for node in body.node
    )


def rounds(proto: onnx.ModelProto) -> bool:
    """Whether a model rounds to integer codes as it runs, which readers may do in other places."""
    return any(
        node.op_type.startswith(("Quantize", "DynamicQuantize", "QLinear"))
        for body in walk([proto.graph, *proto.functions])
        for node in body.node
    )


def evaluate(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array] | None:
    """Return the outputs in order, given the inputs by name.

    None where the evaluator does not know an operator or a form of it.
    """
    # Imported late: the evaluator takes a third of a second to load, and most scans never need it.
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(proto).run(None, dict(feeds))
    except (
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
    ):
        # The evaluator has no error type of its own: an unknown operator or form ends in any of
        # these.
        return None
    return [np.asarray(result) for result in results]
