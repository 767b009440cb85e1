"""The main job against the naive way: `python -m benchmarks.scan` (README.md in this folder)."""

import argparse
import compileall
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import resnet50
from benchmarks.measure import ABOVE, BELOW, Ratio, Usage, alternate, quotients, run

FOLDER = Path(__file__).parent
SAMPLES = FOLDER.parent / "samples"
PAIRS = (("mnist-badnets", "mnist-clean"), ("fashion-mnist-badnets", "fashion-mnist-clean"))
CALL = (
    "import sys; from scanner import Settings, scan; "
    "scan(sys.argv[1], sys.argv[2:], Settings(detectors=({!r},)))"
)
IDLE = """
import scanner
from scanner import Settings, protocol, questions
from scanner.sandbox import worker

settings = Settings(detectors=({!r},))
worker.prestart(questions.PRELOAD, 2)
with worker.take(questions.PRELOAD) as one, worker.take(questions.PRELOAD) as other:
    for child in (one, other):
        child.ask(protocol.PREPARE, settings, questions.allowance_for(settings, ()))
"""
DETECTOR = "overactivation"
WITHOUT_GRADIENTS = (
    "integrity",
    "graph_logic",
    "overactivation",
    "layerwise",
    "channel_lipschitz",
    "head",
)
SECONDS = 2.0  # bar on a scan without gradients
# Bars on the naive way's CPU time over ours. They were 1.3 and 10 while one child measured suspect
# and references, and nothing was compared with the file itself (README.md in this folder).
SMALL, LARGE = 0.8, 8
VERDICTS = (0, 1, 3)  # exit codes of a scan that worked
TOLERANCE = 1e-4  # relative, on mean(S_A): the same number, by another road
THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def naive(models: Sequence[Path]) -> Usage:
    """Run the naive way on several models in one process."""
    return run([sys.executable, str(FOLDER / "naive.py"), *map(str, models)], environment=THREADS)


def python_api(models: Sequence[Path]) -> Usage:
    """Call `scanner.scan` on a suspect and its reference in a fresh interpreter."""
    return run(
        [sys.executable, "-c", CALL.format(DETECTOR), *map(str, models)], environment=THREADS
    )


def command(models: Sequence[Path], *options: str) -> Usage:
    """Run the command `scan` on a suspect and its reference."""
    suspect, reference = map(str, models)
    arguments = [suspect, "-r", reference, "-d", DETECTOR, *options]
    return run([sys.executable, "-m", "scanner", *arguments], VERDICTS, THREADS)


def without_gradients(model: Path) -> Usage:
    """Run every detector that needs no gradient on a suspect for which a baseline is shipped."""
    named = [word for rule in WITHOUT_GRADIENTS for word in ("-d", rule)]
    return run([sys.executable, "-m", "scanner", str(model), *named], VERDICTS, THREADS)


def imports(modules: str = "onnxruntime, numpy") -> Usage:
    """Import what no scan can do without."""
    return run(
        [sys.executable, "-c", f"import {modules}"], environment={"ORT_DISABLE_TELEMETRY": "1"}
    )


def check_agreement(models: Sequence[Path]) -> None:
    """Check that both ways find the same mean(S_A); else comparing their cost is pointless.

    Raises:
        SystemExit: They do not.
    """
    (finding,) = json.loads(command(models, "--format", "json").output)["findings"]
    values = finding["evidence"]["images"]
    expected = [float(line) for line in naive(models).output.split()]
    for found, wanted in zip(
        (values["suspect_mean"], values["reference_mean"]), expected, strict=True
    ):
        if abs(found - wanted) > TOLERANCE * wanted:
            raise SystemExit(f"the two ways disagree on {models}: {found} and {wanted}")


def against_naive(name: str, models: Sequence[Path], bar: float, rounds: int) -> Ratio:
    """Return the naive way's CPU time over that of the Python API."""
    check_agreement(models)
    plain, ours = alternate(lambda: naive(models), lambda: python_api(models), rounds)
    values = quotients(plain, ours, lambda usage: usage.cpu)
    return Ratio(name=f"CPU time, naive : scan(), {name}", values=values, bar=bar, side=ABOVE)


def idle(name: str, models: Sequence[Path], rounds: int) -> str:
    """Say what the naive way's CPU time is over that of two confined children that open nothing."""

    def children() -> Usage:
        return run([sys.executable, "-c", IDLE.format(DETECTOR)], environment=THREADS)

    plain, ours = alternate(lambda: naive(models), children, rounds)
    values = quotients(plain, ours, lambda usage: usage.cpu)
    return (
        f"      CPU time, naive : two children that open nothing, {name}: "
        f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}, "
        f"n = {len(values)}); no scan can have more"
    )


def against_imports(models: Sequence[Path], rounds: int) -> Ratio:
    """Return the command's wall time over that of its two largest imports."""
    ours, floor = alternate(lambda: command(models), imports, rounds)
    values = quotients(ours, floor, lambda usage: usage.wall)
    return Ratio(
        name="wall time, scan : import onnxruntime, numpy", values=values, bar=3, side=BELOW
    )


def light(model: Path, rounds: int) -> tuple[Ratio, Ratio]:
    """Return the wall time of a scan without gradients, over the runtime's import and its bar."""
    ours, floor = alternate(
        lambda: without_gradients(model), lambda: imports("onnxruntime"), rounds
    )
    values = quotients(ours, floor, lambda usage: usage.wall)
    name = f"without gradients, {model.stem}"
    seconds = tuple(usage.wall / SECONDS for usage in ours)
    return (
        Ratio(
            name=f"wall time, scan {name} : import onnxruntime", values=values, bar=5, side=BELOW
        ),
        Ratio(name=f"wall time, scan {name} : {SECONDS:g} s", values=seconds, bar=1, side=BELOW),
    )


def memory(models: Sequence[Path], rounds: int) -> Ratio:
    """Return the peak memory of 2,000 images over that of 200."""
    many, few = alternate(
        lambda: command(models, "--images", "2000"), lambda: command(models), rounds
    )
    values = quotients(many, few, lambda usage: usage.peak)
    return Ratio(name="peak memory, 2,000 : 200 images", values=values, bar=1.05, side=BELOW)


def ratios(rounds: int) -> Sequence[Ratio]:
    """Return every ratio, printing each as it is found."""
    found: list[Ratio] = []

    def add(*new: Ratio) -> None:
        found.extend(new)
        print(*new, sep="\n", flush=True)

    samples = [tuple(SAMPLES / f"{name}.onnx" for name in pair) for pair in PAIRS]
    add(against_imports(samples[0], rounds), memory(samples[0], max(1, rounds // 3)))
    for suspect in (*(suspect for suspect, _ in samples), SAMPLES / "gtsrb-badnets.onnx"):
        add(*light(suspect, rounds))
    for models in samples:
        add(against_naive(models[0].stem, models, SMALL, rounds))
        print(idle(models[0].stem, models, rounds), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        large = [resnet50.write(Path(folder) / f"resnet50-{seed}.onnx", seed) for seed in (1, 2)]
        add(against_naive("ResNet-50", large, LARGE, max(1, rounds // 3)))
    return found


def main() -> None:
    """Print every ratio with its bar; exit with 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=9, help="pairs of runs; a third as many where one takes long"
    )
    rounds = parser.parse_args().rounds
    # As an installation does; in a checkout the modules may not be compiled yet.
    compileall.compile_dir(FOLDER.parent / "scanner", quiet=1)
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    sys.exit(not all(ratio.holds for ratio in ratios(rounds)))


if __name__ == "__main__":
    main()
