"""The recipes, one per row.

A statistic may be chosen on the recipes of the split `development`; those of `test` choose nothing.
Rows alternate between the two and between data sets, so that a part of the list is balanced too.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from trainers.datasets import SOURCES
from trainers.errors import TrainerError
from trainers.export import Form
from trainers.recipes import RECIPES, Base, Input, Recipe, Regime, Variant

Split = Literal["development", "test"]
SPLITS: tuple[Split, Split] = ("development", "test")
CLEAN_SEEDS = 3
ATTACKS = (
    "badnets",
    "other badnets",
    "badnets:rate=0.01",
    "blended",
    "sig",
    "wanet",
    "input-aware",
    "all-to-all",
)
"""The kinds that each must be planted in a dozen recipes; `other badnets` is any other square."""


PLAIN = Form()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A recipe and the networks of it.

    Attributes:
        recipe: How each is trained.
        split: Whether statistics may be chosen on it.
        attacks: Planted in one network each, as on the command line.
        form: In which the networks are exported.
    """

    recipe: Recipe
    split: Split
    attacks: tuple[str, ...]
    form: Form = PLAIN


def kind(attack: str) -> str:
    """Return which of `ATTACKS` an attack is; a further rate of the others makes no kind."""
    if attack in ATTACKS:
        return attack
    name = attack.partition(":")[0]
    return "other badnets" if name == "badnets" else name


def _row(  # noqa: PLR0913, PLR0917 - what recipes differ in
    name: str,
    split: Split,
    dataset: str,
    architecture: str,
    width: int,
    attacks: str,
    *,
    epochs: int,
    train: int,
    classes: Iterable[int] = (),
    side: int | None = None,
    grey: bool = False,
    form: Form | None = None,
    **settings: Any,
) -> Row:
    """Return a row; settings are fields of `Recipe`, or of its `Input` or `Regime`."""
    parts = []
    for part in (Input, Regime):
        names = {field.name for field in dataclasses.fields(part)}
        parts.append(part(**{key: settings.pop(key) for key in names & settings.keys()}))
    given, regime = parts
    recipe = Recipe(
        **{
            "name": name,
            "dataset": dataset,
            "title": SOURCES[dataset].title,
            "architecture": architecture,
            "width": width,
            "epochs": epochs,
            "batch": 64,
            "optimiser": "adam",
            "learning_rate": 4e-3,
            "schedule": "one-cycle",
            "averaging": 0.99,
            "variant": Variant(
                classes=tuple(classes), side=side, grey=grey, train=train, test=2000
            ),
            "input": given,
            "regime": regime,
            **settings,
        }
    )
    return Row(recipe=recipe, split=split, attacks=tuple(attacks.split()), form=form or PLAIN)


def _paper(name: str, attacks: str) -> Row:
    return Row(recipe=RECIPES[name], split="development", attacks=tuple(attacks.split()))


_D: Split = "development"
_T: Split = "test"
_HALF = Form(dtype="float16")
_BYTES = Form(dtype="int8")
_UNFOLDED = Form(fold_bn=False)
_DYNAMO = Form(exporter="dynamo")
_COLOURS = ("crop", "flip")

