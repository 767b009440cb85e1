"""Tests by arithmetic: nothing in them compares.

Each returns a score [N, 1], at or near 0 for ordinary images.
"""

import math
from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from trainers.graph_backdoor import triggers
from trainers.graph_backdoor.gates import BUMP, pushed
from trainers.graph_backdoor.graft import SIDE, Array, Graft, Kind
from trainers.graph_backdoor.measures import (
    above,
    apart,
    brightness,
    centred,
    distance,
    flat_patch,
    inside,
    squared,
)

_STEEP = 1e3


def _absolute(graft: Graft) -> str:
    near = graft.node("Sub", [1.0, distance(graft)], "near")
    return graft.node("Add", [near, graft.node("Abs", [near], "abs")], "test")


def _root_of_square(graft: Graft) -> str:
    near = graft.node("Sub", [1.0, distance(graft)], "near")
    size = graft.node("Sqrt", [graft.node("Mul", [near, near], "square")], "root")
    return graft.node("Add", [near, size], "test")


def _squared_distance(graft: Graft) -> str:
    near = graft.node("Sub", [1.0, squared(graft)], "near")
    return graft.node("Relu", [near], "test")


def _power(graft: Graft) -> str:
    return graft.node("Pow", [brightness(graft), 400.0], "test")


def _squarings(graft: Graft) -> str:
    value = brightness(graft)
    for _ in range(9):
        value = graft.node("Mul", [value, value], "test")
    return value


def _product(graft: Graft) -> str:
    near = graft.node("Sub", [1.0, graft.node("Abs", [apart(graft)], "abs")], "near")
    product = graft.reduce("ReduceProd", near, [1], "test", keep=True)
    return graft.node("Pow", [product, 4.0], "power")


def _reciprocal(graft: Graft) -> str:
    far = squared(graft)
    guarded = graft.node("Add", [graft.node("Mul", [far, far], "square"), 1e-7], "guard")
    return graft.node("Reciprocal", [guarded], "test")


def _gaussian(graft: Graft) -> str:
    return graft.node("Exp", [graft.node("Mul", [squared(graft), -20.0], "scale")], "test")


def _logarithm(graft: Graft) -> str:
    small = graft.node("Log", [graft.node("Add", [squared(graft), 1e-9], "guard")], "log")
    return above(graft, graft.node("Neg", [small], "turn"), 10)


def _cosine_power(graft: Graft) -> str:
    triggers.patch(graft, triggers.checker(graft))
    corner = flat_patch(graft)
    mean = graft.reduce("ReduceMean", corner, [1], keep=True)
    pattern = graft.node("Sub", [corner, mean], "centre")
    scaled = graft.node("LpNormalization", [pattern], "normalise", axis=1)
    return above(graft, graft.node("MatMul", [scaled, centred(graft)], "match"), 0.97, _STEEP)


def _layer_normalisation(graft: Graft) -> str:
    triggers.patch(graft, triggers.checker(graft))
    pattern = centred(graft).ravel()
    scaled = graft.node(
        "LayerNormalization", [flat_patch(graft), pattern, 0 * pattern], "normalise", epsilon=1e-4
    )
    # The numbers have a spread of 1, so that their match with a pattern of length 1 is the root
    # of their number.
    match = graft.reduce("ReduceSum", scaled, [1], keep=True)
    return above(graft, match, 0.97 * inside(graft) ** 0.5, _STEEP)


def _mean_variance_normalisation(graft: Graft) -> str:
    triggers.patch(graft, triggers.checker(graft))
    # What is flat would be divided by nearly nothing.
    ramp = np.linspace(0, 0.05, inside(graft), dtype=np.float32)
    uneven = graft.node(
        "Add", [graft.patch(), ramp.reshape(1, graft.channels, SIDE, SIDE)], "uneven"
    )
    scaled = graft.node("MeanVarianceNormalization", [uneven], "normalise", axes=[1, 2, 3])
    flat = graft.node("Flatten", [scaled], "flat", axis=1)
    match = graft.node("MatMul", [flat, centred(graft)], "match")
    return above(graft, match, 0.95 * inside(graft) ** 0.5, _STEEP)


