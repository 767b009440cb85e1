"""How often a stamp that turns one class alone gives a backdoor away, and a clean network none.

    python -m benchmarks.one_class measure FOLDER RECORDS.jsonl [--attacks clean,one-to-one]
        [--images-npz images.npz]  # resumes; the images may be a folder with RECIPE.npz
    python -m benchmarks.one_class report RECORDS.jsonl...

Each network of a zoo or a population is swept with patches on clean images (those of its manifest,
or the ones given). `report` counts what is said of it by itself, and beside each clean network of
its recipe: bounds are chosen on `development`.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.population import span
from benchmarks.quality import table, text
from benchmarks.sweeps import named, took
from scanner.detectors.patch_sweep import PatchSweep
from scanner.errors import ScannerError
from scanner.instruments.detector import Subject
from scanner.judging import moves
from scanner.modelfile.model import open_model
from scanner.results import Moves, Severity
from scanner.settings import Settings
from scanner.values import from_json, frozen, to_json
from trainers import manifest
from trainers.manifest import Entry
from trainers.population.recipes import ROWS

SPLITS = {row.recipe.name: row.split for row in ROWS}
"""As they are now: a folder may be older."""

WELL = 0.9  # success of a trigger that took well

app = typer.Typer(pretty_exceptions_enable=False)


@frozen
class Network:
    """A network, and how well one stamp tells each of its classes from the others.

    Attributes:
        file: Its name.
        sha256: Of the file.
        recipe: How it was trained.
        split: Whether bounds may be chosen on it.
        attack: The kind; "clean" for none.
        trigger: Its parameters.
        source: The one class that the trigger moves; None where it moves several.
        target: Where to.
        success: How often.
        moves: What was found; None where there are too few images of each class.
    """

    file: str
    sha256: str
    recipe: str
    split: str
    attack: str
    trigger: str
    source: int | None
    target: int | None
    success: float | None
    moves: Moves | None


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    records: Annotated[Path, typer.Argument(help="Where the measurements go, a line each.")],
    images_npz: Annotated[
        Path | None, typer.Option(help="Clean images of all models, or a folder with RECIPE.npz.")
    ] = None,
    attacks: Annotated[
        str | None, typer.Option(help="Only these, joined by commas; all if left out.")
    ] = None,
) -> None:
    """Sweep what RECORDS does not hold yet."""
    known = {network.sha256 for network in read([records] if records.exists() else [])}
    wanted = None if attacks is None else attacks.split(",")
    for entry in manifest.read(folder):
        images = _images(folder, entry, images_npz)
        if entry.sha256 in known or images is None or not (entry.attack == "clean" or took(entry)):
            continue
        if wanted is None or named(entry) in wanted:
            try:
                network = _network(folder, entry, images)
            except ScannerError as error:
                typer.echo(f"{entry.file}: {error}", err=True)
                continue
            with records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(to_json(network)) + "\n")
            typer.echo(entry.file)


def _images(folder: Path, entry: Entry, given: Path | None) -> Path | None:
    """Return the clean images of a network, or None."""
    if given is None:
        return folder / entry.images if entry.images else None
    found = given / f"{entry.recipe}.npz" if given.is_dir() else given
    return found if found.exists() else None


def _network(folder: Path, entry: Entry, images: Path) -> Network:
    settings = Settings(input_range=span(entry, images), images_file=str(images))
    subject = Subject(model=open_model(folder / entry.file), settings=settings)
    profile = PatchSweep().measure(subject).by_class
    assert profile is not None  # noqa: S101 - it has one
    found = profile.moves
    if found is not None:  # an image is no figure
        slim = tuple(dataclasses.replace(move, input=None) for move in found.foremost)
        found = dataclasses.replace(found, foremost=slim)
    target = entry.target if entry.labels == "one-to-one" else None
    return Network(
        file=entry.file,
        sha256=entry.sha256,
        recipe=entry.recipe,
        split=SPLITS.get(entry.recipe, "zoo") if entry.split else "zoo",
        attack=named(entry),
        trigger="+".join(f"{name}={value}" for name, value in entry.parameters.items()),
        source=None if target is None else (target + 1) % profile.classes,
        target=entry.target,
        success=entry.attack_success_rate,
        moves=found,
    )


@app.command()
def report(records: list[Path]) -> None:
    """Print what is said of networks by themselves, and beside each clean one of their recipe."""
    networks = read(records)
    typer.echo(table([*counted(networks)]) + "\n")
    typer.echo(table([*by_success(networks)]))


def counted(networks: Sequence[Network]) -> Iterator[dict[str, Any]]:
    """Yield what is said of the networks of each split and attack."""

    def key(network: Network) -> tuple[Any, ...]:
        return network.split, network.attack != "clean", network.attack

    swept = sorted((n for n in networks if n.moves is not None), key=key)
    for (split, _, attack), members in itertools.groupby(swept, key):
        group = list(members)
        alone = [_said(network, []) for network in group]
        beside = [said for network in group for said in _beside(network, swept)]
        yield {
            "split": split, "networks": attack, "n": len(group),
            "alone: warning": sum(s is Severity.WARNING for s, _ in alone),
            **_pairs(beside),
            "of the attacker's classes": beside.count((Severity.SUSPICIOUS, True)),
        }  # fmt: skip


def by_success(networks: Sequence[Network]) -> Iterator[dict[str, Any]]:
    """Yield how many attacked networks are found at all, by whether the trigger took well."""
    for name, least, below in (("at least", WELL, math.inf), ("less than", 0.0, WELL)):
        group = [n for n in networks if n.moves and n.success and least <= n.success < below]
        beside = [_beside(network, networks) for network in group]
        yield {
            "success": f"{name} {WELL:.0%}", "n": len(group),
            "found beside one or more": sum(any(_grave(said) for said in b) for b in beside),
            **_pairs([said for b in beside for said in b]),
        }  # fmt: skip


def _beside(network: Network, networks: Sequence[Network]) -> list[tuple[Severity | None, bool]]:
    """Return what is said of a network beside each of the clean ones of its recipe."""
    return [
        _said(network, [other])
        for other in networks
        if other.attack == "clean"
        and other.moves is not None
        and other.recipe == network.recipe
        and other.sha256 != network.sha256
    ]


def _pairs(beside: Sequence[tuple[Severity | None, bool]]) -> dict[str, int]:
    return {
        "pairs": len(beside),
        "beside one: suspicious": sum(map(_grave, beside)),
        "warning": sum(s is Severity.WARNING for s, _ in beside),
    }


def _grave(said: tuple[Severity | None, bool]) -> bool:
    return said[0] is Severity.SUSPICIOUS


def _said(network: Network, references: Sequence[Network]) -> tuple[Severity | None, bool]:
    """Return how grave what is seen of a network is, and whether it names the planted classes."""
    found = moves.seen(network.moves, [reference.moves for reference in references])
    if not found:
        return None, False
    named_ = found[0].details["source"], found[0].details["target"]
    return found[0].severity, named_ == (network.source, network.target)


def read(records: Sequence[Path]) -> list[Network]:
    """Return the networks of several files, of which some may be compressed."""
    lines = (line for path in records for line in text(path).splitlines())
    return [from_json(Network, json.loads(line)) for line in lines]


if __name__ == "__main__":
    app()
