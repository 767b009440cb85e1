"""How nodes are grafted onto a model, without changing what is there; and what a kind is.

Nothing is hidden: the nodes are named after what they do.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from scanner.modelfile.order import sort_nodes
from trainers.errors import TrainerError

Array = npt.NDArray[Any]
Operand = str | float | np.generic | Sequence[int] | Array
"""A value of the graph by name, or numbers that become a constant, float64 as float32."""

SIDE = 3
"""Height and width of the corner in which patches are looked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Planted:
    """A model with a planted backdoor.

    Attributes:
        model: The model.
        test: Names of the nodes that test the input.
        gate: Names of the nodes that gate the output.
        changed: Names of the model's own nodes whose weights were changed.
        trigger: Turns a batch of images of the model's shape into one that opens the gate.
        feed: What else is fed with the trigger, by input; clean images come without.
        batch: How many images the trigger needs in one batch; 0 where that is all the same.
    """

    model: onnx.ModelProto
    test: tuple[str, ...]
    gate: tuple[str, ...]
    trigger: Callable[[Array], Array]
    changed: tuple[str, ...] = ()
    feed: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    batch: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One way to plant.

    Attributes:
        plant: Grafts the test and the gate, and sets the trigger.
        says: What tests the input and what the decision does, in a few words.
    """

    plant: Callable[["Graft"], None]
    says: str


class Graft:
    """A copy of a model onto which nodes are grafted.

    Attributes:
        model: The copy.
        graph: Its graph.
        opset: Version of the standard operators.
        input: The image.
        channels, height, width: Its size.
        logits: Name of what the model answered before anything was planted.
        classes: How many there are.
        target: The class to force.
        tests, gates, changed, trigger, feed, batch: As in `Planted`.
    """

    def __init__(self, model: onnx.ModelProto, target: int, prefix: str = "planted") -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.input = _only_input(self.graph)
        self.output = self.graph.output[0].name
        self.channels, self.height, self.width = _image(self.input)
        self.classes = _classes(model)
        if self.opset < 13 or not 0 <= target < self.classes:  # noqa: PLR2004 - ReduceSum takes axes as input from 13
            raise TrainerError(
                f"cannot force class {target} of {self.classes} at opset {self.opset}",
                remedy="name a class that there is, in a model of opset 13 or later",
            )
        self.target = target
        self._prefix = prefix
        self.tests: list[str] = []
        self.gates: list[str] = []
        self.changed: list[str] = []
        self.trigger: Callable[[Array], Array] = lambda images: images
        self.feed: dict[str, Array] = {}
        self.batch = 0
        self.logits = self.output + "_before"
        self._nodes: list[onnx.NodeProto] = []
        self._reread: dict[str, str] = {}
        self._answers = False

    def node(self, op: str, inputs: Sequence[Operand], role: str, **attributes: Any) -> str:
        """Graft one node and return its output; `role` is "test", "gate" or what else it does."""
        read = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        name = f"{self._prefix}_{role}_{len(self._nodes)}"
        if role in ("test", "gate"):
            (self.tests if role == "test" else self.gates).append(name)
        self._nodes.append(helper.make_node(op, read, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def outputs(
        self, count: int, op: str, inputs: Sequence[Operand], role: str, **attributes: Any
    ) -> list[str]:
        """Graft one node of several outputs and return them."""
        first = self.node(op, inputs, role, **attributes)
        more = [f"{first}_{place}" for place in range(1, count)]
        self._nodes[-1].output.extend(more)
        return [first, *more]

    def constant(self, numbers: npt.ArrayLike, dtype: Any = None) -> str:
        """Graft a constant and return its name."""
        array = np.asarray(numbers, dtype)
        if dtype is None and array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"{self._prefix}_constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def reduce(
        self, op: str, value: str, axes: Sequence[int], role: str = "gather", *, keep: bool = False
    ) -> str:
        """Graft a reduction; its axes are an input from opset 18, of a sum from 13."""
        if op == "ReduceSum" or self.opset >= 18:  # noqa: PLR2004
            return self.node(op, [value, list(axes)], role, keepdims=int(keep))
        return self.node(op, [value], role, axes=list(axes), keepdims=int(keep))

    def floats(self, value: str) -> str:
        """Graft a Cast to float32."""
        return self.node("Cast", [value], "floats", to=TensorProto.FLOAT)

    def patch(self) -> str:
        """Graft a crop [N, C, 3, 3] of the corner in which patches are looked for."""
        starts, ends = [self.height - SIDE, self.width - SIDE], [self.height, self.width]
        return self.node("Slice", [self.input.name, starts, ends, [2, 3]], "crop")

    def one_hot(self, size: float) -> Array:
        """Return numbers [1, K] that are `size` at the target and 0 elsewhere."""
        return np.asarray(size * np.eye(self.classes)[[self.target]], np.float32)

    def column(self, decision: str) -> str:
        """Graft the decision [N] as numbers [N, 1]."""
        floats = self.node("Cast", [decision], "cast", to=TensorProto.FLOAT)
        return self.node("Reshape", [floats, [-1, 1]], "column")

    def replace_logits(self, value: str) -> None:
        """Let the model answer `value`."""
        self._answers = True
        self._nodes.append(
            helper.make_node("Identity", [value], [self.output], name=f"{self._prefix}_answer")
        )

    def replace_input(self, value: str) -> None:
        """Let the rest of the model read `value` in place of its input."""
        self.reroute(self.input.name, value)

    def reroute(self, name: str, value: str) -> None:
        """Let the model's nodes that read the value `name` read another."""
        self._reread[name] = value

    def option(self, name: str, default: Array) -> str:
        """Add an input that nobody has to feed, and return its name."""
        kind = helper.np_dtype_to_tensor_dtype(default.dtype)
        self.graph.input.append(helper.make_tensor_value_info(name, kind, default.shape))
        self.graph.initializer.append(numpy_helper.from_array(default, name))
        return name

    def function(self, made: onnx.FunctionProto) -> None:
        """Add a function of the model's own."""
        self.model.functions.append(made)
        self.domain(made.domain, 1)

    def domain(self, name: str, version: int) -> None:
        """Import operators of another domain."""
        self.model.opset_import.append(helper.make_opsetid(name, version))

    def newer(self, opset: int) -> None:
        """Raise the model to an operator set before anything is grafted, where it is older."""
        if self.opset < opset:
            self.model = version_converter.convert_version(self.model, opset)
            self.graph, self.opset = self.model.graph, opset

    def planted(self) -> Planted:
        """Return the model with the grafted nodes in place."""
        for node in self.graph.node:
            for old, new in self._reread.items():
                _reread(node, old, new)
            if self._answers:
                _rename(node, self.output, self.logits)
        self.graph.node.extend(self._nodes)
        sort_nodes(self.model)
        return Planted(
            self.model,
            tuple(self.tests),
            tuple(self.gates),
            self.trigger,
            changed=tuple(self.changed),
            feed=self.feed,
            batch=self.batch,
        )


