"""How far networks of one recipe mean the same by their classes, on noise.

    python -m benchmarks.agreement FOLDER...

For each recipe of populations as trained, the least correlation of the same class's logits
(`scanner.instruments.kinship`) of a clean network with the others, of a backdoored network with all
clean ones, and the greatest of networks of another data set with as many classes. A recipe is known
by what its classes mean where its clean networks agree enough for a baseline to say it.
"""

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.population import span
from benchmarks.quality import table
from scanner.comparing import AGREED
from scanner.instruments import kinship
from scanner.modelfile.model import open_model
from scanner.results import Array
from scanner.settings import Settings
from trainers import manifest
from trainers.manifest import Entry

Network = tuple[Entry, Array]


def main(folders: Annotated[list[Path], typer.Argument(help="Populations, as trained.")]) -> None:
    """Print how far networks agree with those of their recipe, and others with these."""
    networks = [network for folder in folders for network in _read(folder)]
    rows = sorted(_rows(networks), key=lambda row: row["clean, least"])
    typer.echo(table([{name: _text(value) for name, value in row.items()} for row in rows]))
    known = [row for row in rows if row["known"]]
    typer.echo(f"known by what their classes mean: {len(known)} of {len(rows)} recipes")
    for kind in ("backdoored", "of other data"):
        below, count = (sum(row[name] for row in known) for name in (f"{kind}, below", kind))
        typer.echo(f"{kind}: {below} of {count} agree with these by less than {AGREED:g}")


def _read(folder: Path) -> Iterator[Network]:
    for entry in manifest.read(folder):
        if entry.attack == "clean" or entry.planted:
            settings = Settings(input_range=span(entry, folder / (entry.images or "")))
            meaning = kinship.on_noise(open_model(folder / entry.file), settings)
            if meaning is not None:
                yield entry, meaning


def _rows(networks: Sequence[Network]) -> Iterator[dict[str, Any]]:
    recipes: dict[str, list[Network]] = collections.defaultdict(list)
    for network in networks:
        recipes[network[0].recipe].append(network)
    for name, own in recipes.items():
        clean = [meaning for entry, meaning in own if entry.attack == "clean"]
        if len(clean) > 1:
            mean = _mean(clean)
            apart = (_with(_mean([*clean[:i], *clean[i + 1 :]]), [m]) for i, m in enumerate(clean))
            backdoored = _with(mean, (m for e, m in own if e.attack != "clean"))
            dataset = own[0][0].dataset
            others = _with(mean, (m for e, m in networks if e.dataset != dataset))
            yield {
                "recipe": name, "classes": mean.shape[1],
                "clean, least": min(itertools.chain(*apart)),
                "known": kinship.shared(clean) is not None,
                "backdoored": len(backdoored), "least": min(backdoored, default=np.nan),
                "backdoored, below": sum(r < AGREED for r in backdoored),
                "of other data": len(others), "most": max(others, default=np.nan),
                "of other data, below": sum(r < AGREED for r in others),
            }  # fmt: skip


def _mean(meanings: Sequence[Array]) -> Array:
    mean = kinship.shared(meanings, least=-1.0)
    if mean is None:
        raise SystemExit("networks of one recipe have different numbers of classes")
    return mean


def _with(mean: Array, meanings: Iterable[Array]) -> list[float]:
    """Return the correlations with a recipe's classes of networks with as many classes."""
    found = (kinship.agreement_on(meaning, mean) for meaning in meanings)
    return [agreement.correlation for agreement in found if agreement is not None]


def _text(value: float | str) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    typer.run(main)
