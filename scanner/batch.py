"""Scans of many models, on any `concurrent.futures.Executor`."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

from scanner.judging.population import Baseline
from scanner.pipeline import PathLike, scan, scan_each
from scanner.results import ScanResult
from scanner.settings import Settings


def scan_many(
    models: Sequence[PathLike],
    references: Sequence[PathLike] = (),
    settings: Settings | None = None,
    *,
    baseline: Baseline | None = None,
    executor: Executor | None = None,
) -> Iterator[ScanResult]:
    """Yield the result for each model, in order; one model's failure does not stop the others.

    Args:
        models: ONNX files.
        references: Clean ONNX files that take the same input.
        settings: What to measure, on what and where.
        baseline: Clean models of the same recipe, measured before.
        executor: Where to run, such as a `ProcessPoolExecutor` or the executor of a cluster's
            client. None runs here, one model after the other, and measures the references once.

    Raises:
        ScannerError: The request itself cannot be carried out, or a reference cannot be opened.
    """
    if executor is None:
        yield from scan_each(models, references, settings, baseline=baseline)
        return
    futures = [
        executor.submit(scan, model, references, settings, baseline=baseline) for model in models
    ]
    for future in futures:
        yield future.result()
