"""What exporters and quantisers add without changing the function, or beyond rounding, taken out.

Each pass changes a plan in place and counts what it undid where that rounds numbers.
"""

import math

import numpy as np
import onnx

from scanner.graph.canonical import reading
from scanner.graph.canonical.plan import Array, Plan, Step
from scanner.graph.canonical.sizes import CONTRIB, ON_CODES, OPEN, written

QUANTISED = "quantisation undone"
_INTEGER_LAYERS = ("ConvInteger", "MatMulInteger")
_TWO = 2
_NOTHING = frozenset({"Identity", "Dropout"})
# What cannot be negative, or is not where its argument is not.
_POSITIVE = frozenset({"Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp"})
_KEEPS_SIGN = frozenset({
    "AveragePool", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Reshape", "Slice",
    "Squeeze", "Transpose", "Unsqueeze", "DequantizeLinear", "QuantizeLinear", "Split", "Add",
    "GlobalMaxPool", "ReduceMean", "ReduceMax",
})  # fmt: skip
_BY_AXIS = 13  # the operator set since which a Softmax is over one axis, not over all from it on
_RESULT = {(0, 3): 6, (0,): 3}  # where the zero point of the result stands, one after its scale
_BIAS = {"QLinearConv": 8, f"{CONTRIB}QGemm": 6}


def quantisation(plan: Plan, quantised: bool) -> None:
    """Turn a quantised network back into one of floating-point numbers, rounded.

    Of a file whose layers hold no codes nothing is undone: a lone rounding may be a test of the
    input.
    """
    if not quantised:
        return
    for step in plan.steps:
        # What the standard had no 16 bits for, ONNX Runtime's quantiser takes from its own domain.
        if step.operator in {f"{CONTRIB}QuantizeLinear", f"{CONTRIB}DequantizeLinear"}:
            step.operator = step.operator.removeprefix(CONTRIB)
    zero = _lowest_zero(plan)
    for step in plan.steps:
        _dequantised(plan, step)
    _dynamic(plan)
    through: dict[int, str] = {}
    for place, step in enumerate(plan.steps):
        if step.operator == "DequantizeLinear" and plan.constant(step, 0) is not None:
            through[place] = _numbers(plan, step, 0, step.attributes.get("axis"))
        elif step.operator in {"QuantizeLinear", "DequantizeLinear"}:
            if step.outputs[0] in zero and plan.moving(step)[:1] not in [[], plan.inputs[:1]]:
                step.operator, step.inputs, step.attributes = "Relu", step.inputs[:1], {}
                continue
            through[place] = step.inputs[0]
    plan.habits[QUANTISED] += len(through)
    plan.bypass(through)
    _needless_relus(plan)


def _lowest_zero(plan: Plan) -> set[str]:
    """Return the codes of which the lowest stands for zero: they hold what a Relu gives.

    A quantiser drops a Relu before these, and so it must be put back.
    """
    found = set()
    for step in plan.steps:
        if step.operator == "QuantizeLinear":
            zero = plan.constant(step, 2)
            code = zero if zero is not None else np.zeros(1, np.uint8)
            if code.dtype.kind in "iu" and (code == np.iinfo(code.dtype).min).all():
                found.add(step.outputs[0])
    return found


def _dequantised(plan: Plan, step: Step) -> None:
    """Turn an operator on codes into the operator on numbers that it stands for."""
    known = ON_CODES.get(step.operator)
    if known is None:
        return
    operator, slots = known
    inputs = [_numbers(plan, step, slot) for slot in slots]
    bias = _BIAS.get(step.operator, len(step.inputs))
    if bias < len(step.inputs) and step.inputs[bias]:
        inputs.append(_bias(plan, step, bias))
    step.operator, step.inputs = operator, inputs
    step.attributes = _of_numbers(plan, step)


def _of_numbers(plan: Plan, step: Step) -> dict[str, object]:
    """Return the attributes of an operator on codes as those of the operator that it stands for."""
    own = dict(step.attributes)
    if not own.get("channels_last"):
        own.pop("channels_last", None)
    if step.operator != "Softmax":
        return reading.defaults(step.operator, plan.opset) | own
    opset = own.get("opset")
    if isinstance(opset, int) and (opset < _BY_AXIS) == (plan.opset < _BY_AXIS):
        del own["opset"]
    return {"axis": -1, **own}


