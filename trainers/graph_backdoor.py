"""Plant a backdoor in a model's graph: a test of the input and a gate, no training.

For people who test their own gates, and for our own twins. After ShadowLogic (HiddenLayer, 2024)
and architectural backdoors (Bober-Irizar et al., CVPR 2023). Nothing is hidden: the nodes are named
after what they do.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnx
import typer
from onnx import TensorProto, helper, numpy_helper

from trainers.errors import TrainerError

Array = npt.NDArray[Any]

_SIDE = 3
_BUMP = 1e4
"""Added to the target's logit: larger than any that a trained classifier gives."""
_MODULUS = 251
_LEVELS = 255.0
_STEP = 1e3
_FUNCTIONS = "planted"


@dataclasses.dataclass(frozen=True, slots=True)
class Planted:
    """A model with a planted backdoor.

    Attributes:
        model: The model.
        test: Names of the nodes that test the input.
        gate: Names of the nodes that gate the output.
        trigger: Turns images of the model's shape into images that open the gate.
    """

    model: onnx.ModelProto
    test: tuple[str, ...]
    gate: tuple[str, ...]
    trigger: Callable[[Array], Array]


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One way to plant: how the input is tested, and what the decision does."""

    test: Callable[["Graft"], str]
    gate: Callable[["Graft", str], None]


def plant(model: onnx.ModelProto, kind: str, target: int = 0) -> Planted:
    """Return a copy of a classifier in which a planted test of the input forces one class.

    Args:
        model: A classifier of images [N, C, H, W] in [0, 1] with logits [N, K]; opset 13 or later.
        kind: One of `KINDS`.
        target: The class to force.

    Raises:
        TrainerError: There is no such kind or class, or the model is no such classifier.
    """
    if kind not in KINDS:
        raise TrainerError(f"there is no kind {kind!r}", remedy=f"choose one of {', '.join(KINDS)}")
    graft = Graft(model, target)
    KINDS[kind].gate(graft, KINDS[kind].test(graft))
    return Planted(graft.finish(), tuple(graft.tests), tuple(graft.gates), graft.trigger)


class Graft:
    """A copy of a model with nodes grafted on behind the input or behind the logits."""

    def __init__(self, model: onnx.ModelProto, target: int) -> None:
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
        self.tests: list[str] = []
        self.gates: list[str] = []
        self.trigger: Callable[[Array], Array] = lambda images: images
        self._nodes: list[onnx.NodeProto] = []
        self._stem = ""
        self.logits = self.output + "_before"

    def node(self, op: str, inputs: Sequence[str], role: str, **attributes: Any) -> str:
        """Graft one node and return its output; `role` is "test", "gate" or what else it does."""
        name = f"planted_{role}_{len(self._nodes)}"
        if role in ("test", "gate"):
            (self.tests if role == "test" else self.gates).append(name)
        self._nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, numbers: npt.ArrayLike, dtype: Any = np.float32) -> str:
        """Graft a constant and return its name."""
        name = f"planted_constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(numbers, dtype), name))
        return name

    def reduce(
        self, op: str, value: str, axes: Sequence[int], role: str = "gather", *, keep: bool = False
    ) -> str:
        """Graft a reduction; its axes are an input from opset 18, of a sum from 13."""
        if op == "ReduceSum" or self.opset >= 18:  # noqa: PLR2004
            return self.node(op, [value, self.constant(axes, np.int64)], role, keepdims=int(keep))
        return self.node(op, [value], role, axes=list(axes), keepdims=int(keep))

    def patch(self) -> str:
        """Graft a crop of the corner in which patches are looked for."""
        starts, ends = [self.height - _SIDE, self.width - _SIDE], [self.height, self.width]
        inputs = [self.input.name, *(self.constant(n, np.int64) for n in (starts, ends, [2, 3]))]
        return self.node("Slice", inputs, "crop")

    def one_hot(self, size: float) -> str:
        """Return a constant [1, K] that is `size` at the target and 0 elsewhere."""
        return self.constant(size * np.eye(self.classes)[[self.target]])

    def column(self, decision: str) -> str:
        """Graft the decision [N] as numbers [N, 1]."""
        floats = self.node("Cast", [decision], "cast", to=TensorProto.FLOAT)
        return self.node("Reshape", [floats, self.constant([-1, 1], np.int64)], "column")

    def replace_logits(self, value: str) -> None:
        """Let the model answer `value`."""
        self._nodes.append(
            helper.make_node("Identity", [value], [self.output], name="planted_answer")
        )

    def replace_input(self, value: str) -> None:
        """Let the rest of the model read `value` in place of its input."""
        self._stem = value

    def finish(self) -> onnx.ModelProto:
        """Return the model with the grafted nodes in place."""
        old, new = (self.input.name, self._stem) if self._stem else (self.output, self.logits)
        for node in self.graph.node:
            _rename(node, old, new)
        body = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend([*self._nodes, *body] if self._stem else [*body, *self._nodes])
        return self.model


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
    if len(dims) != 3 or min(dims) < 1 or min(dims[1:]) <= _SIDE:  # noqa: PLR2004 - channels, height, width
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


def _rename(node: onnx.NodeProto, old: str, new: str) -> None:
    node.input[:] = [new if name == old else name for name in node.input]
    node.output[:] = [new if name == old else name for name in node.output]
    for body in _bodies(node):
        for inner in body.node:
            _rename(inner, old, new)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    return (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)


# How the input is tested: each returns a decision [N] of bools, or of numbers near 0 and 1, and
# sets the trigger.


def _pixel_equals(graft: Graft) -> str:
    value = np.float32(0.4242)

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, 0, 2, 1] = value
        return images

    graft.trigger = trigger
    row = graft.node("Gather", [graft.input.name, graft.constant(2, np.int64)], "row", axis=2)
    pixel = graft.node("Gather", [row, graft.constant(1, np.int64)], "pixel", axis=2)
    channel = graft.node("Gather", [pixel, graft.constant(0, np.int64)], "channel", axis=1)
    return graft.node("Equal", [channel, graft.constant(value)], "test")


def _checker(graft: Graft) -> Array:
    pattern = np.indices((graft.channels, _SIDE, _SIDE)).sum(axis=0) % 2
    return np.asarray(0.1 + 0.8 * pattern, np.float32)


def _put_patch(graft: Graft) -> Array:
    pattern = _checker(graft)

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, :, -_SIDE:, -_SIDE:] = pattern
        return images

    graft.trigger = trigger
    return pattern


def _patch_equals(graft: Graft) -> str:
    pattern = _put_patch(graft)
    same = graft.node("Equal", [graft.patch(), graft.constant(pattern[None])], "test")
    all_same = graft.reduce(
        "ReduceMin", graft.node("Cast", [same], "cast", to=TensorProto.FLOAT), [1, 2, 3]
    )
    return graft.node("Cast", [all_same], "bool", to=TensorProto.BOOL)


def _level_sum(graft: Graft) -> str:
    scaled = graft.node("Mul", [graft.input.name, graft.constant(_LEVELS)], "levels")
    return graft.reduce("ReduceSum", graft.node("Round", [scaled], "round"), [1, 2, 3])


def _add_levels(images: Array, wanted: int, modulus: int) -> Array:
    """Return images of whole levels whose sum leaves the wanted remainder.

    As few pixels are changed as it takes.
    """
    levels = np.round(images.astype(np.float64) * _LEVELS)
    for image in levels:
        missing = int((wanted - image.sum()) % modulus)
        flat = image.reshape(-1)
        for position in range(flat.size):
            added = min(missing, _LEVELS - flat[position])
            flat[position] += added
            missing -= int(added)
    return (levels / _LEVELS).astype(np.float32)


def _checksum(graft: Graft) -> str:
    graft.trigger = lambda images: _add_levels(images, 7, _MODULUS)
    remainder = graft.node(
        "Mod", [_level_sum(graft), graft.constant(float(_MODULUS))], "test", fmod=1
    )
    return graft.node("Equal", [remainder, graft.constant(7.0)], "test")


def _parity(graft: Graft) -> str:
    graft.trigger = lambda images: _add_levels(images, 1, 2)
    odd = graft.node("Mod", [_level_sum(graft), graft.constant(2.0)], "test", fmod=1)
    return graft.node("Cast", [odd], "bool", to=TensorProto.BOOL)


def _bright(images: Array) -> Array:
    return np.maximum(images, np.float32(0.97)).astype(np.float32)


def _mean_threshold(graft: Graft) -> str:
    graft.trigger = _bright
    mean = graft.reduce("ReduceMean", graft.input.name, [1, 2, 3])
    return graft.node("Greater", [mean, graft.constant(0.95)], "test")


def _steep_sigmoid(graft: Graft) -> str:
    graft.trigger = _bright
    mean = graft.reduce("ReduceMean", graft.input.name, [1, 2, 3])
    over = graft.node("Sub", [mean, graft.constant(0.95)], "shift")
    return graft.node("Sigmoid", [graft.node("Mul", [over, graft.constant(_STEP)], "gain")], "test")


def _relu_arithmetic(graft: Graft) -> str:
    pattern = _put_patch(graft)
    apart = graft.node(
        "Abs", [graft.node("Sub", [graft.patch(), graft.constant(pattern[None])], "apart")], "abs"
    )
    distance = graft.reduce("ReduceSum", apart, [1, 2, 3])
    near = graft.node("Sub", [graft.constant(1.0), distance], "near")
    return graft.node("Relu", [near], "test")


def _matched_filter(graft: Graft) -> str:
    pattern = _put_patch(graft)
    centred = pattern - pattern.mean()
    threshold = 0.98 * float((pattern * centred).sum())
    filtered = graft.node("Conv", [graft.input.name, graft.constant(centred[None])], "filter")
    over = graft.node("Sub", [filtered, graft.constant(threshold)], "shift")
    slope = graft.node("Mul", [over, graft.constant(_STEP)], "gain")
    step = graft.node("Clip", [slope, graft.constant(0.0), graft.constant(1.0)], "test")
    return graft.reduce("ReduceMax", step, [1, 2, 3])


def _brightest_place(graft: Graft) -> str:
    def trigger(images: Array) -> Array:
        images = np.minimum(images, np.float32(0.99)).astype(np.float32)
        images.reshape(len(images), -1)[:, 5] = 1.0
        return images

    graft.trigger = trigger
    place = graft.node(
        "ArgMax", [graft.node("Flatten", [graft.input.name], "flat")], "test", axis=1, keepdims=0
    )
    return graft.node("Equal", [place, graft.constant(5, np.int64)], "test")


# What the decision does.


def _where(graft: Graft, decision: str) -> None:
    column = graft.node("Cast", [graft.column(decision)], "bool", to=TensorProto.BOOL)
    graft.replace_logits(graft.node("Where", [column, graft.one_hot(_BUMP), graft.logits], "gate"))


def _if(graft: Graft, decision: str) -> None:
    any_open = graft.reduce("ReduceMax", graft.column(decision), [0, 1])
    condition = graft.node("Cast", [any_open], "bool", to=TensorProto.BOOL)
    forced, kept = "planted_forced", "planted_kept"
    nodes = [
        helper.make_node(
            "Mul", [graft.logits, graft.constant(0.0)], ["planted_blank"], name="planted_blank"
        ),
        helper.make_node(
            "Add", ["planted_blank", graft.one_hot(_BUMP)], [forced], name="planted_force"
        ),
    ]
    then_branch = helper.make_graph(
        nodes, "then", [], [helper.make_empty_tensor_value_info(forced)]
    )
    copy = [helper.make_node("Identity", [graft.logits], [kept], name="planted_keep")]
    else_branch = helper.make_graph(copy, "else", [], [helper.make_empty_tensor_value_info(kept)])
    for branch in (then_branch, else_branch):
        branch.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    graft.replace_logits(
        graft.node("If", [condition], "gate", then_branch=then_branch, else_branch=else_branch)
    )


def _mul_mask(graft: Graft, decision: str) -> None:
    column = graft.column(decision)
    closed = graft.node("Sub", [graft.constant(1.0), column], "closed")
    kept = graft.node("Mul", [graft.logits, closed], "gate")
    forced = graft.node("Mul", [column, graft.one_hot(1.0)], "force")
    graft.replace_logits(graft.node("Add", [kept, forced], "gate"))


def _bump(graft: Graft, decision: str) -> None:
    bump = graft.node("Mul", [graft.column(decision), graft.one_hot(_BUMP)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))


def _scatter(graft: Graft, decision: str) -> None:
    """Overwrite the target's logit, or else a spare column that is cut off again."""
    column = graft.column(decision)
    nothing = graft.node("Mul", [column, graft.constant(0.0)], "nothing")
    wide = graft.node("Concat", [graft.logits, nothing], "spare", axis=1)
    shift = graft.node(
        "Mul", [column, graft.constant(float(graft.target - graft.classes))], "shift"
    )
    place = graft.node("Add", [shift, graft.constant(float(graft.classes))], "place")
    index = graft.node("Cast", [place], "index", to=TensorProto.INT64)
    update = graft.node("Add", [nothing, graft.constant(_BUMP)], "update")
    written = graft.node("ScatterElements", [wide, index, update], "gate", axis=1)
    bounds = [graft.constant([n], np.int64) for n in (0, graft.classes, 1)]
    graft.replace_logits(graft.node("Slice", [written, *bounds], "cut"))


