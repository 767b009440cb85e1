"""Every row can be made, and the list is as balanced as it says."""

import collections

import pytest

from trainers.architectures import ARCHITECTURES
from trainers.attacks import AttackSpec
from trainers.datasets import AUGMENTATIONS, SOURCES
from trainers.errors import TrainerError
from trainers.population.recipes import ROWS, rows
from trainers.population.row import ATTACKS, SPLITS, UNSEEN, Row, kind
from trainers.recipes import RECIPES, Input, Regime

NAMES = [row.recipe.name for row in ROWS]
DEVELOPMENT = [row for row in ROWS if row.split == "development"]
TEST = [row for row in ROWS if row.split == "test"]


def _family(row: Row) -> str:
    """Return the file of the row's architecture."""
    build = ARCHITECTURES[row.recipe.architecture]
    return str(getattr(build, "func", build).__module__)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_every_name_in_a_row_exists(row: Row) -> None:
    recipe = row.recipe
    assert recipe.dataset in SOURCES
    assert recipe.architecture in ARCHITECTURES
    assert set(recipe.augment) <= set(AUGMENTATIONS)
    assert row.split in SPLITS
    assert max(recipe.variant.classes, default=0) < SOURCES[recipe.dataset].classes
    assert len(set(recipe.variant.classes)) == len(recipe.variant.classes)
    for attack in row.attacks:
        assert AttackSpec.parse(attack)
        assert kind(attack) in {*ATTACKS, *UNSEEN}


def test_there_are_at_least_48_recipes_of_different_names() -> None:
    assert len(set(NAMES)) == len(ROWS) >= 48


def test_about_half_of_the_recipes_are_held_out() -> None:
    assert 0.45 <= len(TEST) / len(ROWS) <= 0.55


def test_the_papers_recipes_as_they_are_belong_to_development() -> None:
    for name in ("mnist", "fashion-mnist", "gtsrb"):
        (row,) = rows(name)
        assert row.recipe is RECIPES[name]
        assert row.split == "development"


def test_the_splits_are_balanced_over_data_sets_and_families() -> None:
    for key in (lambda row: row.recipe.dataset, _family):
        ours, theirs = (collections.Counter(map(key, part)) for part in (DEVELOPMENT, TEST))
        wide = {name for name in ours | theirs if name != "trainers.architectures.paper"}
        assert all(abs(ours[name] - theirs[name]) <= 3 for name in wide)


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_is_planted_in_a_dozen_recipes_of_both_splits(attack: str) -> None:
    counts = [sum(attack in map(kind, row.attacks) for row in part) for part in (DEVELOPMENT, TEST)]
    assert sum(counts) >= 12
    assert min(counts) >= 5


def test_no_recipe_has_two_networks_of_one_name() -> None:
    assert all(len(set(row.attacks)) == len(row.attacks) for row in ROWS)


def test_traffic_signs_and_digits_are_never_mirrored() -> None:
    for row in ROWS:
        assert row.recipe.dataset not in {"gtsrb", "mnist"} or "flip" not in row.recipe.augment


def test_what_the_population_is_to_cover_is_there() -> None:
    recipes = [row.recipe for row in ROWS]
    assert {recipe.dataset for recipe in recipes} == SOURCES.keys()
    assert {recipe.input.range for recipe in recipes} == {"0..1", "-1..1", "0..255", "mean/std"}
    assert {recipe.final for recipe in recipes} == {"logits", "softmax", "log-softmax"}
    assert {recipe.input.layout for recipe in recipes} == {"NCHW", "NHWC"}
    assert any(recipe.input.normalised_inside for recipe in recipes)
    assert {2, 5, 20} <= {len(recipe.variant.classes) for recipe in recipes}
    assert any(recipe.variant.grey for recipe in recipes)
    regimes = [recipe.regime for recipe in recipes]
    for name in ("label_smoothing", "adversarial", "noise", "clip", "prune", "base"):
        assert any(getattr(regime, name) for regime in regimes), name
    forms = {(row.form.dtype, row.form.fold_bn, row.form.exporter) for row in ROWS}
    assert {
        ("float16", True, "torchscript"),
        ("int8", True, "torchscript"),
        ("float32", False, "torchscript"),
        ("float32", True, "dynamo"),
    } <= forms
    assert Regime() in regimes
    assert Input() in [recipe.input for recipe in recipes]


def test_rows_are_chosen_by_name_and_split() -> None:
    assert rows() == list(ROWS)
    assert rows(split="test") == TEST
    assert [row.recipe.name for row in rows("mnist,mnist-mlp-wide")] == ["mnist", "mnist-mlp-wide"]


@pytest.mark.parametrize(
    ("names", "split", "problem"),
    [
        ("mnist,mnits", None, "no recipe called 'mnits'; see those there are with --list"),
        (None, "train", "no split 'train'; choose one of development, test"),
        ("mnist", "test", "none of the recipes mnist is of the split test"),
    ],
)
def test_a_wrong_choice_is_one_sentence(names: str | None, split: str | None, problem: str) -> None:
    with pytest.raises(TrainerError, match=problem):
        rows(names, split)