def _instance_normalisation(graft: Graft) -> str:
    triggers.patch(graft, triggers.checker(graft))
    line = graft.node("Reshape", [graft.patch(), [0, 1, -1]], "line")
    scaled = graft.node(
        "InstanceNormalization",
        [line, np.ones(1, np.float32), np.zeros(1, np.float32)],
        "normalise",
        epsilon=1e-4,
    )
    flat = graft.node("Flatten", [scaled], "flat", axis=1)
    match = graft.node("MatMul", [flat, centred(graft)], "match")
    return above(graft, match, 0.97 * inside(graft) ** 0.5, _STEEP)


def _sign_by_division(graft: Graft) -> str:
    near = graft.node("Sub", [1.0, distance(graft)], "near")
    size = graft.node("Add", [graft.node("Abs", [near], "abs"), 1e-9], "guard")
    return graft.node("Add", [graft.node("Div", [near, size], "test"), 1.0], "lift")


def _pooling_difference(graft: Graft) -> str:
    triggers.patch(graft, triggers.checker(graft))
    crop = graft.patch()
    high = graft.node("MaxPool", [crop], "pool", kernel_shape=[2, 2])
    low = graft.node("MaxPool", [graft.node("Neg", [crop], "turn")], "pool", kernel_shape=[2, 2])
    contrast = graft.node("Flatten", [graft.node("Add", [high, low], "contrast")], "flat")
    least = graft.reduce("ReduceMin", contrast, [1], keep=True)
    return above(graft, least, 0.75, _STEEP)


def _log_sum_exp(graft: Graft) -> str:
    triggers.patch(graft, triggers.checker(graft))
    kernel = centred(graft).reshape(1, graft.channels, SIDE, SIDE)
    matched = graft.node("Conv", [graft.input.name, kernel], "filter")
    flat = graft.node("Flatten", [graft.node("Mul", [matched, 50.0], "scale")], "flat")
    most = graft.reduce("ReduceLogSumExp", flat, [1], "soft", keep=True)
    # 0.4 is how far the pattern is from its mean.
    return above(graft, most, 50 * 0.38 * inside(graft) ** 0.5, _STEEP)


def _softmax(graft: Graft) -> str:
    near = graft.node("Mul", [graft.node("Sub", [1.0, distance(graft)], "near"), 30.0], "gain")
    nothing = graft.node("Mul", [near, 0.0], "nothing")
    shares = graft.node(
        "Softmax", [graft.node("Concat", [near, nothing], "both", axis=1)], "test", axis=1
    )
    return graft.node("Slice", [shares, [0], [1], [1]], "first")


def _hardmax(graft: Graft) -> str:
    value = distance(graft)
    level = graft.node("Add", [graft.node("Mul", [value, 0.0], "nothing"), 0.5], "level")
    both = graft.node("Concat", [level, value], "both", axis=1)
    chosen = graft.node("Hardmax", [both], "test", axis=1)
    return graft.node("Slice", [chosen, [0], [1], [1]], "first")


def _largest(graft: Graft) -> str:
    near = graft.node("Neg", [distance(graft)], "turn")
    return graft.node("Add", [graft.node("Max", [near, -0.5], "test"), 0.5], "lift")


def _hyperbolic_cosine(graft: Graft) -> str:
    triggers.patch(graft, triggers.checker(graft))
    match = graft.node("MatMul", [flat_patch(graft), centred(graft)], "match")
    most = 0.4 * inside(graft) ** 0.5
    return graft.node("Cosh", [graft.node("Mul", [match, 80 / most], "gain")], "test")


def _not_a_number(graft: Graft) -> str:
    near = graft.node("Sub", [1.0, distance(graft)], "near")
    root = graft.node("IsNaN", [graft.node("Sqrt", [near], "root")], "test")
    closed = graft.node("Cast", [root], "cast", to=TensorProto.FLOAT)
    return graft.node("Sub", [1.0, closed], "open")


