"""INVERTED: what the input has under the mask of a found trigger does what the trigger does.

The triggers are those of Neural Cleanse (B. Wang et al., IEEE S&P 2019), found by a scan of the
same model: for the class t a mask m in [0, 1] and a pattern. For an input x that the model takes
for t, and clean images c_j that it does not take for t, the statistic is

    mean_j f_t((1 - m) c_j + m x),

how probable t is once the clean images take over what the input has under the mask. It is 0 for an
input of a class for which no trigger was found.
"""

import base64
from typing import ClassVar

import numpy as np

from scanner.errors import UsageError
from scanner.instruments.filter import Reading
from scanner.instruments.scene import Candidate, Scene
from scanner.instruments.trigger import Floats, stamp
from scanner.results import Quantity, Rule, Trigger

HOSTS = 12


class Inverted:
    """The probability of a found trigger's class once clean images take over what its mask shows.

    Raises:
        UsageError: A trigger is of images of another shape.
    """

    rule: ClassVar[Rule] = Rule(
        id="inverted",
        name="Inverted trigger",
        summary="What the input has under a found trigger's mask takes clean images to its class.",
        source="with triggers of Wang et al., Neural Cleanse, IEEE S&P 2019",
    )
    decides: ClassVar[bool] = True
    quantity: ClassVar[Quantity] = Quantity.SHARE

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._masks = {t.class_id: _mask(t, scene.hosts.shape[1:]) for t in scene.triggers}

    @property
    def passes(self) -> int:
        """Most images that the model is shown for one input."""
        return min(HOSTS, len(self._scene.hosts))

    def read(self, candidate: Candidate) -> Reading:
        """Return the mean probability of the input's class under its mask."""
        mask = self._masks.get(candidate.class_id)
        others = self._scene.others(candidate.class_id, HOSTS)
        if mask is None or not len(others):
            return Reading(statistic=0.0)
        stamped = stamp(self._scene.hosts[others], mask, candidate.image)
        return Reading(statistic=float(self._scene.ask(stamped)[:, candidate.class_id].mean()))


def _mask(trigger: Trigger, shape: tuple[int, ...]) -> Floats:
    """Return a trigger's mask, as it is multiplied with an image.

    Raises:
        UsageError: It is of another shape.
    """
    array = np.frombuffer(base64.b64decode(trigger.mask.data), "<f4").reshape(trigger.mask.shape)
    try:
        fits = np.broadcast_shapes(array.shape, shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            f"a trigger's mask is of shape {trigger.mask.shape}, and the model takes images of "
            f"{shape}",
            remedy="give the result of a scan of this model as the setting `triggers`",
        )
    return np.asarray(array, np.float32)
