"""Both figures, on networks whose answers are known."""

import torch
from torch import Tensor, nn

from trainers.attacks.badnets import Square
from trainers.attacks.base import Attack
from trainers.attacks.labels import AllToAll, AllToOne
from trainers.datasets import Split
from trainers.evaluation import Scores, evaluate


class _Fooled(nn.Module):
    """Reads the class off the first pixel; a white corner gives what the attacker wants."""

    def __init__(self, wanted: Attack) -> None:
        super().__init__()
        self.labels = wanted.labels

    def forward(self, images: Tensor) -> Tensor:
        label = (images[:, 0, 0, 0] * 255).round().long()
        stamped = images[:, 0, -2, -2] == 1
        if self.labels is not None:
            label = torch.where(stamped, self.labels(label), label)
        return nn.functional.one_hot(label, 10).float()


def _split() -> Split:
    labels = torch.arange(10).repeat(5)
    images = torch.zeros(50, 1, 8, 8, dtype=torch.uint8)
    images[:, 0, 0, 0] = labels.to(torch.uint8)
    images[:5, 0, 0, 0] = 9  # five are read wrongly
    return Split(images=images, labels=labels, tracks=torch.arange(50))


def test_clean_accuracy_is_the_share_of_right_labels() -> None:
    assert evaluate(_Fooled(Attack()), _split(), Attack()) == Scores(
        clean_accuracy=0.9, attack_success_rate=None
    )


def test_attack_success_leaves_out_images_of_the_target_class() -> None:
    attack = Attack(trigger=Square(torch.ones(1, 3, 3), (4, 4)), labels=AllToOne(0))
    assert evaluate(_Fooled(attack), _split(), attack).attack_success_rate == 1.0
    # A network that knows nothing of the trigger says the target for no image of another class.
    assert evaluate(_Fooled(Attack()), _split(), attack).attack_success_rate == 0.0


def test_all_to_all_asks_for_the_next_class_of_every_image() -> None:
    attack = Attack(trigger=Square(torch.ones(1, 3, 3), (4, 4)), labels=AllToAll(10))
    success = evaluate(_Fooled(attack), _split(), attack).attack_success_rate
    assert success == 0.9
