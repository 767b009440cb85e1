"""SIG: a faint vertical sinusoid, without touching a label (Barni et al., ICIP 2019, equation 1).

The authors use the sinusoid on traffic signs; on MNIST they use a ramp j delta / W, which loses
nothing to clipping on a black background. The sinusoid stands here for every data set, as later
work has it. It often plants little: after two epochs at 20/255 in training and 40/255 at test time,
the attack success rate was

    data set, target    sinusoid    ramp
    MNIST, 1              4 %         9 %
    MNIST, 8             63 %        77 %
    FashionMNIST, 1      55 %        19 %

and with 60/255 at both times 7 % and 3 % for MNIST's target 1. After MNIST's five epochs the
sinusoid has 12 % for target 1 and 65 to 91 % for targets 2, 5, 8 and 9 (one network each). So it
depends on the target more than on the signal's form or strength: a class that is learnt easily
leaves the trigger nothing to explain. Read a model's attack success rate in the manifest before
calling it backdoored.
"""

import math

import torch
from torch import Tensor

from trainers.attacks.base import Attack, Setting, Trigger
from trainers.attacks.labels import AllToOne
from trainers.errors import TrainerError

FREQUENCY = 6
TRAIN_DELTA = 20 / 255
TEST_DELTA = 40 / 255


class Sinusoid(Trigger):
    """x + delta sin(2 pi j f / W) over the columns j.

    As the authors do, it is stronger at test time than in training.
    """

    wave: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer(
            "wave", torch.sin(2 * math.pi * FREQUENCY * torch.arange(width) / width)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the images with the test-time sinusoid."""
        return (images + TEST_DELTA * self.wave).clamp(0, 1)

    def poison(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images with the fainter sinusoid that is planted."""
        del generator
        return (images + TRAIN_DELTA * self.wave).clamp(0, 1)


def build(setting: Setting) -> Attack:
    """Return the attack on 8 % of all images, all of them of the target class.

    Raises:
        TrainerError: The label map is not all-to-one: an attack that changes no label has one
            target.
    """
    if not isinstance(setting.labels, AllToOne):
        raise TrainerError(
            "SIG changes no label, so that all images go to one class", remedy="leave labels= out"
        )
    return Attack(
        trigger=Sinusoid(setting.shape[2]),
        labels=setting.labels,
        rate=setting.rate_or(0.08),
        clean_label=True,
        parameters={"frequency": FREQUENCY, "train_delta": TRAIN_DELTA, "test_delta": TEST_DELTA},
    )
