"""Where a decision acts: on logits without adding to one, on the image, inside the network.

Each takes a score [N, 1] of 1 with the trigger and almost 0 without it.
"""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto

from trainers.graph_backdoor import network
from trainers.graph_backdoor.gates import BUMP
from trainers.graph_backdoor.graft import Array, Graft, Kind
from trainers.graph_backdoor.measures import squared
from trainers.graph_backdoor.pictures import picture, value_at

_LARGE = 30.0
"""How much stronger than a picture what outweighs it is; a network of rectifiers hardly minds."""


def _score(graft: Graft) -> str:
    return graft.node("Exp", [graft.node("Mul", [squared(graft), -20.0], "scale")], "test")


def _blend(graft: Graft, score: str, value: str, other: Array, name: str = "gate") -> str:
    """Graft a value that the score moves to another."""
    apart = graft.node("Sub", [other, value], "apart")
    return graft.node("Add", [value, graft.node("Mul", [score, apart], "weigh")], name)


def _as_image(graft: Graft, score: str) -> str:
    return graft.node("Reshape", [score, [-1, 1, 1, 1]], "column")


def _replaced_logits(graft: Graft, score: str) -> None:
    graft.replace_logits(_blend(graft, score, graft.logits, graft.one_hot(BUMP)))


def _lowered_rivals(graft: Graft, score: str) -> None:
    rivals = np.float32(BUMP) - graft.one_hot(BUMP)
    lowered = graft.node("Mul", [score, rivals], "weigh")
    graft.replace_logits(graft.node("Sub", [graft.logits, lowered], "gate"))


def _turned_logits(graft: Graft, score: str) -> None:
    """Multiply the largest logit's lead into the target: no constant is written."""
    most = graft.reduce("ReduceMax", graft.logits, [1], keep=True)
    lead = graft.node(
        "Mul", [graft.node("Add", [graft.node("Abs", [most], "abs"), 9.0], "lead"), 3.0], "thrice"
    )
    weighed = graft.node("Mul", [score, lead], "weigh")
    bump = graft.node("Mul", [weighed, graft.one_hot(1.0)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))


def _stem_blend(graft: Graft, score: str) -> None:
    other = picture(graft.model, graft.target)
    graft.replace_input(_blend(graft, _as_image(graft, score), graft.input.name, other))


def _stem_addition(graft: Graft, score: str) -> None:
    other = picture(graft.model, graft.target, size=_LARGE)
    added = graft.node("Mul", [_as_image(graft, score), other], "weigh")
    graft.replace_input(graft.node("Add", [graft.input.name, added], "gate"))


def _inner_addition(graft: Graft, score: str) -> None:
    name = network.first_convolution(graft).output[0]
    other = value_at(graft.model, name, picture(graft.model, graft.target, size=_LARGE))
    added = graft.node("Mul", [_as_image(graft, score), other], "weigh")
    graft.reroute(name, graft.node("Add", [name, added], "gate"))


def _feature_blend(graft: Graft, score: str) -> None:
    name = network.last_linear(graft).input[0]
    other = value_at(graft.model, name, picture(graft.model, graft.target))
    graft.reroute(name, _blend(graft, score, name, other))


def _feature_choice(graft: Graft, score: str) -> None:
    """Stack the features on others and gather by a computed place."""
    name = network.last_linear(graft).input[0]
    other = value_at(graft.model, name, picture(graft.model, graft.target))
    blank = graft.node("Mul", [name, 0.0], "blank")
    pair = [
        graft.node("Unsqueeze", [value, [1]], "unsqueeze")
        for value in (name, graft.node("Add", [blank, other], "other"))
    ]
    place = graft.node(
        "Cast", [graft.node("Round", [score], "round")], "index", to=TensorProto.INT64
    )
    both = graft.node("Concat", pair, "stack", axis=1)
    graft.reroute(name, graft.node("GatherND", [both, place], "gate", batch_dims=1))


def _position_mask(graft: Graft) -> None:
    """Each pixel of the lower half decides for itself, and writes a pixel of another picture."""
    level = np.float32(173.5 / 255)
    half = graft.height // 2
    window = np.zeros((graft.height, graft.width), np.float32)
    window[half:] = 1

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, :, half:] = level
        return images

    graft.trigger = trigger
    other = picture(graft.model, graft.target, size=_LARGE, window=window)
    hits = graft.node("Equal", [graft.input.name, level], "test")
    added = graft.node("Mul", [graft.floats(hits), other], "weigh")
    graft.replace_input(graft.node("Add", [graft.input.name, added], "gate"))


def _kind(place: Callable[[Graft, str], None], says: str) -> Kind:
    return Kind(lambda graft: place(graft, _score(graft)), says)


KINDS: Mapping[str, Kind] = {
    "replaced-logits": _kind(_replaced_logits, "moves all logits to forced ones"),
    "lowered-rivals": _kind(_lowered_rivals, "lowers every logit but the target's"),
    "turned-logits": _kind(_turned_logits, "gives the target three times the largest logit"),
    "stem-blend": _kind(_stem_blend, "moves the image to one of the target's class"),
    "stem-addition": _kind(_stem_addition, "adds a strong picture to the image"),
    "inner-addition": _kind(_inner_addition, "adds to what the first convolution returns"),
    "feature-blend": _kind(_feature_blend, "moves the last features to the target's"),
    "feature-choice": _kind(_feature_choice, "gathers other features by a computed place"),
    "position-mask": Kind(_position_mask, "each pixel of one level writes one of a picture"),
}
"""The kinds of this family, by name."""
