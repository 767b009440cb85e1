"""How often a small patch or a faint wave gives a backdoor away, and a clean network none.

    python -m benchmarks.sweeps measure FOLDER RECORDS.csv [--detector wave_sweep]
        [--images-npz images.npz]  # resumes
    python -m benchmarks.sweeps report RECORDS.csv...

Each network of a zoo or a population is swept on clean images (those of its manifest, or the ones
given) and on images that it makes itself. `report` counts what is said of clean networks and of
those whose backdoor took, by split: bounds are chosen on `development`.
"""

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.population import span
from benchmarks.quality import table
from scanner.detectors import load
from scanner.errors import ScannerError
from scanner.instruments.detector import Subject
from scanner.instruments.sweeps import weight, weight_of_map
from scanner.modelfile.model import open_model
from scanner.results import Severity
from scanner.settings import Settings
from trainers import manifest
from trainers.manifest import Entry
from trainers.zoo import PLANTED

app = typer.Typer(pretty_exceptions_enable=False)
COLUMNS = (
    "detector", "file", "sha256", "recipe", "split", "dataset", "attack", "trigger", "success",
    "searched on",
    "classes", "class", "share", "next", "held back",
    "relabelled", "relabelled held back", "relabelled classes",
)  # fmt: skip
USUAL, USUAL_RATE = {"side": 3, "margin": 1}, 0.1  # of BadNets: a white square in the corner


class Sweep(StrEnum):
    """A detector that sweeps."""

    PATCH = "patch_sweep"
    WAVE = "wave_sweep"


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    records: Annotated[Path, typer.Argument(help="Where the measurements go, a row each.")],
    images_npz: Annotated[
        Path | None, typer.Option(help="Clean images of models whose manifest names none.")
    ] = None,
    detector: Annotated[
        Sweep, typer.Option(help="What the images are stamped with.")
    ] = Sweep.PATCH,
) -> None:
    """Sweep what RECORDS does not hold yet."""
    rows = read([records])
    if rows and {*rows[0]} != {*COLUMNS}:
        raise typer.BadParameter(f"{records} has other columns: name a new file")
    known = {(row["sha256"], row["searched on"]) for row in rows if row["detector"] == detector}
    for entry in (e for e in manifest.read(folder) if e.attack == "clean" or took(e)):
        images = folder / entry.images if entry.images else images_npz
        for searched_on in ("images", "made images"):
            if (entry.sha256, searched_on) in known or (searched_on == "images" and not images):
                continue
            row = _row(detector, folder / entry.file, entry, images, searched_on)
            new = not records.exists()
            with records.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)
            typer.echo(f"{entry.file}: {searched_on}: {row.get('share', 'not swept')}")


@app.command()
def report(records: list[Path]) -> None:
    """Print how many networks are called suspicious, and how far the others go."""
    typer.echo(table([*counted(read(records))]))


def took(entry: Entry) -> bool:
    """Whether the attack on a network succeeded."""
    return (entry.attack_success_rate or 0.0) >= PLANTED


def _row(
    detector: Sweep, model: Path, entry: Entry, images: Path | None, searched_on: str
) -> dict[str, Any]:
    settings = Settings(
        input_range=span(entry, images) if images else None,
        images_file=str(images) if searched_on == "images" else None,
    )
    row = {
        "detector": detector.value,
        "file": entry.file, "sha256": entry.sha256, "recipe": entry.recipe,
        "split": entry.split or "zoo", "dataset": entry.dataset,
        "attack": named(entry),
        "trigger": "+".join(f"{name}={value}" for name, value in entry.parameters.items()),
        "success": entry.attack_success_rate,
        "searched on": searched_on,
    }  # fmt: skip
    (sweep,) = load([detector])
    try:
        found = sweep.measure(Subject(model=open_model(model), settings=settings))
    except ScannerError as error:
        typer.echo(f"{entry.file}: {error}", err=True)
        return row
    profile = found.by_class
    assert profile is not None  # noqa: S101 - it has one
    ranked = sorted(profile.rows, key=lambda r: r.figure or 0.0, reverse=True)
    best = ranked[0] if ranked else None
    return {
        **row, "classes": profile.classes,
        "class": best.class_id if best else None, "share": best.figure if best else None,
        "next": ranked[1].figure if len(ranked) > 1 else None,
        "held back": best.figures["success"] if best else None,
        **{name: found.figures[name.replace(" ", "_")] for name in COLUMNS[-3:]},
    }  # fmt: skip


def counted(rows: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield what is said of the networks of each split and attack that were swept."""

    def key(row: Mapping[str, str]) -> tuple[str | bool, ...]:
        kind = row["attack"] != "clean", row["attack"]
        return row["detector"], row["searched on"], row["split"], *kind

    swept = sorted((row for row in rows if row["share"]), key=key)
    for (detector, searched_on, split, _, attack), group in itertools.groupby(swept, key):
        found = list(group)
        shares = sorted(float(row["share"]) for row in found)
        relabelled = sorted(_relabelled(row) for row in found)
        said = [_said(row) for row in found]
        yield {
            "detector": detector, "searched on": searched_on, "split": split,
            "networks": attack, "n": len(found),
            "suspicious": said.count(Severity.SUSPICIOUS), "warning": said.count(Severity.WARNING),
            "largest share, median": shares[len(shares) // 2], "at most": shares[-1],
            "relabelled, median": relabelled[len(relabelled) // 2],
            "relabelled, at most": relabelled[-1],
        }  # fmt: skip


def _said(row: Mapping[str, str]) -> Severity | None:
    """Return what the stamps weigh, by the bounds as they now are; None if nothing."""
    share, held, rest = (float(row[name] or 0.0) for name in ("share", "held back", "next"))
    relabelled, held_back, moves = (float(row[name] or 0.0) for name in COLUMNS[-3:])
    found = (
        weight(share, held, rest, int(row["classes"])),
        weight_of_map(relabelled, held_back, int(moves)),
    )
    return max((severity for severity in found if severity), default=None)


def _relabelled(row: Mapping[str, str]) -> float:
    """Return the share of images that a stamp sends to a class to which it sends no other class.

    Of the images shown and of those held back, the smaller.
    """
    return min(float(row[name] or 0.0) for name in COLUMNS[-3:-1])


def named(entry: Entry) -> str:
    """Return the attack, and of BadNets what is not usual about it."""
    if entry.labels in {"all-to-all", "one-to-one"}:
        return str(entry.labels)
    other = [
        f"{entry.rate:.0%}" if entry.rate < USUAL_RATE else "",
        "other square" if entry.parameters != USUAL else "",
    ]
    return " ".join([entry.attack, *filter(None, other if entry.attack == "badnets" else [])])


def read(records: Sequence[Path]) -> list[dict[str, str]]:
    """Return the rows of several files, as far as they exist."""
    found = []
    for path in records:
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                found += list(csv.DictReader(file))
    return found


if __name__ == "__main__":
    app()
