"""Start a scan: the child first, so that it imports ONNX Runtime while this side reads options."""

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from scanner.sandbox import worker

_NO_CHILD = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})
_DETECTORS = Path(__file__).parent / "detectors"


def main() -> None:
    """Run the command `scan`."""
    arguments = sys.argv[1:]
    if arguments and "_SCAN_COMPLETE" not in os.environ and not _NO_CHILD & set(arguments):
        worker.prestart(preload(arguments))
    from scanner.cli.main import run  # noqa: PLC0415 - the child starts first

    run()


def preload(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the modules that a scan will need: those of the detectors it names, or of all.

    This is only a first look at the options; what they really ask for is decided later.
    """
    named = {
        name for option, name in itertools.pairwise(arguments) if option in {"-d", "--detector"}
    }
    files = sorted(path.stem for path in _DETECTORS.glob("[!_]*.py"))
    return (
        "scanner.examine",
        *(f"scanner.detectors.{name}" for name in files if not named or name in named),
    )


if __name__ == "__main__":
    main()
