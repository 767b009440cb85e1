"""What a repair leaves of a trained backdoor, and of the accuracy, network by network.

    python -m benchmarks.repair trained FOLDER --data DIR --csv FILE [--split test]
    python -m benchmarks.repair planted --data DIR --csv FILE
    python -m benchmarks.repair report samples/results/repair-trained-*.csv

`trained` repairs the networks that a folder's manifest lists (a zoo, or the population of
`python -m trainers population`), whose attacks it knows: the attack's own trigger is stamped on a
thousand test images before and after. The repair gets a hundred other test images, without
labels, or none, and the attacker's class, as from a scan that named it. `alone` runs each way by
itself. `planted` cuts every kind of `python -m trainers graph-backdoor` out of samples and compares
the repaired graph with the one that it was planted in. Both resume where they were stopped; the
report needs no model.
"""

import csv
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import typer

from benchmarks.quality import table
from scanner.errors import ScannerError
from scanner.graph.canonical import drawing
from scanner.judging.differences import differences
from scanner.limits import Limits
from scanner.measuring import own_range_of, ranged
from scanner.mending import repairer
from scanner.mending.forward import Forward, scorer
from scanner.modelfile.model import Model, open_model
from scanner.protocol import RepairOrder, Source
from scanner.results import Outcome, Repaired, Way
from scanner.settings import Settings
from trainers import manifest, stamping
from trainers.datasets import as_floats, load
from trainers.errors import TrainerError
from trainers.graph_backdoor import FAMILIES, plant
from trainers.manifest import Entry
from trainers.stamping import Stamped

app = typer.Typer(pretty_exceptions_enable=False)
Floats = npt.NDArray[np.float32]
_TESTED, _GIVEN = 1000, 100  # images: to measure on, and to repair with
_SEED = 7
_LOST, _LEFT = 0.02, 0.05  # what counts as a repair: accuracy lost, attack success left
_SAMPLES = Path("samples")
_TARGET = 3
_SETTINGS = {"images": True, "no images": False}


@app.command()
def trained(  # noqa: PLR0913, PLR0917 - what is repaired, how, where to
    folder: Path,
    data: Annotated[Path, typer.Option(help="Folder with the data sets.")],
    csv_file: Annotated[Path, typer.Option("--csv")],
    split: Annotated[str, typer.Option(help="Of a population: development or test.")] = "",
    attacks: Annotated[str, typer.Option(help="With commas.")] = "badnets,blended,sig,wanet",
    most: Annotated[int, typer.Option(help="Networks of each attack.")] = 1000,
    settings: Annotated[
        str, typer.Option(help="images, labels, no images; with commas.")
    ] = "images",
    seeds: Annotated[int, typer.Option(help="The lowest seed of a network.")] = 0,
    alone: Annotated[bool, typer.Option("--alone", help="Each way by itself, too.")] = False,
) -> None:
    """Repair networks whose attack is known, and measure what is left of it."""
    done = {(row["file"], row["setting"], row["way"]) for row in _read([csv_file])}
    for name in attacks.split(","):
        chosen = [e for e in manifest.read(folder) if _is_asked(e, name, split, seeds)]
        for entry in chosen[:most]:
            for setting in settings.split(","):
                for way in ("all", *(w.value for w in Way if w is not Way.CUT and alone)):
                    if (entry.file, setting, way) not in done:
                        row = _repaired(folder, entry, data, setting, way)
                        typer.echo(", ".join(map(str, row.values())), err=True)
                        _append(csv_file, row)


def _is_asked(entry: Entry, name: str, split: str, seeds: int) -> bool:
    success = entry.attack_success_rate
    return (
        entry.attack == name
        and entry.target is not None
        and success is not None
        and success >= 0.5  # noqa: PLR2004 - a backdoor at all, as in a population
        and (not split or entry.split == split)
        and entry.seed >= seeds
        and entry.form.get("dtype") == "float32"
    )


