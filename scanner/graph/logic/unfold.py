"""One line of steps: functions expanded, the bodies of If, Loop, Scan, SequenceMap laid out there.

Control becomes data: an If is a step that reads its condition and what each branch gives; a Loop's
carried value is a step that reads the initial value and the one that comes back. Analyses then need
to know one kind of graph only.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from scanner.graph.core import facts, flatten
from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.draft import Draft
from scanner.graph.core.effect import READABLE, trained
from scanner.graph.core.open_sizes import Shape
from scanner.graph.core.structure import attribute, label, numbers_of, subgraphs
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.model import required_inputs
from scanner.modelfile.skeleton import declare_constants

Array = npt.NDArray[np.generic]
Resolve = Callable[[str], str]

_DOMAIN = "unfolded"

INTEGERS = frozenset({
    onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32,
    onnx.TensorProto.UINT64,
})  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One operation.

    Attributes:
        op: Operator; `If` and `Loop` join values, `Carry` is a value that comes round again,
            `Sweep` one slice of a scanned value, `Stack` the collection of what each iteration
            gives. An operator outside the standard has its domain before it.
        label: The node's name as a viewer shows it, else its operator and first output.
        inputs: Values read, control included; an omitted one is empty.
        outputs: Values made.
        proto: The node it comes from.
    """

    op: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: onnx.NodeProto

    def attribute(self, name: str, default: object = None) -> object:
        """Return the value of the node's attribute, or `default`."""
        return attribute(self.proto, name, default)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """An unfolded graph.

    Attributes:
        steps: In an order in which every value but a carried one is made before it is read.
        inputs: The model's required inputs.
        outputs: The model's outputs.
        constants: Weights and other constants by value name.
        iterations: Iteration counters, which depend on nothing that a user puts in.
        shapes: By value name; an open dimension is a string.
        elem_types: `onnx.TensorProto.DataType` by value name.
        producers: Position of the step that makes a value.
        looped: Whether a value is carried round a loop.
    """

    steps: Sequence[Step]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, onnx.TensorProto]
    iterations: frozenset[str]
    shapes: Mapping[str, Shape]
    elem_types: Mapping[str, int]
    producers: Mapping[str, int]
    looped: bool
    _arrays: dict[str, Array] = dataclasses.field(default_factory=dict)
    _effects: dict[str, int] = dataclasses.field(default_factory=dict)
    _live: set[str] = dataclasses.field(default_factory=set)

    def producer(self, value: str) -> Step | None:
        """Return the step that makes a value, or None for an input or a constant."""
        position = self.producers.get(value)
        return None if position is None else self.steps[position]

    def sources(self, value: str) -> Sequence[str]:
        """Return what the step that makes a value reads; nothing for an input or a constant."""
        step = self.producer(value)
        return () if step is None else step.inputs

    def elements(self, value: str) -> int:
        """Return how many numbers a constant or other value holds; 0 where its shape is open."""
        shape = self.shapes.get(value)
        if shape is None or any(isinstance(size, str) for size in shape):
            return 0
        return math.prod(int(size) for size in shape)

    def effect(self, value: str) -> int:
        """Return how many numbers of a constant can have been trained, and were not written."""
        if value not in self._effects:
            size, tensor = self.elements(value), self.constants.get(value)
            self._effects[value] = size if tensor is None else trained(tensor, size)
        return self._effects[value]

    @property
    def live(self) -> AbstractSet[str]:
        """The values that an output derives from; what is multiplied by zeros is none."""
        if not self._live:

            def read(value: str) -> Sequence[str]:
                step = self.producer(value)
                return () if step is None or self.zeroes(step) else step.inputs

            self._live.update(ancestors(self.outputs, read))
        return self._live

    def zeroes(self, step: Step) -> bool:
        """Whether a step multiplies by nothing but zeros, so that its result derives from nothing.

        Infinities and NaN aside.
        """
        if step.op != "Mul":
            return False
        arrays = [self.array(name) for name in step.inputs if name in self.constants]
        return any(a is not None and a.size and not a.any() for a in arrays)

    def array(self, value: str) -> Array | None:
        """Return the numbers of a small constant, else None.

        Raises:
            MalformedModelError: The tensor holds less than its shape says, or is of no known type.
        """
        tensor = self.constants.get(value)
        if tensor is None or tensor.external_data or math.prod(tensor.dims) > READABLE:
            return None
        if value not in self._arrays:
            self._arrays[value] = numbers_of(tensor)
        return self._arrays[value]


