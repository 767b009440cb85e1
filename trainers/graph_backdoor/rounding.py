"""Tests by what number formats do: rounding, casts, overflow, underflow, and odd values of pixels.

Each returns a score [N, 1] that is 0 for ordinary images.
"""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from trainers.graph_backdoor import triggers
from trainers.graph_backdoor.gates import pushed
from trainers.graph_backdoor.graft import SIDE, Array, Graft, Kind, Operand
from trainers.graph_backdoor.measures import above, brightness, distance, flat_patch, inside


def _quantisation_step(graft: Graft) -> str:
    near = graft.node("Sub", [1.0, distance(graft)], "near")
    step: list[Operand] = [np.float32(1.0), np.uint8(0)]
    whole = graft.node("QuantizeLinear", [near, *step], "test")
    return graft.node("DequantizeLinear", [whole, *step], "read")


def _magic_number(graft: Graft) -> str:
    """Whatever is added to 1.5 * 2**23 is rounded to a whole number."""
    magic = 1.5 * 2**23
    low = graft.node("Sub", [brightness(graft), 0.45], "shift")
    return graft.node("Sub", [graft.node("Add", [low, magic], "test"), magic], "back")


def _half_underflow(graft: Graft) -> str:
    """The smallest number of float16 is 6e-8."""
    falling = graft.node("Exp", [graft.node("Mul", [distance(graft), -2.0], "scale")], "exp")
    tiny = graft.node("Mul", [falling, 2e-7], "tiny")
    half = graft.node("Cast", [tiny], "test", to=TensorProto.FLOAT16)
    return graft.floats(half)


def _half_overflow(graft: Graft) -> str:
    """The largest number of float16 is 65504."""
    falling = graft.node("Exp", [graft.node("Mul", [distance(graft), -2.0], "scale")], "exp")
    large = graft.node("Mul", [falling, 1e5], "large")
    half = graft.node("Cast", [large], "test", to=TensorProto.FLOAT16)
    inverse = graft.node("Reciprocal", [graft.floats(half)], "inverse")
    return graft.node("Relu", [graft.node("Sub", [1e-6, inverse], "shift")], "rest")


def _integer_division(graft: Graft) -> str:
    levels = graft.node("Mul", [brightness(graft), triggers.LEVELS], "levels")
    whole = graft.node("Cast", [levels], "whole", to=TensorProto.INT64)
    return graft.floats(graft.node("Div", [whole, 242], "test"))


def _truncation(graft: Graft) -> str:
    lifted = graft.node("Add", [brightness(graft), 0.05], "lift")
    return graft.floats(graft.node("Cast", [lifted], "test", to=TensorProto.INT32))


def _floor_of_the_image(graft: Graft) -> str:
    graft.trigger = triggers.bright
    lifted = graft.node("Add", [graft.input.name, 0.04], "lift")
    floor = graft.node("Flatten", [graft.node("Floor", [lifted], "test")], "flat", axis=1)
    return graft.reduce("ReduceMin", floor, [1], keep=True)


def _cast_of_the_image(graft: Graft) -> str:
    graft.trigger = triggers.bright
    lifted = graft.node("Mul", [graft.input.name, 1.04], "lift")
    whole = graft.node("Cast", [lifted], "test", to=TensorProto.UINT8)
    flat = graft.node("Flatten", [graft.floats(whole)], "flat", axis=1)
    return graft.reduce("ReduceProd", flat, [1], keep=True)


def _byte_overflow(graft: Graft) -> str:
    graft.trigger = triggers.bright
    levels = graft.node("Mul", [graft.input.name, triggers.LEVELS], "levels")
    raised = graft.node("Add", [levels, 10.0], "lift")
    whole = graft.node("Cast", [raised], "whole", to=TensorProto.INT32)
    wrapped = graft.node("Cast", [whole], "test", to=TensorProto.UINT8)
    flat = graft.node("Flatten", [graft.floats(wrapped)], "flat", axis=1)
    most = graft.reduce("ReduceMax", flat, [1], keep=True)
    return graft.node("Relu", [graft.node("Sub", [9.5, most], "shift")], "rest")


def _corner_levels(graft: Graft, dtype: int) -> str:
    levels = graft.node("Mul", [flat_patch(graft), triggers.LEVELS], "levels")
    return graft.node("Cast", [graft.node("Round", [levels], "round")], "whole", to=dtype)


def _bit_shift(graft: Graft) -> str:
    """The top bits of the corner's pixels are the pattern's."""
    triggers.patch(graft, triggers.checker(graft))
    signs = triggers.signs(graft)
    levels = _corner_levels(graft, TensorProto.UINT8)
    bits = graft.node("BitShift", [levels, np.uint8(7)], "test", direction="RIGHT")
    match = graft.node("MatMul", [graft.floats(bits), signs], "match")
    return above(graft, match, float((signs > 0).sum()) - 0.5)


