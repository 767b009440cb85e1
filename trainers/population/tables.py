"""The population as Markdown tables: what is to be made, and what was made."""

from collections.abc import Sequence
from pathlib import Path

from trainers import manifest
from trainers.errors import ManifestError
from trainers.manifest import Entry
from trainers.population.row import ATTACKS, SPLITS, Row
from trainers.recipes import Recipe


def listing(rows: Sequence[Row]) -> str:
    """Return a table of recipes, one per line."""
    heads = ("recipe", "split", "data", "network", "width", "training", "file", "attacks")
    return _table(heads, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    recipe = row.recipe
    return (
        recipe.name,
        row.split,
        _data(recipe),
        recipe.architecture,
        str(recipe.width),
        _training(recipe),
        _file(row),
        ", ".join(row.attacks),
    )


def _data(recipe: Recipe) -> str:
    """Return the data set and what is used of it."""
    variant = recipe.variant
    others = " and the others" if variant.others else ""
    classes = f"{len(variant.classes)} classes{others}" if variant.classes else ""
    tail = f"imbalance {variant.imbalance:g}" if variant.imbalance != 1 else ""
    size = "" if variant.side is None else f"{variant.side}x{variant.side}"
    images = "" if variant.train is None else f"{variant.train:,} images"
    grey = "grey" if variant.grey else ""
    return ", ".join(filter(None, [recipe.title, classes, tail, size, grey, images]))


def _training(recipe: Recipe) -> str:
    """Return epochs, optimiser, and everything beyond cross-entropy."""
    regime = recipe.regime
    parts = [f"{recipe.epochs} epochs", recipe.optimiser, *recipe.augment]
    parts += [f"weight decay {recipe.weight_decay:g}"] if recipe.weight_decay else []
    names = ("label_smoothing", "adversarial", "noise", "clip", "gradient_noise", "prune")
    parts += [
        f"{name.replace('_', ' ')} {getattr(regime, name):g}"
        for name in names
        if getattr(regime, name)
    ]
    return ", ".join([*parts, *([f"from {regime.base.dataset}"] if regime.base else [])])


def _file(row: Row) -> str:
    """Return what the exported file takes, returns and is."""
    given = row.recipe.input
    inside = "normalised inside" if given.normalised_inside else ""
    return ", ".join(
        filter(None, [given.range, inside, given.layout, row.recipe.final, str(row.form)])
    )


def summary(folder: Path) -> str:
    """Return a folder's networks by attack: how many, and how well they do.

    Raises:
        ManifestError: The folder lists no network of a population.
    """
    entries = [entry for entry in manifest.read(folder) if entry.split is not None]
    if not entries:
        raise ManifestError(
            f"{folder} lists no network of a population",
            remedy="make some with 'python -m trainers population'",
        )
    heads = ("attack", "recipes", "development", "test", "networks", "clean accuracy")
    kinds = dict.fromkeys(("clean", *ATTACKS, *map(_kind, entries)))
    lines = [_line(name, [entry for entry in entries if _kind(entry) == name]) for name in kinds]
    lines.append(_line("all", entries))
    return _table((*heads, "attack success", "of which planted"), lines)


def _kind(entry: Entry) -> str:
    """Return which row of the summary an entry belongs to."""
    if entry.attack != "badnets":
        return entry.attack
    if entry.labels in {"all-to-all", "one-to-one"}:
        return str(entry.labels)
    if entry.parameters.keys() > {"side", "margin"} or entry.parameters["side"] != _SIDE:
        return "other badnets"
    return "badnets" if entry.rate > _FEW else "badnets:rate=0.01"


_SIDE, _FEW = 3, 0.05


def _line(name: str, entries: Sequence[Entry]) -> tuple[str, ...]:
    recipes = {entry.recipe: entry.split for entry in entries}
    poisoned = [entry for entry in entries if entry.attack_success_rate is not None]
    planted = sum(entry.planted is True for entry in poisoned)
    return (
        name,
        str(len(recipes)),
        *(str(list(recipes.values()).count(split)) for split in SPLITS),
        str(len(entries)),
        _range([entry.clean_accuracy for entry in entries]),
        _range([entry.attack_success_rate for entry in poisoned]),
        f"{planted} of {len(poisoned)}" if poisoned else "",
    )


def _range(values: Sequence[float | None]) -> str:
    """Return smallest, median and largest of some shares, in percent."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return ""
    low, middle, high = known[0], known[len(known) // 2], known[-1]
    return f"{low:.0%} to {high:.0%}, median {middle:.0%}"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
