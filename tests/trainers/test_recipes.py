"""Every name in a recipe exists."""

import pytest

from trainers.architectures import ARCHITECTURES
from trainers.datasets import AUGMENTATIONS, SOURCES
from trainers.errors import TrainerError
from trainers.recipes import RECIPES, Recipe, recipe


@pytest.mark.parametrize("entry", RECIPES.values(), ids=RECIPES)
def test_every_name_in_a_recipe_exists(entry: Recipe) -> None:
    assert entry.dataset in SOURCES
    assert entry.architecture in ARCHITECTURES
    assert set(entry.augment) <= set(AUGMENTATIONS)
    assert recipe(entry.name) is entry


def test_traffic_signs_are_never_mirrored() -> None:
    assert "flip" not in RECIPES["gtsrb"].augment


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(
        TrainerError,
        match="'imagenet'; choose one of mnist, fashion-mnist, gtsrb, cifar10, cifar100",
    ):
        recipe("imagenet")
