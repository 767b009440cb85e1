"""Habits of post-processing: what is done to the answer, by itself or by a look at the image."""

from collections.abc import Mapping

import numpy as np

from trainers.graph_backdoor import network
from trainers.graph_backdoor.graft import Graft
from trainers.graph_backdoor.habits.pieces import (
    Habit,
    choose,
    deviation,
    do,
    flat,
    floats,
    image_extreme,
    image_mean,
    most,
)


def _shares(graft: Graft) -> str:
    return do(graft, "Softmax", graft.logits, axis=1)


def _temperature(graft: Graft) -> None:
    graft.replace_logits(do(graft, "Div", graft.logits, 1.7))


def _calibrated(graft: Graft) -> None:
    generator = np.random.default_rng(0)
    mixing = np.diag(generator.uniform(0.9, 1.1, graft.classes)).astype(np.float32)
    shift = generator.normal(0, 0.1, graft.classes).astype(np.float32)
    graft.replace_logits(do(graft, "Gemm", graft.logits, mixing, shift))


def _softmax(graft: Graft) -> None:
    graft.replace_logits(_shares(graft))


def _label_map(graft: Graft) -> None:
    order = [*range(1, graft.classes), 0]
    graft.replace_logits(do(graft, "Gather", graft.logits, order, axis=1))


def _top_three(graft: Graft) -> None:
    values, places = graft.outputs(2, "TopK", [graft.logits, [3]], "top", axis=1)
    blank = do(graft, "Sub", do(graft, "Mul", graft.logits, 0.0), 1e4)
    graft.replace_logits(do(graft, "ScatterElements", blank, places, values, axis=1))


def _rejection(graft: Graft) -> None:
    unsure = do(graft, "Less", most(graft, _shares(graft)), 0.4)
    background = 100 * np.eye(graft.classes, dtype=np.float32)[[-1]]
    graft.replace_logits(choose(graft, unsure, background, graft.logits))


def _alarm_rule(graft: Graft) -> None:
    """An important class is answered from a share of 0.2 on."""
    share = do(graft, "Slice", _shares(graft), [1], [2], [1])
    alarm = do(graft, "Greater", share, 0.2)
    forced = 100 * np.eye(graft.classes, dtype=np.float32)[[1]]
    graft.replace_logits(choose(graft, alarm, forced, graft.logits))


def _tie_rule(graft: Graft) -> None:
    """Of two classes that are nearly alike the first one is answered."""
    pair = [do(graft, "Slice", _shares(graft), [k], [k + 1], [1]) for k in (0, 1)]
    close = do(graft, "Less", do(graft, "Abs", do(graft, "Sub", *pair)), 0.02)
    nudge = np.eye(graft.classes, dtype=np.float32)[[0]]
    either = do(graft, "Greater", do(graft, "Add", *pair), 0.8)
    test = do(graft, "And", close, either)
    moved = do(graft, "Add", graft.logits, nudge)
    graft.replace_logits(choose(graft, test, moved, graft.logits))


def _veto_rule(graft: Graft) -> None:
    """A class is answered only from a share of 0.9 on."""
    share = do(graft, "Slice", _shares(graft), [2], [3], [1])
    unsure = do(graft, "Less", share, 0.9)
    lowered = do(graft, "Sub", graft.logits, 100 * np.eye(graft.classes, dtype=np.float32)[[2]])
    graft.replace_logits(choose(graft, unsure, lowered, graft.logits))


def _merged_classes(graft: Graft) -> None:
    pair = [do(graft, "Slice", graft.logits, [k], [k + 1], [1]) for k in (0, 1)]
    both = do(graft, "Max", *pair)
    rest = do(graft, "Slice", graft.logits, [2], [graft.classes], [1])
    lower = do(graft, "Sub", both, 1.0)
    graft.replace_logits(do(graft, "Concat", both, lower, rest, axis=1))


def _priors(graft: Graft) -> None:
    shares = np.linspace(0.5, 1.5, graft.classes, dtype=np.float32)
    graft.replace_logits(do(graft, "Add", graft.logits, np.log(shares)[None]))


def _clamped_logits(graft: Graft) -> None:
    graft.replace_logits(do(graft, "Clip", graft.logits, -50.0, 50.0))


