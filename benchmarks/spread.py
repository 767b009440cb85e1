"""How far one class leads the others, in their spreads: a statistic that no verdict has yet.

    python -m benchmarks.spread samples/results/population-amd-epyc-1.32.0.jsonl.gz

Each network is set beside every clean network of its recipe, one at a time. With d_k what a
detector's comparison says of class k, and t the class with the largest, the lead is

    (d_t - median d) / (standard deviation of d_k over k != t, + LEAST).

Networks of an unsteady recipe differ in all classes; a backdoor moves one. Printed is how far clean
networks go, and how many of the backdoored ones go further than `FAR`.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks.population import DETECTORS, Network, read
from benchmarks.quality import table
from scanner.judging.comparison import compare

LEAST = 0.05  # of a log-ratio, or of a standard deviation
FAR = 3.0
FEWEST = 5  # classes, of which four have a spread


def main(records: list[Path]) -> None:
    """Print the lead of clean and of backdoored networks, by detector, split and attack."""
    networks = [n for n in read(records) if n.clean or n.truth["planted"]]
    typer.echo(table([row for name in ("head", "mm_bd") for row in _rows(name, networks)]))


def _rows(name: str, networks: Sequence[Network]) -> Iterator[dict[str, Any]]:
    found = sorted(_leads(name, networks))
    for (split, _, kind), pairs in itertools.groupby(found, lambda pair: pair[:3]):
        leads = [lead for *_, lead in pairs]
        yield {
            "detector": name, "split": split, "networks": kind, "pairs": len(leads),
            "median": f"{np.median(leads):.2f}", "at most": f"{max(leads):.2f}",
            f"beyond {FAR:g}": f"{np.mean([lead > FAR for lead in leads]):.2f}",
        }  # fmt: skip


def _leads(name: str, networks: Sequence[Network]) -> Iterator[tuple[str, bool, str, float]]:
    """Yield split, whether it is backdoored, kind and lead of each network beside clean ones."""
    for own, other in itertools.permutations(networks, 2):
        if not other.clean or own.recipe != other.recipe:
            continue
        suspect, reference = own.measurement(name), other.measurement(name)
        if suspect is None or reference is None:
            continue
        compared = compare(DETECTORS[name], suspect, [reference])
        differences = [c.difference for c in compared.evidence.classes if c.difference is not None]
        if len(differences) >= FEWEST:
            yield own.truth["split"], not own.clean, own.kind, lead(differences)


def lead(differences: Sequence[float]) -> float:
    """Return how far the largest difference lies above the median, in spreads of the others."""
    ordered = np.sort(differences)
    return float((ordered[-1] - np.median(ordered)) / (ordered[:-1].std() + LEAST))


if __name__ == "__main__":
    typer.run(main)