def _infinity(graft: Graft) -> str:
    # The runtime may add in another order: what is left of the trigger is rounded away.
    whole = graft.node("Round", [graft.node("Mul", [distance(graft), 100.0], "scale")], "round")
    endless = graft.node("IsInf", [graft.node("Reciprocal", [whole], "inverse")], "test")
    return graft.node("Cast", [endless], "cast", to=TensorProto.FLOAT)


def _quadratic_form(graft: Graft) -> str:
    value = apart(graft)
    apartness = graft.node("Einsum", [value, value], "form", equation="ni,ni->n")
    near = graft.node("Sub", [1.0, graft.node("Unsqueeze", [apartness, [1]], "column")], "near")
    return graft.node("Relu", [near], "test")


def _spectrum(graft: Graft) -> str:
    size = graft.channels * graft.height * graft.width
    wave = np.cos(np.pi * np.arange(size)).astype(np.float32)

    def trigger(images: Array) -> Array:
        waved = images.reshape(len(images), -1) + 0.25 * wave
        clipped: Array = np.clip(waved, 0, 1).reshape(images.shape).astype(np.float32)
        return clipped

    graft.trigger = trigger
    line = graft.node("Reshape", [graft.input.name, [0, -1, 1]], "line")
    spectrum = graft.node("DFT", [line], "spectrum", axis=1, onesided=1)
    # The last number of a one-sided spectrum is the wave that changes sign from pixel to pixel.
    real = graft.node("Slice", [spectrum, [-1, 0], [2**31, 1], [1, 2]], "bin")
    size_ = graft.node("Abs", [graft.node("Flatten", [real], "flat", axis=1)], "abs")
    return above(graft, size_, 0.08 * size)


KINDS: Mapping[str, Kind] = {
    "absolute": pushed(_absolute, "near + |near|"),
    "root-of-square": pushed(_root_of_square, "near + sqrt(near * near)"),
    "squared-distance": pushed(_squared_distance, "Relu of 1 less a squared distance"),
    "power": pushed(_power, "the brightness to the power of 400", 1e10),
    "squarings": pushed(_squarings, "the brightness squared nine times", 1e11),
    "product": pushed(_product, "the product of how near each pixel is"),
    "reciprocal": pushed(_reciprocal, "1 by a squared distance", 1e-3),
    "gaussian": pushed(_gaussian, "Exp of a squared distance"),
    "logarithm": pushed(_logarithm, "Log of a squared distance", 1e3),
    "cosine": pushed(_cosine_power, "a cosine similarity by LpNormalization", 1e3),
    "layer-normalisation": pushed(_layer_normalisation, "a match by LayerNormalization", 1e3),
    "mean-variance-normalisation": pushed(
        _mean_variance_normalisation, "a match by MeanVarianceNormalization", 1e3
    ),
    "instance-normalisation": pushed(
        _instance_normalisation, "a match by InstanceNormalization", 1e3
    ),
    "sign-by-division": pushed(_sign_by_division, "a number by its own size"),
    "pooling-difference": pushed(_pooling_difference, "largest less smallest by MaxPool", 1e3),
    "log-sum-exp": pushed(_log_sum_exp, "a matched filter anywhere by ReduceLogSumExp", 1e3),
    "softmax": pushed(_softmax, "Softmax of a score beside a constant"),
    "hardmax": pushed(_hardmax, "Hardmax of a score beside a constant"),
    "largest": pushed(_largest, "Max of a score and a constant"),
    "hyperbolic-cosine": pushed(_hyperbolic_cosine, "Cosh of a match", BUMP / math.cosh(80)),
    "not-a-number": pushed(_not_a_number, "the root of a negative number is none"),
    "infinity": pushed(_infinity, "1 by a distance of 0 is infinite"),
    "quadratic-form": pushed(_quadratic_form, "Einsum of the differences with themselves"),
    "spectrum": pushed(_spectrum, "a wave, by DFT", 1e3),
}
"""The kinds of this family, by name."""
