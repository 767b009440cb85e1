"""Start a scan: the child process first, then the command line.

So the child imports ONNX Runtime while this process reads its options.
"""

import gc
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from scanner.sandbox import worker

_NO_CHILD = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})
# Commands that need no child, or start one when they know for what.
_NO_MODEL = frozenset({"report", "compare", "check", "config"})
# Then lanes start the children, here or elsewhere.
_MANY = frozenset({"-", "-j", "--jobs", "--cache", "--scheduler"})
_REFERENCES = frozenset({"--reference", "-r"})
_DETECTORS = Path(__file__).parent / "detectors"
_SCREENS = "inputs"  # the command that runs filters, and no detector


def main() -> None:
    """Run the command `scan`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `ending` can say it without a trace
    arguments = sys.argv[1:]
    reads = (
        arguments
        and arguments[0] not in _NO_MODEL
        and not (_NO_CHILD | _MANY) & set(arguments)
        and not os.path.isdir(arguments[0])  # noqa: PTH112 - Path.is_dir may raise
    )
    if reads and "_SCAN_COMPLETE" not in os.environ:
        # References are measured in a child of their own.
        count = 2 if _REFERENCES & set(arguments) else 1
        worker.prestart(preload(arguments), count)
    # Imports make many objects and little garbage: the collector would walk all of them over and
    # over, and once more as the interpreter ends.
    gc.disable()
    from scanner.cli.exits import ending  # noqa: PLC0415 - after the child has started

    status = ending(_command_line)
    gc.freeze()
    sys.exit(status)


def _command_line() -> int:
    from scanner.cli.main import run  # noqa: PLC0415 - after the child has started

    gc.freeze()
    gc.enable()
    return run()


def preload(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the modules that a scan will need, as far as its options tell at a glance.

    These are the detectors that it names, or all of them.
    """
    if arguments[:1] == [_SCREENS]:
        return ("scanner.examine_inputs",)
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