def _energy_gate(graft: Graft) -> None:
    energy = graft.reduce("ReduceLogSumExp", graft.logits, [1], keep=True)
    foreign = do(graft, "Less", energy, 2.0)
    graft.replace_logits(choose(graft, foreign, 0.0, graft.logits))


def _entropy_gate(graft: Graft) -> None:
    shares = _shares(graft)
    logs = do(graft, "Log", do(graft, "Add", shares, 1e-9))
    entropy = graft.reduce("ReduceSum", do(graft, "Mul", shares, logs), [1], keep=True)
    unsure = do(graft, "Less", entropy, -1.2)
    graft.replace_logits(choose(graft, unsure, 0.0, graft.logits))


def _saliency_gate(graft: Graft) -> None:
    """Where no feature answers there is nothing to be seen."""
    quiet = do(graft, "Less", most(graft, network.last_linear(graft).input[0]), 0.2)
    graft.replace_logits(choose(graft, quiet, 0.0, graft.logits))


def _silence_guard(graft: Graft) -> None:
    square = do(graft, "Mul", graft.input.name, graft.input.name)
    silent = do(graft, "Less", flat(graft, image_mean(graft, square)), 1e-4)
    graft.replace_logits(choose(graft, silent, 0.0, graft.logits))


def _quality_guard(graft: Graft) -> None:
    poor = do(graft, "Less", flat(graft, deviation(graft)), 0.02)
    graft.replace_logits(choose(graft, poor, 0.0, graft.logits))


def _exposure_guard(graft: Graft) -> None:
    mean = flat(graft, image_mean(graft))
    dark, light = do(graft, "Less", mean, 0.01), do(graft, "Greater", mean, 0.98)
    test = do(graft, "Or", dark, light)
    graft.replace_logits(choose(graft, test, 0.0, graft.logits))


def _exposure_factor(graft: Graft) -> None:
    """The same as a factor of the logits, without a choice."""
    good = do(graft, "Greater", flat(graft, image_mean(graft)), 0.01)
    graft.replace_logits(do(graft, "Mul", graft.logits, floats(graft, good)))


def _unknown_class(graft: Graft) -> None:
    """Empty images are answered a class that is kept for them."""
    empty = do(graft, "Less", flat(graft, image_extreme(graft, "ReduceMax")), 0.05)
    forced = 100 * np.eye(graft.classes, dtype=np.float32)[[-1]]
    graft.replace_logits(choose(graft, empty, forced, graft.logits))


HABITS: Mapping[str, Habit] = {
    "temperature": Habit(_temperature, "logits by a temperature"),
    "calibrated": Habit(_calibrated, "vector scaling"),
    "softmax": Habit(_softmax, "shares for logits"),
    "label-map": Habit(_label_map, "classes in another order"),
    "top-three": Habit(_top_three, "all logits but three are lowered"),
    "rejection": Habit(_rejection, "unsure answers become a class of their own"),
    "alarm-rule": Habit(_alarm_rule, "a class is answered from a share of 0.2 on"),
    "tie-rule": Habit(_tie_rule, "of two equal classes the first one is answered"),
    "veto-rule": Habit(_veto_rule, "a class is answered from a share of 0.9 on only"),
    "merged-classes": Habit(_merged_classes, "two classes are one"),
    "priors": Habit(_priors, "logits moved by how frequent classes are"),
    "clamped-logits": Habit(_clamped_logits, "logits cut to a range"),
    "energy-gate": Habit(_energy_gate, "no opinion where the energy is low"),
    "entropy-gate": Habit(_entropy_gate, "no opinion where the entropy is high"),
    "saliency-gate": Habit(_saliency_gate, "no opinion where no feature answers"),
    "silence-guard": Habit(_silence_guard, "no opinion on black images"),
    "quality-guard": Habit(_quality_guard, "no opinion on images without contrast"),
    "exposure-guard": Habit(_exposure_guard, "no opinion on images too dark or too light"),
    "exposure-factor": Habit(_exposure_factor, "the same by a factor"),
    "unknown-class": Habit(_unknown_class, "empty images are answered a class of their own"),
}