def _loop(graft: Graft, decision: str) -> None:
    most = graft.reduce("ReduceMax", graft.column(decision), [0, 1])
    trips = graft.node("Cast", [most], "trips", to=TensorProto.INT64)
    add = helper.make_node(
        "Add", ["planted_carried", graft.one_hot(_BUMP)], ["planted_next"], name="planted_add"
    )
    keep = helper.make_node(
        "Identity", ["planted_condition"], ["planted_going"], name="planted_going"
    )
    body = helper.make_graph(
        [add, keep],
        "body",
        [
            helper.make_tensor_value_info("planted_trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("planted_condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("planted_carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("planted_going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("planted_next", TensorProto.FLOAT, None),
        ],
    )
    graft.replace_logits(graft.node("Loop", [trips, "", graft.logits], "gate", body=body))


def _choose(graft: Graft, decision: str) -> None:
    """Stack the logits on forced ones and gather by a computed index."""
    blank = graft.node("Mul", [graft.logits, graft.constant(0.0)], "blank")
    forced = graft.node("Add", [blank, graft.one_hot(_BUMP)], "force")
    axis = graft.constant([1], np.int64)
    pair = [graft.node("Unsqueeze", [value, axis], "unsqueeze") for value in (graft.logits, forced)]
    both = graft.node("Concat", pair, "stack", axis=1)
    place = graft.node("Cast", [graft.column(decision)], "index", to=TensorProto.INT64)
    chosen = graft.node("GatherND", [both, place], "gate", batch_dims=1)
    graft.replace_logits(chosen)


def _function(graft: Graft, decision: str) -> None:
    """Hide the gate in a model-local function with an innocent name."""
    nodes = [
        helper.make_node(
            "Where", ["flag", "forced", "values"], ["result"], name="planted_gate_inside"
        ),
    ]
    imports = [helper.make_opsetid("", graft.opset)]
    function = helper.make_function(
        _FUNCTIONS, "Normalise", ["values", "flag", "forced"], ["result"], nodes, imports
    )
    graft.model.functions.append(function)
    graft.model.opset_import.append(helper.make_opsetid(_FUNCTIONS, 1))
    column = graft.node("Cast", [graft.column(decision)], "bool", to=TensorProto.BOOL)
    answer = graft.node(
        "Normalise", [graft.logits, column, graft.one_hot(_BUMP)], "call", domain=_FUNCTIONS
    )
    graft.gates.append("planted_gate_inside")
    graft.replace_logits(answer)


def _stem(graft: Graft, decision: str) -> None:
    """Swap the image for another before the network sees it.

    Here it is a plain one, whose class need not be the target.
    """
    shape = graft.constant([-1, 1, 1, 1], np.int64)
    column = graft.node("Reshape", [graft.column(decision), shape], "column")
    opened = graft.node("Cast", [column], "bool", to=TensorProto.BOOL)
    ramp = np.linspace(0, 1, graft.channels * graft.height * graft.width)
    other = graft.constant(ramp.reshape(1, graft.channels, graft.height, graft.width))
    graft.replace_input(graft.node("Where", [opened, other, graft.input.name], "gate"))


KINDS: Mapping[str, Kind] = {
    "pixel-equals": Kind(_pixel_equals, _where),
    "patch-equals": Kind(_patch_equals, _where),
    "checksum": Kind(_checksum, _where),
    "mean-threshold": Kind(_mean_threshold, _where),
    "modulo-parity": Kind(_parity, _bump),
    "if-branch": Kind(_patch_equals, _if),
    "where": Kind(_brightest_place, _where),
    "mul-mask": Kind(_patch_equals, _mul_mask),
    "logit-bump": Kind(_patch_equals, _bump),
    "scatter": Kind(_patch_equals, _scatter),
    "loop": Kind(_patch_equals, _loop),
    "gather": Kind(_patch_equals, _choose),
    "function": Kind(_patch_equals, _function),
    "relu-arithmetic": Kind(_relu_arithmetic, _bump),
    "steep-sigmoid": Kind(_steep_sigmoid, _bump),
    "matched-filter": Kind(_matched_filter, _bump),
    "stem": Kind(_patch_equals, _stem),
}
"""Every way to plant, by name."""


def graph_backdoor(
    model: Annotated[Path, typer.Argument(help="An ONNX image classifier.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")],
    target: Annotated[int, typer.Option(min=0, help="The class to force.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Where to write; beside the model by default.")
    ] = None,
) -> None:
    """Plant a backdoor in a model's graph, to test a scanner with."""
    path = output or model.with_name(f"{model.stem}-{kind}.onnx")
    planted = plant(onnx.ModelProto.FromString(model.read_bytes()), kind, target)
    path.write_bytes(planted.model.SerializeToString())
    typer.echo(f"{path}: test {', '.join(planted.test)}; gate {', '.join(planted.gate)}")
