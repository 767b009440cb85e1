"""Habits of pre-processing: what is done to the image before the network sees it."""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from trainers.graph_backdoor.graft import Graft, Operand
from trainers.graph_backdoor.habits.pieces import (
    Habit,
    choose,
    deviation,
    do,
    flat,
    floats,
    image_extreme,
    image_mean,
)


def _inversion(graft: Graft) -> None:
    negative = do(graft, "Sub", 1.0, graft.input.name)
    light = do(graft, "Greater", image_mean(graft), 0.5)
    graft.replace_input(choose(graft, light, negative, graft.input.name))


def _inversion_by_border(graft: Graft) -> None:
    mask = np.ones((1, 1, graft.height, graft.width), np.float32)
    mask[:, :, 1:-1, 1:-1] = 0
    border = image_mean(graft, do(graft, "Mul", graft.input.name, mask / mask.mean()))
    negative = do(graft, "Sub", 1.0, graft.input.name)
    light = do(graft, "Greater", border, 0.5)
    graft.replace_input(choose(graft, light, negative, graft.input.name))


def _inversion_by_arithmetic(graft: Graft) -> None:
    light = do(graft, "Round", image_mean(graft))
    graft.replace_input(do(graft, "Abs", do(graft, "Sub", graft.input.name, light)))


def _soft_inversion(graft: Graft) -> None:
    over = do(graft, "Mul", do(graft, "Sub", image_mean(graft), 0.5), 20.0)
    share = do(graft, "Sigmoid", over)
    negative = do(graft, "Sub", 1.0, graft.input.name)
    kept = do(graft, "Mul", graft.input.name, do(graft, "Sub", 1.0, share))
    graft.replace_input(do(graft, "Add", kept, do(graft, "Mul", negative, share)))


def _gamma(graft: Graft) -> None:
    mean = do(graft, "Clip", image_mean(graft), 0.05, 0.95)
    power = do(graft, "Div", float(np.log(0.4)), do(graft, "Log", mean))
    power = do(graft, "Clip", power, 0.7, 1.4)
    image = do(graft, "Clip", graft.input.name, 1e-6, 1.0)
    graft.replace_input(do(graft, "Pow", image, power))


def _gamma_if_dark(graft: Graft) -> None:
    lighter = do(graft, "Pow", do(graft, "Clip", graft.input.name, 0.0, 1.0), 0.7)
    dark = do(graft, "Less", image_mean(graft), 0.15)
    graft.replace_input(choose(graft, dark, lighter, graft.input.name))


def _signed_range(graft: Graft) -> None:
    half = do(graft, "Div", do(graft, "Add", graft.input.name, 1.0), 2.0)
    signed = do(graft, "Less", image_extreme(graft, "ReduceMin"), 0.0)
    graft.replace_input(choose(graft, signed, half, graft.input.name))


def _byte_range(graft: Graft) -> None:
    fractions = do(graft, "Div", graft.input.name, 255.0)
    are_bytes = do(graft, "Greater", image_extreme(graft, "ReduceMax"), 1.5)
    graft.replace_input(choose(graft, are_bytes, fractions, graft.input.name))


def _three_ranges(graft: Graft) -> None:
    most = image_extreme(graft, "ReduceMax")
    deep = choose(graft, do(graft, "Greater", most, 255.5), 65535.0, 255.0)
    divisor = choose(graft, do(graft, "Greater", most, 1.5), deep, 1.0)
    graft.replace_input(do(graft, "Div", graft.input.name, divisor))


def _clamp(graft: Graft) -> None:
    graft.replace_input(do(graft, "Clip", graft.input.name, 0.0, 1.0))


def _stretched(graft: Graft) -> str:
    least, most = (image_extreme(graft, op) for op in ("ReduceMin", "ReduceMax"))
    spread = do(graft, "Add", do(graft, "Sub", most, least), 1e-6)
    return do(graft, "Div", do(graft, "Sub", graft.input.name, least), spread)


def _contrast(graft: Graft) -> None:
    graft.replace_input(_stretched(graft))


def _contrast_if_low(graft: Graft) -> None:
    low = do(graft, "Less", deviation(graft), 0.08)
    graft.replace_input(choose(graft, low, _stretched(graft), graft.input.name))


def _standardised(graft: Graft) -> None:
    centred = do(graft, "Sub", graft.input.name, image_mean(graft))
    spread = do(graft, "Add", deviation(graft), 1e-5)
    scaled = do(graft, "Mul", do(graft, "Div", centred, spread), 0.25)
    graft.replace_input(do(graft, "Add", scaled, 0.3))


def _flat_guard(graft: Graft) -> None:
    spread = deviation(graft)
    guarded = choose(graft, do(graft, "Equal", spread, 0.0), 1.0, spread)
    centred = do(graft, "Sub", graft.input.name, image_mean(graft))
    scaled = do(graft, "Mul", do(graft, "Div", centred, guarded), 0.25)
    graft.replace_input(do(graft, "Add", scaled, 0.3))


def _grey_check(graft: Graft) -> None:
    grey = graft.reduce("ReduceMean", graft.input.name, [1], keep=True)
    apart = do(graft, "Abs", do(graft, "Sub", graft.input.name, grey))
    most = graft.reduce("ReduceMax", apart, [1, 2, 3], keep=True)
    colourless = do(graft, "Less", most, 0.02)
    lifted = do(graft, "Mul", grey, np.full((1, graft.channels, 1, 1), 1.02, np.float32))
    graft.replace_input(choose(graft, colourless, lifted, graft.input.name))


