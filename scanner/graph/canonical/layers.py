"""Convolutions and dense layers in one form, with what follows them folded in."""

from collections.abc import Callable

import numpy as np

from scanner.graph.canonical.plan import Array, Plan, Step

LINEAR = "Linear"
NORMALISED = "batch normalisation folded"
_MATRIX, _BIASED, _NORM = 2, 3, 5
_FOLDING = frozenset({LINEAR, "Conv"})


def dense(plan: Plan) -> None:
    """Write Gemm, and MatMul with a constant matrix, as one operator on (outputs, inputs)."""
    for step in plan.steps:
        weights = plan.constant(step, 1)
        if weights is None or weights.ndim != _MATRIX or weights.dtype.kind != "f":
            continue
        if step.operator == "MatMul":
            _become(plan, step, weights.T, None)
        elif step.operator == "Gemm" and not step.attributes.get("transA"):
            bias = plan.constant(step, 2)
            if len(step.inputs) == _BIASED and step.inputs[2] and bias is None:
                continue
            matrix = weights if step.attributes.get("transB") else weights.T
            alpha, beta = (float(str(step.attributes.get(n, 1.0))) for n in ("alpha", "beta"))
            shift = None if bias is None else bias.reshape(-1) if beta == 1 else bias * beta
            _become(plan, step, matrix if alpha == 1 else matrix * alpha, shift)


def _become(plan: Plan, step: Step, weights: Array, bias: Array | None) -> None:
    step.operator, step.attributes = LINEAR, {}
    _set(plan, step, weights, bias)


def _set(plan: Plan, step: Step, weights: Array, bias: Array | None) -> None:
    """Give a layer other weights; constants that others read stay as they are."""
    stem = step.outputs[0]
    plan.constants[f"{stem}/weight"] = weights
    step.inputs = [step.inputs[0], f"{stem}/weight"]
    if bias is not None:
        plan.constants[f"{stem}/bias"] = bias
        step.inputs.append(f"{stem}/bias")


def affine(plan: Plan) -> None:
    """Fold into a layer what multiplies its channels by constants or adds constants to them.

    Only where nothing else reads the layer's own value.
    """
    makers, readers = plan.makers(), plan.readers()
    through: dict[int, str] = {}
    for place, step in enumerate(plan.steps):
        fold = _FOLDED.get(step.operator)
        moving = plan.moving(step)
        layer = makers.get(moving[0]) if fold and len(moving) == 1 else None
        if fold is None or layer is None or layer.operator not in _FOLDING:
            continue
        if readers[moving[0]] == 1 and fold(plan, layer, step):
            through[place] = layer.outputs[0]
            plan.habits[NORMALISED] += step.operator == "BatchNormalization"
            # The layer now makes what the step made, so that what follows can be folded too.
            makers[step.outputs[0]] = layer
    plan.bypass(through)


def biased(plan: Plan) -> None:
    """Give each layer a bias: some exporters drop one of zeros."""
    for step in plan.steps:
        weights = plan.constant(step, 1)
        if step.operator in _FOLDING and weights is not None and len(step.inputs) < _BIASED:
            _set(plan, step, weights, np.zeros(len(weights), weights.dtype))


def _added(plan: Plan, layer: Step, step: Step) -> bool:
    shift = _by_channel(plan, layer, step)
    if shift is None:
        return False
    weights, bias = _held(plan, layer)
    if weights is None or (len(layer.inputs) == _BIASED and bias is None):
        return False
    _set(plan, layer, weights, shift if bias is None else np.asarray(bias.reshape(-1) + shift))
    return True


def _multiplied(plan: Plan, layer: Step, step: Step) -> bool:
    gain = _by_channel(plan, layer, step)
    return gain is not None and _scale(plan, layer, gain, None)


def _normalised(plan: Plan, layer: Step, step: Step) -> bool:
    if step.attributes.get("training_mode"):
        return False  # it normalises each batch by itself
    constants = [plan.constant(step, slot) for slot in range(1, _NORM)]
    scale, shift, mean, variance = constants if len(constants) == _NORM - 1 else [None] * 4
    if scale is None or shift is None or mean is None or variance is None:
        return False
    with np.errstate(all="ignore"):  # of a broken normalisation nothing sensible is asked
        gain = scale / np.sqrt(variance + float(str(step.attributes.get("epsilon", 1e-5))))
    return _scale(plan, layer, np.asarray(gain), np.asarray(shift - mean * gain))


def _scale(plan: Plan, layer: Step, gain: Array, shift: Array | None) -> bool:
    weights, bias = _held(plan, layer)
    if weights is None or len(gain) != len(weights):
        return False
    if len(layer.inputs) == _BIASED and bias is None:
        return False
    scaled = np.asarray(weights * gain.reshape(-1, *[1] * (weights.ndim - 1)), weights.dtype)
    moved = None if bias is None else bias.reshape(-1) * gain
    if shift is not None:
        moved = shift if moved is None else moved + shift
    _set(plan, layer, scaled, None if moved is None else np.asarray(moved, weights.dtype))
    return True


def _held(plan: Plan, layer: Step) -> tuple[Array | None, Array | None]:
    weights = plan.constant(layer, 1)
    return weights, plan.constant(layer, 2)


def _by_channel(plan: Plan, layer: Step, step: Step) -> Array | None:
    """Return a step's constant as one number per channel of the layer; None where it is not."""
    name = next((n for n in step.inputs if n in plan.constants), None)
    weights = plan.constant(layer, 1)
    if name is None or weights is None or len(step.inputs) != _MATRIX:
        return None
    constant, channels = plan.constants[name], len(weights)
    if constant.dtype.kind != "f":
        return None
    # In a convolution's result the channels come before the image, in a dense layer's last.
    behind = weights.ndim - _MATRIX if layer.operator == "Conv" else 0
    axis = constant.ndim - 1 - behind
    sized = [place for place, size in enumerate(constant.shape) if size != 1]
    if sized not in ([], [axis]) or constant.size not in {1, channels}:
        return None
    return np.broadcast_to(constant.reshape(-1), (channels,))


_FOLDED: dict[str, Callable[[Plan, Step, Step], bool]] = {
    "Add": _added,
    "Mul": _multiplied,
    "BatchNormalization": _normalised,
}
