"""What `scan diff` says of networks whose relation is known.

    python -m benchmarks.diff retrained POPULATION   pairs of clean networks of one recipe
    python -m benchmarks.diff weights POPULATION     copies of them with weights changed
    python -m benchmarks.diff planted MODEL REFERENCE
    python -m benchmarks.diff resnet50               seconds for two files of 100 MB

A recipe is what comes before "-clean" in the names of the files in POPULATION.
"""

import collections
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from benchmarks import resnet50
from scanner import pipeline
from scanner.graph.canonical.drawing import draw
from scanner.judging.differences import differences
from scanner.results import Differences

Weights = npt.NDArray[Any]
Change = Callable[[str, Weights], Weights]
_MATRIX, _LARGE = 2, 64


def retrained(folder: Path) -> None:
    """Print how many ordered pairs of one recipe differ, and how their weights are related."""
    recipes = collections.defaultdict(list)
    for file in sorted(folder.glob("*.onnx")):
        recipes[file.stem.split("-clean")[0]].append(file) if "-clean" in file.stem else None
    relations: collections.Counter[str] = collections.Counter()
    for files in recipes.values():
        graphs = [draw(onnx.load(file)) for file in files]
        for one, other in itertools.permutations(range(len(files)), 2):
            found = differences(graphs[one], graphs[other])
            relations[_relation(found)] += 1
            if found.obstacle or found.changes or found.standing_out:
                print(f"DIFFERS {files[one].name} {files[other].name}: {found.obstacle}")
    print(f"{sum(relations.values())} pairs of {len(recipes)} recipes: {dict(relations)}")


def _relation(found: Differences) -> str:
    return found.weights.value if found.weights else found.obstacle


def weights(folder: Path) -> None:
    """Print how the weights of changed copies are said to be related to the originals'."""
    told: collections.Counter[tuple[str, str]] = collections.Counter()
    for file in sorted(folder.glob("*-clean-0*.onnx")):
        model = onnx.load(file)
        large = [t for t in model.graph.initializer if _is_matrix(t)]
        if large:
            own = draw(model)
            for name, change in _changes(model, large):
                found = differences(draw(_changed(model, change)), own)
                told[name, _relation(found)] += 1
    for (name, relation), count in sorted(told.items()):
        print(f"{name:28} {relation:12} {count}")


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    large = int(np.prod(tensor.dims)) > _LARGE
    return len(tensor.dims) >= _MATRIX and large and tensor.data_type == onnx.TensorProto.FLOAT


def _changes(model: onnx.ModelProto, large: list[onnx.TensorProto]) -> Iterator[tuple[str, Change]]:
    """Yield changes by name."""
    generator = np.random.default_rng(0)
    chosen = large[len(large) // 2].name
    read = {name for node in model.graph.node if node.op_type == "MatMul" for name in node.input}

    def noise(share: float) -> Change:
        return lambda _, w: w + generator.normal(0, share * float(w.std()), w.shape)

    def replace(name: str, held: Weights) -> Weights:
        rows = held.T if name in read else held
        if name == chosen:
            rows[0] = generator.normal(0, float(held.std()) + 1e-3, rows[0].shape)
        return held

    def nudge(name: str, held: Weights) -> Weights:
        if name == large[-1].name:
            held.reshape(-1)[0] += 1e-6
        return held

    yield "as it is", lambda _, w: w
    yield "float16 and back", lambda _, w: w.astype(np.float16)
    yield "one weight moved by 1e-6", nudge
    yield "one channel replaced", replace
    for share in (0.01, 0.1, 0.3):
        spread = noise(share)
        yield f"noise of {share} deviations", spread
        yield f"noise of {share}, one replaced", _both(spread, replace)


def _both(one: Change, other: Change) -> Change:
    return lambda name, held: other(name, one(name, held))


def _changed(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            held = numpy_helper.to_array(tensor).copy()
            made = np.asarray(change(tensor.name, held), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(made, tensor.name))
    return copy


def planted(model: Path, reference: Path) -> None:
    """Print for each kind of planted gate whether all nodes that it is told by are named."""
    from trainers import graph_backdoor  # noqa: PLC0415 - for this one alone

    clean, source = draw(onnx.load(reference)), onnx.load(model)
    for kind in graph_backdoor.KINDS:
        made = graph_backdoor.plant(source, kind)
        found = differences(draw(made.model), clean)
        named = {change.node.split("__")[0] for change in found.unexplained}
        missed = {*made.test, *made.gate} - named
        false = [c.node for c in found.unexplained if not c.node.startswith("planted")]
        print(f"{kind:20} missed {sorted(missed)}, besides {false}, {found.obstacle}")


def seconds() -> None:
    """Print how long two files of 100 MB take, sandbox and all."""
    with tempfile.TemporaryDirectory() as folder:
        files = [resnet50.write(Path(folder, f"{seed}.onnx"), seed) for seed in (0, 1)]
        for _ in range(3):
            start = time.monotonic()
            found = pipeline.diff(files[0], files[1])
            relation = _relation(found.differences)
            print(f"{time.monotonic() - start:.2f} s, {found.differences.nodes} nodes, {relation}")


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    commands: dict[str, Callable[..., None]] = {
        "retrained": retrained,
        "weights": weights,
        "planted": planted,
        "resnet50": seconds,
    }
    commands[what](*map(Path, paths))
