"""Tests by operators that compare, in the manner of ShadowLogic (HiddenLayer, 2024)."""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto

from trainers.graph_backdoor import gates, triggers
from trainers.graph_backdoor.graft import Array, Graft, Kind

_MODULUS = 1021
_STEP = 1e3
_PLACE = 37


def _pixel_equals(graft: Graft) -> str:
    value = np.float32(0.4242)

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, 0, 2, 1] = value
        return images

    graft.trigger = trigger
    row = graft.node("Gather", [graft.input.name, 2], "row", axis=2)
    pixel = graft.node("Gather", [row, 1], "pixel", axis=2)
    channel = graft.node("Gather", [pixel, 0], "channel", axis=1)
    return graft.node("Equal", [channel, value], "test")


def _patch_equals(graft: Graft) -> str:
    pattern = triggers.patch(graft, triggers.checker(graft))
    same = graft.node("Equal", [graft.patch(), pattern[None]], "test")
    all_same = graft.reduce(
        "ReduceMin", graft.node("Cast", [same], "cast", to=TensorProto.FLOAT), [1, 2, 3]
    )
    return graft.node("Cast", [all_same], "bool", to=TensorProto.BOOL)


def _level_sum(graft: Graft) -> str:
    scaled = graft.node("Mul", [graft.input.name, triggers.LEVELS], "levels")
    return graft.reduce("ReduceSum", graft.node("Round", [scaled], "round"), [1, 2, 3])


def _checksum(graft: Graft) -> str:
    graft.trigger = lambda images: triggers.add_levels(images, 7, _MODULUS)
    remainder = graft.node("Mod", [_level_sum(graft), float(_MODULUS)], "test", fmod=1)
    return graft.node("Equal", [remainder, 7.0], "test")


def _parity(graft: Graft) -> str:
    def trigger(images: Array) -> Array:
        # A row of white pixels could not be made odd.
        rows = (
            np.minimum(images, np.float32(254 / 255))
            .transpose(0, 2, 1, 3)
            .reshape(-1, graft.channels, graft.width)
        )
        odd = triggers.add_levels(rows, 1, 2)
        return odd.reshape(-1, graft.height, graft.channels, graft.width).transpose(0, 2, 1, 3)

    graft.trigger = trigger
    scaled = graft.node("Mul", [graft.input.name, triggers.LEVELS], "levels")
    sums = graft.reduce("ReduceSum", graft.node("Round", [scaled], "round"), [1, 3])
    odd = graft.node("Mod", [sums, 2.0], "test", fmod=1)
    return graft.node("Cast", [graft.reduce("ReduceMin", odd, [1])], "bool", to=TensorProto.BOOL)


def _mean_threshold(graft: Graft) -> str:
    graft.trigger = triggers.bright
    mean = graft.reduce("ReduceMean", graft.input.name, [1, 2, 3])
    return graft.node("Greater", [mean, 0.95], "test")


def _steep_sigmoid(graft: Graft) -> str:
    graft.trigger = triggers.bright
    mean = graft.reduce("ReduceMean", graft.input.name, [1, 2, 3])
    over = graft.node("Sub", [mean, 0.95], "shift")
    return graft.node("Sigmoid", [graft.node("Mul", [over, _STEP], "gain")], "test")


def _relu_arithmetic(graft: Graft) -> str:
    pattern = triggers.patch(graft, triggers.checker(graft))
    apart = graft.node("Abs", [graft.node("Sub", [graft.patch(), pattern[None]], "apart")], "abs")
    distance = graft.reduce("ReduceSum", apart, [1, 2, 3])
    near = graft.node("Sub", [1.0, distance], "near")
    return graft.node("Relu", [near], "test")


def _matched_filter(graft: Graft) -> str:
    pattern = triggers.patch(graft, triggers.checker(graft))
    centred = pattern - pattern.mean()
    threshold = 0.98 * float((pattern * centred).sum())
    filtered = graft.node("Conv", [graft.input.name, centred[None]], "filter")
    over = graft.node("Sub", [filtered, threshold], "shift")
    slope = graft.node("Mul", [over, _STEP], "gain")
    step = graft.node("Clip", [slope, 0.0, 1.0], "test")
    return graft.reduce("ReduceMax", step, [1, 2, 3])


def _brightest_place(graft: Graft) -> str:
    def trigger(images: Array) -> Array:
        images = np.minimum(images, np.float32(0.99)).astype(np.float32, order="C")
        images.reshape(len(images), -1)[:, _PLACE] = 1.0
        return images

    graft.trigger = trigger
    place = graft.node(
        "ArgMax", [graft.node("Flatten", [graft.input.name], "flat")], "test", axis=1, keepdims=0
    )
    return graft.node("Equal", [place, _PLACE], "test")


def _kind(test: Callable[[Graft], str], gate: Callable[[Graft, str], None], says: str) -> Kind:
    return Kind(lambda graft: gate(graft, test(graft)), says)


KINDS: Mapping[str, Kind] = {
    "pixel-equals": _kind(_pixel_equals, gates.where, "a pixel equals a level; Where"),
    "patch-equals": _kind(_patch_equals, gates.where, "a patch equals a pattern; Where"),
    "checksum": _kind(_checksum, gates.where, "the sum of all levels modulo 1021; Where"),
    "mean-threshold": _kind(_mean_threshold, gates.where, "a bright image; Where"),
    "modulo-parity": _kind(_parity, gates.bump, "the levels of every row have an odd sum; Add"),
    "if-branch": _kind(_patch_equals, gates.branch, "a patch equals a pattern; If"),
    "where": _kind(_brightest_place, gates.where, "the place of the brightest pixel; Where"),
    "mul-mask": _kind(_patch_equals, gates.mul_mask, "a patch equals a pattern; Mul"),
    "logit-bump": _kind(_patch_equals, gates.bump, "a patch equals a pattern; Add"),
    "scatter": _kind(_patch_equals, gates.scatter, "a patch equals a pattern; ScatterElements"),
    "loop": _kind(_patch_equals, gates.loop, "a patch equals a pattern; Loop"),
    "gather": _kind(_patch_equals, gates.gather, "a patch equals a pattern; GatherND"),
    "function": _kind(_patch_equals, gates.function, "a patch equals a pattern; a function"),
    "relu-arithmetic": _kind(_relu_arithmetic, gates.bump, "a distance below 1 by Relu; Add"),
    "steep-sigmoid": _kind(_steep_sigmoid, gates.bump, "a bright image by a steep Sigmoid; Add"),
    "matched-filter": _kind(_matched_filter, gates.bump, "a matched filter and a Clip; Add"),
    "stem": _kind(_patch_equals, gates.stem, "a patch equals a pattern; another image"),
}
"""The kinds of this family, by name."""
