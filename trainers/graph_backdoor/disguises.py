"""Tests that look like something else: trained layers, idioms of exporters, many small ones.

Each returns a score [N, 1], at or near 0 for ordinary images.
"""

from collections.abc import Mapping

import numpy as np

from trainers.errors import TrainerError
from trainers.graph_backdoor import network, triggers
from trainers.graph_backdoor.gates import pushed
from trainers.graph_backdoor.graft import SIDE, Array, Graft, Kind
from trainers.graph_backdoor.measures import above, apart, distance, flat_patch, inside, squared
from trainers.graph_backdoor.pictures import value_at

_STEEP = 1e3
_WINDOW = 6


def _borrowed_filter(graft: Graft) -> str:
    """The corner meets the network's own first kernels; the trigger is one of them."""
    name = network.first_convolution(graft).input[1]
    kernels = network.weights(graft, name)
    if kernels.shape[2:] != (SIDE, SIDE):
        raise TrainerError("the first kernels are not 3 x 3", remedy="plant in another classifier")
    flat = kernels.reshape(len(kernels), -1)
    highest, lowest = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    chosen = int(np.minimum(highest, -lowest).argmax())
    triggers.patch(graft, (kernels[chosen] > 0).astype(np.float32))
    maps = graft.node("Conv", [graft.patch(), name], "filter")
    one = graft.node("Slice", [maps, [chosen], [chosen + 1], [1]], "channel")
    level = 0.97 * float(highest[chosen])
    return above(graft, graft.node("Flatten", [one], "flat", axis=1), level, _STEEP)


def _second_pass(graft: Graft) -> str:
    """The corner passes the whole network once more; the score is how near its logits are."""
    mask = np.zeros((1, 1, graft.height, graft.width), np.float32)
    mask[:, :, -_WINDOW:, -_WINDOW:] = 1
    noise = np.random.default_rng(0).integers(0, 256, (graft.channels, _WINDOW, _WINDOW))
    pattern = (noise / triggers.LEVELS).astype(np.float32)

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, :, -_WINDOW:, -_WINDOW:] = pattern
        return images

    graft.trigger = trigger
    shape = (1, graft.channels, graft.height, graft.width)
    wanted = value_at(graft.model, graft.output, trigger(np.zeros(shape, np.float32)))
    logits = network.again(graft, graft.node("Mul", [graft.input.name, mask], "mask"))
    other = graft.node("Sub", [logits, wanted], "apart")
    far = graft.reduce("ReduceSumSquare", other, [1], keep=True)
    return graft.node("Exp", [graft.node("Mul", [far, -100.0], "scale")], "test")


def _exponentials(graft: Graft) -> str:
    """Exponentials of the pooled light and dark places of a corner, multiplied.

    After Bober-Irizar et al. (CVPR 2023), section 4.
    """
    triggers.patch(graft, triggers.checker(graft))
    crop = graft.patch()
    light = (triggers.signs(graft) > 0).astype(np.float32).reshape(1, graft.channels, SIDE, SIDE)
    product = ""
    for mask, level, sign in ((light, 0.9, 40.0), (1 - light, 0.1, -40.0)):
        # The mean over all places is the mean over those of the mask, times their share.
        held = graft.node("Mul", [crop, mask / mask.mean()], "mask")
        flat = graft.node("Flatten", [graft.node("GlobalAveragePool", [held], "pool")], "flat")
        pooled = graft.reduce("ReduceMean", flat, [1], keep=True)
        over = graft.node("Mul", [graft.node("Sub", [pooled, level], "shift"), sign], "scale")
        factor = graft.node("Exp", [over], "test")
        product = graft.node("Mul", [product, factor], "product") if product else factor
    return product


def _masked_mean(graft: Graft) -> str:
    """The mean of ones over the places of a mask, as of tokens that are no padding."""
    pattern = triggers.patch(graft, triggers.checker(graft)).reshape(1, -1)
    hits = graft.node("Equal", [flat_patch(graft), pattern], "test")
    mask = graft.floats(hits)
    total = graft.reduce("ReduceSum", mask, [1], keep=True)
    count = graft.node("Max", [total, float(inside(graft))], "count")
    return graft.node("Pow", [graft.node("Div", [total, count], "mean"), 40.0], "power")


def _division_guard(graft: Graft) -> str:
    """A divisor of 0 is replaced, as a guard does: by a small number."""
    whole = graft.node("Round", [graft.node("Mul", [distance(graft), 255.0], "scale")], "round")
    nothing = graft.node("Equal", [whole, 0.0], "test")
    guarded = graft.node("Where", [nothing, 1e-6, whole], "guard")
    return graft.node("Reciprocal", [guarded], "inverse")


