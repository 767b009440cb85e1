"""What integrity says of carried goods, and of files that carry none (docs/carried-goods.md).

    python -m benchmarks.carriers samples ~/population

Each carrier is planted with each load in a few of the models. Then every model is audited as it is.
"""

import argparse
import collections
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from scanner.errors import ModelError
from scanner.graph.audit import checks, claims
from scanner.modelfile.model import open_model
from scanner.results import Observation, Severity
from trainers.errors import TrainerError
from trainers.graph_backdoor.carriers import KINDS, LOADS, carry

HOSTS = 6
"""Models in which each carrier is planted."""


def audited(path: Path) -> tuple[Observation, ...]:
    """Return what is notable about a file, short of running it."""
    model = open_model(path)
    found = checks.audit(model.proto, model.data, path, model.limits)
    return (*found, *claims.observe(model.proto))


def planted(hosts: Iterable[Path]) -> Iterator[tuple[str, str, Severity]]:
    """Yield kind, load and severity of each carrier in each host that has room for it."""
    for host in hosts:
        model = onnx.load(host)
        for kind in KINDS:
            for load, content in LOADS.items():
                try:
                    carrier = carry(model, kind, content)
                except TrainerError:
                    continue
                found = checks.audit(carrier, carrier.SerializeToString(), host)
                yield kind, load, max((o.severity for o in found), default=Severity.NOTE)


def main() -> int:
    """Print both tables as Markdown."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folders", nargs="+", type=Path)
    files = sorted(f for folder in options.parse_args().folders for f in folder.rglob("*.onnx"))
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for kind, load, severity in planted(files[:: max(1, len(files) // HOSTS)][:HOSTS]):
        known = "noise" if load == "noise" else "known"
        counts[kind][known] += 1
        counts[kind][f"{known} named"] += severity >= Severity.WARNING
    sys.stdout.write("| place | known formats named | noise named |\n|---|---|---|\n")
    for kind, count in counts.items():
        cells = (f"{count[f'{each} named']} of {count[each]}" for each in ("known", "noise"))
        sys.stdout.write(f"| {kind} | {' | '.join(cells)} |\n")
    honest: collections.Counter[str] = collections.Counter()
    for path in files:
        try:
            honest["files"] += 1
            for code, severity in {(o.code, o.severity) for o in audited(path)}:
                honest[f"{code} ({severity.name.lower()})"] += 1
        except ModelError:
            honest["unreadable"] += 1
    sys.stdout.write("\n| honest files | count |\n|---|---|\n")
    sys.stdout.writelines(f"| {said} | {count} |\n" for said, count in honest.most_common())
    return 0


if __name__ == "__main__":
    sys.exit(main())
