"""The canonical graph of a model, and its fingerprint."""

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from scanner.errors import UnsupportedModelError
from scanner.graph.canonical import classical, contracted, cuts, layers, undo
from scanner.graph.canonical.plan import Array, Plan, Step
from scanner.graph.canonical.reading import FLATTENED, input_name, read
from scanner.graph.canonical.rows import Rower
from scanner.graph.canonical.sizes import written
from scanner.graph.core.structure import Uses
from scanner.results import COMMUTATIVE, GROWN, CanonicalGraph, CanonicalNode

_MOST_NODES = 2**16
_SHOWN = 16  # numbers of a constant that are written out
_ENDLESS = 2**31 - 1  # a Slice ends there where it ends nowhere
_LAYERS = frozenset({"Conv", "ConvInteger", "Gemm", "MatMul", "MatMulInteger", "ConvTranspose"})
_INTEGERS = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm")
_SPATIAL = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}
# Constants that are trained, whatever their size, by the slots that they are read from.
_TRAINED: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    layers.LINEAR: (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RNN": (1, 2, 3),
}
_ROLES = {(layers.LINEAR, 1): "weight", (layers.LINEAR, 2): "bias", ("Conv", 1): "weight",
          ("Conv", 2): "bias"}  # fmt: skip
# What changes no number: hints, and what other attributes say already.
_SILENT = frozenset({
    "allowzero", "auto_pad", "kernel_shape", "momentum", "stash_type", "storage_order",
})  # fmt: skip
_OFF = frozenset({"noop_with_empty_axes", "training_mode"})  # says nothing where it is 0


def draw(proto: onnx.ModelProto, seed: int = 0) -> CanonicalGraph:
    """Return the canonical graph of a model.

    Functions and constant branches are inlined, constants computed, dead nodes and those that hand
    on their input dropped, normalisations and scales folded into layers, and what a change of
    precision added is taken out again.

    Args:
        proto: The model, with its external data inside.
        seed: Of the signs in the sketches of weights (`Rower`).

    Raises:
        MalformedModelError: The graph contradicts itself.
        UnsupportedModelError: It has too many nodes to be compared.
    """
    quantised = _is_quantised(proto)
    plan = read(proto)
    if len(plan.steps) > _MOST_NODES:
        raise UnsupportedModelError(
            f"the model has {len(plan.steps):,} nodes, more than the {_MOST_NODES:,} that can be "
            "compared with those of another",
            remedy="leave out the detector `diff`",
        )
    undo.quantisation(plan, quantised)
    undo.nothing(plan)
    undo.dead(plan)
    undo.pools(plan)
    undo.pads(plan)
    cuts.slices(plan)
    undo.reshapes(plan)
    cuts.transposes(plan)
    cuts.squeezed(plan)
    undo.reshapes(plan)
    undo.turns(plan)
    undo.reshapes(plan)
    undo.arithmetic(plan)
    layers.dense(plan)
    layers.affine(plan)
    layers.biased(plan)
    contracted.activations(plan)
    classical.learnt(plan)
    undo.dead(plan)
    return _drawn(plan, Rower(seed))


def _is_quantised(proto: onnx.ModelProto) -> bool:
    """Whether half of a file's layers hold codes of whole numbers."""
    uses = Uses(proto.graph)
    whole = coded = 0
    for node in proto.graph.node:
        if node.op_type in _INTEGERS:
            whole, coded = whole + 1, coded + 1
        elif node.op_type in _LAYERS and len(node.input) > 1:
            maker = uses.producer(node.input[1])
            whole += 1
            coded += (
                maker is not None
                and maker.op_type == "DequantizeLinear"
                and maker.input[0] in uses.constants
            )
    return bool(coded) and coded * 2 >= whole


def _drawn(plan: Plan, rower: Rower) -> CanonicalGraph:
    told = {id(step): _told(plan, step) for step in plan.steps}
    marks = _marks(plan, told)
    ordered = list(_ordered(plan, marks))
    numbers = {name: place for place, name in enumerate(plan.inputs)}
    nodes = []
    for step in ordered:
        read = tuple(numbers[name] for name in plan.moving(step) if name in numbers)
        attributes, figures, trained = told[id(step)]
        nodes.append(
            CanonicalNode(
                operator=step.operator,
                name=step.name,
                inputs=read,
                outputs=len(step.outputs),
                attributes=attributes,
                numbers=figures,
                weights=tuple(
                    rower.rows(step.operator, role, plan.constants[name])
                    for role, name in trained.items()
                ),
            )
        )
        for name in step.outputs:
            numbers[name or f"{id(step)}/{len(numbers)}"] = len(numbers)
    outputs = tuple(numbers[name] for name in plan.outputs if name in numbers)
    inputs = tuple(_shape(plan, name) for name in plan.inputs)
    whole = sorted(marks[name] for step in plan.steps for name in step.outputs)
    last = [marks.get(name, "constant") for name in plan.outputs]
    return CanonicalGraph(
        fingerprint=_mark((inputs, whole, last)),
        inputs=inputs,
        nodes=tuple(nodes),
        outputs=outputs,
        habits={name: count for name, count in plan.habits.items() if count},
    )


_Told = tuple[dict[str, str], dict[str, tuple[float, ...]], dict[str, str]]
"""Attributes in words, numbers, and the names of weights by role."""


