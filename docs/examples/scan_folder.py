"""Rank a folder of models beside clean references: which one to look at first.

    python docs/examples/scan_folder.py MODELS CLEAN.onnx...

Prints a line per model, the most suspicious first.
"""

import sys
from pathlib import Path

from scanner import ScanResult, Settings, Verdict, scan_many

# Two detectors that find most backdoors in seconds; without `detectors` all of them run.
SETTINGS = Settings(detectors=("mm_bd", "head"))


def order(result: ScanResult) -> tuple[bool, float, float]:
    """Return the key to sort by: suspicious models first, then by rank, then by index."""
    return result.verdict is Verdict.SUSPICIOUS, result.score or 0.0, result.index or 0.0


def main() -> None:
    """Scan every ONNX file of a folder; one that cannot be measured does not stop the others."""
    folder, *references = map(Path, sys.argv[1:])
    models = sorted(folder.glob("*.onnx"))
    results = list(scan_many(models, references, SETTINGS))
    for result in sorted(results, key=order, reverse=True):
        print(f"{result.verdict.value:13} {result.model.path}: {result.reason}")
        for failure in result.failures:
            print(f"{'':13} {failure.sentence}")


if __name__ == "__main__":
    main()
