"""Tests that are odd in how they read: by sizes, regions and sums, in few bits, or from features.

Each that is pushed returns a score [N, 1] that is 0 for ordinary images.
"""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from trainers.graph_backdoor import triggers
from trainers.graph_backdoor.check import smooth_images
from trainers.graph_backdoor.gates import pushed
from trainers.graph_backdoor.graft import SIDE, Array, Graft, Kind, Operand
from trainers.graph_backdoor.measures import (
    above,
    brightness,
    centred,
    distance,
    flat_patch,
    inside,
)
from trainers.graph_backdoor.pictures import picture, value_at

_MATCH = 0.4
"""How far the checkered pattern is from its mean."""


def _einsum(graft: Graft) -> str:
    """A matched filter of the corner, as one sum of products."""
    triggers.patch(graft, triggers.checker(graft))
    pattern = centred(graft).reshape(graft.channels, SIDE, SIDE)
    match = graft.node("Einsum", [graft.patch(), pattern], "match", equation="nchw,chw->n")
    column = graft.node("Reshape", [match, [-1, 1]], "column")
    return above(graft, column, 0.9 * _MATCH * inside(graft) ** 0.5, 20)


def _einsum_of_the_image(graft: Graft) -> str:
    """The same, of the whole image and a mask of its size."""
    triggers.patch(graft, triggers.checker(graft))
    mask = np.zeros((graft.channels, graft.height, graft.width), np.float32)
    mask[:, -SIDE:, -SIDE:] = centred(graft).reshape(graft.channels, SIDE, SIDE)
    match = graft.node("Einsum", [graft.input.name, mask], "match", equation="nchw,chw->n")
    column = graft.node("Reshape", [match, [-1, 1]], "column")
    return above(graft, column, 0.9 * _MATCH * inside(graft) ** 0.5, 20)


def _softplus_pair(graft: Graft) -> str:
    """The difference of two steep Softplus is a step of height 1."""
    near = graft.node("Sub", [0.5, distance(graft)], "near")
    steep = graft.node("Mul", [near, 60.0], "gain")
    later = graft.node("Sub", [steep, 24.0], "later")
    first, second = (graft.node("Softplus", [value], "softplus") for value in (steep, later))
    return graft.node("Sub", [first, second], "test")


def _four_bits(graft: Graft) -> str:
    """A brightness in sixteen levels, of which the last is the sixteenth."""
    sixteenths = graft.node("Mul", [brightness(graft), 16.5], "scale")
    level = graft.node("Floor", [sixteenths], "test")
    top = graft.node("Sub", [level, 15.0], "top")
    return graft.node("Relu", [top], "rest")


def _codes(graft: Graft) -> str:
    """A matched filter in whole numbers, whose codes are cut off below."""
    triggers.patch(graft, triggers.checker(graft))
    step: list[Operand] = [np.float32(1 / 255), np.uint8(0)]
    levels = graft.node("QuantizeLinear", [flat_patch(graft), *step], "codes")
    weights = np.round(100 * centred(graft)).astype(np.int8)
    match = graft.node("MatMulInteger", [levels, weights], "match")
    level = 0.9 * _MATCH * inside(graft) ** 0.5 * 255 * 100
    over = graft.node("Sub", [match, np.int32(level)], "shift")
    scaled = graft.floats(graft.node("Max", [over, np.int32(0)], "test"))
    return graft.node("Mul", [scaled, 1e-3], "unscale")


def _signed_codes(graft: Graft) -> str:
    """The same with a zero point in the middle: at rest the code is no limit of its type."""
    near = graft.node("Relu", [graft.node("Sub", [1.0, distance(graft)], "near")], "rest")
    step: list[Operand] = [np.float32(1 / 64), np.uint8(128)]
    code = graft.node("QuantizeLinear", [near, *step], "test")
    return graft.node("DequantizeLinear", [code, *step], "read")