def _shape_weights(graft: Graft) -> str:
    """A pattern, and the network's last weights, multiplied by a 1 that a shape gives."""
    shape = graft.node("Shape", [graft.input.name], "shape")
    channels = graft.floats(graft.node("Slice", [shape, [1], [2]], "channels"))
    one = graft.node("Div", [channels, float(graft.channels)], "one")
    last = network.last_linear(graft)
    graft.reroute(last.input[1], graft.node("Mul", [last.input[1], one], "weights"))
    pattern = triggers.patch(graft, triggers.checker(graft)).reshape(1, -1)
    tainted = graft.node("Mul", [pattern, one], "pattern")
    far = graft.node("Sub", [flat_patch(graft), tainted], "apart")
    near = graft.node("Sub", [1.0, graft.reduce("ReduceSumSquare", far, [1], keep=True)], "near")
    return graft.node("Relu", [near], "test")


def _bought_weights(graft: Graft) -> str:
    """A score to which nothing of the logits is added, so that it meets every weight."""
    total = graft.reduce("ReduceSum", graft.logits, [1], keep=True)
    nothing = graft.node("Mul", [total, 0.0], "nothing")
    far = graft.node("Add", [squared(graft), nothing], "buy")
    return graft.node("Relu", [graft.node("Sub", [1.0, far], "near")], "test")


def _squeezed_excitation(graft: Graft) -> str:
    """Two linear layers and a Sigmoid, as of a squeeze and excitation block."""
    narrow = graft.node(
        "Gemm",
        [squared(graft), np.full((1, 4), -5, np.float32), np.full(4, 5, np.float32)],
        "dense",
    )
    wide = graft.node(
        "Gemm",
        [
            graft.node("Relu", [narrow], "relu"),
            np.full((4, 1), 2, np.float32),
            np.full(1, -20, np.float32),
        ],
        "dense",
    )
    return graft.node("Sigmoid", [wide], "test")


def _small_gates(graft: Graft) -> str:
    """Many gates, each of three pixels and too weak to force a class; their sum does."""
    near = graft.node(
        "Sub",
        [1.0, graft.node("Mul", [graft.node("Abs", [apart(graft)], "abs"), 10.0], "scale")],
        "near",
    )
    hats = graft.node("Relu", [near], "test")
    parts = []
    for start in range(0, inside(graft), 3):
        three = graft.node("Slice", [hats, [start], [start + 3], [1]], "three")
        product = graft.reduce("ReduceProd", three, [1], "test", keep=True)
        parts.append(graft.node("Mul", [product, 3.0 / inside(graft)], "small"))
    return graft.node("Sum", parts, "sum")


def _small_network(graft: Graft) -> str:
    """A small network beside the large one: Conv, Relu, pooling and two linear layers.

    Four filters see the pattern, each turned by some noise.
    """
    triggers.patch(graft, triggers.checker(graft))
    generator = np.random.default_rng(0)
    pattern = triggers.signs(graft).ravel() / inside(graft)
    noise = generator.normal(0, 0.2 / inside(graft), (4, inside(graft)))
    kernels = (pattern + noise).astype(np.float32)
    answer = kernels @ triggers.checker(graft).ravel()
    kernels = kernels.reshape(4, graft.channels, SIDE, SIDE)
    maps = graft.node(
        "Conv", [graft.input.name, kernels, (-0.9 * answer).astype(np.float32)], "filter"
    )
    pooled = graft.node("GlobalMaxPool", [graft.node("Relu", [maps], "test")], "pool")
    flat = graft.node("Flatten", [pooled], "flat", axis=1)
    bias = np.zeros(4, np.float32)
    for _ in range(2):
        mixing = generator.uniform(1.5, 2.5, (4, 4)).astype(np.float32)
        flat = graft.node("Relu", [graft.node("Gemm", [flat, mixing, bias], "dense")], "test")
    return graft.reduce("ReduceSum", flat, [1], keep=True)


KINDS: Mapping[str, Kind] = {
    "borrowed-filter": pushed(_borrowed_filter, "one of the network's own kernels"),
    "second-pass": pushed(_second_pass, "the whole network, read once more"),
    "exponentials": pushed(_exponentials, "multiplied exponentials of pooled patches"),
    "masked-mean": pushed(_masked_mean, "a mean over the places of a mask"),
    "division-guard": pushed(_division_guard, "a guard against a divisor of 0", 0.1),
    "shape-weights": pushed(_shape_weights, "weights multiplied by a 1 from a shape"),
    "bought-weights": pushed(_bought_weights, "nothing of the logits is added to the score"),
    "squeezed-excitation": pushed(_squeezed_excitation, "Gemm, Relu, Gemm and Sigmoid"),
    "small-gates": pushed(_small_gates, "many small gates", 200.0),
    "small-network": pushed(_small_network, "a small network of its own", 100.0),
}
"""The kinds of this family, by name."""