def unfold(proto: onnx.ModelProto) -> Flow:
    """Lay out a model as one line of steps.

    Raises:
        UnsafeModelError: Model-local functions expand without end.
        MalformedModelError: A node is not what its operator asks for, or the shapes contradict one
            another.
    """
    flat = flatten.flatten(proto)
    line = _Line()
    for tensor in flat.graph.initializer:
        line.constants[tensor.name] = tensor
    for sparse in flat.graph.sparse_initializer:
        values = sparse.values
        line.sources.append(
            onnx.helper.make_tensor_value_info(values.name, values.data_type, sparse.dims)
        )
    for node in flat.graph.node:
        line.add(node, lambda name: name, "")
    known = facts.infer(_skeleton(flat, line))
    return Flow(
        steps=line.steps,
        inputs=tuple(v.name for v in required_inputs(flat.graph)),
        outputs=tuple(v.name for v in flat.graph.output),
        constants=line.constants,
        iterations=frozenset(line.iterations),
        shapes={
            **known.shapes,
            **{name: tuple(tensor.dims) for name, tensor in line.constants.items()},
        },
        elem_types={
            **known.elem_types,
            **{name: tensor.data_type for name, tensor in line.constants.items()},
        },
        producers={name: i for i, step in enumerate(line.steps) for name in step.outputs if name},
        looped=bool(line.iterations),
    )


def _skeleton(flat: onnx.ModelProto, line: "_Line") -> onnx.ModelProto:
    """Return the line as a model for shape inference; joins and carried values are plain copies."""
    skeleton = Draft(onnx.ModelProto(ir_version=flat.ir_version, opset_import=flat.opset_import))
    skeleton.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
    skeleton.graph.name = "unfolded"
    skeleton.graph.input.extend(required_inputs(flat.graph))
    skeleton.graph.input.extend(line.sources)
    skeleton.graph.node.extend(line.nodes)
    # The shapes that the file claims for inner values are left out: whoever wrote the file may have
    # claimed anything.
    skeleton.graph.output.extend(onnx.ValueInfoProto(name=v.name) for v in flat.graph.output)
    declare_constants(skeleton.graph, line.constants.items(), READABLE)
    return skeleton


