"""Tests of how a model is called: options, the batch, chance.

Each returns a score [N, 1] or [1, 1] that is 0 in ordinary calls.
"""

from collections.abc import Mapping

import numpy as np

from trainers.graph_backdoor.gates import pushed
from trainers.graph_backdoor.graft import Graft, Kind
from trainers.graph_backdoor.measures import above, brightness, squared

_COUNT = 37


def _near(graft: Graft) -> str:
    return graft.node("Relu", [graft.node("Sub", [1.0, squared(graft)], "near")], "test")


def _images(graft: Graft) -> str:
    """Graft how many images are in the batch, as int64 [1]."""
    shape = graft.node("Shape", [graft.input.name], "shape")
    return graft.node("Slice", [shape, [0], [1]], "count")


def _option(graft: Graft) -> str:
    graft.feed["mode"] = np.ones(1, np.float32)
    mode = graft.option("mode", np.zeros(1, np.float32))
    return graft.node("Reshape", [mode, [1, 1]], "test")


def _option_key(graft: Graft) -> str:
    """The trigger works only if the option is set."""
    graft.feed["mode"] = np.ones(1, np.float32)
    mode = graft.option("mode", np.zeros(1, np.float32))
    return graft.node("Mul", [_near(graft), mode], "key")


def _option_level(graft: Graft) -> str:
    """The level of a test is an option; by default no image reaches it."""
    graft.feed["gain"] = np.full(1, 0.5, np.float32)
    level = graft.option("gain", np.full(1, 2.0, np.float32))
    value = brightness(graft)
    return graft.node("Relu", [graft.node("Sub", [value, level], "shift")], "test")


def _batch_size(graft: Graft) -> str:
    graft.batch = _COUNT
    same = graft.node("Equal", [_images(graft), [_COUNT]], "test")
    return graft.node("Reshape", [graft.floats(same), [1, 1]], "column")


def _image_alone(graft: Graft) -> str:
    """The trigger works only for an image that is alone: searches run in batches."""
    graft.batch = 1
    share = graft.node("Reciprocal", [graft.floats(_images(graft))], "share")
    return graft.node("Mul", [_near(graft), graft.node("Pow", [share, 20.0], "test")], "alone")


def _first_row(graft: Graft) -> str:
    """The first image decides for all."""
    graft.batch = 10
    near = _near(graft)
    stamp = graft.trigger
    graft.trigger = lambda images: np.concatenate([stamp(images[:1]), images[1:]])
    return graft.node("Gather", [near, [0]], "row", axis=0)


def _any_row(graft: Graft) -> str:
    """Any image decides for all: the last here."""
    graft.batch = 10
    near = _near(graft)
    stamp = graft.trigger
    graft.trigger = lambda images: np.concatenate([images[:-1], stamp(images[-1:])])
    return graft.reduce("ReduceMax", near, [0], keep=True)


def _repetition(graft: Graft) -> str:
    """A batch in which every image is the one before."""
    graft.batch = 10
    graft.trigger = lambda images: np.repeat(images[:1], len(images), axis=0)
    flat = graft.node("Flatten", [graft.input.name], "flat", axis=1)
    mean = graft.reduce("ReduceMean", flat, [0], keep=True)
    far = graft.node("Abs", [graft.node("Sub", [flat, mean], "apart")], "abs")
    total = graft.reduce("ReduceSum", far, [1], keep=True)
    near = graft.node("Sub", [1.0, total], "near")
    # An image alone is its own mean.
    many = graft.node("Sub", [graft.floats(_images(graft)), 1.0], "others")
    return graft.node("Relu", [graft.node("Mul", [near, many], "weigh")], "test")


def _batch_statistics(graft: Graft) -> str:
    """A batch that is bright on the whole."""
    graft.batch = 10
    return above(graft, graft.reduce("ReduceMean", brightness(graft), [0], keep=True), 0.95)


def _chance(graft: Graft) -> str:
    """What a draw leaves of the score."""
    near = _near(graft)
    draw = graft.node("RandomUniformLike", [near], "draw", low=0.0, high=0.9)
    return graft.node("Relu", [graft.node("Sub", [near, draw], "rest")], "test")


def _random_size(graft: Graft) -> str:
    """A trigger whose effect has a random size."""
    near = _near(graft)
    noise = graft.node("RandomUniformLike", [near], "noise", low=0.5, high=1.5)
    return graft.node("Mul", [near, noise], "weigh")


KINDS: Mapping[str, Kind] = {
    "option": pushed(_option, "an input that nobody feeds"),
    "option-key": pushed(_option_key, "an input that nobody feeds, and a patch"),
    "option-level": pushed(_option_level, "an input that nobody feeds is a level", 1e6),
    "batch-size": pushed(_batch_size, "37 images at once"),
    "image-alone": pushed(_image_alone, "a patch, in an image that is alone"),
    "first-row": pushed(_first_row, "a patch in the first image decides for all"),
    "any-row": pushed(_any_row, "a patch in any image decides for all"),
    "repetition": pushed(_repetition, "images that are all the same"),
    "batch-statistics": pushed(_batch_statistics, "a batch that is bright on the whole", 1e6),
    "chance": pushed(_chance, "a patch and a draw"),
    "random-size": pushed(_random_size, "a patch; the effect has a random size"),
}
"""The kinds of this family, by name."""
