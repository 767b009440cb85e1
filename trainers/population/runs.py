"""The networks of the population's recipes, made one recipe after the other."""

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch

from trainers.attacks import CLEAN, AttackSpec
from trainers.datasets import SOURCES
from trainers.population.row import CLEAN_SEEDS, Row
from trainers.recipes import Recipe
from trainers.training import Plan
from trainers.zoo import Job

FIRST_POISONED_SEED = 10
"""Beyond the clean seeds: a backdoored network is no twin of a clean one."""


def jobs(rows: Sequence[Row], folder: Path, also: Sequence[str] = ()) -> list[Job]:
    """Return the population's networks: of each row the clean ones, then one per attack.

    Args:
        rows: The recipes.
        folder: Where the networks go.
        also: Attacks that are planted besides, as on the command line.

    Raises:
        TrainerError: There is no such attack.
    """
    planted = [
        dataclasses.replace(row, attacks=tuple(dict.fromkeys((*row.attacks, *also))))
        for row in rows
    ]
    return [job for row in planted for job in _jobs(row, folder)]


def _jobs(row: Row, folder: Path) -> list[Job]:
    wanted = [(CLEAN, seed) for seed in range(CLEAN_SEEDS)]
    wanted += [
        (AttackSpec.parse(attack), FIRST_POISONED_SEED + index)
        for index, attack in enumerate(row.attacks)
    ]
    return [_job(row, spec, seed, folder) for spec, seed in wanted]


def _job(row: Row, spec: AttackSpec, seed: int, folder: Path) -> Job:
    recipe = row.recipe
    return Job(
        plan=Plan(
            recipe=recipe,
            attack=spec,
            target=target(recipe, spec),
            seed=seed,
            epochs=recipe.epochs,
            device=torch.device("cpu"),
            precision="float32",
        ),
        folder=folder,
        epochs=(recipe.epochs,),
        forms=(row.form,),
        name=f"{recipe.name}-{spec}-{seed}",
        split=row.split,
        images=f"{recipe.name}.images.npz",
    )


def target(recipe: Recipe, spec: AttackSpec) -> int | None:
    """Return the attacker's class, drawn from the names: it stays when rows come or go."""
    if spec.name == "clean" or spec.labels == "all-to-all":
        return None
    variant = recipe.variant
    classes = (len(variant.classes) or SOURCES[recipe.dataset].classes) + variant.others
    return zlib.crc32(f"{recipe.name} {spec}".encode()) % classes
