"""The command `scan` as a person types it, in a process of its own."""

import os
import subprocess
import sys

Run = subprocess.CompletedProcess[str]


def scan(*arguments: object, **environment: str) -> Run:
    """Run the command with arguments, and with environment variables besides the present ones."""
    return subprocess.run(
        [sys.executable, "-m", "scanner", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


def said(run: Run) -> str:
    """Return what a run printed on both streams, without line breaks and frames."""
    return " ".join((run.stderr + run.stdout).replace("│", " ").split())
