"""How long whole scans take: `python -m benchmarks.pairs` (README.md in this folder).

    python -m benchmarks.pairs [--samples] [--rounds 3]

Each scan runs alone, with the default settings, and is held to a bar in seconds on the clock of two
cores. Seconds mean nothing while others use the machine: how much of it they used during a run is
measured, and a run that had less than nearly all of it is not judged. The networks for 32 x 32 and
224 x 224 have random weights (PyTorch makes the first); what is found in them does not matter.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import resnet50
from benchmarks.measure import Usage, run

SAMPLES = Path(__file__).parent.parent / "samples"
VERDICTS = (0, 1, 3)  # exit codes of a scan that worked
OTHERS = 0.1  # share of two cores that other work may have had
CORES = 2
LARGEST = 3072  # MiB of the largest process, with the limit that is set
# Seconds on the clock: of a pair of samples, of a ResNet-18 of width 64 beside one reference, of a
# ResNet-50 of 1,000 classes alone.
BARS = {"MNIST": 5, "GTSRB": 20, "ResNet-18": 180, "ResNet-50 alone": 600}


def scans(folder: Path, *, samples: bool) -> Iterator[tuple[str, Sequence[Path]]]:
    """Yield the name and the models of each scan, the suspect first."""
    for name in ("MNIST", "GTSRB"):
        yield name, [SAMPLES / f"{name.lower()}-{kind}.onnx" for kind in ("badnets", "clean")]
    if not samples:
        yield "ResNet-18", [resnet18(folder / f"18-{seed}.onnx", seed) for seed in (0, 1)]
        yield "ResNet-50 alone", [resnet50.write(folder / "50.onnx", 0)]


def resnet18(path: Path, seed: int) -> Path:
    """Write a ResNet-18 of width 64 for 32 x 32 images, with random weights."""
    import torch  # noqa: PLC0415 - for one row of a table

    from trainers.architectures import ARCHITECTURES  # noqa: PLC0415 - as above
    from trainers.export import export  # noqa: PLC0415 - as above

    torch.manual_seed(seed)
    network = ARCHITECTURES["ResNet18"]((3, 32, 32), 10, 64)
    network.train()
    with torch.no_grad():  # so that batch normalisation knows its own activations
        for _ in range(20):
            network(torch.rand(32, 3, 32, 32))
    export(network, torch.rand(8, 3, 32, 32), path)
    return path


def scanned(models: Sequence[Path]) -> tuple[Usage, float]:
    """Return what a scan cost, and the share of two cores that other work had meanwhile."""
    suspect, *references = map(str, models)
    named = [word for reference in references for word in ("-r", reference)]
    command = [sys.executable, "-m", "scanner", suspect, *named, "--memory-limit", "3GiB"]
    before = busy()
    used = run(command, VERDICTS)
    return used, max(0.0, busy() - before - used.cpu) / (CORES * used.wall)


def busy() -> float:
    """Return the seconds that all cores of this machine together have worked (Linux)."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, fields[:8])
    ticks = user + nice + system + interrupts + soft + stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def judged(name: str, runs: Sequence[tuple[Usage, float]]) -> str:
    """Return what the runs of one scan say: PASS, FAIL, or that the machine was busy."""
    cpu = statistics.median(used.cpu for used, _ in runs)
    peak = max(used.peak for used, _ in runs)
    alone = [used.wall for used, others in runs if others <= OTHERS]
    costs = f"{cpu:.1f} s of the processor, largest process {peak:.0f} MiB (n = {len(runs)})"
    if not alone:
        least = min(others for _, others in runs)
        return f"BUSY  {name}: others had {least:.0%} of the cores or more; {costs}"
    wall = statistics.median(alone)
    word = "PASS" if wall <= BARS[name] and peak <= LARGEST else "FAIL"
    return f"{word}  {name}: {wall:.1f} s (n = {len(alone)}), bar {BARS[name]}; {costs}"


def main() -> None:
    """Print a row for each scan; the exit code is 1 if a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", action="store_true", help="the small networks alone")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each scan (default: 3)")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, models in scans(Path(folder), samples=arguments.samples):
            rows.append(judged(name, [scanned(models) for _ in range(arguments.rounds)]))
            print(rows[-1], flush=True)
    sys.exit(any(row.startswith("FAIL") for row in rows))


if __name__ == "__main__":
    main()