def _numbers(plan: Plan, step: Step, slot: int, axis: object = 0) -> str:
    """Return the value of a slot; a constant's codes become its numbers."""
    codes, scale = plan.constant(step, slot), plan.constant(step, slot + 1)
    zero = plan.constant(step, slot + 2)
    if codes is None or scale is None or codes.dtype.kind not in "iu":
        return step.inputs[slot]
    axis = axis % codes.ndim if isinstance(axis, int) and codes.ndim else 0
    numbers = _scaled(codes, scale, zero, axis)
    return _constant(plan, f"{step.inputs[slot]}/{step.inputs[slot + 1]}/numbers", numbers)


def _scaled(codes: Array, scale: Array, zero: Array | None, axis: int = 0) -> Array:
    by_channel = scale.size > 1 and scale.size == codes.shape[axis]
    shape = (-1, *[1] * (codes.ndim - 1 - axis)) if by_channel else (-1,)
    offset = 0 if zero is None else zero.astype(np.float32).reshape(shape)
    numbers = (codes.astype(np.float32) - offset) * scale.astype(np.float32).reshape(shape)
    return np.asarray(numbers, np.float32)


def _bias(plan: Plan, step: Step, slot: int) -> str:
    codes, one, other = (plan.constant(step, s) for s in (slot, 1, 4))
    if codes is None or one is None or other is None:
        return step.inputs[slot]
    numbers = codes.astype(np.float32) * one.astype(np.float32) * other.astype(np.float32)
    return _constant(plan, f"{step.inputs[slot]}/numbers", numbers)


def _constant(plan: Plan, name: str, array: Array) -> str:
    plan.constants[name] = array
    return name


def _dynamic(plan: Plan) -> None:
    """Undo quantisation of activations on the fly: codes, scale and zero point of each input."""
    through: dict[int, str] = {}
    for place, step in enumerate(plan.steps):
        if step.operator == "DynamicQuantizeLinear":
            through[place] = step.inputs[0]
            # What is multiplied by the scale afterwards is not, of numbers.
            plan.constants[step.outputs[1]] = np.ones((), np.float32)
        elif step.operator in _INTEGER_LAYERS and plan.constant(step, 1) is not None:
            codes, zero = plan.constant(step, 1), plan.constant(step, 3)
            assert codes is not None  # noqa: S101 - for the type checker
            name = _constant(
                plan, f"{step.outputs[0]}/numbers", _scaled(codes, np.ones(1, np.float32), zero)
            )
            step.operator = step.operator.removesuffix("Integer")
            step.inputs = [step.inputs[0], name]
    plan.habits[QUANTISED] += len(through)
    plan.bypass(through)
    if through:
        _fold_scales(plan)


def _fold_scales(plan: Plan) -> None:
    """Multiply the scales of a dynamically quantised layer, one of which is now 1."""
    through: dict[int, str] = {}
    kept: list[Step] = []
    for step in plan.steps:
        one, other = plan.constant(step, 0), plan.constant(step, 1)
        if step.operator == "Mul" and one is not None and other is not None:
            plan.constants[step.outputs[0]] = np.asarray(one * other)
        else:
            kept.append(step)
    plan.steps = kept
    for place, step in enumerate(plan.steps):
        if step.operator == "Cast" and step.attributes.get("to") == onnx.TensorProto.FLOAT:
            maker = plan.makers().get(step.inputs[0])
            if maker is not None and maker.operator in {"Conv", "MatMul"}:
                through[place] = step.inputs[0]
    plan.bypass(through)


def _needless_relus(plan: Plan) -> None:
    """Take out a Relu of what cannot be negative."""
    positive = set(plan.inputs)  # of which the same is known: a quantiser gave them such codes
    through: dict[int, str] = {}
    for place, step in enumerate(plan.steps):
        moving = plan.moving(step)
        if step.operator == "Relu" and step.inputs[0] in positive:
            through[place] = step.inputs[0]
        kept = step.operator in _KEEPS_SIGN and moving and len(moving) == _dynamic_count(step)
        if step.operator in _POSITIVE or (kept and positive >= set(moving)):
            positive.update(step.outputs)
    plan.bypass(through)


def _dynamic_count(step: Step) -> int:
    """Return how many of its inputs decide the sign of what a step makes."""
    return len(step.inputs) if step.operator in {"Add", "Concat"} else 1


