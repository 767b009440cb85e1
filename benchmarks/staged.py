"""Searches in stages against full ones, both made on the same networks.

    python -m benchmarks.staged measure FOLDER RECORDS.jsonl  # resumes
    python -m benchmarks.staged report RECORDS.jsonl

Each network of 10 classes and more is searched in full, and in the stages that large networks get:
six classes or fewer, half of them by a ranking of its own and the others drawn at random, in steps
of half the images, of the fewest, or of all at half their side. The next clean network of its
recipe is searched beside it, as a reference is in a scan. All is on noise. docs/large-networks.md
shows the table.
"""

import dataclasses
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.half_side import read
from benchmarks.population import DETECTORS, span
from benchmarks.quality import auc, table
from scanner.errors import ScannerError
from scanner.instruments import stages
from scanner.instruments.detector import Subject
from scanner.instruments.stages import SHORT, Demand, Outline
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.results import Measurement
from scanner.settings import Device, Settings
from trainers import manifest
from trainers.manifest import Entry

app = typer.Typer(pretty_exceptions_enable=False)
FEWEST = 10  # classes of a network of which it is asked
FULL, SMALL = "all", f"{SHORT}, small images"
STAGED = {f"{count}, half of the images": count for count in (SHORT, 4, 3)}
LEAST = f"{SHORT}, fewest images"
WAYS = {"neural_cleanse": (FULL, *STAGED, LEAST, SMALL), "mm_bd": (FULL, *STAGED, LEAST)}


@app.command()
def measure(folder: Path, records: Path) -> None:
    """Make the searches that RECORDS does not hold yet, each beside that of a clean network."""
    known = {_key(row) for row in (read(records) if records.exists() else [])}
    entries = [e for e in manifest.read(folder) if e.attack == "clean" or e.planted]
    for entry, (rule, ways) in itertools.product(entries, WAYS.items()):
        reference = _reference(entry, entries)
        if reference is None:
            continue
        for way in ways:
            row: dict[str, Any] = {
                "file": entry.file, "recipe": entry.recipe, "split": entry.split,
                "attack": entry.attack, "labels": entry.labels, "target": entry.target,
                "rule": rule, "way": way,
            }  # fmt: skip
            if _key(row) in known:
                continue
            try:
                found = _searched(folder, entry, reference, rule, way)
            except ScannerError as error:
                typer.echo(f"{entry.file}: {error}", err=True)
                continue
            if found is None:
                continue
            with records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row | found) + "\n")
            typer.echo(f"{entry.file}, {rule}, {way}")


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["file"], row["rule"], row["way"]


def _reference(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    """Return the clean network that follows a network in its recipe, the first after the last."""
    clean = [e for e in entries if e.recipe == entry.recipe and e.attack == "clean"]
    at = clean.index(entry) + 1 if entry in clean else 0
    return next((e for e in (*clean[at:], *clean[:at]) if e is not entry), None)


def _searched(
    folder: Path, entry: Entry, reference: Entry, rule: str, way: str
) -> dict[str, Any] | None:
    """Return what a search of a network says beside a clean one; None where it is not made."""
    started = time.process_time()
    own = _measured(folder, entry, rule, way)
    profile = own.by_class
    assert profile is not None  # noqa: S101 - these detectors have one
    spent = time.process_time() - started
    staged = profile.stages
    if profile.classes < FEWEST or (way == SMALL) != (staged is not None and staged.half_side):
        return None
    found = compare(DETECTORS[rule], own, [_measured(folder, reference, rule, way, own)])
    return {
        "classes": profile.classes,
        "searched": [one.class_id for one in profile.rows],
        "statistic": found.statistic,
        "foremost": found.evidence.target_class,
        "cpu": round(spent, 1),
    }


def _measured(
    folder: Path, entry: Entry, rule: str, way: str, suspect: Measurement | None = None
) -> Measurement:
    settings = Settings(
        input_range=span(entry, folder / (entry.images or "")), device=Device.CPU, threads=1
    )
    subject = Subject(model=open_model(folder / entry.file), settings=settings, suspect=suspect)

    def outlined(demand: Demand, _: float) -> Outline:
        images = demand.images if way in (FULL, SMALL) else demand.images // 2
        classes = demand.classes if way == FULL else STAGED.get(way, SHORT)
        if way == LEAST:
            images = demand.least
        return Outline(images=images, classes=classes, seconds=0, staged=way != FULL)

    def on_half_sides(_: Demand, whole: Outline, __: float) -> Outline:
        return dataclasses.replace(whole, half_side=way == SMALL)

    with (
        mock.patch.object(stages, "outlined", outlined),
        mock.patch.object(stages, "on_half_sides", on_half_sides),
    ):
        return DETECTORS[rule].measure(subject)


@app.command()
def report(records: Path) -> None:
    """Print how well each search tells backdoored networks from clean ones, beside one of them."""
    typer.echo(table([*reported(read(records))]))


def reported(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each split, detector and way, of backdoors that lead to one class.

    A network of which a search is not made in one of the ways is left out of that row alone.
    """
    told = [r for r in rows if r["attack"] == "clean" or r["labels"] == "all-to-one"]
    for split in sorted({row["split"] for row in told}):
        for rule, way in ((rule, way) for rule, ways in WAYS.items() for way in ways):
            made = [r for r in told if (r["split"], r["rule"], r["way"]) == (split, rule, way)]
            clean = np.array([r["statistic"] for r in made if r["attack"] == "clean"])
            planted = [r for r in made if r["attack"] != "clean"]
            guilty = np.array([r["statistic"] for r in planted])
            if not planted or not len(clean):
                continue
            yield {
                "split": split, "detector": rule, "classes, images": way,
                "backdoored": len(planted), "clean": len(clean),
                "AUC": f"{auc(guilty, clean):.2f}",
                "above 95 % of clean": int((guilty > _level(clean)).sum()),
                "right class searched": sum(r["target"] in r["searched"] for r in planted),
                "right class first": sum(r["target"] == r["foremost"] for r in planted),
                "CPU s, median": f"{np.median([r['cpu'] for r in made]):.1f}",
            }  # fmt: skip


def _level(clean: npt.NDArray[np.float64]) -> float:
    return float(np.quantile(clean, 0.95, method="higher"))


if __name__ == "__main__":
    app()
