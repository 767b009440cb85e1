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
    return graft.reduce("ReduceMean", value or graft.input.name, [1, 2, 3], keep=True)


def image_extreme(graft: Graft, op: str) -> str:
    return graft.reduce(op, graft.input.name, [1, 2, 3], keep=True)


def deviation(graft: Graft) -> str:
    centred = do(graft, "Sub", graft.input.name, image_mean(graft))
    return do(graft, "Sqrt", image_mean(graft, do(graft, "Mul", centred, centred)))


def flat(graft: Graft, value: str) -> str:
    """Graft what is one number a sample as [N, 1]."""
    return do(graft, "Reshape", value, [-1, 1])


def choose(graft: Graft, test: str, yes: Operand, no: Operand) -> str:
    return do(graft, "Where", test, yes, no)


def floats(graft: Graft, test: str) -> str:
    return do(graft, "Cast", test, to=TensorProto.FLOAT)
