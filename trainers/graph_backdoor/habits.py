"""Honest habits of pre- and post-processing, grafted onto a classifier: what must not be accused.

Many test the input, choose between ways, and change the answer where the test says so. The numbers
are those that people write; some tests hardly ever apply to the images that a model was made for.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto

from trainers.errors import TrainerError
from trainers.graph_backdoor import network
from trainers.graph_backdoor.check import smooth_images
from trainers.graph_backdoor.graft import Graft, Operand
from trainers.graph_backdoor.pictures import value_at


@dataclasses.dataclass(frozen=True, slots=True)
class Habit:
    """One habit.

    Attributes:
        graft: Grafts it.
        says: What it does, in a few words.
    """

    graft: Callable[[Graft], None]
    says: str


def adopt(model: onnx.ModelProto, habit: str) -> onnx.ModelProto:
    """Return a copy of a classifier with a habit.

    Args:
        model: A classifier of images [N, C, H, W] in [0, 1] with logits [N, K]; opset 13 or later.
        habit: One of `HABITS`.

    Raises:
        TrainerError: There is no such habit, or the model is no such classifier.
    """
    if habit not in HABITS:
        raise TrainerError(
            f"there is no habit {habit!r}", remedy=f"choose one of {', '.join(HABITS)}"
        )
    graft = Graft(model, 0, prefix="step")
    HABITS[habit].graft(graft)
    return graft.planted().model


def _do(graft: Graft, op: str, *inputs: Operand, **attributes: object) -> str:
    return graft.node(op, inputs, op.lower(), **attributes)


def _image_mean(graft: Graft, value: str = "") -> str:
    return graft.reduce("ReduceMean", value or graft.input.name, [1, 2, 3], keep=True)


def _image_extreme(graft: Graft, op: str) -> str:
    return graft.reduce(op, graft.input.name, [1, 2, 3], keep=True)


def _deviation(graft: Graft) -> str:
    centred = _do(graft, "Sub", graft.input.name, _image_mean(graft))
    return _do(graft, "Sqrt", _image_mean(graft, _do(graft, "Mul", centred, centred)))


def _flat(graft: Graft, value: str) -> str:
    """Graft what is one number a sample as [N, 1]."""
    return _do(graft, "Reshape", value, [-1, 1])


def _choose(graft: Graft, test: str, yes: Operand, no: Operand) -> str:
    return _do(graft, "Where", test, yes, no)


def _floats(graft: Graft, test: str) -> str:
    return _do(graft, "Cast", test, to=TensorProto.FLOAT)


# Before the network.


def _inversion(graft: Graft) -> None:
    negative = _do(graft, "Sub", 1.0, graft.input.name)
    light = _do(graft, "Greater", _image_mean(graft), 0.5)
    graft.replace_input(_choose(graft, light, negative, graft.input.name))


def _inversion_by_border(graft: Graft) -> None:
    mask = np.ones((1, 1, graft.height, graft.width), np.float32)
    mask[:, :, 1:-1, 1:-1] = 0
    border = _image_mean(graft, _do(graft, "Mul", graft.input.name, mask / mask.mean()))
    negative = _do(graft, "Sub", 1.0, graft.input.name)
    light = _do(graft, "Greater", border, 0.5)
    graft.replace_input(_choose(graft, light, negative, graft.input.name))


def _inversion_by_arithmetic(graft: Graft) -> None:
    light = _do(graft, "Round", _image_mean(graft))
    graft.replace_input(_do(graft, "Abs", _do(graft, "Sub", graft.input.name, light)))


def _soft_inversion(graft: Graft) -> None:
    over = _do(graft, "Mul", _do(graft, "Sub", _image_mean(graft), 0.5), 20.0)
    share = _do(graft, "Sigmoid", over)
    negative = _do(graft, "Sub", 1.0, graft.input.name)
    kept = _do(graft, "Mul", graft.input.name, _do(graft, "Sub", 1.0, share))
    graft.replace_input(_do(graft, "Add", kept, _do(graft, "Mul", negative, share)))


def _gamma(graft: Graft) -> None:
    mean = _do(graft, "Clip", _image_mean(graft), 0.05, 0.95)
    power = _do(graft, "Div", float(np.log(0.4)), _do(graft, "Log", mean))
    power = _do(graft, "Clip", power, 0.7, 1.4)
    image = _do(graft, "Clip", graft.input.name, 1e-6, 1.0)
    graft.replace_input(_do(graft, "Pow", image, power))


def _gamma_if_dark(graft: Graft) -> None:
    lighter = _do(graft, "Pow", _do(graft, "Clip", graft.input.name, 0.0, 1.0), 0.7)
    dark = _do(graft, "Less", _image_mean(graft), 0.15)
    graft.replace_input(_choose(graft, dark, lighter, graft.input.name))


def _signed_range(graft: Graft) -> None:
    half = _do(graft, "Div", _do(graft, "Add", graft.input.name, 1.0), 2.0)
    signed = _do(graft, "Less", _image_extreme(graft, "ReduceMin"), 0.0)
    graft.replace_input(_choose(graft, signed, half, graft.input.name))


def _byte_range(graft: Graft) -> None:
    fractions = _do(graft, "Div", graft.input.name, 255.0)
    are_bytes = _do(graft, "Greater", _image_extreme(graft, "ReduceMax"), 1.5)
    graft.replace_input(_choose(graft, are_bytes, fractions, graft.input.name))


def _three_ranges(graft: Graft) -> None:
    most = _image_extreme(graft, "ReduceMax")
    deep = _choose(graft, _do(graft, "Greater", most, 255.5), 65535.0, 255.0)
    divisor = _choose(graft, _do(graft, "Greater", most, 1.5), deep, 1.0)
    graft.replace_input(_do(graft, "Div", graft.input.name, divisor))


def _clamp(graft: Graft) -> None:
    graft.replace_input(_do(graft, "Clip", graft.input.name, 0.0, 1.0))


def _stretched(graft: Graft) -> str:
    least, most = (_image_extreme(graft, op) for op in ("ReduceMin", "ReduceMax"))
    spread = _do(graft, "Add", _do(graft, "Sub", most, least), 1e-6)
    return _do(graft, "Div", _do(graft, "Sub", graft.input.name, least), spread)


def _contrast(graft: Graft) -> None:
    graft.replace_input(_stretched(graft))


def _contrast_if_low(graft: Graft) -> None:
    low = _do(graft, "Less", _deviation(graft), 0.08)
    graft.replace_input(_choose(graft, low, _stretched(graft), graft.input.name))


def _standardised(graft: Graft) -> None:
    centred = _do(graft, "Sub", graft.input.name, _image_mean(graft))
    spread = _do(graft, "Add", _deviation(graft), 1e-5)
    scaled = _do(graft, "Mul", _do(graft, "Div", centred, spread), 0.25)
    graft.replace_input(_do(graft, "Add", scaled, 0.3))


def _flat_guard(graft: Graft) -> None:
    spread = _deviation(graft)
    guarded = _choose(graft, _do(graft, "Equal", spread, 0.0), 1.0, spread)
    centred = _do(graft, "Sub", graft.input.name, _image_mean(graft))
    scaled = _do(graft, "Mul", _do(graft, "Div", centred, guarded), 0.25)
    graft.replace_input(_do(graft, "Add", scaled, 0.3))


def _grey_check(graft: Graft) -> None:
    grey = graft.reduce("ReduceMean", graft.input.name, [1], keep=True)
    apart = _do(graft, "Abs", _do(graft, "Sub", graft.input.name, grey))
    most = graft.reduce("ReduceMax", apart, [1, 2, 3], keep=True)
    colourless = _do(graft, "Less", most, 0.02)
    lifted = _do(graft, "Mul", grey, np.full((1, graft.channels, 1, 1), 1.02, np.float32))
    graft.replace_input(_choose(graft, colourless, lifted, graft.input.name))


def _white_balance(graft: Graft) -> None:
    each = graft.reduce("ReduceMean", graft.input.name, [2, 3], keep=True)
    factor = _do(graft, "Div", _image_mean(graft), _do(graft, "Add", each, 1e-3))
    factor = _do(graft, "Clip", factor, 0.8, 1.25)
    graft.replace_input(_do(graft, "Mul", graft.input.name, factor))


def _night_mode(graft: Graft) -> None:
    night = _do(graft, "Less", _image_mean(graft), 0.2)
    lighter = _do(graft, "Clip", _do(graft, "Mul", graft.input.name, 1.3), 0.0, 1.0)
    graft.replace_input(_choose(graft, night, lighter, graft.input.name))


def _smoothed(graft: Graft) -> str:
    return _do(
        graft, "AveragePool", graft.input.name,
        kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0,
    )  # fmt: skip


def _denoise_if_noisy(graft: Graft) -> None:
    smooth = _smoothed(graft)
    rough = _image_mean(graft, _do(graft, "Abs", _do(graft, "Sub", graft.input.name, smooth)))
    noisy = _do(graft, "Greater", rough, 0.12)
    graft.replace_input(_choose(graft, noisy, smooth, graft.input.name))


def _sharpen_if_blurred(graft: Graft) -> None:
    detail = _do(graft, "Sub", graft.input.name, _smoothed(graft))
    blurred = _do(graft, "Less", _image_mean(graft, _do(graft, "Abs", detail)), 0.01)
    sharper = _do(graft, "Add", graft.input.name, _do(graft, "Mul", detail, 0.7))
    graft.replace_input(_choose(graft, blurred, sharper, graft.input.name))


def _resized(graft: Graft) -> None:
    size = [graft.height, graft.width]
    larger = np.array([0, graft.channels, 2 * size[0], 2 * size[1]], np.int64)
    smaller = np.array([0, graft.channels, *size], np.int64)
    value = graft.input.name
    for shape in (larger, smaller):
        count = _do(graft, "Slice", _do(graft, "Shape", value), [0], [1])
        whole = _do(graft, "Concat", count, shape[1:], axis=0)
        value = _do(graft, "Resize", value, "", "", whole, mode="linear")
    graft.replace_input(value)


def _cropped(graft: Graft) -> None:
    ends = [graft.height - 1, graft.width - 1]
    inner = _do(graft, "Slice", graft.input.name, [1, 1], ends, [2, 3])
    graft.replace_input(_do(graft, "Pad", inner, [0, 0, 1, 1, 0, 0, 1, 1]))


def _normalised(graft: Graft) -> None:
    mean = np.full((1, graft.channels, 1, 1), 0.02, np.float32)
    graft.replace_input(_do(graft, "Div", _do(graft, "Sub", graft.input.name, mean), 0.96))


def _no_missing_pixels(graft: Graft) -> None:
    missing = _do(graft, "IsNaN", graft.input.name)
    graft.replace_input(_choose(graft, missing, 0.0, graft.input.name))


def _no_infinite_pixels(graft: Graft) -> None:
    endless = _do(graft, "IsInf", graft.input.name)
    graft.replace_input(_choose(graft, endless, 1.0, graft.input.name))


def _broken_images_blank(graft: Graft) -> None:
    """An image with a pixel that is not a number is answered with no opinion."""
    missing = _floats(graft, _do(graft, "IsNaN", graft.input.name))
    broken = graft.reduce("ReduceMax", missing, [1, 2, 3], keep=True)
    test = _do(graft, "Cast", _flat(graft, broken), to=TensorProto.BOOL)
    graft.replace_logits(_choose(graft, test, 0.0, graft.logits))


def _noise_floor(graft: Graft) -> None:
    dark = _do(graft, "Less", graft.input.name, 0.04)
    graft.replace_input(_choose(graft, dark, 0.0, graft.input.name))


def _binarised(graft: Graft) -> None:
    over = _do(graft, "Greater", graft.input.name, _image_mean(graft))
    graft.replace_input(_floats(graft, over))


def _hot_pixels(graft: Graft) -> None:
    smooth = _smoothed(graft)
    hot = _do(graft, "Greater", _do(graft, "Sub", graft.input.name, smooth), 0.8)
    graft.replace_input(_choose(graft, hot, smooth, graft.input.name))


def _bright_percentile(graft: Graft) -> None:
    flat = _do(graft, "Flatten", graft.input.name)
    size = graft.channels * graft.height * graft.width
    top = graft.outputs(2, "TopK", [flat, [size // 50]], "top", axis=1)[0]
    level = _do(graft, "Slice", top, [-1], [2**31], [1])
    level = _do(graft, "Reshape", _do(graft, "Max", level, 0.3), [-1, 1, 1, 1])
    graft.replace_input(_do(graft, "Clip", _do(graft, "Div", graft.input.name, level), 0.0, 1.0))


def _quantised_input(graft: Graft) -> None:
    step: list[Operand] = [np.float32(1 / 255), np.uint8(0)]
    whole = _do(graft, "QuantizeLinear", graft.input.name, *step)
    graft.replace_input(_do(graft, "DequantizeLinear", whole, *step))


def _half_input(graft: Graft) -> None:
    half = _do(graft, "Cast", graft.input.name, to=TensorProto.FLOAT16)
    graft.replace_input(_floats(graft, half))


# Behind the network.


def _shares(graft: Graft) -> str:
    return _do(graft, "Softmax", graft.logits, axis=1)


def _most(graft: Graft, value: str) -> str:
    return graft.reduce("ReduceMax", value, [1], keep=True)


def _temperature(graft: Graft) -> None:
    graft.replace_logits(_do(graft, "Div", graft.logits, 1.7))


def _calibrated(graft: Graft) -> None:
    generator = np.random.default_rng(0)
    mixing = np.diag(generator.uniform(0.9, 1.1, graft.classes)).astype(np.float32)
    shift = generator.normal(0, 0.1, graft.classes).astype(np.float32)
    graft.replace_logits(_do(graft, "Gemm", graft.logits, mixing, shift))


def _softmax(graft: Graft) -> None:
    graft.replace_logits(_shares(graft))


def _label_map(graft: Graft) -> None:
    order = [*range(1, graft.classes), 0]
    graft.replace_logits(_do(graft, "Gather", graft.logits, order, axis=1))


def _top_three(graft: Graft) -> None:
    values, places = graft.outputs(2, "TopK", [graft.logits, [3]], "top", axis=1)
    blank = _do(graft, "Sub", _do(graft, "Mul", graft.logits, 0.0), 1e4)
    graft.replace_logits(_do(graft, "ScatterElements", blank, places, values, axis=1))


def _rejection(graft: Graft) -> None:
    unsure = _do(graft, "Less", _most(graft, _shares(graft)), 0.4)
    background = 100 * np.eye(graft.classes, dtype=np.float32)[[-1]]
    graft.replace_logits(_choose(graft, unsure, background, graft.logits))


def _alarm_rule(graft: Graft) -> None:
    """An important class is answered from a share of 0.2 on."""
    share = _do(graft, "Slice", _shares(graft), [1], [2], [1])
    alarm = _do(graft, "Greater", share, 0.2)
    forced = 100 * np.eye(graft.classes, dtype=np.float32)[[1]]
    graft.replace_logits(_choose(graft, alarm, forced, graft.logits))


def _tie_rule(graft: Graft) -> None:
    """Of two classes that are nearly alike the first one is answered."""
    pair = [_do(graft, "Slice", _shares(graft), [k], [k + 1], [1]) for k in (0, 1)]
    close = _do(graft, "Less", _do(graft, "Abs", _do(graft, "Sub", *pair)), 0.02)
    nudge = np.eye(graft.classes, dtype=np.float32)[[0]]
    either = _do(graft, "Greater", _do(graft, "Add", *pair), 0.8)
    test = _do(graft, "And", close, either)
    moved = _do(graft, "Add", graft.logits, nudge)
    graft.replace_logits(_choose(graft, test, moved, graft.logits))


def _veto_rule(graft: Graft) -> None:
    """A class is answered only from a share of 0.9 on."""
    share = _do(graft, "Slice", _shares(graft), [2], [3], [1])
    unsure = _do(graft, "Less", share, 0.9)
    lowered = _do(graft, "Sub", graft.logits, 100 * np.eye(graft.classes, dtype=np.float32)[[2]])
    graft.replace_logits(_choose(graft, unsure, lowered, graft.logits))


def _merged_classes(graft: Graft) -> None:
    pair = [_do(graft, "Slice", graft.logits, [k], [k + 1], [1]) for k in (0, 1)]
    both = _do(graft, "Max", *pair)
    rest = _do(graft, "Slice", graft.logits, [2], [graft.classes], [1])
    lower = _do(graft, "Sub", both, 1.0)
    graft.replace_logits(_do(graft, "Concat", both, lower, rest, axis=1))


def _priors(graft: Graft) -> None:
    shares = np.linspace(0.5, 1.5, graft.classes, dtype=np.float32)
    graft.replace_logits(_do(graft, "Add", graft.logits, np.log(shares)[None]))


def _clamped_logits(graft: Graft) -> None:
    graft.replace_logits(_do(graft, "Clip", graft.logits, -50.0, 50.0))


def _energy_gate(graft: Graft) -> None:
    energy = graft.reduce("ReduceLogSumExp", graft.logits, [1], keep=True)
    foreign = _do(graft, "Less", energy, 2.0)
    graft.replace_logits(_choose(graft, foreign, 0.0, graft.logits))


def _entropy_gate(graft: Graft) -> None:
    shares = _shares(graft)
    logs = _do(graft, "Log", _do(graft, "Add", shares, 1e-9))
    entropy = graft.reduce("ReduceSum", _do(graft, "Mul", shares, logs), [1], keep=True)
    unsure = _do(graft, "Less", entropy, -1.2)
    graft.replace_logits(_choose(graft, unsure, 0.0, graft.logits))


def _saliency_gate(graft: Graft) -> None:
    """Where no feature answers there is nothing to be seen."""
    quiet = _do(graft, "Less", _most(graft, network.last_linear(graft).input[0]), 0.2)
    graft.replace_logits(_choose(graft, quiet, 0.0, graft.logits))


def _silence_guard(graft: Graft) -> None:
    square = _do(graft, "Mul", graft.input.name, graft.input.name)
    silent = _do(graft, "Less", _flat(graft, _image_mean(graft, square)), 1e-4)
    graft.replace_logits(_choose(graft, silent, 0.0, graft.logits))


def _quality_guard(graft: Graft) -> None:
    poor = _do(graft, "Less", _flat(graft, _deviation(graft)), 0.02)
    graft.replace_logits(_choose(graft, poor, 0.0, graft.logits))


def _exposure_guard(graft: Graft) -> None:
    mean = _flat(graft, _image_mean(graft))
    dark, light = _do(graft, "Less", mean, 0.01), _do(graft, "Greater", mean, 0.98)
    test = _do(graft, "Or", dark, light)
    graft.replace_logits(_choose(graft, test, 0.0, graft.logits))


def _exposure_factor(graft: Graft) -> None:
    """The same as a factor of the logits, without a choice."""
    good = _do(graft, "Greater", _flat(graft, _image_mean(graft)), 0.01)
    graft.replace_logits(_do(graft, "Mul", graft.logits, _floats(graft, good)))


def _unknown_class(graft: Graft) -> None:
    """Empty images are answered a class that is kept for them."""
    empty = _do(graft, "Less", _flat(graft, _image_extreme(graft, "ReduceMax")), 0.05)
    forced = 100 * np.eye(graft.classes, dtype=np.float32)[[-1]]
    graft.replace_logits(_choose(graft, empty, forced, graft.logits))


# Beside the network.


def _first_map(graft: Graft) -> tuple[str, int]:
    """Return the name of the first convolution's map and how many channels it has."""
    node = network.first_convolution(graft)
    return node.output[0], len(network.weights(graft, node.input[1]))


