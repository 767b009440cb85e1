"""Tiny data sets in the standard file formats, and a recipe small enough for a test."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from trainer_data import PlanMaker, bars, write_cifar, write_gtsrb, write_idx

from trainers import datasets
from trainers.attacks import CLEAN, AttackSpec
from trainers.datasets import Dataset
from trainers.recipes import RECIPES, Recipe
from trainers.training import Plan


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep PyTorch from spreading work that takes microseconds, and restore what a test sets."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with MNIST (bars), CIFAR-10, CIFAR-100 and GTSRB in their standard places."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    for stem, count in (("train", 960), ("t10k", 200)):
        images, labels = bars(count, seed=count)
        write_idx(raw / f"{stem}-images-idx3-ubyte", images)
        write_idx(raw / f"{stem}-labels-idx1-ubyte", labels)
    generator = np.random.default_rng(0)
    write_cifar(root, generator)
    write_gtsrb(root / "gtsrb", generator)
    return root


@pytest.fixture(scope="session")
def mnist(folder: Path) -> Dataset:
    """The bars, loaded."""
    return datasets.load("mnist", folder)


@pytest.fixture
def small() -> Recipe:
    """MNIST's recipe, with a narrower network, larger steps and smaller batches."""
    return dataclasses.replace(
        RECIPES["mnist"], width=4, batch=32, learning_rate=1e-2, averaging=0.9
    )


@pytest.fixture
def plan(small: Recipe) -> PlanMaker:
    """Return a function that makes CPU plans: `plan(attack="badnets", target=3, epochs=2)`."""

    def make(
        attack: str = "", recipe: Recipe = small, epochs: int = 1, seed: int = 0, **others: object
    ) -> Plan:
        spec = AttackSpec.parse(attack) if attack else CLEAN
        cpu = torch.device("cpu")
        base = Plan(recipe=recipe, attack=spec, target=None, seed=seed, epochs=epochs, device=cpu)
        return dataclasses.replace(base, **others)  # type: ignore[arg-type] # fields by name

    return make
