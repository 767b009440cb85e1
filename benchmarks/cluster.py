"""How much faster a cluster of this machine's cores is than one process, and what a model costs.

Run over a registry of copies of the samples, with detectors that need no gradients: the shorter a
measurement, the more the way to a worker and back weighs (README.md).
"""

import argparse
import contextlib
import functools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from benchmarks.measure import ABOVE, Ratio
from benchmarks.registry import DETECTORS, fill
from scanner import Device, Settings, cluster, lanes, scan_many

SETTINGS = Settings(detectors=DETECTORS, device=Device.CPU)
EFFICIENCY = 0.9  # of linear


def seconds(models: Sequence[str], executor: Executor | None = None) -> float:
    """Return how long it takes to scan models, whose results are not kept.

    Raises:
        RuntimeError: One was not measured.
    """
    next(scan_many(models[:1], settings=SETTINGS, executor=executor))  # so that all have started
    start = time.monotonic()
    for result in scan_many(models, settings=SETTINGS, executor=executor):
        if result.failures:
            raise RuntimeError(result.failures[0].sentence)
    return time.monotonic() - start


@contextlib.contextmanager
def local(workers: int, example: str) -> Iterator[Executor]:
    """Run a cluster of so many workers on this machine."""
    import distributed  # noqa: PLC0415 - it has threads, and what is serial forks

    made: Any = functools.partial(distributed.LocalCluster, dashboard_address=None)
    with (
        made(n_workers=workers, threads_per_worker=1) as there,
        cluster.workers(str(there.scheduler_address), example) as executor,
    ):
        yield executor


def peak(who: int) -> float:
    """Return the largest memory of this process or of one that it has waited for, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(who).ru_maxrss / unit


def main() -> None:
    """Print the ratios; exit with 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = [str(p) for p in sorted(fill(Path(folder) / "many", chosen.models).iterdir())]
        serial = seconds(models)
        print(f"memory of a model's own process: {peak(resource.RUSAGE_CHILDREN):.0f} MiB at most")
        with lanes(1) as executor:
            helped = seconds(models, executor)
        with local(chosen.workers, models[0]) as executor:
            seconds(models[:1], executor)
            before = peak(resource.RUSAGE_SELF)
            spread = seconds(models, executor)
            each = 1024 * (peak(resource.RUSAGE_SELF) - before) / chosen.models
        print(f"memory of the process that asks and judges: {each:.0f} KiB more for each model")
    for name, alone in (("serial", serial), ("one lane", helped)):
        print(f"{name} : {alone / chosen.models:.3f} s a model, {alone / spread:.2f} x the cluster")
    ratio = Ratio(
        name=f"speed-up over serial : {chosen.workers} workers",
        values=[serial / spread / chosen.workers],
        bar=EFFICIENCY,
        side=ABOVE,
    )
    print(ratio)
    sys.exit(0 if ratio.holds else 1)


if __name__ == "__main__":
    main()