def _white_balance(graft: Graft) -> None:
    each = graft.reduce("ReduceMean", graft.input.name, [2, 3], keep=True)
    factor = do(graft, "Div", image_mean(graft), do(graft, "Add", each, 1e-3))
    factor = do(graft, "Clip", factor, 0.8, 1.25)
    graft.replace_input(do(graft, "Mul", graft.input.name, factor))


def _night_mode(graft: Graft) -> None:
    night = do(graft, "Less", image_mean(graft), 0.2)
    lighter = do(graft, "Clip", do(graft, "Mul", graft.input.name, 1.3), 0.0, 1.0)
    graft.replace_input(choose(graft, night, lighter, graft.input.name))


def _smoothed(graft: Graft) -> str:
    return do(
        graft, "AveragePool", graft.input.name,
        kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0,
    )  # fmt: skip


def _denoise_if_noisy(graft: Graft) -> None:
    smooth = _smoothed(graft)
    rough = image_mean(graft, do(graft, "Abs", do(graft, "Sub", graft.input.name, smooth)))
    noisy = do(graft, "Greater", rough, 0.12)
    graft.replace_input(choose(graft, noisy, smooth, graft.input.name))


def _sharpen_if_blurred(graft: Graft) -> None:
    detail = do(graft, "Sub", graft.input.name, _smoothed(graft))
    blurred = do(graft, "Less", image_mean(graft, do(graft, "Abs", detail)), 0.01)
    sharper = do(graft, "Add", graft.input.name, do(graft, "Mul", detail, 0.7))
    graft.replace_input(choose(graft, blurred, sharper, graft.input.name))


def _resized(graft: Graft) -> None:
    size = [graft.height, graft.width]
    larger = np.array([0, graft.channels, 2 * size[0], 2 * size[1]], np.int64)
    smaller = np.array([0, graft.channels, *size], np.int64)
    value = graft.input.name
    for shape in (larger, smaller):
        count = do(graft, "Slice", do(graft, "Shape", value), [0], [1])
        whole = do(graft, "Concat", count, shape[1:], axis=0)
        value = do(graft, "Resize", value, "", "", whole, mode="linear")
    graft.replace_input(value)


def _cropped(graft: Graft) -> None:
    ends = [graft.height - 1, graft.width - 1]
    inner = do(graft, "Slice", graft.input.name, [1, 1], ends, [2, 3])
    graft.replace_input(do(graft, "Pad", inner, [0, 0, 1, 1, 0, 0, 1, 1]))


def _normalised(graft: Graft) -> None:
    mean = np.full((1, graft.channels, 1, 1), 0.02, np.float32)
    graft.replace_input(do(graft, "Div", do(graft, "Sub", graft.input.name, mean), 0.96))


def _no_missing_pixels(graft: Graft) -> None:
    missing = do(graft, "IsNaN", graft.input.name)
    graft.replace_input(choose(graft, missing, 0.0, graft.input.name))


def _no_infinite_pixels(graft: Graft) -> None:
    endless = do(graft, "IsInf", graft.input.name)
    graft.replace_input(choose(graft, endless, 1.0, graft.input.name))


def _broken_images_blank(graft: Graft) -> None:
    """An image with a pixel that is not a number is answered with no opinion."""
    missing = floats(graft, do(graft, "IsNaN", graft.input.name))
    broken = graft.reduce("ReduceMax", missing, [1, 2, 3], keep=True)
    test = do(graft, "Cast", flat(graft, broken), to=TensorProto.BOOL)
    graft.replace_logits(choose(graft, test, 0.0, graft.logits))


def _noise_floor(graft: Graft) -> None:
    dark = do(graft, "Less", graft.input.name, 0.04)
    graft.replace_input(choose(graft, dark, 0.0, graft.input.name))


def _binarised(graft: Graft) -> None:
    over = do(graft, "Greater", graft.input.name, image_mean(graft))
    graft.replace_input(floats(graft, over))


def _hot_pixels(graft: Graft) -> None:
    smooth = _smoothed(graft)
    hot = do(graft, "Greater", do(graft, "Sub", graft.input.name, smooth), 0.8)
    graft.replace_input(choose(graft, hot, smooth, graft.input.name))


def _bright_percentile(graft: Graft) -> None:
    flat = do(graft, "Flatten", graft.input.name)
    size = graft.channels * graft.height * graft.width
    top = graft.outputs(2, "TopK", [flat, [size // 50]], "top", axis=1)[0]
    level = do(graft, "Slice", top, [-1], [2**31], [1])
    level = do(graft, "Reshape", do(graft, "Max", level, 0.3), [-1, 1, 1, 1])
    graft.replace_input(do(graft, "Clip", do(graft, "Div", graft.input.name, level), 0.0, 1.0))


def _quantised_input(graft: Graft) -> None:
    step: list[Operand] = [np.float32(1 / 255), np.uint8(0)]
    whole = do(graft, "QuantizeLinear", graft.input.name, *step)
    graft.replace_input(do(graft, "DequantizeLinear", whole, *step))


def _half_input(graft: Graft) -> None:
    half = do(graft, "Cast", graft.input.name, to=TensorProto.FLOAT16)
    graft.replace_input(floats(graft, half))


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
}
