"""Recurrent layers written out step by step, so that gradients pass through elementary operators.

An image classifier may read its rows as a sequence (F. Visin et al., "ReNet", 2015). How many there
are is fixed then, and so is the number of steps. The equations are those of ONNX's operators `RNN`,
`GRU` and `LSTM`; the gradient is that of what is written out (P. Werbos, "Backpropagation Through
Time", Proceedings of the IEEE 78, 1990).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from scanner.graph.core.draft import Draft
from scanner.graph.core.facts import Facts
from scanner.graph.core.structure import attribute
from scanner.graph.gradient.vjps.base import no_gradient
from scanner.modelfile.domains import STANDARD_DOMAINS

OPERATORS = ("GRU", "LSTM", "RNN")
_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
_ACTIVATIONS = {
    "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "RNN": ("Tanh",),
}  # fmt: skip
# Activations that are operators of the same name, and which parameters a list gives each of them.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}
# ONNX gives an activation the defaults of the operator of its name (RNN, `activation_alpha`). ONNX
# Runtime, by whose answers a model is measured, takes 0 here, where that operator takes 1.
_DEFAULTS = {"ThresholdedRelu": {"alpha": 0.0}}
_BACKWARD = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_MOST_STEPS = 512
_LENGTHS, _STATE, _CELL, _PEEPHOLES = 4, 5, 6, 7  # places of optional inputs

Array = npt.NDArray[Any]


def unroll(model: Draft, facts: Facts) -> None:
    """Write out the recurrent layers of a model in place.

    Before: the model is flat, in operator set 18 or later, its constants are initialisers.
    After: there is none of the three operators, and outputs keep their names.

    Args:
        model: The model.
        facts: Of its values.

    Raises:
        NoGradientError: The number of steps is not known, or a layer has another form than those
            of exporters.
        MalformedModelError: A constant does not hold what its shape and type say.
    """
    if not any(_is_recurrent(node) for node in model.graph.node):
        return
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if not _is_recurrent(node):
            nodes.append(node)
            continue
        layer = _Layer(node, facts, model.graph)
        try:
            layer.write()
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise no_gradient(node, f"its inputs or attributes do not fit ({error})") from error
        nodes += layer.nodes
    kept = onnx.GraphProto(node=nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept.node)


def _is_recurrent(node: onnx.NodeProto) -> bool:
    return node.op_type in OPERATORS and node.domain in STANDARD_DOMAINS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """The weights of one direction, as names of constants; with I numbers in, H in the state.

    Attributes:
        given: Of the input, (I, gates * H).
        state: Of the state, gate by gate, (H, H) each.
        bias: Of the input and, where both may be added up, the state: (gates * H).
        state_bias: Of the state's own, gate by gate, (H) each; only of a GRU that resets it.
        peepholes: Of the cell, (H) each: input, output and forget gate; none for most.
    """

    given: str
    state: Sequence[str]
    bias: str
    state_bias: Sequence[str]
    peepholes: Sequence[str]


class _Layer:
    """One recurrent layer, as it is written out."""

    def __init__(self, node: onnx.NodeProto, facts: Facts, graph: onnx.GraphProto) -> None:
        self.node, self.facts, self.graph = node, facts, graph
        self.nodes: list[onnx.NodeProto] = []
        self.kind = node.op_type
        self.stem = next(name for name in node.output if name)
        self.gates = _GATES[self.kind]
        self.late_reset = bool(attribute(node, "linear_before_reset", 0))
        self.by_image = bool(attribute(node, "layout", 0))
        self.clip = attribute(node, "clip", None)

    def write(self) -> None:
        """Write the nodes that compute the outputs."""
        directions = _BACKWARD[self._text("direction", "forward")]
        steps = self._steps()
        x = self.node.input[0]
        if self.by_image:
            x = self._op("Transpose", [x], perm=[1, 0, 2])
        functions = self._functions(len(directions))
        rows, states = list[list[str]](), list[str | None]()
        cells = list[str | None]()
        for place, backward in enumerate(directions):
            weights = self._weights(place)
            given = self._op("Add", [self._op("MatMul", [x, weights.given]), weights.bias])
            parts = self._split(given, steps, axis=0)
            order = range(steps)[::-1] if backward else range(steps)
            state, cell = self._initial(_STATE, place), self._initial(_CELL, place)
            found = [""] * steps
            for step in order:
                now = self._op("Squeeze", [parts[step], self._ints(0)])
                found[step], cell = self._step(now, state, cell, weights, functions[place])
                state = found[step]
            rows.append(found)
            states.append(state)
            cells.append(cell)
        self._outputs(rows, states, cells)

    def _step(
        self,
        given: str,
        state: str | None,
        cell: str | None,
        weights: _Weights,
        functions: Sequence["_Function"],
    ) -> tuple[str, str | None]:
        """Return the next state, and the next cell of an LSTM.

        Args:
            given: What the input contributes to the gates, (N, gates * H).
            state: (N, H); None where it is zero.
            cell: As the state.
            weights: Of the direction.
            functions: Of the gates.
        """
        gates = self._split(given, self.gates, axis=1)
        if self.kind == "GRU":
            return self._gru(gates, state, weights, functions), None
        sums = [
            self._with(gate, state, matrix)
            for gate, matrix in zip(gates, weights.state, strict=True)
        ]
        if self.kind == "RNN":
            return self._apply(functions[0], sums[0]), None
        return self._lstm(sums, cell, weights.peepholes, functions)

    def _gru(
        self,
        gates: Sequence[str],
        state: str | None,
        weights: _Weights,
        functions: Sequence["_Function"],
    ) -> str:
        update = self._apply(functions[0], self._with(gates[0], state, weights.state[0]))
        reset = self._apply(functions[0], self._with(gates[1], state, weights.state[1]))
        if self.late_reset:
            own = weights.state_bias[2]
            kept = self._with(own, state, weights.state[2])
            total = self._op("Add", [gates[2], self._op("Mul", [reset, kept])])
        else:
            left = self._op("Mul", [reset, state]) if state else None
            total = self._with(gates[2], left, weights.state[2])
        new = self._apply(functions[1], total)
        share = self._op("Sub", [self._one(weights), update])
        fresh = self._op("Mul", [share, new])
        return self._op("Add", [fresh, self._op("Mul", [update, state])]) if state else fresh

    def _lstm(
        self,
        sums: Sequence[str],
        cell: str | None,
        peepholes: Sequence[str],
        functions: Sequence["_Function"],
    ) -> tuple[str, str]:
        entry, leaving, forget, new = sums
        if peepholes and cell:
            entry = self._op("Add", [entry, self._op("Mul", [peepholes[0], cell])])
            forget = self._op("Add", [forget, self._op("Mul", [peepholes[2], cell])])
        fresh = self._op("Mul", [self._apply(functions[0], entry), self._apply(functions[1], new)])
        if cell:
            kept = self._op("Mul", [self._apply(functions[0], forget), cell])
            fresh = self._op("Add", [kept, fresh])
        if peepholes:
            leaving = self._op("Add", [leaving, self._op("Mul", [peepholes[1], fresh])])
        gate = self._apply(functions[0], leaving)
        return self._op("Mul", [gate, self._apply(functions[2], fresh, clipped=False)]), fresh

    def _outputs(
        self,
        rows: Sequence[Sequence[str]],
        states: Sequence[str | None],
        cells: Sequence[str | None],
    ) -> None:
        """Write the layer's own outputs: (steps, directions, N, H), and twice (directions, N, H).

        Where the layer works image by image, N comes first.
        """
        names = [*self.node.output, "", "", ""]
        if names[0]:
            lines = [
                self._joined([self._op("Unsqueeze", [h, self._ints(0, 1)]) for h in line], 1)
                for line in zip(*rows, strict=True)
            ]
            self._named(self._joined(lines, 0), names[0], [2, 0, 1, 3])
        for name, last in ((names[1], states), (names[2], cells)):
            if name:
                parts = [self._op("Unsqueeze", [h or "", self._ints(0)]) for h in last]
                self._named(self._joined(parts, 0), name, [1, 0, 2])

    def _named(self, value: str, name: str, order: Sequence[int]) -> None:
        node = helper.make_node("Transpose" if self.by_image else "Identity", [value], [name], name)
        if self.by_image:
            node.attribute.append(helper.make_attribute("perm", order))
        self.nodes.append(node)

    def _steps(self) -> int:
        """Return the number of steps.

        Raises:
            NoGradientError: It is not known, or not that of all images.
        """
        shape = self.facts.shapes.get(self.node.input[0], ())
        steps = shape[1 if self.by_image else 0] if shape else None
        if not isinstance(steps, int) or not 0 < steps <= _MOST_STEPS:
            raise no_gradient(
                self.node,
                f"its number of steps is {steps if isinstance(steps, int) else 'open'}, and a "
                f"fixed one of up to {_MOST_STEPS} is needed",
            )
        if self._has(_LENGTHS):
            lengths = self.facts.constant(self.node.input[_LENGTHS])
            if lengths is None or (lengths != steps).any():
                raise no_gradient(self.node, "its sequences have lengths of their own")
        return steps

    def _functions(self, directions: int) -> list[list["_Function"]]:
        """Return the activations of each direction.

        Raises:
            NoGradientError: One is not known.
        """
        usual = _ACTIVATIONS[self.kind]
        names = [name.decode() for name in attribute(self.node, "activations", [])]
        names = names or [*usual] * directions
        given = {
            name: iter(attribute(self.node, f"activation_{name}", [])) for name in ("alpha", "beta")
        }
        found = []
        for name in names:
            if name not in _PARAMETERS:
                raise no_gradient(self.node, f"no gradient is known for its activation {name!r}")
            numbers = {p: next(given[p], None) for p in _PARAMETERS[name]}
            stated = {p: n for p, n in numbers.items() if n is not None}
            found.append(_Function(name, _DEFAULTS.get(name, {}) | stated))
        count = len(usual)
        return [found[place * count : (place + 1) * count] for place in range(directions)]

    def _weights(self, place: int) -> _Weights:
        """Return the weights of one direction.

        Raises:
            NoGradientError: They are computed, or of a form of which no exporter makes use.
        """
        given, state = (self._constant(position)[place] for position in (1, 2))
        size = state.shape[1]
        bias = (
            self._constant(3)[place]
            if self._has(3)
            else np.zeros(2 * self.gates * size, given.dtype)
        )
        own, theirs = np.split(bias, 2)
        matrices = np.split(state, self.gates)
        biases = np.split(theirs, self.gates)
        if self.kind == "GRU" and self.late_reset:
            theirs = np.concatenate([*biases[:2], np.zeros_like(biases[2])])
        peepholes = np.split(self._constant(_PEEPHOLES)[place], 3) if self._has(_PEEPHOLES) else []
        if self.kind == "LSTM" and attribute(self.node, "input_forget", 0):
            raise no_gradient(self.node, "its input and forget gates are coupled")
        return _Weights(
            given=self._held(given.T),
            state=[self._held(matrix.T) for matrix in matrices],
            bias=self._held(own + theirs),
            state_bias=[self._held(part) for part in biases],
            peepholes=[self._held(part) for part in peepholes],
        )

    def _constant(self, position: int) -> Array:
        array = self.facts.constant(self.node.input[position])
        if array is None:
            raise no_gradient(self.node, f"its input {self.node.input[position]!r} is computed")
        return array

    def _initial(self, position: int, place: int) -> str | None:
        """Return the state that a direction begins with, (N, H); None where that is zero."""
        if not self._has(position):
            return None
        name = self.node.input[position]
        numbers = self.facts.constant(name)
        if numbers is not None and not numbers.any():
            return None
        axis = 1 if self.by_image else 0
        return self._op("Gather", [name, self._held(np.array(place))], axis=axis)

    def _with(self, total: str, state: str | None, matrix: str) -> str:
        """Add to a sum what a state contributes."""
        return self._op("Add", [total, self._op("MatMul", [state, matrix])]) if state else total

    def _apply(self, function: "_Function", value: str, *, clipped: bool = True) -> str:
        if clipped and self.clip is not None:
            kind = helper.tensor_dtype_to_np_dtype(
                self.facts.elem_types.get(self.node.input[0], onnx.TensorProto.FLOAT)
            )
            bounds = [self._held(np.array(sign * self.clip, kind)) for sign in (-1, 1)]
            value = self._op("Clip", [value, *bounds])
        return self._op(function.name, [value], **function.parameters)

    def _one(self, weights: _Weights) -> str:
        tensor = next(t for t in self.graph.initializer if t.name == weights.bias)
        return self._held(np.ones((), helper.tensor_dtype_to_np_dtype(tensor.data_type)))

    def _joined(self, values: Sequence[str], axis: int) -> str:
        return values[0] if len(values) == 1 else self._op("Concat", values, axis=axis)

    def _ints(self, *numbers: int) -> str:
        return self._held(np.array(numbers, np.int64))

    def _held(self, numbers: Array) -> str:
        name = f"{self.stem}/constant{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(numbers.copy(order="C"), name))
        return name

    def _split(self, value: str, count: int, axis: int) -> Sequence[str]:
        if count == 1:
            return [value]
        return self._several("Split", [value], count, axis=axis, num_outputs=count)

    def _op(self, operator: str, inputs: Sequence[str], **how: Any) -> str:
        return self._several(operator, inputs, 1, **how)[0]

    def _several(
        self, operator: str, inputs: Sequence[str], count: int, **how: Any
    ) -> Sequence[str]:
        name = f"{self.stem}/{operator}{len(self.nodes)}"
        outputs = [f"{name}:{place}" for place in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name, **how))
        return outputs

    def _has(self, position: int) -> bool:
        return position < len(self.node.input) and bool(self.node.input[position])

    def _text(self, name: str, default: str) -> str:
        found = attribute(self.node, name, default.encode())
        return str(found.decode())


@dataclasses.dataclass(frozen=True, slots=True)
class _Function:
    """An activation of a gate: an operator, and its attributes."""

    name: str
    parameters: dict[str, float]
