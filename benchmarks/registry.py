"""What one more model costs in a registry, measured and remembered (README.md)."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import BELOW, Ratio, Usage, run
from benchmarks.scan import SAMPLES, THREADS, VERDICTS

DETECTORS = (
    "integrity", "graph_logic", "overactivation", "layerwise", "channel_lipschitz", "head",
)  # fmt: skip
MEASURED = 0.25  # seconds of processor time for a model beyond the first
REMEMBERED = 0.010


def fill(folder: Path, count: int) -> Path:
    """Make a registry of so many models: copies of the MNIST samples, each with bytes of its own.

    An entry of metadata at the end of the file makes each one another file to the cache.
    """
    folder.mkdir()
    samples = sorted(SAMPLES.glob("mnist-*.onnx"))
    for number in range(count):
        text = f"{number:06d}".encode()
        # ModelProto.metadata_props (field 14) of key "number", as protobuf writes it.
        entry = b"\x0a\x06number\x12\x06" + text
        data = samples[number % len(samples)].read_bytes()
        (folder / f"{number:06d}.onnx").write_bytes(data + b"\x72" + bytes([len(entry)]) + entry)
    return folder


def scan(registry: Path, cache: Path, jobs: int) -> Usage:
    """Run the command on a registry, with detectors that need no gradients."""
    chosen = [word for name in DETECTORS for word in ("-d", name)]
    command = [sys.executable, "-m", "scanner", str(registry), *chosen, "--jobs", str(jobs)]
    return run([*command, "--cache", str(cache), "--quiet"], VERDICTS, THREADS)


def beyond_the_first(one: Usage, many: Usage, count: int) -> float:
    """Return the processor time of each model beyond the first, in seconds."""
    return (many.cpu - one.cpu) / (count - 1)


def main() -> None:
    """Print the ratios; exit with 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    measured: list[float] = []
    remembered: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        one, many = fill(root / "one", 1), fill(root / "many", chosen.models)
        for number in range(chosen.rounds):
            first, all_of_them = root / f"first-{number}", root / f"all-{number}"
            for values, bar in ((measured, MEASURED), (remembered, REMEMBERED)):
                usage = scan(one, first, chosen.jobs), scan(many, all_of_them, chosen.jobs)
                values.append(beyond_the_first(*usage, chosen.models) / bar)
            shutil.rmtree(all_of_them)
    ratios = (
        Ratio(
            name=f"CPU time of one more model : {MEASURED * 1000:g} ms",
            values=measured,
            bar=1.0,
            side=BELOW,
        ),
        Ratio(
            name=f"the same from the cache : {REMEMBERED * 1000:g} ms",
            values=remembered,
            bar=1.0,
            side=BELOW,
        ),
    )
    for ratio in ratios:
        print(ratio)
    sys.exit(0 if all(ratio.holds for ratio in ratios) else 1)


if __name__ == "__main__":
    main()
