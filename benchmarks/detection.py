"""How well the scanner tells backdoored models from clean ones, on a zoo with ground truth.

    python -m benchmarks.detection measure ZOO RECORDS          # once a model and detector; resumes
    python -m benchmarks.detection report RECORDS --output samples/results/detection.csv

`measure` needs the models; `report` only what was measured. The unit is the model. With a reference, a suspect meets
each clean reference of its recipe in turn and its statistic is averaged over them; intervals resample models.
"""

import csv
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from scanner import calibration, pipeline
from scanner.detectors import DETECTORS
from scanner.lineup import Lineup
from scanner.results import ModelRecord, from_json, to_json
from scanner.settings import Budget, Settings

app = typer.Typer(pretty_exceptions_enable=False)
_RESAMPLES = 2000
_LEVELS = (0.01, 0.05)


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A model of the zoo: its manifest row and what was measured on it."""

    truth: Mapping[str, Any]
    record: ModelRecord

    @property
    def clean(self) -> bool:
        """Whether the manifest says so."""
        return self.truth["attack"] == "clean"

    @property
    def recipe(self) -> str:
        """What it is exchangeable with: data set and epochs."""
        return f"{self.truth['recipe']}, {self.truth['epochs']} epochs"

    @property
    def attack(self) -> str:
        """Attack and what is not the default of it."""
        rate = self.truth.get("rate") or 0
        extra = f" {rate:.1%}" if self.truth["attack"] == "badnets" and rate < 0.05 else ""  # noqa: PLR2004 - the usual 10 %
        labels = " all-to-all" if self.truth.get("labels") == "all-to-all" else ""
        return f"{self.truth['attack']}{extra}{labels}"


@app.command()
def measure(
    zoo: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    records: Annotated[Path, typer.Argument(help="Where the measurements go, a file a model.")],
    budget: Budget = Budget.QUICK,
    epochs: int = 5,
) -> None:
    """Measure every model of a zoo that has not been measured yet, one after the other."""
    records.mkdir(parents=True, exist_ok=True)
    models = [m for m in json.loads((zoo / "manifest.json").read_text())["models"] if m["epochs"] == epochs]
    for truth in models:
        target = records / f"{truth['sha256'][:16]}-{budget.value}.json"
        known = from_json(ModelRecord, json.loads(target.read_text())["record"]) if target.exists() else None
        missing = [d.rule.id for d in DETECTORS if known is None or known.measurement(d.rule.id) is None]
        if not missing:
            continue
        settings = Settings(budget=budget, detectors=tuple(missing), timeout=1800)
        record = pipeline.calibrate([zoo / truth["file"]], settings, name="", provenance="").records[0]
        if known is not None:
            record = dataclasses.replace(record, measurements=(*known.measurements, *record.measurements))
        target.write_text(json.dumps({"truth": truth, "record": to_json(record)}))
        typer.echo(f"{truth['file']} {', '.join(missing)}", err=True)


@app.command()
def report(
    records: Annotated[Path, typer.Argument(help="What `measure` wrote.")],
    output: Annotated[Path | None, typer.Option(help="A CSV file.")] = None,
    budget: Budget = Budget.QUICK,
    seed: int = 0,
) -> None:
    """Print ROC-AUC, true positives at fixed false alarms, and the false alarms of the test itself."""
    members = [_member(path) for path in sorted(records.glob(f"*-{budget.value}.json"))]
    generator = np.random.default_rng(seed)
    rows = [row for group in _by_recipe(members) for row in _rows(group, generator)]
    for row in rows:
        typer.echo("  ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    if output is not None and rows:
        with output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _member(path: Path) -> Member:
    data = json.loads(path.read_text())
    return Member(data["truth"], from_json(ModelRecord, data["record"]))


def _by_recipe(members: Sequence[Member]) -> list[list[Member]]:
    names = sorted({m.recipe for m in members})
    return [[m for m in members if m.recipe == name] for name in names]


def _rows(group: Sequence[Member], generator: np.random.Generator) -> Iterable[dict[str, Any]]:
    clean = [m for m in group if m.clean]
    attacks = sorted({m.attack for m in group if not m.clean})
    for name, score in _scores(clean):
        innocent = np.array([score(m) for m in clean])
        for attack in attacks:
            guilty = np.array([score(m) for m in group if m.attack == attack])
            if np.isfinite(guilty).all() and np.isfinite(innocent).all():
                yield {"recipe": group[0].recipe, "statistic": name, "attack": attack, **_quality(guilty, innocent, generator)}


def _scores(clean: Sequence[Member]) -> list[tuple[str, Callable[[Member], float]]]:
    """Return what is asked of each detector: without a reference, and the mean over single clean references."""
    found: list[tuple[str, Callable[[Member], float]]] = []
    for detector in DETECTORS:
        rule = detector.rule.id

        def alone(member: Member, rule: str = rule) -> float:
            measurement = member.record.measurement(rule)
            return np.nan if measurement is None or measurement.statistic is None else measurement.statistic

        def beside_one(member: Member, detector: Any = detector) -> float:
            return float(np.mean(_single_references(member, clean, detector)))

        found += [(f"{rule}, no reference", alone), (f"{rule}, one reference", beside_one)]
    return found


def _single_references(member: Member, clean: Sequence[Member], detector: Any) -> list[float]:
    values = []
    for reference in clean:
        if reference.record.model.sha256 != member.record.model.sha256:
            pair = Lineup(references=(reference.record,), population=(), source="").compare(detector, member.record)
            values.append(np.nan if pair is None or pair[0].statistic is None else pair[0].statistic)
    return values


def _quality(
    guilty: npt.NDArray[np.float64], innocent: npt.NDArray[np.float64], generator: np.random.Generator
) -> dict[str, Any]:
    draws = [
        auc(generator.choice(guilty, len(guilty)), generator.choice(innocent, len(innocent))) for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    rates = {f"TPR at {level:.0%} FPR": _sensitivity(guilty, innocent, level) for level in _LEVELS}
    return {
        "clean": len(innocent), "backdoored": len(guilty), "AUC": auc(guilty, innocent), "AUC low": float(low),
        "AUC high": float(high), **rates,
    }  # fmt: skip


def auc(guilty: npt.NDArray[np.float64], innocent: npt.NDArray[np.float64]) -> float:
    """Return the share of pairs in which the backdoored model has the larger statistic; ties count half."""
    difference = guilty[:, None] - innocent[None, :]
    return float((np.sign(difference) / 2 + 0.5).mean())


def _sensitivity(guilty: npt.NDArray[np.float64], innocent: npt.NDArray[np.float64], level: float) -> float:
    """Return the share of backdoored models above all but `level` of the clean ones."""
    threshold = np.quantile(innocent, 1 - level, method="higher")
    return float((guilty > threshold).mean())


if __name__ == "__main__":
    sys.exit(app())
