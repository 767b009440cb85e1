"""What it would save to take the gradients of all classes in one batch, not class by class.

python -m benchmarks.batches MODEL...
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import typer

from benchmarks.quality import table
from scanner.graph.gradient.backward import Objective
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.modelfile.model import open_model
from scanner.settings import Settings

SETTINGS = Settings(input_range=(0.0, 1.0))
IMAGES, ROUNDS = 32, 7


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


if __name__ == "__main__":
    typer.run(batches)
