"""What the child process costs, and the memory of a 2 GB model (README.md)."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.measure import BELOW, Ratio, Usage, alternate, quotients, run
from benchmarks.scan import DETECTOR, PAIRS, SAMPLES, THREADS, VERDICTS

LARGE = 2 * 10**9  # bytes of external data
MIB = 500.0  # bar on the peak of a scan of the large model at its first layer
EXTRA = 0.06  # seconds that isolation may cost where they are more than the share
SHARE = 1.15


def scan(module: str, models: Sequence[Path]) -> Usage:
    """Run a module as the command, on a suspect and its references or on the suspect alone."""
    suspect, *references = map(str, models)
    named = [word for reference in references for word in ("-r", reference)]
    return run([sys.executable, "-m", module, suspect, *named, "-d", DETECTOR], VERDICTS, THREADS)


def overhead(models: Sequence[Path], rounds: int) -> tuple[Ratio, Ratio]:
    """Return the isolated command's wall time over the inline one's, and their gap over the bar."""
    isolated, inline = alternate(
        lambda: scan("scanner", models), lambda: scan("benchmarks.inline", models), rounds
    )
    values = quotients(isolated, inline, lambda usage: usage.wall)
    extra = tuple((a.wall - b.wall) / EXTRA for a, b in zip(isolated, inline, strict=True))
    return (
        Ratio(name="wall time, isolated : inline", values=values, bar=SHARE, side=BELOW),
        Ratio(name="seconds between them : 60 ms", values=extra, bar=1.0, side=BELOW),
    )


def write_large(folder: Path) -> Path:
    """Write a model of a small first layer and one matrix of 2 GB, both in external data."""
    kernel = np.random.default_rng(0).normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)
    width = LARGE // 4 // 8
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["convolved"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["convolved"], ["activated"]),
            helper.make_node("GlobalAveragePool", ["activated"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),
        ],
        "large",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", 3, 32, 32))],
        [helper.make_empty_tensor_value_info("logits")],
        [
            numpy_helper.from_array(kernel, "kernel"),
            TensorProto(name="matrix", data_type=1, dims=[8, width]),
        ],
    )
    offset = 0
    with (folder / "large.data").open("wb") as data:
        for tensor, size in zip(graph.initializer, (kernel.nbytes, LARGE), strict=True):
            data.seek(offset)
            data.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "large.data"), ("offset", offset), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            offset += size
        data.truncate(offset)
    path = folder / "large.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    return path


def large(rounds: int) -> Ratio:
    """Return the peak memory of a scan of a 2 GB model at its first layer over the bar."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_large(Path(folder))
        values = [scan("scanner", [model]).peak / MIB for _ in range(rounds)]
    return Ratio(
        name=f"peak memory of a 2 GB model : {MIB:g} MiB", values=values, bar=1.0, side=BELOW
    )


def main() -> None:
    """Print the ratios; exit with 1 if both bars on the overhead are missed, or that on memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    pair = [SAMPLES / f"{name}.onnx" for name in PAIRS[0]]
    share, extra = overhead(pair, rounds)
    memory = large(3)
    for ratio in (share, extra, memory):
        print(ratio)
    sys.exit(0 if (share.holds or extra.holds) and memory.holds else 1)


if __name__ == "__main__":
    main()
