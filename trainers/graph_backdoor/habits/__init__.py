"""Honest habits of pre- and post-processing, grafted onto a classifier: what must not be accused.

Many test the input, choose between ways, and change the answer where the test says so. The numbers
are those that people write; some tests hardly ever apply to the images that a model was made for.
"""

from collections.abc import Mapping

import onnx

from trainers.errors import TrainerError
from trainers.graph_backdoor.graft import Graft
from trainers.graph_backdoor.habits import before, behind, beside, members
from trainers.graph_backdoor.habits.pieces import Habit

HABITS: Mapping[str, Habit] = {
    **before.HABITS,
    **behind.HABITS,
    **beside.HABITS,
    **members.HABITS,
}
"""Every habit, by name."""


def adopt(model: onnx.ModelProto, habit: str) -> onnx.ModelProto:
    """Return a copy of a classifier with a habit.

    Args:
        model: A classifier of images [N, C, H, W] in [0, 1] with logits [N, K]; opset 13 or later.
        habit: One of `HABITS`.

    Raises:
        TrainerError: There is no such habit, or the model is no such classifier.
    """
    if habit not in HABITS:
        raise TrainerError(
            f"there is no habit {habit!r}", remedy=f"choose one of {', '.join(HABITS)}"
        )
    graft = Graft(model, 0, prefix="step")
    HABITS[habit].graft(graft)
    return graft.planted().model