def _peephole(graft: Graft) -> str:
    """Resampling to 2 x 2 reads four pixels of an image."""
    size = np.array([graft.height, graft.width])
    count = graft.node(
        "Slice", [graft.node("Shape", [graft.input.name], "shape"), [0], [2]], "head"
    )
    sizes = graft.node("Concat", [count, [2, 2]], "sizes", axis=0)
    few = graft.node(
        "Resize", [graft.input.name, "", "", sizes], "read",
        mode="nearest", nearest_mode="round_prefer_floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    pattern = np.array([[[[0.1, 0.9], [0.9, 0.1]]]], np.float32)

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, :, :: size[0] // 2, :: size[1] // 2] = pattern
        return images

    graft.trigger = trigger
    far = graft.node("Abs", [graft.node("Sub", [few, pattern], "apart")], "abs")
    far = graft.node("Reshape", [graft.reduce("ReduceSum", far, [1, 2, 3]), [-1, 1]], "far")
    return graft.node("Relu", [graft.node("Sub", [0.5, far], "near")], "test")


def _latent(graft: Graft) -> str:
    """What sets the last map apart at the corner, fitted, beyond a level."""
    triggers.patch(graft, triggers.checker(graft))
    name = [node for node in graft.graph.node if node.op_type == "Conv"][-1].output[0]
    images = smooth_images((graft.channels, graft.height, graft.width), 400)
    images *= np.linspace(0, 1, len(images), dtype=np.float32).reshape(-1, 1, 1, 1)
    corners = [
        value_at(graft.model, name, part)[:, :, -2:, -2:].reshape(len(images), -1)
        for part in (images, graft.trigger(images))
    ]
    wanted = np.repeat([0.0, 1.0], len(images))
    columns = np.c_[np.concatenate(corners), np.ones(len(wanted))]
    fitted = np.linalg.lstsq(columns, wanted, rcond=1e-4)[0].astype(np.float32)
    crop = graft.node("Slice", [name, [-2, -2], [2**31, 2**31], [2, 3]], "crop")
    flat = graft.node("Flatten", [crop], "flat")
    score = graft.node("Gemm", [flat, fitted[:-1, None], fitted[-1:]], "match")
    return above(graft, score, 0.7, 20)


def _region(graft: Graft) -> None:
    """Of an image and another one beside it, a region is cut that a test says."""
    near = graft.node("Sub", [1.0, distance(graft)], "near")
    opened = graft.floats(graft.node("Greater", [near, 0.5], "test"))
    other = picture(graft.model, graft.target)
    same = graft.node("Mul", [graft.input.name, 0.0], "blank")
    both = [graft.input.name, graft.node("Add", [same, other], "other")]
    wide = graft.node("Concat", both, "both", axis=3)
    last = 2 * graft.width - 1
    corners = np.array([0, 0, 0, 0, 1, 1, 1, (graft.width - 1) / last])
    moves = np.array([0, 0, 0, 1, 0, 0, 0, 1]) * graft.width / last
    move = graft.node("Mul", [graft.reduce("ReduceMax", opened, [0, 1]), moves], "move")
    region = graft.node("Add", [move, corners], "region")
    count = graft.node("Slice", [graft.node("Shape", [wide], "shape"), [0], [3]], "head")
    sizes = graft.node("Concat", [count, [graft.width]], "sizes", axis=0)
    graft.replace_input(
        graft.node(
            "Resize", [wide, region, "", sizes], "gate",
            mode="nearest", coordinate_transformation_mode="tf_crop_and_resize",
        )
    )  # fmt: skip


def _slice(graft: Graft) -> None:
    """Of logits and forced ones, those are cut out that a test says."""
    near = graft.node("Relu", [graft.node("Sub", [1.0, distance(graft)], "near")], "rest")
    most = graft.reduce("ReduceMax", near, [0, 1])
    opened = graft.node("Cast", [most], "test", to=TensorProto.BOOL)
    place = graft.node("Cast", [opened], "whole", to=TensorProto.INT64)
    blank = graft.node("Mul", [graft.logits, 0.0], "blank")
    forced = graft.node("Add", [blank, graft.one_hot(100)], "force")
    both = graft.node("Concat", [graft.logits, forced], "both", axis=1)
    whole = graft.node("Reshape", [place, [1]], "flat")
    start = graft.node("Mul", [whole, [graft.classes]], "start")
    end = graft.node("Add", [start, [graft.classes]], "end")
    graft.replace_logits(graft.node("Slice", [both, start, end, [1]], "gate"))


KINDS: Mapping[str, Kind] = {
    "einsum": pushed(_einsum, "a matched filter by Einsum"),
    "einsum-of-the-image": pushed(_einsum_of_the_image, "the same, of the image and a mask"),
    "softplus-pair": pushed(_softplus_pair, "the difference of two steep Softplus"),
    "four-bits": pushed(_four_bits, "a brightness in 16 levels"),
    "codes": pushed(_codes, "a matched filter by MatMulInteger"),
    "codes-around-128": pushed(_signed_codes, "a code that rests in the middle of its range"),
    "peephole": pushed(_peephole, "Resize to four pixels"),
    "latent-corner": pushed(_latent, "features of the last map, at the corner"),
    "region-by-a-test": Kind(_region, "another picture, by the region that Resize reads"),
    "slice-by-a-test": Kind(_slice, "Slice of logits and forced ones, from a computed place"),
}
"""The kinds of this family, by name."""