def _repaired(folder: Path, entry: Entry, data: Path, setting: str, way: str) -> dict[str, Any]:
    known = stamping.stamped(entry, data, count=_TESTED, others=_GIVEN)
    start = time.monotonic()
    model = open_model(folder / entry.file)
    row: dict[str, Any] = {
        "file": entry.file, "dataset": entry.dataset, "recipe": entry.recipe,
        "split": entry.split or "", "attack": entry.attack, "target": entry.target,
        "setting": setting, "way": way, "given": 0 if setting == "no images" else _GIVEN,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "given.npz"
        labels = {"labels": known.other_labels} if setting == "labels" else {}
        arrays: dict[str, Any] = {"images": known.others, **labels}
        np.savez(images, **arrays)
        chosen = Settings(images_file=None if setting == "no images" else str(images))
        chosen = ranged(chosen, own_range_of(model, chosen))
        order = RepairOrder(
            model=Source(name=entry.file, path=""),
            settings=chosen,
            targets=(entry.target or 0,),
        )
        before = _scores(scorer(model, chosen), known)
        try:
            ways = None if way == "all" else (Way(way),)
            found, files = repairer.repair(model, order, lambda _step: None, ways)
            written = _opened(bytes(files[""])) if files else model
            after = _scores(scorer(written, chosen), known)
            told = _told(found)
        except ScannerError as error:
            after, told = before, {"kept": "", "problem": error.problem}
    measured = dict(zip(("accuracy", "success"), before, strict=True))
    measured |= dict(zip(("accuracy after", "success after"), after, strict=True))
    return row | measured | told | {"seconds": round(time.monotonic() - start, 1)}


def _told(found: Repaired) -> dict[str, Any]:
    kept = [step.way.value for step in found.steps if step.outcome is Outcome.KEPT]
    proof = found.proofs[0]
    return {
        "kept": " + ".join(kept),
        "problem": "",
        "agreement": round(found.agreement, 4),
        "inverted before": round(proof.before, 4),
        "inverted after": round(proof.after, 4),
        "size before": proof.size_before,
        "size after": proof.size_after,
    }


def _opened(data: bytes) -> Model:
    return Model(Path("repaired.onnx"), "repaired.onnx", data, Limits())


def _scores(forward: Forward, known: Stamped) -> tuple[float, float]:
    """Return clean accuracy and attack success rate."""
    accuracy = (forward.classes(known.clean) == known.labels).mean()
    success = (forward.classes(known.stamped) == known.targets).mean()
    return round(float(accuracy), 4), round(float(success), 4)


@app.command()
def planted(
    csv_file: Annotated[Path, typer.Option("--csv")],
    data: Annotated[Path, typer.Option(help="Folder with the data sets.")],
    samples: Annotated[str, typer.Option(help="Models of samples/, by their data set.")] = "mnist",
    only: Annotated[str, typer.Option(help="Kinds or families, with commas.")] = "",
) -> None:
    """Cut every planted kind out of clean samples, and compare with what it was planted in."""
    asked = set(filter(None, only.split(",")))
    done = {(row["model"], row["setting"], row["kind"]) for row in _read([csv_file])}
    for name, setting in itertools.product(samples.split(","), _SETTINGS):
        clean = onnx.ModelProto.FromString((_SAMPLES / f"{name}-clean.onnx").read_bytes())
        test = load(name, data).test.images
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(_SEED))
        given = as_floats(test[order[:_GIVEN]]).numpy()
        for family, kinds in FAMILIES.items():
            for kind in kinds:
                if (asked and not {family, kind} & asked) or (name, setting, kind) in done:
                    continue
                row = {"model": name, "setting": setting, "family": family, "kind": kind}
                row |= _cut(clean, kind, given if _SETTINGS[setting] else None)
                typer.echo(", ".join(map(str, row.values())), err=True)
                _append(csv_file, row)