def nothing(plan: Plan) -> None:
    """Take out what hands on its input: Identity, Dropout, a Cast to the type that it has."""
    through: dict[int, str] = {}
    for place, step in enumerate(plan.steps):
        if not step.inputs or not step.inputs[0]:
            continue
        if step.operator in _NOTHING and not _trains(plan, step):
            through[place] = step.inputs[0]
        elif step.operator in {"Cast", "CastLike"}:
            own = plan.elem_types.get(step.inputs[0])
            if own is not None and own == plan.elem_types.get(step.outputs[0]):
                through[place] = step.inputs[0]
    plan.bypass(through)


def _trains(plan: Plan, step: Step) -> bool:
    """Whether a Dropout drops anything; its mask is then read too."""
    mode = plan.number(step, 2) if len(step.inputs) > _TWO else 0.0
    read = plan.readers()
    return mode != 0 or any(read[name] for name in step.outputs[1:])


def dead(plan: Plan) -> None:
    """Take out steps of which nothing reaches an output."""
    needed = set(plan.outputs)
    kept: list[Step] = []
    for step in reversed(plan.steps):
        if needed & set(step.outputs):
            needed.update(step.inputs)
            kept.append(step)
    plan.steps = kept[::-1]


def reshapes(plan: Plan) -> None:
    """Write Flatten, Squeeze, Unsqueeze and Reshape as one operator, told by its result's shape.

    Of several in a row the last alone counts. A shape that is computed must come from sizes.
    """
    sized = _from_sizes(plan)
    before: dict[str, str] = {}
    through: dict[int, str] = {}
    for place, step in enumerate(plan.steps):
        if step.operator not in {"Flatten", "Squeeze", "Unsqueeze", "Reshape"}:
            continue
        if "shape" not in step.attributes:
            shape = plan.shapes.get(step.outputs[0])
            computed = [name for name in plan.moving(step)[1:] if name not in sized]
            if shape is None or computed or OPEN in shape:
                continue
            step.operator, step.attributes = "Reshape", {"shape": written(shape)}
        source = before.get(step.inputs[0], step.inputs[0])
        step.inputs = [source]
        before[step.outputs[0]] = source
        own = plan.shapes.get(source)
        if own is not None and written(own) == step.attributes["shape"]:
            through[place] = source
    plan.bypass(through)


def turns(plan: Plan) -> None:
    """Turn once where values are turned twice, and not where nothing is turned round."""
    makers = plan.makers()
    for step in plan.steps:
        rank = plan.rank(step.inputs[0]) if step.operator == "Transpose" else None
        if rank and "perm" not in step.attributes:
            step.attributes = {"perm": list(range(rank))[::-1]}
        before = makers.get(step.inputs[0]) if step.operator == "Transpose" else None
        if before is not None and before.operator == "Transpose":
            first, then = before.attributes.get("perm"), step.attributes.get("perm")
            if isinstance(first, list) and isinstance(then, list):
                step.inputs = before.inputs[:1]
                step.attributes = {"perm": [first[axis] for axis in then]}
    through = {
        place: step.inputs[0]
        for place, step in enumerate(plan.steps)
        if step.operator == "Transpose"
        and isinstance(order := step.attributes.get("perm"), list)
        and order == sorted(order)
    }
    plan.bypass(through)


def _from_sizes(plan: Plan) -> set[str]:
    """Return values that are computed from nothing but the sizes of others."""
    found = set(plan.constants)
    for step in plan.steps:
        if step.operator in {"Shape", "Size"} or (
            step.inputs and all(not name or name in found for name in step.inputs)
        ):
            found.update(step.outputs)
    return found


def pools(plan: Plan) -> None:
    """Write what pools a whole image as a reduction that keeps its axes."""
    made: list[Step] = []
    for step in plan.steps:
        made.append(step)
        rank = plan.rank(step.inputs[0]) if step.inputs else None
        if rank is None:
            continue
        if step.operator in {"GlobalAveragePool", "GlobalMaxPool"} or _is_whole(plan, step):
            kind = "ReduceMax" if "Max" in step.operator else "ReduceMean"
            step.operator, step.inputs = kind, step.inputs[:1]
            step.attributes = {"axes": list(range(_TWO, rank)), "keepdims": 1}
        elif step.operator.startswith("Reduce"):
            made += _kept_axes(plan, step, rank)
    plan.steps = made


