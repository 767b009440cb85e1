"""Cost of whole commands, as ratios of alternating runs.

The machine's speed and its other load cancel out.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

BELOW, ABOVE = "at most", "at least"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one command cost, the children it waited for included.

    Attributes:
        cpu: Seconds of processor time, user and system.
        wall: Seconds on the clock.
        peak: Largest resident set of any one of its processes, in MiB.
        output: What it wrote to standard output.
    """

    cpu: float
    wall: float
    peak: float
    output: str


def run(
    command: Sequence[str],
    exits: Sequence[int] = (0,),
    environment: Mapping[str, str] | None = None,
) -> Usage:
    """Run a command and return what it cost.

    Args:
        command: The command.
        exits: Exit codes that count as success.
        environment: Variables beside the inherited ones.

    Raises:
        subprocess.CalledProcessError: It ended with another exit code.
    """
    start = time.perf_counter()  # os.times() counts whole hundredths of a second
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    assert process.stdout is not None  # noqa: S101 - opened as a pipe above
    with process.stdout:
        output = process.stdout.read()
    # wait4 tells what this one child cost; getrusage would add up all that were ever started.
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in exits:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    # ru_maxrss is in bytes on macOS, in KiB elsewhere.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Usage(
        cpu=usage.ru_utime + usage.ru_stime, wall=wall, peak=usage.ru_maxrss / unit, output=output
    )


def alternate(
    one: Callable[[], Usage], other: Callable[[], Usage], rounds: int
) -> tuple[list[Usage], list[Usage]]:
    """Run two commands alternately, `rounds` times each.

    One more round comes first, to warm the file cache, and is not counted.
    """
    pairs = [(one(), other()) for _ in range(rounds + 1)][1:]
    return [first for first, _ in pairs], [second for _, second in pairs]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Ratios of the same quantity in paired runs, and the bar they are held to.

    Attributes:
        name: What is compared.
        values: One ratio per round.
        bar: The limit on the median.
        side: `BELOW` or `ABOVE`: where the median must lie.
    """

    name: str
    values: Sequence[float]
    bar: float
    side: str

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool:
        """Whether the median is on the right side of the bar."""
        return self.median <= self.bar if self.side == BELOW else self.median >= self.bar

    def __str__(self) -> str:
        word = "PASS" if self.holds else "FAIL"
        spread = f"{min(self.values):.2f} to {max(self.values):.2f}, n = {len(self.values)}"
        return f"{word}  {self.name}: {self.median:.2f} ({spread}); bar {self.side} {self.bar:g}"


def quotients(
    numerators: Sequence[Usage], denominators: Sequence[Usage], quantity: Callable[[Usage], float]
) -> tuple[float, ...]:
    """Return the ratio of a quantity in each round."""
    return tuple(quantity(a) / quantity(b) for a, b in zip(numerators, denominators, strict=True))
