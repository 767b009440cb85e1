"""What another scanner says of the same files (README.md).

modelaudit looks for code, operators and metadata that are known to be unsafe, not for what weights
have learnt, so its silence on a trained backdoor is no fault. What can be compared are its alerts
on clean files and on graph backdoors. It is installed by the user, outside this project's
environment.
"""

import collections
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.quality import table

_WORKED = (0, 1)  # its exit codes: nothing found, something found


def main(
    zoos: Annotated[
        list[Path], typer.Argument(metavar="ZOO", help="Folders with manifest.json and models.")
    ],
    modelaudit: Annotated[Path, typer.Option(help="The installed command.")] = Path("modelaudit"),
) -> None:
    """Count its alerts by severity for clean files, and for each attack."""
    files: dict[str, list[Path]] = collections.defaultdict(list)
    for zoo in zoos:
        for model in json.loads((zoo / "manifest.json").read_text())["models"]:
            files[model["attack"]].append(zoo / model["file"])
    version = subprocess.run(
        [modelaudit, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = [_row(attack, paths, modelaudit) for attack, paths in sorted(files.items())]
    typer.echo(f"{version}\n\n{table(rows)}")


def _row(attack: str, paths: Sequence[Path], modelaudit: Path) -> dict[str, Any]:
    alerts = [list(_alerts(path, modelaudit)) for path in paths]
    kinds = collections.Counter(kind for found in alerts for kind in found)
    return {
        "attack": attack,
        "files": len(paths),
        "files with an alert": sum(map(bool, alerts)),
        "alerts": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none",
    }


def _alerts(path: Path, modelaudit: Path) -> Iterator[str]:
    """Yield an alert's severity and check, for all but informational ones."""
    command = [str(modelaudit), "scan", "--format", "json", str(path)]
    # It reports home otherwise, and waits for an answer.
    environment = {**os.environ, "PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1"}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if answer.returncode not in _WORKED:
        yield f"scan that ended with exit code {answer.returncode}"
        return
    for issue in json.loads(answer.stdout)["issues"]:
        if issue["severity"] not in {"info", "debug"}:
            kind = issue.get("type") or issue.get("rule_code") or "unnamed"
            yield f"{issue['severity']} ({kind})"


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
