"""A row of the population: a recipe, its split and the networks of it."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from trainers.datasets import SOURCES
from trainers.export import Form
from trainers.recipes import RECIPES, Input, Recipe, Regime, Variant

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

UNSEEN = (
    "adaptive-blend:rate=0.02",
    "ftrojan:rate=0.2",
    "bpp:rate=0.2",
    "badnets:labels=one-to-one+rate=0.2",
)
"""Attacks that no detector and no figure was chosen on; some recipes have them besides."""

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
    if attack in ATTACKS or attack in UNSEEN:
        return attack
    name = attack.partition(":")[0]
    return "other badnets" if name == "badnets" else name


def row(  # noqa: PLR0913, PLR0917 - what recipes differ in
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
    form: Form | None = None,
    unseen: bool = False,
    **settings: Any,
) -> Row:
    """Return a row; settings are fields of `Recipe`, or of its `Variant`, `Input` or `Regime`."""
    settings |= {"train": train, "test": 2000, "classes": tuple(classes)}
    parts = {}
    for part, kind_of_part in (("variant", Variant), ("input", Input), ("regime", Regime)):
        names = {field.name for field in dataclasses.fields(kind_of_part)}
        parts[part] = kind_of_part(**{key: settings.pop(key) for key in names & settings.keys()})
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
            **parts,
            **settings,
        }
    )
    planted = (*attacks.split(), *(UNSEEN if unseen else ()))
    return Row(recipe=recipe, split=split, attacks=planted, form=form or PLAIN)


def paper(name: str, attacks: str) -> Row:
    """Return a row for one of the paper's recipes, as it is."""
    return Row(recipe=RECIPES[name], split="development", attacks=tuple(attacks.split()))


DEVELOPMENT: Split = "development"
TEST: Split = "test"
HALF = Form(dtype="float16")
BYTES = Form(dtype="int8")
UNFOLDED = Form(fold_bn=False)
DYNAMO = Form(exporter="dynamo")
COLOURS = ("crop", "flip")
