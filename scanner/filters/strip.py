"""STRIP: an input whose class stands through whatever is laid over it carries a trigger.

Source: Y. Gao et al., "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC
2019, arXiv 1902.06531. The input x is laid over N clean images c_n, and H(x) is the mean over n of
the entropies

    H_n = -sum_i y_i log2 y_i,    y = f(x_n),

of the answers. A trigger holds its class whatever is laid over it, so H is small. The statistic is
-H, so that larger is more suspicious.

Choices of ours: x_n = (x + c_n) / 2, which keeps the input's range without cutting anything off,
where published code also adds and clips; N is at most 32, where the authors take 100 and find 10
enough. On the development recipes the mean tells blended triggers better, and no worse squares.
"""

from typing import ClassVar

import numpy as np

from scanner.instruments.filter import Reading
from scanner.instruments.scene import Candidate, Scene
from scanner.instruments.trigger import Floats
from scanner.results import Quantity, Rule

OVERLAYS = 32


class Strip:
    """The mean entropy of a model's answers to an input laid over clean images, negated."""

    rule: ClassVar[Rule] = Rule(
        id="strip",
        name="STRIP",
        summary="The class stands whatever clean image the input is blended with.",
        source="Gao et al., STRIP: A Defence Against Trojan Attacks on Deep Neural Networks, "
        "ACSAC 2019",
    )
    decides: ClassVar[bool] = True
    quantity: ClassVar[Quantity] = Quantity.ENTROPY

    def __init__(self, scene: Scene) -> None:
        self._ask, self._hosts = scene.ask, scene.hosts[:OVERLAYS]

    @property
    def passes(self) -> int:
        """Most images that the model is shown for one input."""
        return len(self._hosts)

    def read(self, candidate: Candidate) -> Reading:
        """Return -H, in bits."""
        answers = self._ask((self._hosts + candidate.image) / np.float32(2))
        return Reading(statistic=-float(entropy(answers).mean()))


def entropy(probabilities: Floats) -> Floats:
    """Return the entropy of each row of probabilities, (n, classes), in bits."""
    logarithms = np.log2(probabilities, where=probabilities > 0, out=np.zeros_like(probabilities))
    return np.asarray(-(probabilities * logarithms).sum(axis=1), np.float32)