def _cut(clean: onnx.ModelProto, kind: str, given: Floats | None) -> dict[str, Any]:
    try:
        planted = plant(clean, kind, _TARGET)
    except TrainerError as error:
        return {"found": "", "left": "", "outcome": f"cannot be planted: {error.problem}"}
    model = _opened(planted.model.SerializeToString())
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "given.npz"
        if given is not None:
            np.savez(images, images=given)
        chosen = Settings(images_file=str(images) if given is not None else None)
        order = RepairOrder(
            model=Source(name=kind, path=""),
            settings=ranged(chosen, own_range_of(model, chosen)),
            structural=True,
        )
        try:
            found, files = repairer.repair(model, order, lambda _step: None)
        except ScannerError as error:
            return {"found": "", "left": "", "outcome": f"error: {error.problem}"}
    if not found.structural_before:
        outcome = "not found by the graph's detectors"
    elif not files:
        outcome = "not cut"
    else:
        repaired = onnx.ModelProto.FromString(bytes(files[""]))
        told = differences(drawing.draw(repaired), drawing.draw(clean))
        same = not told.changes and not told.layers and not told.obstacle
        outcome = "exact" if same else "cut, and something is left"
    counts = {"found": found.structural_before, "left": found.structural_after}
    return counts | {"outcome": outcome}


@app.command()
def report(files: list[Path]) -> None:
    """Print the tables of recorded rows."""
    found = list(_read(files))
    if trained_rows := [row for row in found if "success" in row]:
        typer.echo(table([*_summary(trained_rows)]))
    if cut_rows := [row for row in found if "outcome" in row]:
        typer.echo(table([*_outcomes(cut_rows)]))


def _summary(found: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each kind of networks, attack, setting and way."""
    for key in sorted(set(map(_key, found))):
        own = [r for r in found if _key(r) == key]
        split, attack, setting, way = key
        before, after = (_column(own, name) for name in ("success", "success after"))
        lost = (_column(own, "accuracy") - _column(own, "accuracy after")).round(4)  # as recorded
        good = (after <= _LEFT) & (lost <= _LOST)
        yield {
            "networks of": split,
            "attack": attack,
            "setting": setting,
            "way": way,
            "networks": len(own),
            "success before": f"{np.median(before):.1%}",
            "success after": f"{np.median(after):.1%} ({after.min():.0%} to {after.max():.0%})",
            "points lost": f"{100 * np.median(lost):.1f} (at most {100 * lost.max():.1f})",
            "at most 5 % left, 2 points lost": f"{int(good.sum())} of {len(own)}",
            "at most 20 % left": f"{int((after <= 4 * _LEFT).sum())} of {len(own)}",
        }


def _key(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    return row["split"] or "zoo", row["attack"], row["setting"], row["way"]


def _outcomes(found: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield how many kinds of each family end how."""
    for setting in _SETTINGS:
        for family in (*FAMILIES, "all"):
            own = [r for r in found if r["setting"] == setting and family in {r["family"], "all"}]
            counts = dict.fromkeys(("exact", "cut, and something is left", "not cut"), 0)
            for row in own:
                counts[row["outcome"]] = counts.get(row["outcome"], 0) + 1
            others = len(own) - sum(
                counts[n] for n in ("exact", "cut, and something is left", "not cut")
            )
            yield {
                "setting": setting,
                "family": family,
                "kinds": len(own),
                **{name: counts[name] for name in list(counts)[:3]},
                "not found or not planted": others,
            }


def _column(found: Sequence[Mapping[str, str]], name: str) -> npt.NDArray[np.float64]:
    return np.array([float(row[name]) for row in found])


def _read(files: Sequence[Path]) -> Iterator[Mapping[str, str]]:
    for path in files:
        if path.exists():
            with path.open(newline="") as file:
                yield from csv.DictReader(file)


def _append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row at once, so that a run that is stopped loses none."""
    columns = list(row)
    new = not path.exists()
    if not new:
        with path.open(newline="") as file:
            columns = next(csv.reader(file))
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    sys.exit(app())
