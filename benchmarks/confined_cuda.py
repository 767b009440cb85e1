"""Which part of the isolation keeps NVIDIA's driver from starting: on a machine with a GPU.

    python -m benchmarks.confined_cuda

Each row is a process of its own that gives up some of what a scan's child gives up (resource
limits, capabilities, files by Landlock, system calls by seccomp), starts the driver, and runs a
sample on CUDA. It says what the driver answers (`cuInit`: 0, or the number of its error), whether
the sample ran, and how many threads there were at first, before and after. In the last rows the
driver is started before anything is given up, as a scan does it.
"""

import argparse
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from scanner.errors import ScannerError
from scanner.instruments import runtime
from scanner.limits import Allowance
from scanner.sandbox import confinement, driver, landlock, seccomp
from scanner.settings import Device

SAMPLE = Path(__file__).parent.parent / "samples" / "mnist-badnets.onnx"
SHAPE = (8, 1, 28, 28)
SECONDS = 60
# What lets a process confine itself as if the driver had found a GPU.
LATER = SimpleNamespace(start=lambda: driver.Answer(0, ("a GPU",)))
# What is given up, and what takes the place of the function that does it where it is not.
PARTS: dict[str, tuple[Any, str, Any]] = {
    "limits": (confinement, "_limit_resources", lambda *_, **__: ()),
    "capabilities": (confinement, "_drop_capabilities", lambda *_: "kept"),
    "landlock": (landlock, "restrict", lambda *_: 0),
    "seccomp": (seccomp, "refuse", lambda **_: False),
}


def threads() -> int:
    """Return how many threads this process has (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("Threads:")[2].split()[0])


def tried(parts: Sequence[str], *, before: bool) -> str:
    """Give up some parts, start the driver and run a sample; return what came of it.

    Args:
        parts: Keys of `PARTS`.
        before: Start the driver first.
    """
    for name, (module, function, nothing) in PARTS.items():
        if name not in parts:
            setattr(module, function, nothing)
    counted = threads()
    if before:
        driver.start()
    else:
        setattr(confinement, "driver", LATER)  # noqa: B010 - it is not exported
    started = threads()
    allowance = Allowance(seconds=SECONDS, cuda=True, readable=(str(SAMPLE.parent),))
    confinement.confine(allowance)
    answer = driver.start().error
    try:
        session = runtime.open_session(SAMPLE.read_bytes(), Device.CUDA, 1)
        (logits,) = session.run(np.zeros(SHAPE, np.float32))
        ran = f"the sample ran, its logits add up to {logits.sum():.4g}"
    except ScannerError as error:
        ran = str(error)
    return f"cuInit {answer}; threads {counted}, {started}, {threads()}; {ran}"


def row(parts: Sequence[str], *, before: bool) -> str:
    """Return what a process of its own says of some parts."""
    command = [sys.executable, "-m", "benchmarks.confined_cuda", "--parts", ",".join(parts)]
    done = subprocess.run(
        [*command, *(["--before"] if before else [])],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    name = " + ".join(parts) or "nothing given up"
    when = ", driver started before" if before else ""
    said = done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]
    return f"{name}{when}: {said} (exit code {done.returncode})"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", help="try these alone, in this process")
    parser.add_argument("--before", action="store_true", help="start the driver first")
    chosen = parser.parse_args()
    if chosen.parts is not None:
        print(tried(list(filter(None, chosen.parts.split(","))), before=chosen.before))
        return
    for count in range(len(PARTS) + 1):
        for parts in itertools.combinations(PARTS, count):
            print(row(parts, before=False), flush=True)
    for parts in (("landlock",), ("seccomp",), tuple(PARTS)):
        print(row(parts, before=True), flush=True)


if __name__ == "__main__":
    main()
