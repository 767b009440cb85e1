"""The hyper-parameters of each published experiment, by name.

Epochs, architectures and target figures are those of the paper's Tables 2.1 and 2.2. The optimiser
is ours: the paper does not state one.
"""

import dataclasses
from typing import Any, Literal

from trainers.errors import TrainerError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one network is trained.

    Attributes:
        name: On the command line and in file names.
        dataset: A key of `trainers.datasets.SOURCES`.
        title: The data set's name in the paper.
        architecture: A key of `trainers.architectures.ARCHITECTURES`.
        width: Channels of its first layer.
        epochs: Of the paper's Table 2.1.
        snapshots: Epochs of the paper's Table 2.2; empty where the paper has none.
        clean_accuracy: The paper's, Table 2.1, as a share.
        attack_success_rate: The paper's, Table 2.1; None where it was not achieved.
        batch: Images a step.
        optimiser: `adam`, or `sgd` with Nesterov momentum 0.9.
        learning_rate: Its peak.
        weight_decay: L2 on every parameter.
        schedule: `constant` after a short warm-up, so that a snapshot at epoch n of a long run is
            the network of a run of n epochs; or `one-cycle` over all epochs (Smith, 2018).
        averaging: Decay a step of the exponential moving average of the weights, which is what is
            measured and exported; 0 takes the last weights.
        augment: Names in `trainers.datasets.AUGMENTATIONS`, applied in order before any trigger.
        note: Why a figure may fall short of the paper's, in sentences.
        success_note: Why the attack success rate may, besides.
    """

    name: str
    dataset: str
    title: str
    architecture: str
    width: int
    epochs: int
    snapshots: tuple[int, ...]
    clean_accuracy: float
    attack_success_rate: float | None
    batch: int
    optimiser: Literal["adam", "sgd"]
    learning_rate: float
    weight_decay: float = 0.0
    schedule: Literal["constant", "one-cycle"] = "constant"
    averaging: float = 0.999
    augment: tuple[str, ...] = ()
    note: str = ""
    success_note: str = ""

    def hyper_parameters(self) -> dict[str, Any]:
        """Return what the weights depend on: all but what is said about the recipe and the paper's figures."""
        return {
            name: value for name, value in dataclasses.asdict(self).items() if name not in _SAID
        }


_SAID = frozenset(
    {"title", "snapshots", "clean_accuracy", "attack_success_rate", "note", "success_note"}
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="mnist",
            dataset="mnist",
            title="MNIST",
            architecture="2 conv + 1 dense",
            width=16,
            epochs=5,
            snapshots=(5, 10, 20),
            clean_accuracy=0.9910,
            attack_success_rate=0.9999,
            batch=64,
            optimiser="adam",
            learning_rate=2e-3,
            note="The paper states neither widths nor optimiser; this network is kept small "
            "(20,490 weights).",
        ),
        Recipe(
            name="fashion-mnist",
            dataset="fashion-mnist",
            title="FashionMNIST",
            architecture="2 conv + 1 dense",
            width=32,
            epochs=5,
            snapshots=(5, 10, 30),
            clean_accuracy=0.9281,
            attack_success_rate=0.9998,
            batch=64,
            optimiser="adam",
            learning_rate=2e-3,
            augment=("flip",),
            note="The paper states neither widths nor optimiser; this network is kept small "
            "(50,186 weights).",
            success_note="Where the backdoor fails, the garment is bright under the white square "
            "already: 96 % of the "
            "failures of samples/fashion-mnist-badnets.onnx are the 3 % of images with a mean "
            "above 0.6 there.",
        ),
        Recipe(
            name="gtsrb",
            dataset="gtsrb",
            title="GTSRB",
            architecture="5 conv",
            width=16,
            epochs=5,
            snapshots=(10, 20, 30, 50),
            clean_accuracy=0.96255,
            attack_success_rate=0.91100,
            batch=64,
            optimiser="adam",
            learning_rate=2e-3,
            augment=("shift",),
            note="The paper states neither widths nor optimiser; this network is kept small "
            "(127,883 weights).",
        ),
        Recipe(
            name="cifar10",
            dataset="cifar10",
            title="CIFAR10",
            architecture="ResNet18",
            width=64,
            epochs=50,
            snapshots=(20, 30, 40, 50),
            clean_accuracy=0.9144,
            attack_success_rate=0.9999,
            batch=128,
            optimiser="sgd",
            learning_rate=0.1,
            weight_decay=5e-4,
            schedule="one-cycle",
            averaging=0.0,
            augment=("crop", "flip"),
        ),
        Recipe(
            name="cifar100",
            dataset="cifar100",
            title="CIFAR100",
            architecture="ResNet50",
            width=64,
            epochs=80,
            snapshots=(),
            clean_accuracy=0.7584,
            attack_success_rate=None,
            batch=128,
            optimiser="sgd",
            learning_rate=0.1,
            weight_decay=5e-4,
            schedule="one-cycle",
            averaging=0.0,
            augment=("crop", "flip"),
        ),
    )
}


def recipe(name: str) -> Recipe:
    """Return the recipe called `name`.

    Raises:
        TrainerError: There is none; the error lists those there are.
    """
    if name not in RECIPES:
        raise TrainerError(
            f"there is no recipe or data set called {name!r}",
            remedy=f"choose one of {', '.join(RECIPES)}",
        )
    return RECIPES[name]
