"""What two shortcuts of a search for triggers would save, and what they would cost.

    python -m benchmarks.shortcuts batches MODEL...
    python -m benchmarks.shortcuts halve FOLDER RECORDS.jsonl [--only 24,25,clean-1]  # resumes
    python -m benchmarks.shortcuts report RECORDS.jsonl

`batches` takes the gradients of all classes in one batch, and class by class. `halve` searches each
network of a folder by Neural Cleanse on noise, at its own resolution and at half of it: a network
that pools before its last layer takes images of any size.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer

from benchmarks.quality import auc, table, text
from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.graph.gradient.backward import Objective
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.modelfile.model import open_model
from scanner.settings import Settings
from trainers import manifest

SETTINGS = Settings(input_range=(0.0, 1.0))
IMAGES, ROUNDS = 32, 7

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def batches(models: list[Path]) -> None:
    """Print the CPU time of one batch of all classes over that of a batch for each."""
    rows = []
    for path in models:
        model = differentiable(
            Subject(model=open_model(path), settings=SETTINGS), Objective.CROSS_ENTROPY
        )
        images = np.random.default_rng(0).random((IMAGES, *model.shape), dtype=np.float32)
        every = np.repeat(np.arange(model.classes), IMAGES)
        whole = np.concatenate([images] * model.classes)

        def apart() -> None:
            for target in range(model.classes):  # noqa: B023 - called before the next model
                model.evaluate(images, target)  # noqa: B023 - as above

        def together() -> None:
            model.evaluate(whole, every)  # noqa: B023 - as above

        ratios = [_seconds(together) / _seconds(apart) for _ in range(ROUNDS + 1)][1:]
        rows.append({
            "model": path.name, "classes": model.classes, "n": ROUNDS,
            "one batch : one for each": f"{statistics.median(ratios):.2f}",
            "least": f"{min(ratios):.2f}", "most": f"{max(ratios):.2f}",
        })  # fmt: skip
    typer.echo(table(rows))


def _seconds(run: Callable[[], None]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


@app.command()
def halve(
    folder: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    records: Annotated[Path, typer.Argument(help="Where the measurements go, a line each.")],
    only: Annotated[
        str, typer.Option(help="Files with one of these in their names, joined by commas.")
    ] = "",
) -> None:
    """Search each network that RECORDS does not hold yet."""
    known = {(row["file"], row["side"]) for row in (read(records) if records.exists() else [])}
    for entry in manifest.read(folder):
        if not any(part in entry.file for part in only.split(",")):
            continue
        model = onnx.load(folder / entry.file)
        sides = model.graph.input[0].type.tensor_type.shape.dim[2:]
        side = sides[0].dim_value
        for size in (side, side // 2):
            if (entry.file, size) in known:
                continue
            for dimension in sides:
                dimension.dim_value = size
            del model.graph.value_info[:]
            seconds, figures = _searched(model)
            row = {
                "file": entry.file, "attack": entry.attack, "labels": entry.labels,
                "target": entry.target, "side": size, "cpu": seconds, "fig": figures,
            }  # fmt: skip
            with records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            typer.echo(f"{entry.file}, {size} x {size}")


def _searched(model: onnx.ModelProto) -> tuple[float, list[float]]:
    """Return the CPU seconds of a search, and the mask of each class in pixels."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "model.onnx")
        onnx.save(model, path)
        started = time.process_time()
        found = NeuralCleanse().measure(Subject(model=open_model(path), settings=SETTINGS)).by_class
        assert found is not None  # noqa: S101 - it has one
        return time.process_time() - started, [row.figure or 0.0 for row in found.rows]


@app.command()
def report(records: Path) -> None:
    """Print how well the search tells backdoored networks from clean ones at each resolution."""
    typer.echo(table([*reported(read(records))]))


def reported(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each resolution.

    A network stands out by the median of its classes' masks over the smallest.
    """
    for side in sorted({row["side"] for row in rows}, reverse=True):
        here = [row for row in rows if row["side"] == side]
        clean, planted = (
            [row for row in here if (row["attack"] == "clean") == honest]
            for honest in (True, False)
        )
        named = sum(int(np.argmin(row["fig"])) == row["target"] for row in planted)
        yield {
            "resolution": f"{side} x {side}", "clean": len(clean), "backdoored": len(planted),
            "smallest mask is the attacker's": named,
            "AUC": f"{auc(_stands_out(planted), _stands_out(clean)):.2f}",
            "CPU s, median": f"{statistics.median(row['cpu'] for row in here):.1f}",
        }  # fmt: skip


def _stands_out(rows: Sequence[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.median(row["fig"]) / min(row["fig"]) for row in rows])


def read(records: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, which may be compressed."""
    return [json.loads(line) for line in text(records).splitlines()]


if __name__ == "__main__":
    app()
