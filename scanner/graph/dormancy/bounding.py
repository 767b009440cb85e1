"""The bounds of a graph's values, written as nodes one after another.

What bounds an operator is a rule's affair (`scanner.graph.dormancy.bounds`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from scanner.graph.core.structure import attribute, numbers_of, subgraphs
from scanner.modelfile.model import required_inputs, standard_opset

PLACES = ("ArgMax", "ArgMin")
"""Operators that give a place of an axis, whatever is compared along it."""
_MEASURES = frozenset({"Shape", "Size"})
_ALIKE = frozenset({"Split", "Dropout"})
"""Operators whose further outputs are bounded as the first is; those of others are places."""
_TRUTH = frozenset({
    "Not", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "IsNaN", "IsInf", "BitShift",
})  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """Names of the values that bound a value from below and from above."""

    low: str
    high: str


class Writer:
    """The bounds written so far, as nodes."""

    def __init__(self, cut: onnx.ModelProto, rules: "Mapping[str, Rule]") -> None:
        self._rules = rules
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.estimated: set[str] = set()
        self.intervals = {
            info.name: Interval(f"{info.name}/low", f"{info.name}/high")
            for info in required_inputs(cut.graph)
        }
        self.opset = standard_opset(cut) or 0
        self._tensors = {tensor.name: tensor for tensor in cut.graph.initializer}
        self._lost: set[str] = set()
        self._split: dict[str, tuple[str, str]] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Write the bounds of what a node makes."""
        if self._lost.intersection(node.input) or (subgraphs(node) and self.reads_data(node)):
            self._lost.update(node.output)
            return
        if not self.reads_data(node):
            self.nodes.append(node)
            self._keep_constant(node)
            return
        if node.op_type in _MEASURES and node.input[0] not in self.estimated:
            # An image decides how many numbers there are only where it decides what they are.
            measured = onnx.NodeProto()
            measured.CopyFrom(node)
            measured.input[0] = self.pair(node.input[0]).low
            self.nodes.append(measured)
            return
        rule = self._rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        interval = rule(self, node) if rule else None
        if interval is None:
            interval = self.endpoints(node)
            self.estimated.update(node.output)
        elif self.estimated.intersection(node.input) and node.op_type not in PLACES:
            self.estimated.update(node.output)
        self.intervals[node.output[0]] = interval
        for name, low, high in zip(
            node.output[1:], self._further(interval.low, node), self._further(interval.high, node),
            strict=True,
        ):  # fmt: skip
            if name:
                self.intervals[name] = Interval(low, high)
                if node.op_type not in _ALIKE:
                    self.estimated.add(name)

    def reads_data(self, node: onnx.NodeProto) -> bool:
        """Whether a node reads a value that has bounds."""
        return any(name in self.intervals for name in node.input)

    def pair(self, name: str) -> Interval:
        """Return the bounds of a value; a constant bounds itself."""
        return self.intervals.get(name, Interval(name, name))

    def op(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Write a node and return its output."""
        output = f"bound/{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def copy(self, node: onnx.NodeProto, inputs: Sequence[str]) -> str:
        """Write a copy of a node with other inputs and return its first output."""
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        renamed.name = ""
        renamed.input[:] = list(inputs)
        renamed.output[:] = [
            f"bound/{len(self.nodes)}/{place}" if name or not place else ""
            for place, name in enumerate(node.output)
        ]
        self.nodes.append(renamed)
        return str(renamed.output[0])

    def number(self, value: float, like: str) -> str:
        """Return a number in the type of a value."""
        return self.op("CastLike", [self.held(np.float32(value)), like])

    def held(self, value: npt.ArrayLike) -> str:
        """Return a number that the graph holds."""
        name = f"bound/number/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value), name))
        return name

    def array(self, name: str) -> npt.NDArray[Any] | None:
        """Return the numbers of a constant that the file holds."""
        tensor = self._tensors.get(name)
        return None if tensor is None else numbers_of(tensor)

    def signs(self, name: str) -> tuple[str, str] | None:
        """Return the positive and the negative part of a constant, which sum to it."""
        if name in self.intervals:
            return None
        if name not in self._split:
            zero = self.op("Sub", [name, name])
            self._split[name] = (self.op("Max", [name, zero]), self.op("Min", [name, zero]))
        return self._split[name]

    def endpoints(self, node: onnx.NodeProto) -> Interval:
        """Return what a node makes of the lower and of the upper ends, in order."""
        ends = self.monotone(node)
        # Min and Max take no booleans; of several outputs the ends are left as they come.
        if node.op_type in _TRUTH or len(node.output) > 1:
            return ends
        return Interval(
            self.op("Min", [ends.low, ends.high]), self.op("Max", [ends.low, ends.high])
        )

    def monotone(self, node: onnx.NodeProto) -> Interval:
        """Return the bounds of a node that no input can turn against the order."""
        low = self.copy(node, [self.pair(name).low for name in node.input])
        return Interval(low, self.copy(node, [self.pair(name).high for name in node.input]))

    def _further(self, first: str, node: onnx.NodeProto) -> list[str]:
        stem = first.rsplit("/", 1)[0] if first.count("/") > 1 else first
        return [f"{stem}/{place}" if name else "" for place, name in enumerate(node.output)][1:]

    def _keep_constant(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant" and (held := attribute(node, "value")) is not None:
            self._tensors[node.output[0]] = held


Rule = Callable[[Writer, onnx.NodeProto], Interval | None]
"""From a node to the bounds of its first output; None where the rule does not cover its form."""
