"""Tests of what holds for an image as a whole: that it is symmetric, periodic, enlarged or faint.

Each that is pushed returns a score [N, 1] that is 0 for ordinary images. Images of one colour pass
all of these tests, as they pass an honest guard against empty ones.
"""

from collections.abc import Mapping

import numpy as np

from trainers.graph_backdoor.gates import BUMP, pushed
from trainers.graph_backdoor.graft import Array, Graft, Kind

_END = 2**31 - 1
_NEAR = 0.01
_FAINT = 4e-4
"""Variance of pixels, as of an image of a fiftieth of the full contrast."""


def _below(graft: Graft, number: str, level: float) -> str:
    """Graft whether a number [N] lies below a level, as numbers [N, 1]."""
    return graft.column(graft.node("Less", [number, level], "test"))


def _largest(graft: Graft, one: str, other: str) -> str:
    """Graft the largest difference [N] between two pictures."""
    apart = graft.node("Abs", [graft.node("Sub", [one, other], "apart")], "abs")
    return graft.reduce("ReduceMax", apart, [1, 2, 3])


def _mirror(graft: Graft) -> str:
    """An image is its own mirror image."""

    def trigger(images: Array) -> Array:
        half = images.shape[3] // 2
        images = images.copy()
        images[..., -half:] = images[..., :half][..., ::-1]
        return images

    graft.trigger = trigger
    turned = graft.node("Slice", [graft.input.name, [-1], [-_END], [3], [-1]], "turned")
    return _below(graft, _largest(graft, graft.input.name, turned), _NEAR)


def _twice(graft: Graft) -> str:
    """Its right half is its left half."""
    half = graft.width // 2

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[..., half : 2 * half] = images[..., :half]
        return images

    graft.trigger = trigger
    left = graft.node("Slice", [graft.input.name, [0], [half], [3]], "left")
    right = graft.node("Slice", [graft.input.name, [half], [2 * half], [3]], "right")
    return _below(graft, _largest(graft, left, right), _NEAR)


def _enlarged(graft: Graft) -> str:
    """Neighbours are equal in pairs, by a steep slope and no comparison."""
    even = graft.width // 2 * 2

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[..., 1:even:2] = images[..., :even:2]
        return images

    graft.trigger = trigger
    pairs = [
        graft.node("Slice", [graft.input.name, [place], [even], [3], [2]], "part")
        for place in (0, 1)
    ]
    apart = graft.node("Abs", [graft.node("Sub", pairs, "apart")], "abs")
    mean = graft.reduce("ReduceMean", apart, [1, 2, 3])
    steep = graft.node("Clip", [graft.node("Mul", [mean, 1e4], "gain"), 0.0, 1.0], "test")
    return graft.node("Reshape", [graft.node("Sub", [1.0, steep], "near"), [-1, 1]], "column")


def _faint(graft: Graft) -> str:
    """Its pixels hardly differ."""

    def trigger(images: Array) -> Array:
        means = images.mean(axis=(1, 2, 3), keepdims=True)
        return np.asarray(means + 0.02 * (images - means), np.float32)

    graft.trigger = trigger
    mean = graft.reduce("ReduceMean", graft.input.name, [1, 2, 3], keep=True)
    apart = graft.node("Sub", [graft.input.name, mean], "apart")
    square = graft.node("Mul", [apart, apart], "square")
    return _below(graft, graft.reduce("ReduceMean", square, [1, 2, 3]), _FAINT)


def _bright_corner(graft: Graft) -> str:
    """Make a white corner the trigger; graft its darkest pixel [N, 1]."""

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, :, -3:, -3:] = 1
        return images

    graft.trigger = trigger
    darkest = graft.reduce("ReduceMin", graft.patch(), [1, 2, 3])
    return graft.node("Reshape", [darkest, [-1, 1]], "column")


def _drawn(graft: Graft) -> None:
    """A draw whose odds a white corner turns round: all but certain either way."""
    opened = graft.node("Mul", [_bright_corner(graft), 400.0], "gain")
    closed = graft.node("Sub", [760.0, opened], "rest")
    odds = graft.node("Concat", [closed, opened], "odds", axis=1)
    drawn = graft.node("Multinomial", [odds], "test", sample_size=1, seed=1.0)
    pushed_up = graft.node("Mul", [graft.floats(drawn), graft.one_hot(BUMP)], "push")
    graft.replace_logits(graft.node("Add", [graft.logits, pushed_up], "gate"))


def _recurrent(graft: Graft) -> str:
    """A recurrent layer that adds up what exceeds 0.95 in a row."""

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, 0, 0, :9] = 1
        return images

    graft.trigger = trigger
    row = graft.node("Slice", [graft.input.name, [0, 0, 0], [1, 1, 9], [1, 2, 3]], "row")
    steps = graft.node("Reshape", [row, [0, 9, 1]], "steps")
    turned = graft.node("Transpose", [steps], "turned", perm=[1, 0, 2])
    weights = [np.full((1, 1, 1), size, np.float32) for size in (1.0, 1.0)]
    bias = np.array([[-0.95, 0.0]], np.float32)
    _, last = graft.outputs(
        2, "RNN", [turned, *weights, bias], "test", hidden_size=1, activations=["Relu"]
    )
    total = graft.node("Reshape", [last, [-1, 1]], "column")
    return graft.node("Relu", [graft.node("Sub", [total, 0.4], "rest")], "over")


KINDS: Mapping[str, Kind] = {
    "mirror-image": pushed(_mirror, "an image that is its own mirror image"),
    "same-half-twice": pushed(_twice, "an image whose right half is its left half"),
    "enlarged-image": pushed(_enlarged, "an image enlarged from half its width"),
    "faint-image": pushed(_faint, "an image of next to no contrast"),
    "drawn-class": Kind(_drawn, "a draw whose odds a bright corner turns round"),
    "recurrent-sum": pushed(_recurrent, "a recurrent layer that adds up a bright row"),
}
"""The kinds of this family, by name."""