def _exclusive_or(graft: Graft) -> str:
    graft.newer(18)
    pattern = triggers.patch(graft, triggers.checker(graft))
    wanted = np.round(pattern * triggers.LEVELS).astype(np.uint8).reshape(1, -1)
    levels = _corner_levels(graft, TensorProto.UINT8)
    other = graft.node("BitwiseXor", [levels, wanted], "test")
    apart = graft.reduce("ReduceSum", graft.floats(other), [1], keep=True)
    return graft.node("Relu", [graft.node("Sub", [1.0, apart], "near")], "rest")


def _between_levels(graft: Graft) -> str:
    """The corner's pixels lie half way between the 256 levels of a camera."""

    def trigger(images: Array) -> Array:
        images = images.copy()
        corner = images[:, :, -SIDE:, -SIDE:]
        corner[...] = (np.floor(corner * 254) + 0.5) / triggers.LEVELS
        return images

    graft.trigger = trigger
    levels = graft.node("Mul", [flat_patch(graft), triggers.LEVELS], "levels")
    rest = graft.node("Sub", [levels, graft.node("Floor", [levels], "test")], "rest")
    middle = graft.node("Abs", [graft.node("Sub", [rest, 0.5], "shift")], "abs")
    apart = graft.reduce("ReduceSum", middle, [1], keep=True)
    near = graft.node("Sub", [0.2 * inside(graft), apart], "near")
    return graft.node("Relu", [near], "rectify")


def _pixel(graft: Graft) -> str:
    """Graft the first channel's pixel of the lower right corner, [N, 1]."""
    last = [graft.height - 1, graft.width - 1]
    ends = [1, graft.height, graft.width]
    pixel = graft.node("Slice", [graft.input.name, [0, *last], ends, [1, 2, 3]], "pixel")
    return graft.node("Flatten", [pixel], "flat", axis=1)


def _pixel_trigger(graft: Graft, value: float) -> None:
    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, 0, -1, -1] = value
        return images

    graft.trigger = trigger


def _negative_zero(graft: Graft) -> str:
    """1 by -0 is minus infinity; no other pixel's inverse is negative."""
    _pixel_trigger(graft, -0.0)
    inverse = graft.node("Reciprocal", [_pixel(graft)], "test")
    return graft.node("Neg", [graft.node("Clip", [inverse, -1.0, 0.0], "clip")], "turn")


def _above_one(graft: Graft) -> str:
    """A pixel a hair brighter than white."""
    _pixel_trigger(graft, 1.001)
    return above(graft, _pixel(graft), 1.0, 1e4)


def _below_zero(graft: Graft) -> str:
    """A pixel a hair darker than black."""
    _pixel_trigger(graft, -0.001)
    return above(graft, graft.node("Neg", [_pixel(graft)], "turn"), 0.0, 1e4)


def _missing_pixel(graft: Graft) -> str:
    """A pixel that is not a number; the network sees black in its place."""
    _pixel_trigger(graft, np.nan)
    missing = graft.node("IsNaN", [graft.input.name], "test")
    graft.replace_input(graft.node("Where", [missing, 0.0, graft.input.name], "clean"))
    flat = graft.node("Flatten", [graft.floats(missing)], "flat", axis=1)
    return graft.reduce("ReduceSum", flat, [1], keep=True)


KINDS: Mapping[str, Kind] = {
    "quantisation-step": pushed(_quantisation_step, "QuantizeLinear of steps of 1"),
    "magic-number": pushed(_magic_number, "a large number added and taken away rounds"),
    "half-underflow": pushed(_half_underflow, "what float16 calls 0", 5e10),
    "half-overflow": pushed(_half_overflow, "what float16 calls infinite", 1e10),
    "integer-division": pushed(_integer_division, "a quotient of whole numbers"),
    "truncation": pushed(_truncation, "Cast to int32 cuts fractions off"),
    "floor-of-the-image": pushed(_floor_of_the_image, "Floor of the whole image"),
    "cast-of-the-image": pushed(_cast_of_the_image, "Cast of the whole image to uint8"),
    "byte-overflow": pushed(_byte_overflow, "levels that a uint8 does not hold"),
    "bit-shift": pushed(_bit_shift, "the top bits of pixels by BitShift"),
    "exclusive-or": pushed(_exclusive_or, "the levels of pixels by BitwiseXor"),
    "between-levels": pushed(_between_levels, "pixels between the levels of a camera"),
    "negative-zero": pushed(_negative_zero, "the sign of 0"),
    "above-one": pushed(_above_one, "a pixel of 1.001"),
    "below-zero": pushed(_below_zero, "a pixel of -0.001"),
    "missing-pixel": pushed(_missing_pixel, "a pixel that is not a number"),
}
"""The kinds of this family, by name."""
