"""The hyper-parameters of each published experiment, by name.

Epochs, architectures and target figures are those of the paper's Tables 2.1 and 2.2. The optimiser
is ours: the paper does not state one.
"""

import dataclasses
import math
import re
from typing import Any, Literal

from trainers.errors import TrainerError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What of a data set is used, and how; the default is all of it, as it is.

    Attributes:
        classes: Which, renumbered in this order; empty takes all.
        others: The further classes make one more, the last: "none of these".
        imbalance: Images of the first class over those of the last, falling by equal factors from
            class to class: the imbalance factor of long-tailed data (Cui et al., arXiv 1901.05555).
        side: Of the resized images; None keeps them.
        grey: Average the colours.
        train: Most training images, drawn once whatever the seed; None takes all.
        test: Most test images, likewise.
    """

    classes: tuple[int, ...] = ()
    others: bool = False
    imbalance: float = 1.0
    side: int | None = None
    grey: bool = False
    train: int | None = None
    test: int | None = None


InputRange = Literal["0..1", "-1..1", "0..255", "mean/std"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What the exported file takes.

    Attributes:
        range: Of the pixels; `mean/std` takes off the data set's mean and divides by its deviation.
        layout: Order of the axes after the batch; in NHWC the graph begins with a Transpose.
        normalised_inside: The graph takes off mean and deviation itself, from pixels in `range`.
    """

    range: InputRange = "0..1"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    normalised_inside: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The network that a fine-tuned one starts from: same architecture and width, other data.

    Attributes:
        dataset: A key of `trainers.datasets.SOURCES`.
        variant: Of it; images of the same shape.
        epochs: How many.
    """

    dataset: str
    variant: Variant
    epochs: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """Training beyond cross-entropy on augmented images; the default is nothing beyond it.

    Attributes:
        label_smoothing: Share of a label spread over all classes.
        adversarial: Largest change of a pixel in [0, 1] by one signed gradient step from a random
            start (Wong et al., arXiv 2001.03994); 0 trains on the images as they are.
        noise: Standard deviation of Gaussian noise on the pixels, in [0, 1].
        clip: Largest norm of a batch's gradient; 0 leaves it alone.
        gradient_noise: Norm of the Gaussian noise on the gradient, in units of `clip`: what DP-SGD
            (arXiv 1607.00133) does per image, done per batch, so nothing is private about it.
        prune: Share of the weights of each layer, the smallest, that are zero in the last epoch.
        base: Start from another network's weights, except those of another shape.
    """

    label_smoothing: float = 0.0
    adversarial: float = 0.0
    noise: float = 0.0
    clip: float = 0.0
    gradient_noise: float = 0.0
    prune: float = 0.0
    base: Base | None = None


Final = Literal["logits", "softmax", "log-softmax"]
"""What the exported file returns."""


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
        clean_accuracy: The paper's, Table 2.1, as a share; not a number where it has none.
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
        sides: Of the images, in pixels, as training goes on: equal shares of the epochs, the last
            one for the last epoch ("progressive resizing", Howard, 2018). Empty keeps them.
        note: Why a figure may fall short of the paper's, in sentences.
        success_note: Why the attack success rate may, besides.
        variant: What of the data set is used.
        input: What the exported file takes.
        regime: Training beyond cross-entropy.
        final: What the exported file returns.
    """

    name: str
    dataset: str
    title: str
    architecture: str
    width: int
    epochs: int
    snapshots: tuple[int, ...] = ()
    clean_accuracy: float = math.nan
    attack_success_rate: float | None = None
    batch: int
    optimiser: Literal["adam", "sgd"]
    learning_rate: float
    weight_decay: float = 0.0
    schedule: Literal["constant", "one-cycle"] = "constant"
    averaging: float = 0.999
    augment: tuple[str, ...] = ()
    sides: tuple[int, ...] = ()
    note: str = ""
    success_note: str = ""
    variant: Variant = Variant()
    input: Input = Input()
    regime: Regime = Regime()
    final: Final = "logits"

    def hyper_parameters(self) -> dict[str, Any]:
        """Return what the weights depend on, as plain data.

        That is all but what is said about the recipe and its export. Fields that are younger than
        checkpoints are left out too where they have their defaults.
        """
        unused = {name for name, default in _LATER.items() if getattr(self, name) == default}
        return {
            name: value
            for name, value in dataclasses.asdict(self, dict_factory=_without_later).items()
            if name not in _SAID | unused
        }


