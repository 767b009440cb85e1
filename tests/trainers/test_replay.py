"""Replaying a step changes nothing but its speed; it is done where each step is the same."""

import dataclasses

import pytest
import torch
from trainer_data import PlanMaker

from trainers import replay
from trainers.attacks.base import Attack
from trainers.datasets import Dataset
from trainers.recipes import RECIPES, Recipe, Regime
from trainers.training import train

ONE = [torch.optim.SGD([torch.zeros(1)], 0.1)]
ADVERSARIAL = dataclasses.replace(RECIPES["mnist"], regime=Regime(adversarial=0.1))
GROWING = dataclasses.replace(RECIPES["mnist"], sides=(14, 28))


@pytest.mark.parametrize(
    ("recipe", "attack", "images", "optimisers", "possible"),
    [
        (RECIPES["mnist"], Attack(), 64, ONE, True),
        (RECIPES["mnist"], Attack(), 63, ONE, False),
        (ADVERSARIAL, Attack(), 64, ONE, False),
        (GROWING, Attack(), 64, ONE, False),
        (RECIPES["mnist"], Attack(penalty=lambda *_: torch.zeros(())), 64, ONE, False),
        (RECIPES["mnist"], Attack(), 64, ONE * 2, False),
    ],
)
def test_a_step_is_replayed_where_all_steps_are_alike(
    recipe: Recipe, attack: Attack, images: int, optimisers: list[torch.optim.SGD], possible: bool
) -> None:
    assert replay.is_possible(recipe, attack, images, optimisers) is possible


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_is_replayed_learns_the_same(
    plan: PlanMaker, mnist: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = dataclasses.replace(plan("badnets"), device=torch.device("cuda"))
    *_, replayed = train(chosen, mnist)
    monkeypatch.setattr(replay, "is_possible", lambda *_: False)
    *_, started = train(chosen, mnist)
    assert replayed.loss == pytest.approx(started.loss, rel=1e-4)