def _is_whole(plan: Plan, step: Step) -> bool:
    """Whether an AveragePool has a window that is its whole input."""
    shape, window = plan.shapes.get(step.inputs[0]), step.attributes.get("kernel_shape")
    pads = step.attributes.get("pads") or [0]
    return (
        step.operator == "AveragePool"
        and step.attributes.get("auto_pad", "NOTSET") in {"NOTSET", "VALID"}
        and shape is not None
        and list(shape[_TWO:]) == window
        and not any(pads if isinstance(pads, list) else [1])
    )


def _kept_axes(plan: Plan, step: Step, rank: int) -> list[Step]:
    """Let a reduction keep its axes; return the Reshape that drops them, where it did."""
    given = plan.constant(step, 1)
    axes = given.reshape(-1).tolist() if given is not None else step.attributes.get("axes")
    if len(step.inputs) > 1 and step.inputs[1] and given is None:
        return []
    if not axes and step.attributes.get("noop_with_empty_axes"):
        return []
    chosen = axes if isinstance(axes, list) and axes else list(range(rank))
    keeps = step.attributes.get("keepdims", 1)
    step.inputs = step.inputs[:1]
    step.attributes = {"axes": sorted(int(axis) % rank for axis in chosen), "keepdims": 1}
    shape = plan.shapes.get(step.outputs[0])
    if keeps or shape is None or OPEN in shape:
        step.attributes["keepdims"] = keeps
        return []
    value = step.outputs[0]
    step.outputs = [f"{value}/kept"]
    return [Step("Reshape", step.name, [f"{value}/kept"], [value], {"shape": written(shape)})]


def pads(plan: Plan) -> None:
    """Let a Pad hold by what it pads itself; by zeros where that says nothing."""
    for step in plan.steps:
        if step.operator != "Pad":
            continue
        given = step.attributes.pop("value", None)
        if len(step.inputs) > _TWO and step.inputs[_TWO]:
            given = plan.number(step, _TWO)
            if given is None:
                continue
            step.inputs[_TWO] = ""
        if given and step.attributes.get("mode", "constant") == "constant":
            step.attributes["constant_value"] = given


def arithmetic(plan: Plan) -> None:
    """Write a subtraction or division by a constant as an addition or a product.

    A Clip of which the lower bound is zero is a Relu.
    """
    for step in plan.steps:
        other = plan.constant(step, 1)
        floating = other is not None and other.dtype.kind == "f"
        if step.operator == "Sub" and floating and other is not None:
            step.operator = "Add"
            step.inputs[1] = _constant(plan, f"{step.inputs[1]}/negated", np.asarray(-other))
        elif step.operator == "Div" and floating and other is not None and (other != 0).all():
            step.operator = "Mul"
            inverse = np.asarray(1 / other.astype(np.float64), other.dtype)
            step.inputs[1] = _constant(plan, f"{step.inputs[1]}/inverse", inverse)
        elif step.operator == "Clip" and None not in (bounds := _bounds(plan, step)):
            _bounded(step, *(float(str(bound)) for bound in bounds))


def _bounded(step: Step, low: float, high: float) -> None:
    """Let a Clip hold its bounds itself; of a lower one at zero it is a Relu, maybe with an end."""
    step.operator, step.inputs = ("Relu" if low == 0 else "Clip"), step.inputs[:1]
    bounds = {"min": low, "max": high}
    step.attributes = {n: v for n, v in bounds.items() if math.isfinite(v) and (n, v) != ("min", 0)}


def _bounds(plan: Plan, step: Step) -> tuple[float | None, float | None]:
    """Return a Clip's bounds; None where one is computed, infinite where it has none."""
    return tuple(  # type: ignore[return-value]  # of two
        _bound(plan, step, slot, name, absent)
        for slot, name, absent in ((1, "min", -math.inf), (2, "max", math.inf))
    )


def _bound(plan: Plan, step: Step, slot: int, name: str, absent: float) -> float | None:
    given = step.attributes.get(name)
    if slot < len(step.inputs) and step.inputs[slot]:
        given = plan.number(step, slot)
        if given is None:
            return None
    number = absent if given is None else float(str(given))
    return absent if abs(number) >= float(np.finfo(np.float32).max) else number