def _told(plan: Plan, step: Step) -> _Told:
    """Return what a step was told beside what it reads."""
    attributes: dict[str, str] = {}
    figures: dict[str, tuple[float, ...]] = {}
    trained = dict(step.weights)
    for name, value in _filled(plan, step):
        _tell(name, value, attributes, figures)
    for slot, name in enumerate(step.inputs):
        array = plan.constants.get(name)
        # Some exporters leave out what others give as a tensor without numbers.
        if array is None or not array.size:
            if (array is not None or not name) and any(step.inputs[slot + 1 :]):
                attributes[f"input {slot}"] = "left out"
            continue
        role = _role(step.operator, slot)
        by_role = slot in _TRAINED.get(step.operator, ()) and array.dtype.kind == "f"
        if by_role or (array.size > 1 and array.dtype.kind == "f"):
            trained[role] = name
        else:
            _tell(role, array, attributes, figures)
    return attributes, figures, trained


def _role(operator: str, slot: int) -> str:
    if operator in COMMUTATIVE:
        return "constant"
    return _ROLES.get((operator, slot)) or input_name(operator, slot)


def _tell(
    name: str, value: object, attributes: dict[str, str], figures: dict[str, tuple[float, ...]]
) -> None:
    """Put one thing where it belongs: numbers that are rounded, or words."""
    array = np.asarray(value)
    if array.dtype.kind == "f" and array.size == 1 and math.isfinite(array.reshape(-1)[0]):
        figures[name] = (float(array.reshape(-1)[0]),)
    elif array.dtype.kind in "iubf":
        attributes[name] = _written(array)
    elif array.ndim and array.size > _SHOWN:
        attributes[name] = f"{array.size} texts, {_mark(array.tolist())}"
    else:
        attributes[name] = str(value)


def _written(array: Array) -> str:
    """Return a constant of whole numbers in words: written out where it is short."""
    if array.dtype.kind in "iu":
        array = np.clip(array.astype(np.int64), -_ENDLESS, _ENDLESS)
    if array.size <= _SHOWN:
        return ",".join(map(str, array.reshape(-1).tolist()))
    digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
    return f"{array.size} numbers, {digest}"


def _filled(plan: Plan, step: Step) -> Iterator[tuple[str, object]]:
    """Yield a step's attributes: those that say nothing left out, axes counted from the front."""
    given = {
        name: value
        for name, value in step.attributes.items()
        if name not in _SILENT and (value or name not in _OFF)
    }
    pad = step.attributes.get("auto_pad", "NOTSET")
    if pad != "NOTSET":
        given.pop("pads", None)
    if pad not in {"NOTSET", "VALID"}:
        given["auto_pad"] = pad
    if step.operator in _SPATIAL:
        spatial = _spatial(plan, step)
        window = step.attributes.get("kernel_shape")
        if "Pool" in step.operator:
            given["kernel_shape"] = window
        given = {"strides": [1] * spatial, "pads": [0] * 2 * spatial, **given}
        if step.operator != "AveragePool":
            given = {"dilations": [1] * spatial, **given}
        given = {name: value for name, value in given.items() if value != []}
    rank = plan.rank(step.inputs[0]) if step.inputs else None
    if rank and isinstance(axis := given.get("axis"), int):
        given["axis"] = axis % rank
        if set((plan.shapes.get(step.inputs[0]) or ())[axis % rank + 1 :]) <= {1}:
            given.pop(FLATTENED, None)
    yield from sorted(given.items())


def _spatial(plan: Plan, step: Step) -> int:
    weights = plan.constant(step, 1)
    if weights is not None and "Conv" in step.operator:
        return weights.ndim - 2
    window = step.attributes.get("kernel_shape")
    return len(window) if isinstance(window, list) else 0


def _marks(plan: Plan, told: dict[int, _Told]) -> dict[str, str]:
    """Return for each value a hash of how it is computed, weights but for their shapes left out."""
    marks = {name: f"input {place}" for place, name in enumerate(plan.inputs)}
    for step in plan.steps:
        attributes, figures, trained = told[id(step)]
        read = [marks.get(name, "unknown") for name in plan.moving(step)]
        own = (
            step.operator,
            sorted(read) if step.operator in COMMUTATIVE else read,
            sorted(attributes.items()),
            sorted((name, _rounded(values)) for name, values in figures.items()),
            sorted(
                (role, 0 if step.operator in GROWN else plan.constants[name].size)
                for role, name in trained.items()
            ),
        )
        for slot, name in enumerate(step.outputs):
            marks[name] = _mark((own, slot))
    return marks


def _rounded(values: Sequence[float]) -> list[str]:
    """Return numbers in words that are the same before and after a change to 16 bits."""
    with np.errstate(over="ignore"):
        return [f"{float(np.float16(value)):.3g}" for value in values]


def _mark(value: object) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=8).hexdigest()


def _ordered(plan: Plan, marks: dict[str, str]) -> Iterator[Step]:
    """Yield the steps in an order that does not depend on that of the file."""
    makers = plan.makers()
    done: set[int] = set()
    waiting = [(name, False) for name in reversed(plan.outputs)]
    while waiting:
        name, ready = waiting.pop()
        step = makers.get(name)
        if step is None or id(step) in done:
            continue
        if ready:
            done.add(id(step))
            yield step
            continue
        read = plan.moving(step)
        if step.operator in COMMUTATIVE:
            read = sorted(read, key=lambda value: marks.get(value, ""))
        waiting.append((name, True))
        waiting += [(value, False) for value in reversed(read)]


def _shape(plan: Plan, name: str) -> str:
    shape = plan.shapes.get(name)
    return "unknown" if shape is None else written(shape)