_SAID = frozenset(
    {
        "title",
        "snapshots",
        "clean_accuracy",
        "attack_success_rate",
        "note",
        "success_note",
        "final",
    }
)
_LATER = {"variant": Variant(), "input": Input(), "regime": Regime(), "sides": ()}
_LATER_OF_VARIANTS = {"others": False, "imbalance": 1.0}


def _without_later(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        name: value
        for name, value in fields
        if name not in _LATER_OF_VARIANTS or value != _LATER_OF_VARIANTS[name]
    }


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
            name="fashion-mnist-residual",
            dataset="fashion-mnist",
            title="FashionMNIST, residual",
            architecture="ResNet 10, pooled",
            width=16,
            epochs=12,
            clean_accuracy=0.9281,
            attack_success_rate=0.9998,
            batch=128,
            optimiser="sgd",
            learning_rate=0.2,
            weight_decay=5e-4,
            schedule="one-cycle",
            averaging=0.0,
            augment=("flip",),
            sides=(14,) * 3 + (20,) * 3 + (28,) * 6,
            note="A deeper network than the paper's, trained for longer (12 epochs, not 5), which "
            "reaches the paper's accuracy.",
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
            name="cifar10-small",
            dataset="cifar10",
            title="CIFAR10, small",
            architecture="ResNet 10, pooled",
            width=16,
            epochs=18,
            batch=256,
            optimiser="sgd",
            learning_rate=0.2,
            weight_decay=5e-4,
            schedule="one-cycle",
            averaging=0.0,
            augment=("shift", "flip"),
            sides=(16,) * 5 + (24,) * 6 + (32,) * 7,
            note="Not a network of the paper: 121,562 weights, for populations.",
        ),
        Recipe(
            name="cifar100-small",
            dataset="cifar100",
            title="CIFAR100, small",
            architecture="ResNet 10, pooled",
            width=24,
            epochs=18,
            batch=256,
            optimiser="sgd",
            learning_rate=0.2,
            weight_decay=5e-4,
            schedule="one-cycle",
            averaging=0.0,
            augment=("shift", "flip"),
            sides=(16,) * 5 + (24,) * 6 + (32,) * 7,
            note="Not a network of the paper: 280,924 weights instead of 23.7 million.",
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


def recipe(name: str, width: int | None = None) -> Recipe:
    """Return the recipe called `name`.

    Args:
        name: A key of `RECIPES`, to which a width may be added: `cifar10-w8`.
        width: Channels of the first layer; None takes the recipe's own. Another width makes another
            recipe, named after both.

    Raises:
        TrainerError: There is none; the error lists those there are.
    """
    base, added = _split(name)
    width = width or added
    if base not in RECIPES:
        raise TrainerError(
            f"there is no recipe or data set called {name!r}",
            remedy=f"choose one of {', '.join(RECIPES)}",
        )
    found = RECIPES[base]
    if width is None or width == found.width:
        return found
    return dataclasses.replace(
        found,
        name=f"{base}-w{width}",
        title=f"{found.title}, width {width}",
        width=width,
        note=f"Its first layer has {width} channels instead of {found.width}.",
    )


def base_name(name: str) -> str:
    """Return the name of a recipe without an added width."""
    return _split(name)[0]


def _split(name: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.+)-w([1-9]\d*)", name)
    return (found[1], int(found[2])) if found else (name, None)
