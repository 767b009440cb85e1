"""Write into shipped baselines the canonical graph of their recipe, read off one of its models.

    python -m benchmarks.baseline_graphs samples/ zoo/small

A baseline is found by the sizes of weights alone, so that one of a network's models stands for all
of them: they were exported by one program in one form.
"""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path

from scanner.graph.canonical.drawing import draw
from scanner.judging.population import SHIPPED, read_baseline, without_weights, write_baseline
from scanner.modelfile.model import open_model
from scanner.results import CanonicalGraph


def main(*folders: Path) -> None:
    """Give each shipped baseline the graph of the clean models of its architecture in folders."""
    graphs = _graphs(folders)
    for path in sorted(SHIPPED.glob("*.json")):
        baseline = read_baseline(path)
        found = graphs.get(baseline.records[0].model.architecture, {})
        if len(found) != 1:
            raise SystemExit(f"{path.name}: {len(found)} graphs among the clean models given")
        write_baseline(dataclasses.replace(baseline, graphs=(*found.values(),)), path)
        print(f"{path.name}: {next(iter(found))}")


def _graphs(folders: Iterable[Path]) -> dict[str, dict[str, CanonicalGraph]]:
    """Return the graphs of the folders' clean models by architecture and fingerprint."""
    found: dict[str, dict[str, CanonicalGraph]] = {}
    for file in sorted(file for folder in folders for file in folder.glob("*-clean*.onnx")):
        model = open_model(file)
        graph = draw(model.complete(model.proto))
        same = found.setdefault(model.identity.architecture, {})
        same[graph.fingerprint] = without_weights(graph)
    return found


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
