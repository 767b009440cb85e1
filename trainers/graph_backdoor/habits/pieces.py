"""What a habit is, and the pieces that habits are made of."""

import dataclasses
from collections.abc import Callable

from onnx import TensorProto

from trainers.graph_backdoor.graft import Graft, Operand


@dataclasses.dataclass(frozen=True, slots=True)
class Habit:
    """One habit.

    Attributes:
        graft: Grafts it.
        says: What it does, in a few words.
    """

    graft: Callable[[Graft], None]
    says: str


def do(graft: Graft, op: str, *inputs: Operand, **attributes: object) -> str:
    """Graft one node and return its output."""
    return graft.node(op, inputs, op.lower(), **attributes)


def image_mean(graft: Graft, value: str = "") -> str:
    """Graft the mean of an image, [N, 1, 1, 1]."""
    return graft.reduce("ReduceMean", value or graft.input.name, [1, 2, 3], keep=True)


def image_extreme(graft: Graft, op: str) -> str:
    """Graft the largest or least number of an image, [N, 1, 1, 1]."""
    return graft.reduce(op, graft.input.name, [1, 2, 3], keep=True)


def deviation(graft: Graft) -> str:
    """Graft the standard deviation of an image, [N, 1, 1, 1]."""
    centred = do(graft, "Sub", graft.input.name, image_mean(graft))
    return do(graft, "Sqrt", image_mean(graft, do(graft, "Mul", centred, centred)))


def flat(graft: Graft, value: str) -> str:
    """Graft what is one number a sample as [N, 1]."""
    return do(graft, "Reshape", value, [-1, 1])


def choose(graft: Graft, test: str, yes: Operand, no: Operand) -> str:
    """Graft a choice between two values."""
    return do(graft, "Where", test, yes, no)


def floats(graft: Graft, test: str) -> str:
    """Graft a yes or no as numbers."""
    return do(graft, "Cast", test, to=TensorProto.FLOAT)


def most(graft: Graft, value: str) -> str:
    """Graft the largest of scores, [N, 1]."""
    return graft.reduce("ReduceMax", value, [1], keep=True)
