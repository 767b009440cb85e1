"""How often a stamp that turns one class alone gives a backdoor away, and a clean network none.

    python -m benchmarks.one_class measure FOLDER RECORDS.jsonl [--attacks clean,one-to-one]
        [--images-npz images.npz]  # resumes; the images may be a folder with RECIPE.npz
    python -m benchmarks.one_class report RECORDS.jsonl...

Each network of a zoo or a population is swept with patches on clean images (those of its manifest,
or the ones given). `report` counts what is said of it by itself, and beside each clean network of
its recipe: bounds are chosen on `development`.
"""

import gzip
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.population import span
from benchmarks.quality import table
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
        slim = [{**to_json(move), "input": None} for move in found.foremost]
        found = from_json(Moves, {**to_json(found), "foremost": slim})
    one = entry.labels == "one-to-one" and entry.target is not None
    return Network(
        file=entry.file,
        sha256=entry.sha256,
        recipe=entry.recipe,
        split=SPLITS.get(entry.recipe, "zoo") if entry.split else "zoo",
        attack=named(entry),
        trigger="+".join(f"{name}={value}" for name, value in entry.parameters.items()),
        source=(entry.target + 1) % profile.classes if one and entry.target is not None else None,
        target=entry.target,
        success=entry.attack_success_rate,
        moves=found,
    )


@app.command()
def report(records: list[Path]) -> None:
    """Print what is said of networks by themselves, and beside each clean one of their recipe."""
    typer.echo(table([*counted(read(records))]))


def counted(networks: Sequence[Network]) -> Iterator[dict[str, Any]]:
    """Yield what is said of the networks of each split and attack."""

    def key(network: Network) -> tuple[Any, ...]:
        return network.split, network.attack != "clean", network.attack

    swept = sorted((n for n in networks if n.moves is not None), key=key)
    clean = [network for network in swept if network.attack == "clean"]
    for (split, _, attack), members in itertools.groupby(swept, key):
        group = list(members)
        alone = [_said(network, []) for network in group]
        beside = [
            _said(network, [other])
            for network in group
            for other in clean
            if other.recipe == network.recipe and other.sha256 != network.sha256
        ]
        yield {
            "split": split, "networks": attack, "n": len(group),
            "alone: warning": alone.count((Severity.WARNING, True))
            + alone.count((Severity.WARNING, False)),
            "pairs": len(beside),
            "beside one: suspicious": sum(s is Severity.SUSPICIOUS for s, _ in beside),
            "of the attacker's classes": beside.count((Severity.SUSPICIOUS, True)),
            "warning": sum(s is Severity.WARNING for s, _ in beside),
        }  # fmt: skip


def _said(network: Network, references: Sequence[Network]) -> tuple[Severity | None, bool]:
    """Return how grave what is seen of a network is, and whether it names the planted classes."""
    found = moves.seen(network.moves, [reference.moves for reference in references])
    if not found:
        return None, False
    named_ = found[0].details["source"], found[0].details["target"]
    return found[0].severity, named_ == (network.source, network.target)


def read(records: Sequence[Path]) -> list[Network]:
    """Return the networks of several files, of which some may be compressed."""
    return [from_json(Network, json.loads(line)) for path in records for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().splitlines()


if __name__ == "__main__":
    app()
