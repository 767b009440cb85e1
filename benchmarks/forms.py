"""The same network in several exports: does the verdict change?

    python -m benchmarks.forms ZOO... --csv forms.csv

A zoo holds the forms where it was trained with `--fp16`, `--int8` or `--no-fold-bn`. Every form is
scanned as a user would scan it, without a reference, beside the baseline that ships for its
architecture. Ends with exit code 1 where two forms of one network get different verdicts.
"""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.quality import table, write_csv
from scanner import Settings, scan

_NETWORK = ("recipe", "attack", "labels", "rate", "seed", "epochs")
_DETECTORS = ("neural_cleanse", "mm_bd", "head")


def main(
    zoos: Annotated[
        list[Path], typer.Argument(metavar="ZOO", help="Folders with manifest.json and models.")
    ],
    csv_file: Annotated[Path | None, typer.Option("--csv")] = None,
) -> None:
    """Scan every network of which there are several forms."""
    rows: list[dict[str, Any]] = []
    for zoo in zoos:
        models = json.loads((zoo / "manifest.json").read_text())["models"]
        for _, forms in itertools.groupby(sorted(models, key=_network), _network):
            rows += _scanned(zoo, list(forms))
    typer.echo(table(rows))
    write_csv(csv_file, rows)
    sys.exit(not all(row["same verdict"] for row in rows))


def _network(model: Mapping[str, Any]) -> list[str]:
    return [str(model[name]) for name in _NETWORK]


def _scanned(zoo: Path, forms: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each form of one network, if it has several."""
    if len(forms) == 1:
        return
    results = [scan(zoo / form["file"], settings=Settings(detectors=_DETECTORS)) for form in forms]
    same = len({result.verdict for result in results}) == 1
    for form, result in zip(forms, results, strict=True):
        found = {f.rule.id: f for f in result.findings}
        yield {
            "network": (
                f"{form['recipe']}, {form['attack']}, seed {form['seed']}, {form['epochs']} epochs"
            ),
            "form": _form(form["form"]),
            "target": form["target"],
            "verdict": result.verdict.value,
            "p": None if result.score is None else round(1 - result.score, 3),
            **{
                f"{rule} (class)": _statistic(found[rule]) if rule in found else "skipped"
                for rule in _DETECTORS
            },
            "same verdict": same,
        }


def _form(form: Mapping[str, Any]) -> str:
    return f"{form['dtype']}{'' if form['fold_bn'] else ', batch normalisation not folded'}"


def _statistic(finding: Any) -> str:
    statistic = "-" if finding.statistic is None else f"{finding.statistic:.3f}"
    return f"{statistic} ({finding.evidence.target_class})"


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
