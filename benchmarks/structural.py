"""What the detectors that read a graph say of planted gates and of honest habits.

    python -m benchmarks.structural --data DIR --csv structural.csv

Plants every kind of `python -m trainers graph-backdoor` in samples, gives samples every honest
habit, scans all of them alone and beside the sample that they were made from, and counts. Honest
networks of other kinds (sound, text, tables) are scanned alone. With
`--data` a kind is first checked on test images, and what is no backdoor in a sample is not counted
there. `--whole` scans with every detector, as a user does, and takes an hour or two; without it the
verdict is that of structure alone.
"""

import collections
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import onnx
import typer

from benchmarks.quality import table, write_csv
from scanner import ScanResult, Settings, Verdict, scan_many
from scanner.detectors import FAMILY
from scanner.results import Severity
from trainers.errors import TrainerError
from trainers.graph_backdoor import FAMILIES, KINDS, Checked, check, plant
from trainers.graph_backdoor.habits import HABITS, adopt
from trainers.graph_backdoor.strangers import STRANGERS

_STRUCTURAL = ("integrity", "graph_logic", "dormant", "diff", "invariance", "not-the-file")
_SAMPLES = Path("samples")
_TARGET = 3
_IMAGES = 4000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One file to scan.

    Attributes:
        group: The family of a planted kind, or "habits".
        kind: Its name.
        nodes: The planted nodes, or those whose weights were changed.
        model: The model.
        checked: How it answers, where that was asked.
    """

    group: str
    kind: str
    nodes: tuple[str, ...]
    model: onnx.ModelProto
    checked: Checked | None = None


def main(
    samples: Annotated[
        str, typer.Option(help="Models of samples/, by their data set.")
    ] = "mnist,gtsrb",
    data: Annotated[
        Path | None, typer.Option(help="Folder with the data sets, to check kinds with.")
    ] = None,
    only: Annotated[str, typer.Option(help="Kinds, habits or families, with commas.")] = "",
    whole: Annotated[bool, typer.Option("--whole", help="Scan with every detector.")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv")] = None,
) -> None:
    """Plant, scan, count."""
    names = tuple(name for name in _STRUCTURAL if name in FAMILY)
    settings = Settings(detectors=() if whole else names)
    parts = [part for part in only.split(",") if part]
    rows: list[dict[str, Any]] = []
    for name in samples.split(","):
        path = _SAMPLES / f"{name}-clean.onnx"
        subjects = list(_subjects(path, name, data, parts))
        for references in ((), (path,)):
            for row in _scanned(subjects, references, settings):
                rows.append({"model": name, **row})
                typer.echo(", ".join(str(value) for value in rows[-1].values()), err=True)
                write_csv(csv_file, rows)
    rows += _strangers(parts, settings)
    write_csv(csv_file, rows)
    typer.echo(table([*_counts(rows)]))
    typer.echo(table([*_by_detector(rows)]))


def _subjects(path: Path, name: str, data: Path | None, only: Sequence[str]) -> Iterator[Subject]:
    clean = onnx.ModelProto.FromString(path.read_bytes())
    images = _images(name, data)
    for family, kinds in FAMILIES.items():
        for kind in kinds:
            if only and not {family, kind} & set(only):
                continue
            try:
                planted = plant(clean, kind, _TARGET)
            except TrainerError as error:
                typer.echo(f"{name}, {kind}: {error}", err=True)
                continue
            checked = None if images is None else check(clean, planted, _TARGET, images)
            if checked is not None and not checked.passes:
                typer.echo(f"{name}, {kind}: no backdoor here, {checked}", err=True)
                continue
            nodes = (*planted.test, *planted.gate, *planted.changed)
            yield Subject(
                group=family, kind=kind, nodes=nodes, model=planted.model, checked=checked
            )
    for habit in HABITS:
        if not only or {"habits", habit} & set(only):
            yield Subject(group="habits", kind=habit, nodes=(), model=adopt(clean, habit))


def _strangers(only: Sequence[str], settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield a row for each honest network of another kind; none of them has a reference."""
    subjects = [
        Subject(group="strangers", kind=name, nodes=(), model=build())
        for name, build in STRANGERS.items()
        if not only or {"strangers", name} & set(only)
    ]
    for row in _scanned(subjects, (), settings):
        yield {"model": "its own", **row}


def _images(name: str, data: Path | None) -> Any:
    if data is None:
        return None
    from trainers.datasets import as_floats, load  # noqa: PLC0415 - imports torch

    return as_floats(load(name, data).test.images[:_IMAGES]).numpy()


def _scanned(
    subjects: Sequence[Subject], references: Sequence[Path], settings: Settings
) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{place}.onnx" for place in range(len(subjects))]
        for subject, path in zip(subjects, paths, strict=True):
            path.write_bytes(subject.model.SerializeToString())
        start = time.perf_counter()
        results = scan_many(paths, references, settings)
        for subject, result in zip(subjects, results, strict=True):
            seconds = time.perf_counter() - start
            yield {
                "reference": bool(references),
                **_row(subject, result),
                "seconds": round(seconds, 2),
            }
            start = time.perf_counter()


def _row(subject: Subject, result: ScanResult) -> dict[str, Any]:
    flagged = [f.rule.id for f in result.findings if f.verdict is Verdict.SUSPICIOUS]
    seen = [o for f in result.findings for o in f.observations if o.severity >= Severity.WARNING]
    named = " ".join(node for observation in seen for node in observation.nodes)
    found = [node for node in subject.nodes if node in named]
    return {
        "family": subject.group,
        "kind": subject.kind,
        "kept": round(subject.checked.kept, 4) if subject.checked else "",
        "flipped": round(subject.checked.flipped, 4) if subject.checked else "",
        "verdict": result.verdict.value,
        "flagged by": " ".join(flagged),
        "seen": " ".join(sorted({o.code for o in seen})),
        "nodes named": round(len(found) / len(subject.nodes), 2) if subject.nodes else "",
        "failures": " ".join(failure.rule or "" for failure in result.failures),
    }


def _counts(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each sample and way to scan: planted kinds by family, and habits."""
    for group in ("planted", *FAMILIES, "habits", "strangers"):
        for model, reference in sorted({(row["model"], row["reference"]) for row in rows}):
            own = [
                row
                for row in rows
                if (row["model"], row["reference"]) == (model, reference)
                and (row["family"] == group or (group == "planted" and row["kind"] in KINDS))
            ]
            if own:
                yield {
                    "what": group,
                    "model": model,
                    "reference": "yes" if reference else "no",
                    "files": len(own),
                    "suspicious": sum(row["verdict"] == "suspicious" for row in own),
                    "inconclusive": sum(row["verdict"] == "inconclusive" for row in own),
                    "clean": sum(row["verdict"] == "clean" for row in own),
                    "all nodes named": sum(row["nodes named"] == 1 for row in own),
                    "seconds": sum(row["seconds"] for row in own) / len(own),
                }


def _by_detector(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield how many planted kinds and honest files each detector flags, over all samples."""
    flags = collections.Counter[tuple[str, bool, str]]()
    files = collections.Counter[tuple[bool, str]]()
    for row in rows:
        what = "planted" if row["kind"] in KINDS else "honest"
        files[row["reference"], what] += 1
        for detector in row["flagged by"].split():
            flags[detector, row["reference"], what] += 1
    for detector in FAMILY:
        for reference, what in sorted(files):
            if flags[detector, reference, what]:
                yield {
                    "detector": detector,
                    "reference": "yes" if reference else "no",
                    "what": what,
                    "flagged": flags[detector, reference, what],
                    "of": files[reference, what],
                }


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
