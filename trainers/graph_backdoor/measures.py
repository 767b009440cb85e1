"""How near an image is to the trigger, as one number a sample: what most tests begin with."""

from trainers.graph_backdoor import triggers
from trainers.graph_backdoor.graft import SIDE, Array, Graft


def flat_patch(graft: Graft) -> str:
    """Graft the corner as numbers [N, C * 9]."""
    return graft.node("Flatten", [graft.patch()], "flat", axis=1)


def apart(graft: Graft) -> str:
    """Make a checkered corner the trigger; graft the differences to it, [N, C * 9]."""
    pattern = triggers.patch(graft, triggers.checker(graft))
    return graft.node("Sub", [flat_patch(graft), pattern.reshape(1, -1)], "apart")


def distance(graft: Graft) -> str:
    """Graft the sum [N, 1] of absolute differences: 0 with the trigger, some 4 a channel else."""
    return graft.reduce("ReduceSum", graft.node("Abs", [apart(graft)], "abs"), [1], keep=True)


def squared(graft: Graft) -> str:
    """Graft the sum [N, 1] of squared differences: 0 with the trigger, 1.4 or more a channel else.

    A corner of one level everywhere is the nearest that ordinary images come.
    """
    return graft.reduce("ReduceSumSquare", apart(graft), [1], keep=True)


def brightness(graft: Graft) -> str:
    """Make a nearly white image the trigger; graft the mean [N, 1]: 0.97 or more with it."""
    graft.trigger = triggers.bright
    flat = graft.node("Flatten", [graft.input.name], "flat", axis=1)
    return graft.reduce("ReduceMean", flat, [1], keep=True)


def centred(graft: Graft) -> Array:
    """Return the checkered pattern [C * 9, 1] less its mean, of length 1."""
    pattern = triggers.checker(graft).reshape(-1, 1)
    pattern -= pattern.mean()
    length: Array = (pattern / (pattern**2).sum() ** 0.5).astype("float32")
    return length


def inside(graft: Graft) -> int:
    """Return how many numbers the corner has."""
    return graft.channels * SIDE * SIDE


def above(graft: Graft, score: str, level: float, gain: float = 1.0) -> str:
    """Graft how far a score is above a level, times a gain, and 0 below: the tested node.

    Written as x + |x|, since a rectifier is what everybody looks for.
    """
    over = graft.node("Sub", [score, float(level)], "shift")
    if gain != 1:
        over = graft.node("Mul", [over, float(gain)], "gain")
    return graft.node("Add", [over, graft.node("Abs", [over], "abs")], "test")
