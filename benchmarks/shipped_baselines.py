"""Write into shipped baselines what is read off models of their recipe, without a scan.

    python -m benchmarks.shipped_baselines samples/ zoo/small

That is the canonical graph, and what the classes mean. A baseline is found by the sizes of weights
alone, so that one of a network's models tells the graph of all: they were exported by one program
in one form. Folders should hold models of the baseline, or others that no report is made of.
"""

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from scanner.graph.canonical.drawing import draw
from scanner.instruments import kinship
from scanner.judging.population import SHIPPED, read_baseline, without_weights, write_baseline
from scanner.modelfile.model import Model, open_model
from scanner.results import CanonicalGraph
from scanner.settings import Settings

RANGE = (0.0, 1.0)  # of the pixels that the recipes take


def main(*folders: Path) -> None:
    """Look at the clean models in folders for each shipped baseline."""
    for path in sorted(SHIPPED.glob("*.json")):
        baseline = read_baseline(path)
        models = list(_clean(folders, baseline.records[0].model.architecture))
        graphs = {graph.fingerprint: graph for graph in map(_graph, models)}
        if len(graphs) != 1:
            raise SystemExit(f"{path.name}: {len(graphs)} graphs among the clean models given")
        on_noise = kinship.shared(
            [kinship.on_noise(m, Settings(input_range=RANGE)) for m in models]
        )
        filled = dataclasses.replace(baseline, graphs=(*graphs.values(),), on_noise=on_noise)
        write_baseline(filled, path)
        print(f"{path.name}: {next(iter(graphs))}, {len(models)} models")


def _clean(folders: Iterable[Path], architecture: str) -> Iterator[Model]:
    for folder in folders:
        for file in sorted(folder.glob("*-clean*.onnx")):
            model = open_model(file)
            if model.identity.architecture == architecture:
                yield model


def _graph(model: Model) -> CanonicalGraph:
    return without_weights(draw(model.complete(model.proto)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
