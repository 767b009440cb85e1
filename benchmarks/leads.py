"""How far one class leads the others, in their spreads (`scanner.judging.recipes.lead`).

    python -m benchmarks.leads samples/results/population-amd-epyc-1.32.0.jsonl.gz

By each detector that needs no images, of each network of five classes or more: alone, and beside
every clean network of its recipe, one at a time. FAR is what clean networks of the development
recipes reach at most, but for the recipe that reaches furthest. Printed is how far networks lead,
and how many of them further than that.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks.population import DETECTORS, Network, reach, read
from benchmarks.quality import table
from scanner.judging.comparison import compare
from scanner.judging.recipes import lead

NAMES = ("head", "mm_bd")


def main(records: list[Path]) -> None:
    """Print the leads of clean and of backdoored networks, by detector, split and attack."""
    networks = [n for n in read(records) if n.clean or n.truth["planted"]]
    rows = [_rows(name, networks, references) for name in NAMES for references in (0, 1)]
    typer.echo(table(list(itertools.chain(*rows))))


def _rows(name: str, networks: Sequence[Network], references: int) -> Iterator[dict[str, Any]]:
    found = list(_leads(name, networks, references))
    known = [(n, own) for n, own in found if n.clean and n.truth["split"] == "development"]
    far = reach(known)
    groups: dict[tuple[str, bool, str], list[float]] = {}
    for network, own in found:
        key = (network.truth["split"], not network.clean, network.kind)
        groups.setdefault(key, []).append(own)
    for (split, _, kind), leads in sorted(groups.items()):
        yield {
            "detector": name, "references": references, "split": split, "networks": kind,
            "leads": len(leads), "median": f"{np.median(leads):.2f}",
            "at most": f"{max(leads):.2f}", "FAR": f"{far:.2f}",
            "beyond": f"{np.mean([own > far for own in leads]):.2f}",
        }  # fmt: skip


def _leads(
    name: str, networks: Sequence[Network], references: int
) -> Iterator[tuple[Network, float]]:
    """Yield each network's lead, beside each choice of clean ones of its recipe."""
    for network in networks:
        own = network.measurement(name)
        alike = [n for n in networks if n.clean and n.recipe == network.recipe and n is not network]
        measured = [m for n in alike if (m := n.measurement(name)) is not None]
        for chosen in itertools.combinations(measured, references):
            led = None if own is None else lead(compare(DETECTORS[name], own, chosen), references)
            if led is not None:
                yield network, led[1]


if __name__ == "__main__":
    typer.run(main)