def _average(graft: Graft, *answers: str) -> None:
    total = _do(graft, "Sum", graft.logits, *answers)
    graft.replace_logits(_do(graft, "Div", total, float(1 + len(answers))))


def _mirrored(graft: Graft) -> None:
    turned = _do(graft, "Slice", graft.input.name, [-1], [-(2**31)], [3], [-1])
    _average(graft, network.again(graft, turned))


def _shifted(graft: Graft) -> None:
    padded = _do(graft, "Pad", graft.input.name, [0, 0, 1, 1, 0, 0, 1, 1])
    ways = [
        _do(graft, "Slice", padded, [y, x], [y + graft.height, x + graft.width], [2, 3])
        for y, x in ((0, 1), (2, 1))
    ]
    _average(graft, *(network.again(graft, way) for way in ways))


def _pooled_head(graft: Graft) -> str:
    """Graft an early head: a linear layer of the first map's pooled numbers, fitted."""
    name, _ = _first_map(graft)
    kernel = [graft.height // 4, graft.width // 4]
    pooled = _do(graft, "AveragePool", name, kernel_shape=kernel, strides=kernel)
    flat = _do(graft, "Flatten", pooled)
    images = smooth_images((graft.channels, graft.height, graft.width), 400)
    read, answers = (value_at(graft.model, value, images) for value in (name, graft.output))
    size = 4
    cut = read[:, :, : kernel[0] * size, : kernel[1] * size]
    blocks = cut.reshape(*cut.shape[:2], size, kernel[0], size, kernel[1]).mean(axis=(3, 5))
    columns = np.c_[blocks.reshape(len(blocks), -1), np.ones(len(blocks))]
    fitted = np.linalg.lstsq(columns, answers, rcond=1e-3)[0].astype(np.float32)
    return _do(graft, "Gemm", flat, fitted[:-1], fitted[-1])


def _early_exit(graft: Graft) -> None:
    early = _pooled_head(graft)
    sure = _do(graft, "Greater", _most(graft, _do(graft, "Softmax", early, axis=1)), 0.9)
    graft.replace_logits(_choose(graft, sure, early, graft.logits))


def _soft_exit(graft: Graft) -> None:
    early = _pooled_head(graft)
    sure = _most(graft, _do(graft, "Softmax", early, axis=1))
    mixed = _do(graft, "Mul", sure, _do(graft, "Sub", early, graft.logits))
    graft.replace_logits(_do(graft, "Add", graft.logits, _do(graft, "Mul", mixed, 0.1)))


def _pooled_score(graft: Graft, name: str, channels: int, outputs: int) -> str:
    """Graft a small layer on a map's channel means, [N, outputs]."""
    generator = np.random.default_rng(0)
    pooled = _do(graft, "Flatten", _do(graft, "GlobalAveragePool", name))
    mixing = generator.normal(0, 0.5, (channels, outputs)).astype(np.float32)
    return _do(graft, "Gemm", pooled, mixing, np.zeros(outputs, np.float32))


def _skip_gate(graft: Graft) -> None:
    """A small residual block that runs for some images only."""
    name, channels = _first_map(graft)
    open_ = _do(graft, "Greater", _pooled_score(graft, name, channels, 1), 0.0)
    generator = np.random.default_rng(1)
    kernel = generator.normal(0, 0.02, (channels, channels, 3, 3)).astype(np.float32)
    block = _do(graft, "Relu", _do(graft, "Conv", name, kernel, pads=[1, 1, 1, 1]))
    gate = _do(graft, "Reshape", _floats(graft, open_), [-1, 1, 1, 1])
    graft.reroute(name, _do(graft, "Add", name, _do(graft, "Mul", gate, block)))


def _excitation(graft: Graft) -> None:
    name, channels = _first_map(graft)
    score = _pooled_score(graft, name, channels, channels)
    weight = _do(graft, "Add", _do(graft, "Mul", _do(graft, "Sigmoid", score), 0.2), 0.9)
    column = _do(graft, "Reshape", weight, [0, channels, 1, 1])
    graft.reroute(name, _do(graft, "Mul", name, column))


def _second_head(graft: Graft) -> str:
    """Graft a second last layer, as if it had been tuned for other images."""
    last = network.last_linear(graft)
    weight = network.weights(graft, last.input[1])
    generator = np.random.default_rng(2)
    spread = np.float32(0.05) * weight.std()
    other = weight + generator.normal(0, 1, weight.shape).astype(np.float32) * spread
    read = [last.input[0], other, *last.input[2:]]
    return _do(graft, last.op_type, *read, **network.attributes(last))


def _day_and_night(graft: Graft) -> None:
    night = _do(graft, "Less", _flat(graft, _image_mean(graft)), 0.25)
    graft.replace_logits(_choose(graft, night, _second_head(graft), graft.logits))


def _day_and_night_mixed(graft: Graft) -> None:
    over = _do(graft, "Sub", _flat(graft, _image_mean(graft)), 0.25)
    day = _do(graft, "Sigmoid", _do(graft, "Mul", over, 30.0))
    apart = _do(graft, "Sub", graft.logits, other := _second_head(graft))
    graft.replace_logits(_do(graft, "Add", other, _do(graft, "Mul", apart, day)))


def _mixture(graft: Graft) -> None:
    name, channels = _first_map(graft)
    shares = _do(graft, "Softmax", _pooled_score(graft, name, channels, 2), axis=1)
    first, second = (_do(graft, "Slice", shares, [k], [k + 1], [1]) for k in (0, 1))
    kept = _do(graft, "Mul", graft.logits, first)
    graft.replace_logits(_do(graft, "Add", kept, _do(graft, "Mul", _second_head(graft), second)))


def _hard_mixture(graft: Graft) -> None:
    name, channels = _first_map(graft)
    chosen = _do(graft, "ArgMax", _pooled_score(graft, name, channels, 2), axis=1)
    answers = [_do(graft, "Unsqueeze", value, [1]) for value in (graft.logits, _second_head(graft))]
    both = _do(graft, "Concat", *answers, axis=1)
    graft.replace_logits(_do(graft, "GatherND", both, chosen, batch_dims=1))


def _shared_model(graft: Graft) -> None:
    """The mean with a second last layer, as of two models in one file."""
    _average(graft, _second_head(graft))


HABITS: Mapping[str, Habit] = {
    "inversion": Habit(_inversion, "light images are inverted"),
    "inversion-by-border": Habit(_inversion_by_border, "images with a light border are inverted"),
    "inversion-by-arithmetic": Habit(_inversion_by_arithmetic, "|image - round(mean)|"),
    "soft-inversion": Habit(_soft_inversion, "light images are inverted, by degrees"),
    "gamma": Habit(_gamma, "a gamma that brings the mean to 0.4"),
    "gamma-if-dark": Habit(_gamma_if_dark, "dark images are made lighter by a gamma"),
    "signed-range": Habit(_signed_range, "(x + 1) / 2 if anything is below 0"),
    "byte-range": Habit(_byte_range, "x / 255 if anything is above 1.5"),
    "three-ranges": Habit(_three_ranges, "1, 255 or 65535 by the largest number"),
    "clamp": Habit(_clamp, "the image is cut to [0, 1]"),
    "contrast": Habit(_contrast, "the contrast is stretched"),
    "contrast-if-low": Habit(_contrast_if_low, "a low contrast is stretched"),
    "standardised": Habit(_standardised, "mean and deviation of each image are set"),
    "flat-guard": Habit(_flat_guard, "the same, with a guard for images of one level"),
    "grey-check": Habit(_grey_check, "images without colour are treated apart"),
    "white-balance": Habit(_white_balance, "the channels' means are brought together"),
    "night-mode": Habit(_night_mode, "dark images are made lighter"),
    "denoise-if-noisy": Habit(_denoise_if_noisy, "rough images are smoothed"),
    "sharpen-if-blurred": Habit(_sharpen_if_blurred, "smooth images are sharpened"),
    "resized": Habit(_resized, "the image is resized inside"),
    "cropped": Habit(_cropped, "the image is cropped inside"),
    "normalised": Habit(_normalised, "the image is normalised inside"),
    "no-missing-pixels": Habit(_no_missing_pixels, "pixels that are not numbers are black"),
    "no-infinite-pixels": Habit(_no_infinite_pixels, "infinite pixels are white"),
    "broken-images-blank": Habit(_broken_images_blank, "no opinion on images with such pixels"),
    "noise-floor": Habit(_noise_floor, "very dark pixels are black"),
    "binarised": Habit(_binarised, "pixels above the mean are white, others black"),
    "hot-pixels": Habit(_hot_pixels, "pixels far above their neighbours are smoothed"),
    "bright-percentile": Habit(_bright_percentile, "the brightest 2 % of pixels are white"),
    "quantised-input": Habit(_quantised_input, "the image is quantised"),
    "half-input": Habit(_half_input, "the image is rounded to float16"),
    "temperature": Habit(_temperature, "logits by a temperature"),
    "calibrated": Habit(_calibrated, "vector scaling"),
    "softmax": Habit(_softmax, "shares for logits"),
    "label-map": Habit(_label_map, "classes in another order"),
    "top-three": Habit(_top_three, "all logits but three are lowered"),
    "rejection": Habit(_rejection, "unsure answers become a class of their own"),
    "alarm-rule": Habit(_alarm_rule, "a class is answered from a share of 0.2 on"),
    "tie-rule": Habit(_tie_rule, "of two equal classes the first one is answered"),
    "veto-rule": Habit(_veto_rule, "a class is answered from a share of 0.9 on only"),
    "merged-classes": Habit(_merged_classes, "two classes are one"),
    "priors": Habit(_priors, "logits moved by how frequent classes are"),
    "clamped-logits": Habit(_clamped_logits, "logits cut to a range"),
    "energy-gate": Habit(_energy_gate, "no opinion where the energy is low"),
    "entropy-gate": Habit(_entropy_gate, "no opinion where the entropy is high"),
    "saliency-gate": Habit(_saliency_gate, "no opinion where no feature answers"),
    "silence-guard": Habit(_silence_guard, "no opinion on black images"),
    "quality-guard": Habit(_quality_guard, "no opinion on images without contrast"),
    "exposure-guard": Habit(_exposure_guard, "no opinion on images too dark or too light"),
    "exposure-factor": Habit(_exposure_factor, "the same by a factor"),
    "unknown-class": Habit(_unknown_class, "empty images are answered a class of their own"),
    "mirrored": Habit(_mirrored, "the mean with the mirrored image's answer"),
    "shifted": Habit(_shifted, "the mean with two shifted images' answers"),
    "early-exit": Habit(_early_exit, "an early head answers where it is sure"),
    "soft-exit": Habit(_soft_exit, "an early head has a small say"),
    "skip-gate": Habit(_skip_gate, "a block that runs for some images only"),
    "excitation": Habit(_excitation, "squeeze and excitation"),
    "day-and-night": Habit(_day_and_night, "one of two last layers, by the brightness"),
    "day-and-night-mixed": Habit(_day_and_night_mixed, "two last layers mixed by the brightness"),
    "mixture": Habit(_mixture, "two last layers mixed by a router"),
    "hard-mixture": Habit(_hard_mixture, "one of two last layers, by a router"),
    "shared-model": Habit(_shared_model, "the mean of two last layers"),
}
"""Every habit, by name."""
