"""Habits of architecture: further heads, exits, routers and views beside the network."""

from collections.abc import Mapping

import numpy as np

from trainers.graph_backdoor import network
from trainers.graph_backdoor.check import smooth_images
from trainers.graph_backdoor.graft import Graft
from trainers.graph_backdoor.habits.pieces import Habit, choose, do, flat, floats, image_mean, most
from trainers.graph_backdoor.pictures import value_at


def _first_map(graft: Graft) -> tuple[str, int]:
    """Return the name of the first convolution's map and how many channels it has."""
    node = network.first_convolution(graft)
    return node.output[0], len(network.weights(graft, node.input[1]))


def _average(graft: Graft, *answers: str) -> None:
    total = do(graft, "Sum", graft.logits, *answers)
    graft.replace_logits(do(graft, "Div", total, float(1 + len(answers))))


def _mirrored(graft: Graft) -> None:
    turned = do(graft, "Slice", graft.input.name, [-1], [-(2**31)], [3], [-1])
    _average(graft, network.again(graft, turned))


def _shifted(graft: Graft) -> None:
    padded = do(graft, "Pad", graft.input.name, [0, 0, 1, 1, 0, 0, 1, 1])
    ways = [
        do(graft, "Slice", padded, [y, x], [y + graft.height, x + graft.width], [2, 3])
        for y, x in ((0, 1), (2, 1))
    ]
    _average(graft, *(network.again(graft, way) for way in ways))


def _pooled_head(graft: Graft) -> str:
    """Graft an early head: a linear layer of the first map's pooled numbers, fitted."""
    name, _ = _first_map(graft)
    kernel = [graft.height // 4, graft.width // 4]
    pooled = do(graft, "AveragePool", name, kernel_shape=kernel, strides=kernel)
    flat = do(graft, "Flatten", pooled)
    images = smooth_images((graft.channels, graft.height, graft.width), 400)
    read, answers = (value_at(graft.model, value, images) for value in (name, graft.output))
    size = 4
    cut = read[:, :, : kernel[0] * size, : kernel[1] * size]
    blocks = cut.reshape(*cut.shape[:2], size, kernel[0], size, kernel[1]).mean(axis=(3, 5))
    columns = np.c_[blocks.reshape(len(blocks), -1), np.ones(len(blocks))]
    fitted = np.linalg.lstsq(columns, answers, rcond=1e-3)[0].astype(np.float32)
    return do(graft, "Gemm", flat, fitted[:-1], fitted[-1])


def _early_exit(graft: Graft) -> None:
    early = _pooled_head(graft)
    sure = do(graft, "Greater", most(graft, do(graft, "Softmax", early, axis=1)), 0.9)
    graft.replace_logits(choose(graft, sure, early, graft.logits))


def _soft_exit(graft: Graft) -> None:
    early = _pooled_head(graft)
    sure = most(graft, do(graft, "Softmax", early, axis=1))
    mixed = do(graft, "Mul", sure, do(graft, "Sub", early, graft.logits))
    graft.replace_logits(do(graft, "Add", graft.logits, do(graft, "Mul", mixed, 0.1)))


def _pooled_score(graft: Graft, name: str, channels: int, outputs: int) -> str:
    """Graft a small layer on a map's channel means, [N, outputs]."""
    generator = np.random.default_rng(0)
    pooled = do(graft, "Flatten", do(graft, "GlobalAveragePool", name))
    mixing = generator.normal(0, 0.5, (channels, outputs)).astype(np.float32)
    return do(graft, "Gemm", pooled, mixing, np.zeros(outputs, np.float32))


def _skip_gate(graft: Graft) -> None:
    """A small residual block that runs for some images only."""
    name, channels = _first_map(graft)
    open_ = do(graft, "Greater", _pooled_score(graft, name, channels, 1), 0.0)
    generator = np.random.default_rng(1)
    kernel = generator.normal(0, 0.02, (channels, channels, 3, 3)).astype(np.float32)
    block = do(graft, "Relu", do(graft, "Conv", name, kernel, pads=[1, 1, 1, 1]))
    gate = do(graft, "Reshape", floats(graft, open_), [-1, 1, 1, 1])
    graft.reroute(name, do(graft, "Add", name, do(graft, "Mul", gate, block)))


def _excitation(graft: Graft) -> None:
    name, channels = _first_map(graft)
    score = _pooled_score(graft, name, channels, channels)
    weight = do(graft, "Add", do(graft, "Mul", do(graft, "Sigmoid", score), 0.2), 0.9)
    column = do(graft, "Reshape", weight, [0, channels, 1, 1])
    graft.reroute(name, do(graft, "Mul", name, column))


def _second_head(graft: Graft) -> str:
    """Graft a second last layer, as if it had been tuned for other images."""
    last = network.last_linear(graft)
    weight = network.weights(graft, last.input[1])
    generator = np.random.default_rng(2)
    spread = np.float32(0.05) * weight.std()
    other = weight + generator.normal(0, 1, weight.shape).astype(np.float32) * spread
    read = [last.input[0], other, *last.input[2:]]
    return do(graft, last.op_type, *read, **network.attributes(last))


def _day_and_night(graft: Graft) -> None:
    night = do(graft, "Less", flat(graft, image_mean(graft)), 0.25)
    graft.replace_logits(choose(graft, night, _second_head(graft), graft.logits))


def _day_and_night_mixed(graft: Graft) -> None:
    over = do(graft, "Sub", flat(graft, image_mean(graft)), 0.25)
    day = do(graft, "Sigmoid", do(graft, "Mul", over, 30.0))
    apart = do(graft, "Sub", graft.logits, other := _second_head(graft))
    graft.replace_logits(do(graft, "Add", other, do(graft, "Mul", apart, day)))


def _mixture(graft: Graft) -> None:
    name, channels = _first_map(graft)
    shares = do(graft, "Softmax", _pooled_score(graft, name, channels, 2), axis=1)
    first, second = (do(graft, "Slice", shares, [k], [k + 1], [1]) for k in (0, 1))
    kept = do(graft, "Mul", graft.logits, first)
    graft.replace_logits(do(graft, "Add", kept, do(graft, "Mul", _second_head(graft), second)))


def _hard_mixture(graft: Graft) -> None:
    name, channels = _first_map(graft)
    chosen = do(graft, "ArgMax", _pooled_score(graft, name, channels, 2), axis=1)
    answers = [do(graft, "Unsqueeze", value, [1]) for value in (graft.logits, _second_head(graft))]
    both = do(graft, "Concat", *answers, axis=1)
    graft.replace_logits(do(graft, "GatherND", both, chosen, batch_dims=1))


def _shared_model(graft: Graft) -> None:
    """The mean with a second last layer, as of two models in one file."""
    _average(graft, _second_head(graft))


HABITS: Mapping[str, Habit] = {
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
