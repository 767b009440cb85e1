"""What the gradient of an operator is, and what it is given."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import onnx

from scanner.errors import NoGradientError
from scanner.graph.core import structure
from scanner.graph.gradient.tape import Tape, Value


@dataclasses.dataclass(frozen=True, slots=True)
class Op:
    """One node on the way from the scalar back to the inputs.

    Attributes:
        node: The forward node. A VJP may ask it for a further output (`request_output`), nothing
            else.
        cotangents: By output, the gradient of the scalar by that output; None where it is zero.
        wanted: Positions of the inputs whose gradient is needed.
        tape: Where the VJP writes.
        opset: Version of the standard operator set.
    """

    node: onnx.NodeProto
    cotangents: Sequence[Value | None]
    wanted: frozenset[int]
    tape: Tape
    opset: int

    @property
    def dy(self) -> Value:
        """The cotangent of the first output, for operators with no other differentiable one.

        Raises:
            NoGradientError: The gradient enters through another output.
        """
        if (
            any(cotangent is not None for cotangent in self.cotangents[1:])
            or self.cotangents[0] is None
        ):
            raise self.unsupported("the gradient enters through another output than the first")
        return self.cotangents[0]

    @property
    def x(self) -> Value:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> Value:
        """The first output."""
        return self.tape.value(self.node.output[0])

    def has(self, position: int) -> bool:
        """Return whether an optional input is there."""
        return position < len(self.node.input) and bool(self.node.input[position])

    def input(self, position: int) -> Value:
        """Return an input that is there."""
        return self.tape.value(self.node.input[position])

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value; text comes as str."""
        value = structure.attribute(self.node, name, default)
        return value.decode() if isinstance(value, bytes) else value

    def constant_ints(self, position: int) -> list[int]:
        """Return an integer input that the VJP needs to know in advance.

        Raises:
            NoGradientError: It is computed at run time.
        """
        array = self.input(position).constant
        if array is None:
            raise self.unsupported(f"its input {self.node.input[position]!r} is not a constant")
        return [int(v) for v in array.reshape(-1)]

    def axis(self, default: int, name: str = "axis", rank: int | None = None) -> int:
        """Return an axis attribute counted from the front."""
        axis: int = self.attribute(name, default)
        return axis if axis >= 0 else axis + (self.x.rank if rank is None else rank)

    def request_output(self, position: int, dtype: int) -> Value:
        """Return an optional output of the forward node, asking for it where the model did not."""
        while len(self.node.output) <= position:
            self.node.output.append("")
        if not self.node.output[position]:
            self.node.output[position] = self.tape.fresh(f"{self.node.output[0]}/output{position}")
        return Value(self.tape, self.node.output[position], dtype)

    def unsupported(self, why: str) -> NoGradientError:
        """Return the error that says why this node cannot be differentiated."""
        return no_gradient(self.node, why)


Gradients = Iterator[tuple[int, Value]]
"""Pairs of an input's position and the gradient of the scalar by that input."""


class Vjp(Protocol):
    """The vector-Jacobian product of one operator, as a function that writes it on the tape."""

    def __call__(self, op: Op, /) -> Gradients:
        """Yield the gradients of the wanted inputs; those of others are dropped.

        Raises:
            NoGradientError: The node is of a form whose gradient is not known (`Op.unsupported`).
        """
        ...


def no_gradient(node: onnx.NodeProto, why: str) -> NoGradientError:
    """Return the error that says why a node cannot be differentiated."""
    domain = f"{node.domain}." if node.domain else ""
    return NoGradientError(
        f"the operator {domain}{node.op_type} (node {node.name or node.output[0]!r}) cannot be "
        f"differentiated: {why}",
        remedy="export the model with standard, unfused ONNX operators, or differentiate with "
        "respect to a value behind this node",
        operator=node.op_type,
        node=node.name,
        output=node.output[0] if node.output else "",
    )
