"""Every name in a recipe exists."""

import dataclasses

import pytest

from trainers.architectures import ARCHITECTURES
from trainers.datasets import AUGMENTATIONS, SOURCES
from trainers.errors import TrainerError
from trainers.recipes import RECIPES, Recipe, Regime, Variant, base_name, recipe


@pytest.mark.parametrize("entry", RECIPES.values(), ids=RECIPES)
def test_every_name_in_a_recipe_exists(entry: Recipe) -> None:
    assert entry.dataset in SOURCES
    assert entry.architecture in ARCHITECTURES
    assert set(entry.augment) <= set(AUGMENTATIONS)
    assert recipe(entry.name) is entry


def test_another_width_makes_another_recipe() -> None:
    narrow = recipe("cifar10", 16)
    assert (narrow.name, narrow.width, narrow.title) == ("cifar10-w16", 16, "CIFAR10, width 16")
    own = {"name": "cifar10", "width": 64, "title": "CIFAR10", "note": ""}
    assert dataclasses.replace(narrow, **own) == recipe("cifar10")  # type: ignore[arg-type] # by name
    assert recipe("cifar10", 64) is recipe("cifar10-w64") is recipe("cifar10")
    assert recipe("cifar10-w16") == narrow
    with pytest.raises(TrainerError, match="'cifar10-w0'"):
        recipe("cifar10-w0")
    assert base_name("cifar10-w16") == base_name("cifar10") == "cifar10"


def test_traffic_signs_are_never_mirrored() -> None:
    assert "flip" not in RECIPES["gtsrb"].augment


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(
        TrainerError,
        match=r"'imagenet'; choose one of mnist, .*, cifar10, cifar10-small, cifar100",
    ):
        recipe("imagenet")


def test_checkpoints_of_the_papers_recipes_keep_their_identity() -> None:
    assert RECIPES["mnist"].hyper_parameters() == {
        "name": "mnist",
        "dataset": "mnist",
        "architecture": "2 conv + 1 dense",
        "width": 16,
        "epochs": 5,
        "batch": 64,
        "optimiser": "adam",
        "learning_rate": 2e-3,
        "weight_decay": 0.0,
        "schedule": "constant",
        "averaging": 0.999,
        "augment": (),
    }


def test_what_changes_the_weights_is_a_hyper_parameter_and_what_changes_the_file_is_not() -> None:
    plain = RECIPES["mnist"]
    changed = dataclasses.replace(
        plain, variant=Variant(side=14), regime=Regime(prune=0.5), final="softmax"
    )
    assert "others" not in changed.hyper_parameters()["variant"]  # younger than checkpoints
    unequal = dataclasses.replace(plain, variant=Variant(classes=(1,), others=True, imbalance=2))
    assert (
        unequal.hyper_parameters()["variant"] | {"others": True, "imbalance": 2}
        == (unequal.hyper_parameters()["variant"])
    )
    more = changed.hyper_parameters().keys() - plain.hyper_parameters().keys()
    assert more == {"variant", "regime"}