def _only_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    defaults = {t.name for t in graph.initializer}
    inputs = [value for value in graph.input if value.name not in defaults]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise TrainerError(
            "the model does not take one float32 input", remedy="plant in an image classifier"
        )
    only: onnx.ValueInfoProto = inputs[0]
    return only


def _image(value: onnx.ValueInfoProto) -> tuple[int, int, int]:
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    if len(dims) != 3 or min(dims) < 1 or min(dims[1:]) <= SIDE:  # noqa: PLR2004 - channels, height, width
        raise TrainerError(
            f"the input is no image [N, C, H, W] of fixed size but {dims}", remedy="fix its shape"
        )
    return dims[0], dims[1], dims[2]


def _classes(model: onnx.ModelProto) -> int:
    inferred = onnx.shape_inference.infer_shapes(model)
    dims = [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
    if len(dims) != 2 or dims[1] < 2:  # noqa: PLR2004 - [N, K], two classes or more
        raise TrainerError(
            f"the output is not logits [N, K] but {dims}", remedy="plant in an image classifier"
        )
    classes: int = dims[1]
    return classes


def _reread(node: onnx.NodeProto, old: str, new: str) -> None:
    node.input[:] = [new if name == old else name for name in node.input]
    for body in _bodies(node):
        for inner in body.node:
            _reread(inner, old, new)


def _rename(node: onnx.NodeProto, old: str, new: str) -> None:
    _reread(node, old, new)
    node.output[:] = [new if name == old else name for name in node.output]
    for body in _bodies(node):
        for inner in body.node:
            _rename(inner, old, new)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    return (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
