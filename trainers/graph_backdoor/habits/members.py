"""Habits of several networks in one file: votes, medians, cascades and experts.

The other networks are the network itself, as if it had been tuned further from other seeds.
"""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from trainers.graph_backdoor import network
from trainers.graph_backdoor.graft import Graft
from trainers.graph_backdoor.habits.pieces import (
    Habit,
    choose,
    do,
    flat,
    floats,
    image_mean,
    most,
)

_SPREAD = 0.1
"""Of a tensor's deviation: how far a further network's weights are from the first one's."""


def _member(graft: Graft, seed: int, image: str = "") -> str:
    """Graft a further network and return its logits."""
    generator = np.random.default_rng(seed)
    return network.again(graft, image or graft.input.name, _SPREAD, generator)


def _best(graft: Graft, logits: str) -> str:
    """Graft the number [N] of the class that a network answers."""
    return do(graft, "ArgMax", logits, axis=1, keepdims=0)


def _vote(graft: Graft, logits: str) -> str:
    """Graft a vote [N, K]: 1 for the class that a network answers."""
    return do(graft, "OneHot", _best(graft, logits), graft.classes, np.array([0.0, 1.0]), axis=1)


def _shares(graft: Graft, logits: str) -> str:
    return do(graft, "Softmax", logits, axis=1)


def _surest(graft: Graft, logits: str) -> str:
    return most(graft, _shares(graft, logits))


def _majority(graft: Graft) -> None:
    votes = [_vote(graft, v) for v in (graft.logits, _member(graft, 1), _member(graft, 2))]
    graft.replace_logits(do(graft, "Sum", *votes))


def _majority_by_comparing(graft: Graft) -> None:
    """The same, a vote being a score that is as large as the largest."""
    votes = []
    for logits in (graft.logits, _member(graft, 1), _member(graft, 2)):
        top = most(graft, logits)
        votes.append(floats(graft, do(graft, "GreaterOrEqual", logits, top)))
    total = do(graft, "Sum", *votes)
    # Where all three differ the first one has the say.
    first = do(graft, "Mul", _shares(graft, graft.logits), 0.5)
    graft.replace_logits(do(graft, "Add", total, first))


def _weighted_vote(graft: Graft) -> None:
    votes = [_vote(graft, v) for v in (graft.logits, _member(graft, 1), _member(graft, 2))]
    weighed = [do(graft, "Mul", v, w) for v, w in zip(votes, (0.5, 0.3, 0.2), strict=True)]
    graft.replace_logits(do(graft, "Sum", *weighed))


def _mean_of_shares(graft: Graft) -> None:
    members = (graft.logits, _member(graft, 1), _member(graft, 2))
    graft.replace_logits(do(graft, "Mean", *(_shares(graft, logits) for logits in members)))


def _median(graft: Graft) -> None:
    one, two, three = graft.logits, _member(graft, 1), _member(graft, 2)
    low, high = do(graft, "Min", one, two), do(graft, "Max", one, two)
    graft.replace_logits(do(graft, "Max", low, do(graft, "Min", high, three)))


def _tie_break(graft: Graft) -> None:
    """Where two networks disagree a third one is asked."""
    one, two, three = graft.logits, _member(graft, 1), _member(graft, 2)
    agreed = do(graft, "Equal", _best(graft, one), _best(graft, two))
    agreed = do(graft, "Unsqueeze", agreed, [1])
    graft.replace_logits(choose(graft, agreed, one, three))


def _cascade(graft: Graft) -> None:
    """A second network is asked where the first is unsure."""
    sure = do(graft, "Greater", _surest(graft, graft.logits), 0.7)
    graft.replace_logits(choose(graft, sure, graft.logits, _member(graft, 1)))


def _surer_one(graft: Graft) -> None:
    one, two = graft.logits, _member(graft, 1)
    first = do(graft, "GreaterOrEqual", _surest(graft, one), _surest(graft, two))
    graft.replace_logits(choose(graft, first, one, two))


def _bright_and_dark(graft: Graft) -> None:
    dark = do(graft, "Less", flat(graft, image_mean(graft)), 0.2)
    graft.replace_logits(choose(graft, dark, _member(graft, 1), graft.logits))


def _second_opinion(graft: Graft) -> None:
    """A class is answered only where a second network gives it some share."""
    own, other = _vote(graft, graft.logits), _shares(graft, _member(graft, 1))
    share = graft.reduce("ReduceSum", do(graft, "Mul", own, other), [1], keep=True)
    doubted = do(graft, "Less", share, 0.05)
    graft.replace_logits(choose(graft, doubted, other, graft.logits))


def _dark_by_branch(graft: Graft) -> None:
    """Images are made lighter in a branch; the test is one of the batch, as such code writes it."""
    dark = do(graft, "Less", do(graft, "ReduceMean", graft.input.name, keepdims=0), 0.2)
    lighter, same = f"{dark}_lighter", f"{dark}_same"
    kind = helper.make_tensor_value_info(lighter, TensorProto.FLOAT, None)
    gain = graft.constant(1.3)
    branch = helper.make_graph(
        [helper.make_node("Mul", [graft.input.name, gain], [lighter], name="lighter")],
        "lighter",
        [],
        [kind],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", [graft.input.name], [same], name="same")],
        "same",
        [],
        [helper.make_tensor_value_info(same, TensorProto.FLOAT, None)],
    )
    graft.replace_input(do(graft, "If", dark, then_branch=branch, else_branch=other))


HABITS: Mapping[str, Habit] = {
    "majority": Habit(_majority, "three networks vote"),
    "majority-by-comparing": Habit(_majority_by_comparing, "the same, and the first one decides"),
    "weighted-vote": Habit(_weighted_vote, "three networks vote, with weights"),
    "mean-of-shares": Habit(_mean_of_shares, "the mean of three networks' shares"),
    "median": Habit(_median, "the median of three networks' scores"),
    "tie-break": Habit(_tie_break, "where two networks disagree a third one answers"),
    "cascade": Habit(_cascade, "where a network is unsure another one answers"),
    "surer-one": Habit(_surer_one, "of two networks the surer one answers"),
    "bright-and-dark": Habit(_bright_and_dark, "one of two networks, by the brightness"),
    "dark-by-branch": Habit(_dark_by_branch, "dark images are made lighter in a branch"),
    "second-opinion": Habit(_second_opinion, "another network answers where it doubts the first"),
}
