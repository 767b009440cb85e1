"""The seeded driver: mutants of the corpus through one target, in a child that may die.

    PYTHONPATH=.:tests python -m fuzz.drive files --mutants 1000000 --seed 0 --log fuzz.log --keep F

Mutant n of a seed is the same everywhere. The log has a line per block; called again with the same
log, the driver goes on behind the last one. A fault is anything that `fuzz.targets` does not catch,
a death of the child, a mutant that takes longer than `SECONDS`, and a file opened for writing, or
outside the program's own folders.
"""

import argparse
import collections
import dataclasses
import json
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fuzz import corpus, mutation, targets
from fuzz.difference import fuzz_difference
from fuzz.targets import EMPTY_FOLDER

TARGETS = {**targets.TARGETS, "difference": fuzz_difference}
SECONDS = 10.0
"""After these a mutant counts as one that hangs."""
BLOCK = 5_000  # mutants for each line of the log, and each child
_MEMORY = 4 << 30  # bytes; in a scan the child's limit
_OWN = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), str(EMPTY_FOLDER))
_DEEDS = frozenset({
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link",
    "os.symlink", "os.truncate", "os.utime", "os.setxattr", "os.system", "os.exec", "os.fork",
    "os.posix_spawn", "os.kill", "subprocess.Popen", "socket.__new__", "socket.connect",
})  # fmt: skip
"""What Python's own audit events call deeds that no pass may do."""


@dataclasses.dataclass
class Tally:
    """What came of mutants.

    Attributes:
        mutants: How many were tried.
        opened: How many were let in by the guards, or are a result of a child.
        memory: How many met the memory limit.
        longest: Seconds of the longest.
        faults: Faults by their signature, with their number.
        first: The number of the first mutant of each.
    """

    mutants: int = 0
    opened: int = 0
    memory: int = 0
    longest: float = 0.0
    faults: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    first: dict[str, int] = dataclasses.field(default_factory=dict)

    def fault(self, signature: str, number: int) -> None:
        """Count a fault."""
        self.faults[signature] += 1
        self.first.setdefault(signature, number)

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        self.mutants += other.mutants
        self.opened += other.opened
        self.memory += other.memory
        self.longest = max(self.longest, other.longest)
        self.faults.update(other.faults)
        self.first = {**other.first, **self.first}


class Mutants:
    """The mutants of one seed, by number.

    Args:
        target: Which target they are for.
        seed: Of all of them.
    """

    def __init__(self, target: str, seed: int) -> None:
        self._replies = target == "replies"
        self._seeds = corpus.replies() if self._replies else corpus.files()
        if target == "difference":
            self._seeds = corpus.files("model-")
        self._seed = seed

    def __getitem__(self, number: int) -> bytes:
        mutate = mutation.mutated_reply if self._replies else mutation.mutated
        return mutate(self._seeds[number % len(self._seeds)], self._seeds, f"{self._seed}/{number}")


def run(
    target: Callable[[bytes], bool],
    mutants: Mutants,
    numbers: range,
    current: Callable[[int], None] = lambda _number: None,
) -> Tally:
    """Send mutants through a target, in this process."""
    tally, forbidden = Tally(), _watch_files()
    for number in numbers:
        current(number)
        data = mutants[number]
        start = time.monotonic()
        try:
            tally.opened += target(data)
        except MemoryError:
            tally.memory += 1
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            tally.fault(_signature(error), number)
        tally.longest = max(tally.longest, time.monotonic() - start)
        tally.mutants += 1
        while forbidden:
            tally.fault(forbidden.pop(), number)
    return tally


def _watch_files() -> list[str]:
    """Return a list to which whatever Python does to files outside is added from now on."""
    found: list[str] = []

    def hook(event: str, arguments: Sequence[Any]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            outside = isinstance(path, (str, bytes)) and not os.fsdecode(path).startswith(_OWN)
            if writes or outside:
                found.append(f"opened {path!r} ({mode})")
        elif event in _DEEDS:
            found.append(event)

    sys.addaudithook(hook)
    return found


def _signature(error: BaseException) -> str:
    """Return an error's type and the line of ours at which it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f"{os.sep}scanner{os.sep}" in f.filename] or frames
    place = "/".join(Path(own[-1].filename).parts[-3:])
    return f"{type(error).__name__} at {place}:{own[-1].lineno}"


def fuzz(name: str, seed: int, numbers: range) -> Tally:
    """Send mutants through a target in children, and survive their deaths."""
    context, total, start = multiprocessing.get_context("fork"), Tally(), numbers.start
    mutants = Mutants(name, seed)
    while start < numbers.stop:
        number = context.Value("q", start, lock=False)
        answers = context.SimpleQueue()
        child = context.Process(
            target=_child, args=(name, mutants, range(start, numbers.stop), number, answers)
        )
        child.start()
        ended = _watched(child, number)
        if not answers.empty():
            total.add(answers.get())
            break
        # What the child counted before it died is lost, but for how many they were.
        total.mutants += number.value - start + 1
        total.fault(ended, number.value)
        start = number.value + 1
    return total


def _child(name: str, mutants: Mutants, numbers: range, number: Any, answers: Any) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    answers.put(run(TARGETS[name], mutants, numbers, lambda now: setattr(number, "value", now)))


def _watched(child: Any, number: Any) -> str:
    """Wait for a child, kill it where a mutant hangs, and return how it ended."""
    last, since = number.value, time.monotonic()
    while child.is_alive():
        child.join(0.5)
        if number.value != last:
            last, since = number.value, time.monotonic()
        elif time.monotonic() - since > SECONDS:
            child.kill()
            child.join()
            return f"longer than {SECONDS:g} s"
    return f"death of the child, exit code {child.exitcode}"


def _resumed(log: Path | None) -> int:
    """Return the number of the next mutant."""
    lines = log.read_text(encoding="utf-8").splitlines() if log and log.exists() else []
    return int(json.loads(lines[-1])["next"]) if lines else 0


def main() -> int:
    """Run from the command line; the exit code says whether there was a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="a line per block, and where to go on")
    parser.add_argument("--keep", type=Path, help="folder for the first mutant of each fault")
    options = parser.parse_args()
    total, begin, processor = Tally(), time.monotonic(), _processor()
    for start in range(_resumed(options.log), options.mutants, BLOCK):
        if time.monotonic() - begin > options.seconds:
            break
        stop = min(start + BLOCK, options.mutants)
        block = fuzz(options.target, options.seed, range(start, stop))
        total.add(block)
        _note(options, block, stop, time.monotonic() - begin)
    rate = total.mutants / max(_processor() - processor, 1e-9)
    print(f"{total}\n{rate:.0f} mutants per second of processor time")
    return int(bool(total.faults))


def _processor() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _note(options: argparse.Namespace, block: Tally, stop: int, seconds: float) -> None:
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        mutants = Mutants(options.target, options.seed)
        for number in block.first.values():
            (options.keep / f"{options.target}-{options.seed}-{number}").write_bytes(
                mutants[number]
            )
    if options.log:
        line = {"next": stop, "seconds": round(seconds), **vars(block)}
        with options.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
