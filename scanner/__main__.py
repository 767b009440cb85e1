"""Start a scan: the child process first, so that it imports ONNX Runtime while this one reads its options."""

import os
import sys

from scanner import worker

_NO_CHILD = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})


def main() -> None:
    """Run the command `scan`."""
    arguments = sys.argv[1:]
    if arguments and "_SCAN_COMPLETE" not in os.environ and not _NO_CHILD & set(arguments):
        worker.prestart(("scanner.examine",))
    from scanner import cli  # noqa: PLC0415 - after the child has started, which is the point

    cli.run()


if __name__ == "__main__":
    main()