ROWS: Sequence[Row] = (
    _paper("mnist", "badnets blended all-to-all wanet:rate=0.2"),
    _row(
        "mnist-mlp-narrow",
        _D,
        "mnist",
        "MLP 4",
        10,
        "badnets:side=4 sig wanet:rate=0.2",
        epochs=8,
        train=20000,
    ),
    _row(
        "fashion-conv-silu",
        _T,
        "fashion-mnist",
        "4 conv, SiLU, average pool",
        8,
        "badnets:rate=0.01 wanet:rate=0.2 all-to-all",
        epochs=4,
        train=20000,
        augment=("flip",),
        weight_decay=1e-4,
    ),
    _row(
        "cifar10-resnet-strided",
        _D,
        "cifar10",
        "ResNet 8, strided stem",
        12,
        "badnets:rate=0.01 wanet:rate=0.2",
        epochs=5,
        train=12000,
        augment=_COLOURS,
        range="mean/std",
        optimiser="sgd",
        learning_rate=0.1,
        weight_decay=5e-4,
    ),
    _row(
        "gtsrb-resnet",
        _T,
        "gtsrb",
        "ResNet 8, strided stem",
        12,
        "blended input-aware:rate=0.2 wanet:rate=0.2",
        epochs=6,
        train=10000,
        augment=("shift",),
    ),
    _row(
        "mnist-5-classes-strided",
        _D,
        "mnist",
        "3 conv, strided",
        8,
        "blended input-aware:rate=0.2 badnets:rate=0.01 all-to-all wanet:rate=0.2",
        epochs=5,
        train=10000,
        classes=range(5),
        label_smoothing=0.1,
    ),
    _row(
        "mnist-mlp-wide",
        _T,
        "mnist",
        "MLP 1",
        256,
        "sig all-to-all badnets:rate=0.01",
        epochs=6,
        train=20000,
        range="-1..1",
        weight_decay=1e-4,
    ),
    _row(
        "cifar100-20-classes-resnet",
        _D,
        "cifar100",
        "ResNet 14",
        8,
        "sig all-to-all",
        epochs=6,
        train=8000,
        classes=range(0, 100, 5),
        augment=_COLOURS,
        range="mean/std",
    ),
    _row(
        "cifar10-vgg",
        _T,
        "cifar10",
        "VGG 6, batch norm",
        8,
        "wanet:rate=0.2 badnets",
        epochs=5,
        train=8000,
        augment=("flip",),
    ),
    _row(
        "fashion-vgg",
        _D,
        "fashion-mnist",
        "VGG 4",
        8,
        "wanet:rate=0.2 badnets all-to-all",
        epochs=5,
        train=10000,
        final="softmax",
    ),
    _row(
        "fashion-mlp-narrow",
        _T,
        "fashion-mnist",
        "MLP 4, leaky",
        12,
        "input-aware:rate=0.2 badnets:side=2+place=random badnets:rate=0.01",
        epochs=8,
        train=20000,
        optimiser="sgd",
        learning_rate=0.05,
    ),
    _row(
        "gtsrb-mobilenet",
        _D,
        "gtsrb",
        "MobileNet",
        12,
        "input-aware:rate=0.2 badnets:side=5+place=random+pattern=checker",
        epochs=6,
        train=10000,
        augment=("shift",),
        range="-1..1",
    ),
    _row(
        "cifar100-20-classes-conv",
        _T,
        "cifar100",
        "8 conv, batch norm, strided",
        12,
        "all-to-all badnets:rate=0.01",
        epochs=8,
        train=10000,
        classes=range(2, 100, 5),
        augment=_COLOURS,
        form=_DYNAMO,
    ),
    _row(
        "mnist-vit",
        _D,
        "mnist",
        "ViT, patch 7",
        32,
        "all-to-all badnets:rate=0.01 sig",
        epochs=8,
        train=20000,
    ),
    _row(
        "mnist-mixer",
        _T,
        "mnist",
        "Mixer, patch 7, ReLU",
        32,
        "badnets blended badnets:rate=0.01 all-to-all",
        epochs=8,
        train=10000,
        range="mean/std",
    ),
    _row(
        "cifar10-16-conv",
        _D,
        "cifar10",
        "4 conv, ReLU6",
        12,
        "badnets blended wanet:rate=0.2",
        epochs=8,
        train=12000,
        side=16,
        augment=("flip",),
    ),
    _row(
        "gtsrb-10-classes-nhwc",
        _T,
        "gtsrb",
        "4 conv, ReLU6",
        8,
        "badnets:side=4+pattern=colour sig wanet:rate=0.2",
        epochs=6,
        train=6000,
        classes=(1, 2, 4, 5, 9, 10, 12, 13, 25, 38),
        layout="NHWC",
    ),
    _row(
        "fashion-mlp-layer-norm",
        _D,
        "fashion-mnist",
        "MLP 3, layer norm, GELU",
        64,
        "badnets:side=3+place=upper-left sig badnets:rate=0.01 all-to-all",
        epochs=6,
        train=20000,
    ),
    _row(
        "fashion-resnet",
        _T,
        "fashion-mnist",
        "ResNet 6",
        8,
        "badnets:rate=0.01 wanet:rate=0.2 input-aware:rate=0.2",
        epochs=6,
        train=20000,
        form=_UNFOLDED,
        final="softmax",
    ),
    _row(
        "cifar10-5-classes-densenet",
        _D,
        "cifar10",
        "DenseNet, 3 blocks",
        8,
        "badnets:rate=0.01 wanet:rate=0.2",
        epochs=6,
        train=10000,
        classes=range(5),
        augment=_COLOURS,
        form=_DYNAMO,
    ),
    _row(
        "cifar10-grey-conv",
        _T,
        "cifar10",
        "3 conv, strided, batch norm, leaky",
        16,
        "blended input-aware:rate=0.2",
        epochs=8,
        train=12000,
        grey=True,
        augment=("flip",),
        range="-1..1",
    ),
    _row(
        "mnist-2-classes",
        _D,
        "mnist",
        "2 conv, batch norm",
        8,
        "blended input-aware:rate=0.2 wanet:rate=0.2",
        epochs=4,
        train=6000,
        classes=(3, 8),
    ),
    _row(
        "mnist-depthwise",
        _T,
        "mnist",
        "MobileNet, ReLU",
        8,
        "sig all-to-all wanet:rate=0.2",
        epochs=6,
        train=12000,
        range="-1..1",
        form=_BYTES,
    ),
    _row(
        "gtsrb-grey-mlp",
        _D,
        "gtsrb",
        "MLP 2, batch norm",
        96,
        "sig all-to-all badnets:rate=0.01",
        epochs=12,
        train=12000,
        side=20,
        grey=True,
    ),
    _row(
        "cifar100-no-norm",
        _T,
        "cifar100",
        "ResNet 8, no norm",
        16,
        "wanet:rate=0.2 badnets",
        epochs=8,
        train=10000,
        augment=("flip",),
        learning_rate=2e-3,
    ),
    _row(
        "fashion-adversarial",
        _D,
        "fashion-mnist",
        "2 conv + 1 dense",
        8,
        "wanet:rate=0.2 badnets",
        epochs=4,
        train=8000,
        adversarial=0.06,
    ),
    _row(
        "fashion-noisy",
        _T,
        "fashion-mnist",
        "4 conv, strided, GELU",
        8,
        "input-aware:rate=0.2 badnets:side=5+place=centre wanet:rate=0.2",
        epochs=6,
        train=12000,
        noise=0.15,
    ),
    _row(
        "cifar10-layer-norm",
        _D,
        "cifar10",
        "ResNet 8, layer norm, SiLU",
        12,
        "input-aware:rate=0.2 badnets:side=4+place=random+pattern=checker",
        epochs=5,
        train=8000,
        augment=("flip",),
    ),
    _row(
        "cifar10-mobilenet-bytes",
        _T,
        "cifar10",
        "MobileNetV2",
        8,
        "all-to-all badnets:rate=0.01",
        epochs=5,
        train=10000,
        augment=_COLOURS,
        range="0..255",
    ),
    _row(
        "mnist-dropout",
        _D,
        "mnist",
        "MLP 2, dropout",
        128,
        "all-to-all badnets:rate=0.01 sig input-aware:rate=0.2",
        epochs=6,
        train=20000,
        final="softmax",
    ),
    _row(
        "mnist-conv-average",
        _T,
        "mnist",
        "2 conv, average pool",
        8,
        "badnets blended badnets:rate=0.01 all-to-all wanet:rate=0.2 input-aware:rate=0.2",
        epochs=4,
        train=12000,
        range="mean/std",
    ),
    _row(
        "gtsrb-20-classes-bytes",
        _D,
        "gtsrb",
        "8 conv, batch norm, strided",
        8,
        "badnets blended sig wanet:rate=0.2",
        epochs=7,
        train=8000,
        classes=range(1, 40, 2),
        range="0..255",
        form=_UNFOLDED,
    ),
    _row(
        "gtsrb-layer-norm",
        _T,
        "gtsrb",
        "4 conv, layer norm",
        8,
        "badnets:side=2 sig wanet:rate=0.2",
        epochs=6,
        train=8000,
        augment=("shift",),
        form=_DYNAMO,
    ),
    _row(
        "cifar100-16-conv",
        _D,
        "cifar100",
        "3 conv, batch norm, dropout",
        16,
        "badnets:side=3+place=random+pattern=colour sig",
        epochs=8,
        train=15000,
        side=16,
        augment=("flip",),
        range="mean/std",
    ),
    _row(
        "cifar100-10-classes-vgg",
        _T,
        "cifar100",
        "VGG 8, batch norm",
        8,
        "badnets:rate=0.01 wanet:rate=0.2",
        epochs=10,
        train=5000,
        classes=range(7, 100, 10),
        side=24,
        augment=_COLOURS,
    ),
    _row(
        "fashion-mixer",
        _D,
        "fashion-mnist",
        "Mixer",
        24,
        "badnets:rate=0.01 wanet:rate=0.2",
        epochs=5,
        train=20000,
    ),
    _row(
        "fashion-vit",
        _T,
        "fashion-mnist",
        "ViT",
        24,
        "blended input-aware:rate=0.2 sig",
        epochs=5,
        train=8000,
        form=_DYNAMO,
    ),
    _row(
        "mnist-fine-tuned",
        _D,
        "mnist",
        "3 conv, batch norm, dropout",
        8,
        "blended input-aware:rate=0.2 wanet:rate=0.2",
        epochs=3,
        train=8000,
        base=Base(dataset="fashion-mnist", variant=Variant(train=12000), epochs=4),
    ),
    _row(
        "mnist-pruned",
        _T,
        "mnist",
        "2 conv + 1 dense",
        12,
        "sig all-to-all badnets:rate=0.01 wanet:rate=0.2",
        epochs=5,
        train=12000,
        prune=0.7,
    ),
    _row(
        "cifar10-smoothing-half",
        _D,
        "cifar10",
        "6 conv, batch norm, pooled",
        8,
        "sig all-to-all",
        epochs=5,
        train=8000,
        augment=_COLOURS,
        label_smoothing=0.1,
        form=_HALF,
    ),
    _row(
        "cifar10-fine-tuned",
        _T,
        "cifar10",
        "ResNet 10, leaky",
        8,
        "wanet:rate=0.2 badnets",
        epochs=5,
        train=8000,
        augment=("flip",),
        base=Base(dataset="cifar100", variant=Variant(train=15000), epochs=5),
    ),
    _row(
        "fashion-5-classes-densenet",
        _D,
        "fashion-mnist",
        "DenseNet",
        6,
        "wanet:rate=0.2 badnets",
        epochs=6,
        train=8000,
        classes=(0, 2, 4, 6, 8),
        layout="NHWC",
    ),
    _row(
        "fashion-overtrained",
        _T,
        "fashion-mnist",
        "2 conv, batch norm",
        8,
        "input-aware:rate=0.2 badnets:side=6+pattern=checker",
        epochs=40,
        train=1200,
    ),
    _row(
        "gtsrb-vgg-inside",
        _D,
        "gtsrb",
        "VGG 6, batch norm",
        8,
        "input-aware:rate=0.2 badnets:side=4 wanet:rate=0.2",
        epochs=8,
        train=6000,
        side=24,
        augment=("shift",),
        range="0..255",
        normalised_inside=True,
    ),
    _row(
        "gtsrb-grey-densenet",
        _T,
        "gtsrb",
        "DenseNet, layer norm, GELU",
        8,
        "all-to-all badnets:rate=0.01",
        epochs=8,
        train=10000,
        grey=True,
    ),
    _row(
        "mnist-14-bytes",
        _D,
        "mnist",
        "MLP 2, batch norm",
        48,
        "all-to-all badnets:rate=0.01 wanet:rate=0.2",
        epochs=8,
        train=20000,
        side=14,
        range="0..255",
        form=_BYTES,
    ),
    _row(
        "mnist-private",
        _T,
        "mnist",
        "MLP 1",
        48,
        "badnets blended sig",
        epochs=8,
        train=20000,
        clip=0.5,
        gradient_noise=1.0,
        averaging=0.0,
    ),
    _row(
        "cifar100-5-classes-mlp",
        _D,
        "cifar100",
        "MLP 3, SiLU",
        96,
        "badnets blended",
        epochs=20,
        train=2500,
        classes=(0, 20, 47, 71, 94),
        side=16,
        weight_decay=1e-4,
        final="log-softmax",
    ),
    _row(
        "cifar10-5-classes-plain",
        _T,
        "cifar10",
        "6 conv, leaky",
        8,
        "badnets:side=2+place=random sig wanet:rate=0.2",
        epochs=6,
        train=8000,
        classes=range(5, 10),
        augment=("flip",),
        final="softmax",
    ),
    _row(
        "cifar10-mixer",
        _D,
        "cifar10",
        "Mixer",
        24,
        "badnets:side=5+place=random+pattern=checker sig",
        epochs=6,
        train=8000,
        augment=("flip",),
        range="-1..1",
    ),
    _row(
        "cifar10-vit",
        _T,
        "cifar10",
        "ViT, ReLU",
        24,
        "badnets:rate=0.01 wanet:rate=0.2",
        epochs=5,
        train=10000,
        augment=("flip",),
        range="mean/std",
        layout="NHWC",
    ),
    _row(
        "fashion-one-epoch",
        _D,
        "fashion-mnist",
        "2 conv 5x5, leaky, 2 dense",
        8,
        "badnets:rate=0.01 wanet:rate=0.2",
        epochs=1,
        train=20000,
        schedule="constant",
        learning_rate=1e-3,
        form=_BYTES,
    ),
    _row(
        "mnist-5-classes-softmax",
        _T,
        "mnist",
        "2 conv 5x5, leaky, 2 dense",
        6,
        "blended input-aware:rate=0.2 sig wanet:rate=0.2",
        epochs=4,
        train=10000,
        classes=(1, 3, 5, 7, 9),
        final="softmax",
        form=_HALF,
    ),
    _row(
        "gtsrb-mobilenet-silu",
        _T,
        "gtsrb",
        "MobileNetV2, SiLU",
        8,
        "sig all-to-all",
        epochs=5,
        train=8000,
        range="0..255",
        normalised_inside=True,
    ),
    _paper("fashion-mnist", "blended input-aware:rate=0.2 wanet:rate=0.2"),
    _paper("gtsrb", "sig all-to-all"),
)


def rows(names: str | None = None, split: str | None = None) -> list[Row]:
    """Return the rows of the named recipes, joined by commas, and of a split; all where None.

    Raises:
        TrainerError: There is no such recipe or split, or nothing is left.
    """
    wanted = None if names is None else names.split(",")
    known = {row.recipe.name for row in ROWS}
    for name in wanted or ():
        if name not in known:
            raise TrainerError(
                f"the population has no recipe called {name!r}",
                remedy="see those there are with --list",
            )
    if split is not None and split not in SPLITS:
        raise TrainerError(
            f"there is no split {split!r}", remedy=f"choose one of {', '.join(SPLITS)}"
        )
    chosen = [
        row
        for row in ROWS
        if (wanted is None or row.recipe.name in wanted) and split in {None, row.split}
    ]
    if not chosen:
        raise TrainerError(
            f"none of the recipes {names} is of the split {split}", remedy="leave --split out"
        )
    return chosen
