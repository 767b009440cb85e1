"""Neural Cleanse on images of half their side: what it saves, and what it costs.

    python -m benchmarks.half_side measure FOLDER RECORDS.jsonl [--images]  # resumes
    python -m benchmarks.half_side report RECORDS.jsonl

Each network of 10 classes and more that takes small images (`scanner.instruments.half_side`) is
searched on noise, or with `--images` on clean images of its recipe: whole ones and small ones, with
as many in a step as a search in stages may take. Six classes are searched, the same in all networks
of a recipe: those that its backdoors lead to, and others drawn at random. docs/large-networks.md
shows the table.
"""

import dataclasses
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.population import span
from benchmarks.quality import auc, table, text
from scanner.errors import ScannerError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import half_side, probes
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Floats, differentiable
from scanner.instruments.half_side import HalfSide
from scanner.instruments.inversion import ON_IMAGES, ON_NOISE, PIXEL, Inversion, Plan
from scanner.instruments.stages import SHORT
from scanner.modelfile.model import open_model
from scanner.settings import EFFORTS, Budget, Device, Settings
from trainers import manifest
from trainers.manifest import Entry

app = typer.Typer(pretty_exceptions_enable=False)
FEWEST = 10  # classes of a network of which it is asked
IMAGES = (32, 16, 8)
WAYS = tuple(f"{side} {count}" for count in IMAGES for side in ("whole", "half"))
NONE = 1e3  # pixels that stand for no trigger at all


@app.command()
def measure(
    folder: Path,
    records: Path,
    images: Annotated[bool, typer.Option("--images", help="Clean images, not noise.")] = False,
) -> None:
    """Search each network of FOLDER that RECORDS does not hold yet."""
    known = {row["file"] for row in (read(records) if records.exists() else [])}
    entries = [e for e in manifest.read(folder) if e.attack == "clean" or e.planted]
    for entry in (e for e in entries if e.file not in known):
        found = _subject(folder, entry, images=images)
        if found is None:
            continue
        subject, half = found
        classes = _classes(entry, entries, half.whole.classes)
        row: dict[str, Any] = {
            "file": entry.file, "recipe": entry.recipe, "split": entry.split,
            "attack": entry.attack, "labels": entry.labels, "target": entry.target,
            "classes": classes, "figures": {}, "cpu": {},
        }  # fmt: skip
        span_of = half.whole.low, half.whole.high
        data = probes.clean_images(subject.settings, half.whole.shape, span_of)
        plan = ON_IMAGES if images else ON_NOISE
        for way in WAYS:
            started = time.process_time()
            row["figures"][way] = [_size(half, data.shown, one, way, plan) for one in classes]
            row["cpu"][way] = time.process_time() - started
        with records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        typer.echo(entry.file)


def _subject(folder: Path, entry: Entry, *, images: bool) -> tuple[Subject, HalfSide] | None:
    pixels = folder / (entry.images or "")
    settings = Settings(
        input_range=span(entry, pixels),
        images_file=str(pixels) if images else None,
        device=Device.CPU,
        threads=1,
    )
    try:
        subject = Subject(model=open_model(folder / entry.file), settings=settings)
        whole = differentiable(subject, Objective.CROSS_ENTROPY)
    except ScannerError as error:
        typer.echo(f"{entry.file}: {error}", err=True)
        return None
    half = half_side.of(subject, whole) if whole.classes >= FEWEST else None
    return (subject, half) if half is not None else None


def _classes(entry: Entry, entries: Sequence[Entry], count: int) -> list[int]:
    """Return the classes that are searched in all networks of a recipe."""
    aimed = sorted({e.target for e in entries if e.recipe == entry.recipe and e.target is not None})
    others = [number for number in range(count) if number not in aimed]
    drawn = np.random.default_rng(zlib.crc32(entry.recipe.encode())).permutation(others)
    return [*aimed, *map(int, drawn)][:SHORT]


def _size(half: HalfSide, images: Floats, target: int, way: str, plan: Plan) -> float | None:
    """Return the pixels of the smallest mask that a search finds."""
    side, count = way.split()
    small = side == "half"
    search = Inversion(
        half.half if small else half.whole,
        half.reduced(images) if small else images,
        target,
        np.random.default_rng((0, 0)),
        dataclasses.replace(plan, batch=int(count)).on(half if small else None),
    )
    for _ in range(plan.effort(EFFORTS[Budget.QUICK]).steps):
        if not search.finished:
            search.step()
    return float(search.size) * (half.area if small else 1.0) if search.best else None


def read(records: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of records."""
    return [json.loads(line) for line in text(records).splitlines()]


@app.command()
def report(records: Path) -> None:
    """Print how well each way tells backdoored networks from clean ones."""
    typer.echo(table([*reported(read(records))]))


def reported(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each split and way, of backdoors that lead to one class.

    A network stands out by itself by the median of its classes' masks over the smallest, and beside
    a clean network of its recipe by the largest ratio of their masks over the median ratio.
    """
    told = [r for r in rows if r["attack"] == "clean" or r["labels"] == "all-to-one"]
    for split in dict.fromkeys(row["split"] for row in told):
        members = [row for row in told if row["split"] == split]
        for way in WAYS:
            here = [row for row in members if way in row["figures"]]
            clean = [row for row in here if row["attack"] == "clean"]
            planted = [row for row in here if row["attack"] != "clean"]
            if not clean or not planted:
                continue
            alone = [[_alone(row, way)[0] for row in group] for group in (planted, clean)]
            pairs = [[*_pairs(row, clean, way)] for row in planted]
            innocent = [found for row in clean for found in _pairs(row, clean, way)]
            named = [_alone(row, way)[1] == row["target"] for row in planted]
            yield {
                "split": split, "images": way, "backdoored": len(planted), "clean": len(clean),
                "AUC alone": f"{auc(*map(np.array, alone)):.2f}",
                "smallest mask is the attacker's": sum(named),
                "AUC beside one": f"{_auc_of_pairs(pairs, innocent):.2f}",
                "CPU s, median": f"{np.median([row['cpu'][way] for row in here]):.1f}",
            }  # fmt: skip


def _auc_of_pairs(pairs: Sequence[Sequence[float]], innocent: Sequence[float]) -> float:
    beside = np.array([np.mean(found) for found in pairs if found])
    return auc(beside, np.array(innocent)) if len(beside) and innocent else float("nan")


def _logarithms(row: dict[str, Any], way: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.log(
        np.array([NONE if size is None else size for size in row["figures"][way]]) + PIXEL
    )


def _alone(row: dict[str, Any], way: str) -> tuple[float, int]:
    sizes = _logarithms(row, way)
    first = int(sizes.argmin())
    return float(np.median(sizes) - sizes[first]), row["classes"][first]


def _pairs(row: dict[str, Any], clean: Sequence[dict[str, Any]], way: str) -> Iterator[float]:
    for other in clean:
        if other is row or (other["recipe"], other["classes"]) != (row["recipe"], row["classes"]):
            continue
        above = _logarithms(other, way) - _logarithms(row, way)
        yield float(above.max() - np.median(above))


if __name__ == "__main__":
    app()
