"""What each pass over a file costs as the file grows (docs/threat-model.md shows the table).

    PYTHONPATH=.:tests python -m benchmarks.costs --nodes 5000

Each pass is timed at n, 2n and 4n, by the processor's clock, the quickest of three runs. The
exponent k is that of time ~ n^k between the first and the last; 1 is linear.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx
from hostile import attacks

from scanner.detectors.graph_logic import GraphLogic
from scanner.graph.audit import checks
from scanner.graph.core import facts, flatten
from scanner.graph.layers import activations, reductions
from scanner.graph.logic import gates, unfold
from scanner.instruments.detector import Subject
from scanner.limits import Limits
from scanner.modelfile import guards, nested, parser
from scanner.modelfile.inference import infer_shapes
from scanner.modelfile.model import open_model
from scanner.modelfile.skeleton import without_weights
from scanner.settings import Device, Settings

SIZES = (1, 2, 4)
ROUNDS = 3
LARGEST_EXPONENT = 1.5  # beyond it a pass is not in proportion
LIMITS = Limits(nodes=10**7, parts=10**8)

FILES: dict[str, Callable[[int], onnx.ModelProto]] = {
    "nodes in a row": attacks.activations_in_a_row,
    "bodies beside values": lambda n: attacks.many_bodies(n // 4),
    "functions that double": lambda n: attacks.function_bomb(round(math.log2(n)) - 2),
    "gates in a row": lambda n: attacks.gates_in_a_row(20, n),
    "entries of metadata": lambda n: _with_metadata(n * 10),
}


def _with_metadata(count: int) -> onnx.ModelProto:
    model = attacks.activations_in_a_row(10)
    model.metadata_props.extend(
        onnx.StringStringEntryProto(key=str(i), value="x") for i in range(count)
    )
    return model


def passes(model: onnx.ModelProto) -> dict[str, Callable[[], object]]:
    """Return each pass, ready to run on one model."""
    data = model.SerializeToString()
    flat = flatten.flatten(model)
    light = without_weights(flat)
    flow = unfold.unfold(model)
    found = activations.activations(flat)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        path.write_bytes(data)
        opened = open_model(path, limits=LIMITS)
    subject = Subject(model=opened, settings=Settings(device=Device.CPU))
    return {
        "reading": lambda: parser.parse(data, "m.onnx", LIMITS),
        "contents": lambda: nested.Contents(model),
        "guards, opening": lambda: guards.check_structure(model, LIMITS),
        "guards, before a run": lambda: guards.check_cost(model, LIMITS),
        "flatten": lambda: flatten.flatten(model),
        "inference": lambda: infer_shapes(light, follow_numbers=True),
        "facts": lambda: facts.infer(flat),
        "unfold": lambda: unfold.unfold(model),
        "gates": lambda: list(gates.observe(flow)),
        "gates, confirmed": lambda: GraphLogic().measure(subject),
        "reductions": lambda: reductions.per_channel_statistics(flat, found),
        "audit": lambda: checks.audit(model, data, Path("m.onnx"), LIMITS),
    }


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of the quickest of some runs."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def slopes(build: Callable[[int], onnx.ModelProto], nodes: int) -> dict[str, list[float]]:
    """Return the seconds of each pass at each size."""
    timed: dict[str, list[float]] = {}
    for factor in SIZES:
        for name, work in passes(build(nodes * factor)).items():
            timed.setdefault(name, []).append(seconds(work))
    return timed


def exponent(times: list[float]) -> float:
    """Return k of time ~ n^k."""
    return math.log(max(times[-1], 1e-6) / max(times[0], 1e-6), SIZES[-1] / SIZES[0])


def main() -> int:
    """Print a table as Markdown; the exit code says whether each pass is in proportion."""
    options_parser = argparse.ArgumentParser(description=__doc__)
    options_parser.add_argument("--nodes", type=int, default=5000)
    options = options_parser.parse_args()
    worst = 0.0
    for name, build in FILES.items():
        sys.stdout.write(f"\n| {name}, n = {options.nodes:,} | n | 2n | 4n | exponent |\n")
        sys.stdout.write("|---|---|---|---|---|\n")
        for step, times in slopes(build, options.nodes).items():
            slope = exponent(times)
            # What takes no time has no slope.
            worst = max(worst, slope if times[-1] > 0.05 else 0.0)  # noqa: PLR2004
            cells = " | ".join(f"{1000 * each:,.0f} ms" for each in times)
            sys.stdout.write(f"| {step} | {cells} | {slope:.2f} |\n")
            sys.stdout.flush()
    return int(worst > LARGEST_EXPONENT)


if __name__ == "__main__":
    sys.exit(main())
