"""Test images under the trigger that a listed network was attacked with, as the network takes them.

The manifest beside a network knows its attack, rate, seed and target, so that its trigger can be
made anew: to measure what is left of a backdoor after a repair, or which inputs a filter tells.
"""

import dataclasses
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainers import inputs, manifest
from trainers.attacks import ATTACKS, OPTIONS
from trainers.attacks.base import Attack, Setting
from trainers.attacks.labels import label_map
from trainers.datasets import Dataset, as_floats
from trainers.errors import TrainerError
from trainers.files import write_whole
from trainers.manifest import Entry
from trainers.population.recipes import rows as population
from trainers.recipes import Recipe, recipe
from trainers.zoo import dataset_of

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
_SEED = 7  # of the order in which test images are drawn
_LEARNT = frozenset({"input-aware"})
_SAME_TRIGGER = {"evasive": "badnets"}


@dataclasses.dataclass(frozen=True, slots=True)
class Stamped:
    """Test images as a network takes them; none of `clean` is among `others`.

    Attributes:
        clean: As they are, (n, *shape).
        labels: Of them, (n,).
        stamped: Those of `clean` that the trigger asks another class for, under it.
        targets: The classes that it asks for.
        others: Other clean ones, for whoever needs some.
        other_labels: Of those.
    """

    clean: Floats
    labels: Labels
    stamped: Floats
    targets: Labels
    others: Floats
    other_labels: Labels


def listed(model: Path) -> Entry:
    """Return what the manifest beside a model says of it.

    Raises:
        TrainerError: There is no manifest, or it does not list the model.
    """
    for entry in manifest.read(model.parent):
        if entry.file == model.name:
            return entry
    raise TrainerError(
        f"no {manifest.NAME} beside {model} lists it",
        remedy="name a model that `zoo`, `population` or `train --export` made, where it was made",
    )


@torch.no_grad()
def stamped(entry: Entry, data: Path, *, count: int, others: int) -> Stamped:
    """Return test images with and without a network's trigger.

    Args:
        entry: The network.
        data: Folder with the data sets.
        count: How many to stamp, at most: those of the attacker's class are not.
        others: How many other clean ones to return; they come off what is there for `count`.

    Raises:
        TrainerError: The network is clean, its trigger is learnt with it, or the data is not there
            or too little.
    """
    chosen = _recipe(entry)
    dataset = dataset_of(chosen, data)
    attack = _attack(entry, dataset)
    assert attack.trigger is not None  # noqa: S101 - `_attack` has refused what has none
    assert attack.labels is not None  # noqa: S101 - as above
    feed, _ = inputs.split(inputs.fed(nn.Identity(), chosen.input, dataset))
    order = torch.randperm(len(dataset.test), generator=torch.Generator().manual_seed(_SEED))
    first = order[: max(0, min(count, len(order) - others))]
    rest = order[len(first) : len(first) + others]

    def taken(images: torch.Tensor) -> Floats:
        return np.ascontiguousarray(feed(images).contiguous().numpy())

    images, labels = as_floats(dataset.test.images[first]), dataset.test.labels[first]
    aimed = attack.labels(labels)
    victims = aimed != labels
    if not victims.any():
        raise TrainerError(
            f"of {len(order)} test images none is left to stamp",
            remedy="ask for more, or for no clean ones beside them",
        )
    return Stamped(
        clean=taken(images),
        labels=labels.numpy(),
        stamped=taken(attack.trigger(images[victims])),
        targets=aimed[victims].numpy(),
        others=taken(as_floats(dataset.test.images[rest])),
        other_labels=dataset.test.labels[rest].numpy(),
    )


def write(  # noqa: PLR0913 - two files, and how many images go into each
    model: Path, data: Path, output: Path, *, count: int, clean: Path | None, others: int
) -> Stamped:
    """Write images under a listed model's trigger, and clean ones, for `scan`; return them.

    Args:
        model: The model, its manifest beside it.
        data: Folder with the data sets.
        output: The .npz to write: `images`, their `targets`.
        count: As for `stamped`.
        clean: An .npz to write other, clean images to: `images`, their `labels`.
        others: How many of these.

    Raises:
        TrainerError: As `listed` and `stamped` raise it, or a file is no .npz, is named twice, or
            cannot be written.
    """
    for path in (output, *([clean] if clean else [])):
        if path.suffix != ".npz":
            raise TrainerError(f"{path} is no .npz", remedy="name a file that ends in .npz")
    if output == clean:
        raise TrainerError(
            f"{output} is named for both kinds of images", remedy="name a file of its own for each"
        )
    found = stamped(listed(model), data, count=count, others=others if clean else 0)
    _write(output, images=found.stamped, targets=found.targets)
    if clean is not None:
        _write(clean, images=found.others, labels=found.other_labels)
    return found


def _write(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    try:
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise TrainerError(
            f"{path} cannot be written ({error.strerror})", remedy="name another file"
        ) from error


def _recipe(entry: Entry) -> Recipe:
    if entry.split is None:
        return recipe(entry.recipe)
    return next(row.recipe for row in population() if row.recipe.name == entry.recipe)


def _attack(entry: Entry, dataset: Dataset) -> Attack:
    """Return the attack with its trigger.

    Raises:
        TrainerError: There is none, or nothing but its checkpoint holds it.
    """
    if entry.attack == "clean":
        raise TrainerError(
            f"{entry.file} is clean, so that there is no trigger to stamp",
            remedy="name a backdoored network",
        )
    if entry.attack in _LEARNT:
        raise TrainerError(
            f"the trigger of {entry.file} was learnt along with it, and no manifest holds it",
            remedy="name a network of another attack",
        )
    name = _SAME_TRIGGER.get(entry.attack, entry.attack)
    return ATTACKS[name](
        Setting(
            shape=dataset.shape,
            labels=label_map(str(entry.labels), entry.target, dataset.classes),
            rate=entry.rate,
            generator=torch.Generator().manual_seed(entry.seed),
            twin=nn.Identity,
            options={k: str(v) for k, v in entry.parameters.items() if k in OPTIONS.get(name, {})},
        )
    )