class _Line:
    """The steps laid out so far, and the nodes that stand for them in shape inference."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.sources: list[onnx.ValueInfoProto] = []
        self.iterations: list[str] = []
        self._scopes = 0

    def add(self, node: onnx.NodeProto, resolve: Resolve, scope: str) -> None:
        """Append one node; `resolve` turns the names it uses into names of the line."""
        if node.op_type == "Constant" and self._take_constant(node, resolve):
            return
        special = {
            "If": self._add_if,
            "Loop": self._add_loop,
            "Scan": self._add_scan,
            "SequenceMap": self._add_sequence_map,
        }.get(node.op_type)
        standard = node.domain in STANDARD_DOMAINS
        if special and standard and subgraphs(node):
            special(node, resolve, scope)
            return
        if not node.output:
            return
        inputs, outputs = tuple(map(resolve, node.input)), tuple(map(resolve, node.output))
        if scope:
            renamed = onnx.NodeProto()
            renamed.CopyFrom(node)
            renamed.input[:], renamed.output[:] = inputs, outputs
            self.nodes.append(renamed)
        else:
            self.nodes.append(node)
        operator = node.op_type if standard else f"{node.domain}.{node.op_type}"
        self.steps.append(Step(operator, label(node, scope), inputs, outputs, node))

    def _take_constant(self, node: onnx.NodeProto, resolve: Resolve) -> bool:
        held = node.attribute[0] if node.attribute else onnx.AttributeProto()
        name = resolve(node.output[0])
        if held.name == "value":
            self.constants[name] = held.t
        elif held.name in ("value_float", "value_int", "value_floats", "value_ints"):
            numbers = np.asarray(onnx.helper.get_attribute_value(held))
            kind = np.float32 if "float" in held.name else np.int64
            self.constants[name] = numpy_helper.from_array(numbers.astype(kind), name)
        return name in self.constants

    def _join(self, step: Step, like: str) -> None:
        """Append a step that joins values, of the shape of one of them."""
        self.steps.append(step)
        self.nodes.append(onnx.helper.make_node("Identity", [like], step.outputs))

    def _sweep(self, step: Step) -> None:
        """Append one slice or item of a value."""
        self.steps.append(step)
        self.nodes.append(
            onnx.helper.make_node("Sweep", [step.inputs[0]], step.outputs, domain=_DOMAIN)
        )

    def _stack(self, step: Step) -> None:
        """Append the collection of a value over all turns of a loop, whose length is open."""
        self.steps.append(step)
        self.nodes.append(
            onnx.helper.make_node("Stack", [step.inputs[0]], step.outputs, domain=_DOMAIN)
        )

    def _body(
        self, graph: onnx.GraphProto, resolve: Resolve, scope: str, bound: Mapping[str, str]
    ) -> list[str]:
        """Lay out a body and return the names of its outputs; `bound` names its inputs."""
        self._scopes += 1
        prefix = f"{self._scopes}:"
        own = dict(bound)
        for tensor in graph.initializer:
            own[tensor.name] = prefix + tensor.name
            self.constants[prefix + tensor.name] = tensor
        own.update({name: prefix + name for node in graph.node for name in node.output if name})

        def inner(name: str) -> str:
            return own[name] if name in own else resolve(name)

        for node in graph.node:
            self.add(node, inner, scope)
        return [inner(value.name) for value in graph.output]

    def _add_if(self, node: onnx.NodeProto, resolve: Resolve, scope: str) -> None:
        name = label(node, scope)
        branches = [self._body(body, resolve, name, {}) for body in subgraphs(node)]
        condition = resolve(node.input[0])
        for output, values in zip(
            map(resolve, node.output), zip(*branches, strict=True), strict=True
        ):
            self._join(Step("If", name, (condition, *values), (output,), node), values[0])

    def _add_loop(self, node: onnx.NodeProto, resolve: Resolve, scope: str) -> None:
        body, name = subgraphs(node)[0], label(node, scope)
        count, start, *initial = (*map(resolve, node.input), *[""] * (2 - len(node.input)))
        counter, condition, *carried = (
            f"{self._scopes}.{len(self.steps)}/{v.name}" for v in body.input
        )
        self.iterations.append(counter)
        self.sources.append(onnx.helper.make_tensor_value_info(counter, onnx.TensorProto.INT64, []))
        self.sources.append(
            onnx.helper.make_tensor_value_info(condition, onnx.TensorProto.BOOL, [])
        )
        places = self._carry(node, name, carried, initial)
        names = dict(zip((v.name for v in body.input), (counter, condition, *carried), strict=True))
        ending, *results = self._body(body, resolve, name, names)
        self._close(places, results)
        self.iterations.append(condition)
        for first, last, output in zip(initial, results, map(resolve, node.output), strict=False):
            self._join(
                Step("Loop", name, (count, start, ending, first, last), (output,), node), first
            )
        for last, output in zip(
            results[len(initial) :], list(map(resolve, node.output))[len(initial) :], strict=True
        ):
            self._stack(Step("Stack", name, (last, count, start, ending), (output,), node))

    def _add_scan(self, node: onnx.NodeProto, resolve: Resolve, scope: str) -> None:
        body, name = subgraphs(node)[0], label(node, scope)
        scanned = int(attribute(node, "num_scan_inputs", 0))
        values = list(map(resolve, node.input))[-len(body.input) :]
        initial, swept = values[: len(values) - scanned], values[len(values) - scanned :]
        names = {v.name: f"{self._scopes}.{len(self.steps)}/{v.name}" for v in body.input}
        inner = list(names.values())
        self.iterations.append(f"{name}.iteration")
        places = self._carry(node, name, inner[: len(initial)], initial)
        for value, part in zip(swept, inner[len(initial) :], strict=True):
            self._sweep(Step("Sweep", name, (value,), (part,), node))
        results = self._body(body, resolve, name, names)
        self._close(places, results)
        outputs = list(map(resolve, node.output))
        for first, last, output in zip(initial, results, outputs, strict=False):
            self._join(Step("Loop", name, ("", "", "", first, last), (output,), node), first)
        for last, output in zip(results[len(initial) :], outputs[len(initial) :], strict=True):
            self._stack(Step("Stack", name, (last,), (output,), node))

    def _add_sequence_map(self, node: onnx.NodeProto, resolve: Resolve, scope: str) -> None:
        body, name = subgraphs(node)[0], label(node, scope)
        names = {v.name: f"{self._scopes}.{len(self.steps)}/{v.name}" for v in body.input}
        self.iterations.append(f"{name}.iteration")
        for value, part in zip(map(resolve, node.input), names.values(), strict=True):
            self._sweep(Step("Sweep", name, (value,), (part,), node))
        results = self._body(body, resolve, name, names)
        for last, output in zip(results, map(resolve, node.output), strict=True):
            self._stack(Step("Stack", name, (last,), (output,), node))

    def _carry(
        self, node: onnx.NodeProto, scope: str, carried: Sequence[str], initial: Sequence[str]
    ) -> list[int]:
        places = []
        for name, first in zip(carried, initial, strict=True):
            places.append(len(self.steps))
            self._join(Step("Carry", label(node, scope), (first,), (name,), node), first)
        return places

    def _close(self, places: Sequence[int], results: Sequence[str]) -> None:
        """Let each carried value read what comes back at the end of an iteration."""
        for place, result in zip(places, results, strict=False):
            step = self.steps[place]
            self.steps[place] = dataclasses.replace(step, inputs=(*step.inputs, result))
