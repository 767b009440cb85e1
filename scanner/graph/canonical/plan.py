"""A graph that is being rewritten: steps, constants as arrays, and who reads what."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from scanner.graph.core.open_sizes import Shape

Array = npt.NDArray[Any]


@dataclasses.dataclass(slots=True)
class Step:
    """One operation, to be changed in place.

    Attributes:
        operator: Its operator, with its domain before it where that is not the standard one.
        name: By which a person finds it in the file.
        inputs: Names of the values that it reads; an omitted one is empty.
        outputs: Names of the values that it makes.
        attributes: By name: a number, numbers, a text, texts, an array.
        weights: By role, the names of constants that are weights and are read from no slot.
    """

    operator: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, object] = dataclasses.field(default_factory=dict)
    weights: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Plan:
    """A graph as steps, to be changed in place by the passes that rewrite it.

    Attributes:
        steps: In an order in which they can run.
        constants: By name.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
        shapes: By value name, as far as they are known.
        elem_types: `onnx.TensorProto.DataType` by value name.
        opset: The version of the standard operators.
        habits: What was undone, in words, and how often.
    """

    steps: list[Step]
    constants: dict[str, Array]
    inputs: list[str]
    outputs: list[str]
    shapes: dict[str, Shape]
    elem_types: Mapping[str, int]
    opset: int
    habits: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def rank(self, name: str) -> int | None:
        """Return the rank of a value, where it is known."""
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)

    def constant(self, step: Step, slot: int) -> Array | None:
        """Return the constant that a step reads in a slot, or None."""
        return self.constants.get(step.inputs[slot]) if slot < len(step.inputs) else None

    def number(self, step: Step, slot: int) -> float | None:
        """Return the constant of one element that a step reads in a slot, or None."""
        array = self.constant(step, slot)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def moving(self, step: Step) -> list[str]:
        """Return what a step reads and is no constant."""
        return [name for name in step.inputs if name and name not in self.constants]

    def makers(self) -> dict[str, Step]:
        """Return the step that makes each value."""
        return {name: step for step in self.steps for name in step.outputs if name}

    def readers(self) -> collections.Counter[str]:
        """Return how often each value is read; an output of the graph is read once more."""
        counts = collections.Counter(name for step in self.steps for name in step.inputs)
        counts.update(self.outputs)
        return counts

    def bypass(self, through: Mapping[int, str]) -> None:
        """Take steps out of the graph, each of whose readers then reads another value.

        Args:
            through: By position of the step, what its first output is replaced by.
        """
        if not through:
            return
        same: dict[str, str] = {}
        for position, name in sorted(through.items()):
            # Steps come in order, so what replaces a value is final when it is looked up.
            same[self.steps[position].outputs[0]] = same.get(name, name)
        self.steps = [step for place, step in enumerate(self.steps) if place not in through]
        for step in self.steps:
            step.inputs = [same.get(name, name) for name in step.inputs]
        self.outputs = [same.get(name, name) for name in self.outputs]
