"""How well the scanner tells backdoored models from clean ones, on a zoo with ground truth.

    python -m benchmarks.detection measure ZOO RECORDS [--images-npz images.npz]     # resumes
    python -m benchmarks.detection report RECORDS --csv detection.csv --markdown detection.md
    python -m benchmarks.detection baseline RECORDS --output mnist.json

`measure` needs the models, `report` only what was measured. The unit is the model: a statistic with one reference is
taken for every pair of a suspect and a clean reference of its recipe, and intervals resample models, not pairs.
"""

import csv
import dataclasses
import itertools
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from scanner import calibration, pipeline
from scanner.detectors import FAMILY, load
from scanner.detectors.base import Detector
from scanner.lineup import Lineup
from scanner.results import ModelRecord, from_json, to_json
from scanner.settings import Budget, Settings

app = typer.Typer(pretty_exceptions_enable=False)
Scores = Callable[["Member"], list[float]]
_RESAMPLES = 1000
_LEVELS = (0.01, 0.05)
_USUAL_RATE = 0.1
_STRUCTURAL = {"integrity", "graph_logic"}  # no statistic to rank: trained backdoors are not in the graph


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A model of the zoo: its manifest row and what was measured on it."""

    truth: Mapping[str, Any]
    record: ModelRecord

    @property
    def clean(self) -> bool:
        """Whether the manifest says so."""
        return bool(self.truth["attack"] == "clean")

    @property
    def recipe(self) -> str:
        """What it is exchangeable with: data set and epochs."""
        return f"{self.truth['recipe']}, {self.truth['epochs']} epochs"

    @property
    def attack(self) -> str:
        """The attack, and its rate or labels where they are not the usual ones."""
        name, rate = str(self.truth["attack"]), float(self.truth.get("rate") or 0)
        if name == "badnets" and rate < _USUAL_RATE:
            name += f" {rate:.1%}"
        return f"{name} all-to-all" if self.truth.get("labels") == "all-to-all" else name


@app.command()
def measure(
    zoo: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    records: Annotated[Path, typer.Argument(help="Where the measurements go, a file a model.")],
    budget: Budget = Budget.QUICK,
    images_npz: Annotated[Path | None, typer.Option(help="Clean images; noise without.")] = None,
    epochs: int = 5,
) -> None:
    """Measure every model of a zoo that has not been measured yet, one after the other."""
    records.mkdir(parents=True, exist_ok=True)
    images = str(images_npz.resolve()) if images_npz else None
    for truth in json.loads((zoo / "manifest.json").read_text())["models"]:
        path = records / f"{truth['sha256'][:16]}.json"
        known = _member(path).record if path.exists() else None
        missing = tuple(rule for rule in FAMILY if known is None or known.measurement(rule) is None)
        if truth["epochs"] != epochs or not missing:
            continue
        settings = Settings(budget=budget, detectors=missing, images_file=images, timeout=3600)
        record = pipeline.calibrate([zoo / truth["file"]], settings, name="", provenance="").records[0]
        if known is not None:
            record = dataclasses.replace(record, measurements=(*known.measurements, *record.measurements))
        path.write_text(json.dumps({"truth": truth, "record": to_json(record)}))
        typer.echo(f"{truth['file']}: {', '.join(missing)}", err=True)


@app.command()
def report(
    records: Annotated[list[Path], typer.Argument(help="Folders that `measure` wrote.")],
    csv_file: Annotated[Path | None, typer.Option("--csv")] = None,
    markdown: Annotated[Path | None, typer.Option()] = None,
    seed: int = 0,
) -> None:
    """Print ROC-AUC, true positives at fixed false alarms, and the errors of the test itself."""
    members = [_member(path) for folder in records for path in sorted(folder.glob("*.json"))]
    groups = [list(group) for _, group in itertools.groupby(sorted(members, key=_key), _key)]
    generator = np.random.default_rng(seed)
    quality = [row for group in groups for row in _quality_rows(group, generator)]
    verdicts = [row for group in groups for row in _verdict_rows(group)]
    text = f"{_heading()}\n\n{_table(quality)}\n\n{_table(verdicts)}\n"
    typer.echo(text)
    if markdown is not None:
        markdown.write_text(text)
    if csv_file is not None:
        with csv_file.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(quality[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(quality)


@app.command()
def baseline(
    records: Annotated[Path, typer.Argument(help="A folder that `measure` wrote.")],
    output: Annotated[Path, typer.Option(help="The baseline file, as scan calibrate would write it.")],
    name: str = "",
    provenance: str = "not stated",
) -> None:
    """Gather the clean models of a folder into a baseline, without measuring them again."""
    members = sorted((_member(path) for path in records.glob("*.json")), key=lambda m: str(m.truth["file"]))
    clean = tuple(m.record for m in members if m.clean)
    whole = calibration.Baseline(name=name or records.name, provenance=provenance, records=clean)
    output.write_text(calibration.write_baseline(whole))
    typer.echo(f"{output}: {len(clean)} clean models")


def _member(path: Path) -> Member:
    data = json.loads(path.read_text())
    return Member(data["truth"], from_json(ModelRecord, data["record"]))


def _key(member: Member) -> tuple[str, str]:
    """Recipe, and what triggers were searched on."""
    inverted = member.record.measurement("neural_cleanse")
    return member.recipe, "noise" if inverted is None or "noise" in str(inverted.parameters["data"]) else "images"


def _quality_rows(group: Sequence[Member], generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    clean = [m for m in group if m.clean]
    for name, score in _scores(clean):
        innocent = [score(m) for m in clean]
        for attack in sorted({m.attack for m in group if not m.clean}):
            guilty = [score(m) for m in group if m.attack == attack]
            if all(itertools.chain(innocent, guilty)):
                yield {
                    "recipe": group[0].recipe, "searched on": _key(group[0])[1], "statistic": name, "attack": attack,
                    "clean": len(innocent), "backdoored": len(guilty), **_quality(guilty, innocent, generator),
                }  # fmt: skip


def _scores(clean: Sequence[Member]) -> Iterator[tuple[str, Scores]]:
    """Yield each detector without a reference, and with each single clean one."""
    for detector in load(FAMILY.keys() - _STRUCTURAL):
        yield f"{detector.rule.id}, alone", lambda m, d=detector: _alone(m, d)  # type: ignore[misc]
        yield f"{detector.rule.id}, 1 reference", lambda m, d=detector: _beside_one(m, d, clean)  # type: ignore[misc]


def _alone(member: Member, detector: Detector) -> list[float]:
    measurement = member.record.measurement(detector.rule.id)
    return [] if measurement is None or measurement.statistic is None else [measurement.statistic]


def _beside_one(member: Member, detector: Detector, clean: Sequence[Member]) -> list[float]:
    values = []
    for reference in _others(clean, member):
        pair = Lineup(references=(reference.record,), population=(), source="").compare(detector, member.record)
        if pair is not None and pair[0].statistic is not None:
            values.append(pair[0].statistic)
    return values


def _others(clean: Sequence[Member], member: Member) -> list[Member]:
    return [m for m in clean if m.record.model.sha256 != member.record.model.sha256]


def _quality(
    guilty: Sequence[Sequence[float]], innocent: Sequence[Sequence[float]], generator: np.random.Generator
) -> dict[str, Any]:
    def resampled(models: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
        return np.concatenate([models[i] for i in generator.integers(0, len(models), len(models))])

    bad, good = np.concatenate(guilty), np.concatenate(innocent)
    draws = [auc(resampled(guilty), resampled(innocent)) for _ in range(_RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    thresholds = {level: np.quantile(good, 1 - level, method="higher") for level in _LEVELS}
    return {
        "AUC": auc(bad, good), "AUC low": float(low), "AUC high": float(high),
        **{f"TPR at {level:.0%} FPR": float((bad > at).mean()) for level, at in thresholds.items()},
        "clean range": f"{good.min():.3g} to {good.max():.3g}",
        "backdoored range": f"{bad.min():.3g} to {bad.max():.3g}",
    }  # fmt: skip


def auc(guilty: npt.NDArray[np.float64], innocent: npt.NDArray[np.float64]) -> float:
    """Return the share of pairs in which the backdoored model has the larger statistic; ties count half."""
    below = np.searchsorted(np.sort(innocent), guilty, "left") + np.searchsorted(np.sort(innocent), guilty, "right")
    return float(below.mean() / (2 * len(innocent)))


def _verdict_rows(group: Sequence[Member]) -> Iterator[dict[str, Any]]:
    """Yield the share of models called suspicious by the whole scan, calibrated on the clean models that are not they.

    A clean suspect is judged by the other clean models, so that it fitted nothing.
    """
    clean = [m for m in group if m.clean]
    for attack in sorted({m.attack for m in group}):
        row: dict[str, Any] = {"recipe": group[0].recipe, "searched on": _key(group[0])[1], "models": attack}
        members = [m for m in group if m.attack == attack]
        row["n"], row["population"] = len(members), len(_others(clean, clean[0])) if clean else 0
        for references in (0, 1):
            ps = [p for m in members for p in _combined_ps(m, clean, references)]
            name = "baseline" if references == 0 else "baseline + 1 reference"
            row[f"p <= 0.05, {name}"] = float(np.mean(np.array(ps) <= 0.05 + 1e-9)) if ps else float("nan")
        yield row


def _combined_ps(member: Member, clean: Sequence[Member], references: int) -> Iterator[float]:
    """Yield the combined p-value with no reference, or with each single clean one, and the others as population."""
    others = _others(clean, member)
    for chosen in itertools.combinations(others, references):
        lineup = Lineup(
            references=tuple(m.record for m in chosen), population=tuple(m.record for m in others), source=""
        )
        pairs = [pair for d in load(calibration.COMBINED) if (pair := lineup.compare(d, member.record))]
        values = [comparison.statistic for comparison, _ in pairs if comparison.statistic is not None]
        nulls = [found.values for _, found in pairs if found is not None]
        if len(values) == len(nulls) > 0 and len({len(clean_values) for clean_values in nulls}) == 1:
            yield calibration.combined_p(values, nulls)[0]


def _heading() -> str:
    parameters = f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    return f"<!-- python -m benchmarks.detection report; {parameters} -->"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "(nothing measured)"
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(app())
