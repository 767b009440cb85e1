"""Large networks: does a search of a few classes find what a search of all does.

    python -m benchmarks.large rank FOLDER RANKS.csv
    python -m benchmarks.large staged RANKS.csv RECORDS.jsonl...

`rank` ranks the classes of each network of a population without a search
(`scanner.instruments.shortlist`). `staged` says where the classes of the backdoors stand, and
compares the search of all classes, as recorded, with what it would have been worth had it come to
the classes alone that a search in stages chooses. docs/large-networks.md shows the tables. What
searches in stages find is measured by `benchmarks.staged`, what whole scans cost by
`benchmarks.pairs`.
"""

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import typer

from benchmarks.population import DETECTORS, STATISTICS, Network, read, span
from benchmarks.quality import auc, table
from scanner.errors import ScannerError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import shortlist
from scanner.instruments.detector import Ranking, Subject
from scanner.instruments.differentiable import differentiable
from scanner.instruments.stages import SHORT, drawn
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.results import ByClass, Measurement
from scanner.settings import Device, Settings
from trainers import manifest

app = typer.Typer(pretty_exceptions_enable=False)
SEARCH = "neural_cleanse, noise"
FEWEST = 10  # classes of a network of which it is asked
MANY = 20
FIRST = (1, 3, 6, 10)
ALL = 0  # stands for a search of all classes
COUNTS = (4, SHORT, 12, ALL)
Ranks = Mapping[str, Sequence[int]]


@app.command()
def rank(folder: Path, output: Path) -> None:
    """Rank the classes of every network without a search, with short ascents and without."""
    rows = []
    for entry in manifest.read(folder):
        settings = Settings(
            input_range=span(entry, folder / (entry.images or "")), device=Device.CPU, threads=1
        )
        subject = Subject(model=open_model(folder / entry.file), settings=settings)
        try:
            model = differentiable(subject, Objective.CROSS_ENTROPY)
            if model.classes < FEWEST:
                continue
            found = shortlist.ranking(subject, model, model.classes)
            subject.rankings.clear()
            without = shortlist.ranking(subject, model, 0)
        except ScannerError as error:
            typer.echo(f"{entry.file}: {error}", err=True)
            continue
        rows.append([entry.sha256, _written(found), _written(without)])
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("sha256", "with ascents", "without"), *rows])


def _written(ranking: Ranking) -> str:
    return " ".join(map(str, ranking.classes))


@app.command()
def staged(ranks: Path, records: list[Path]) -> None:
    """Print how often a shortlist holds the target, and what a search of it is worth."""
    networks = [n for n in read(records) if n.clean or n.truth["planted"]]
    with_ascents, without = _ranks(ranks)
    for many in (True, False):
        chosen = [n for n in networks if (n.classes >= MANY) == many and n.classes >= FEWEST]
        typer.echo(f"\n{'20 classes and more' if many else '10 classes'}\n")
        rows = [
            _placed(name, split, found, chosen)
            for name, found in (("with ascents", with_ascents), ("without", without))
            for split in ("development", "test")
        ]
        typer.echo(table(rows) + "\n")
        separated = [
            _separated(split, count, with_ascents, chosen)
            for split in ("development", "test")
            for count in COUNTS
        ]
        typer.echo(table(separated))


def _ranks(path: Path) -> tuple[Ranks, Ranks]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    one, other = (
        {row["sha256"]: tuple(map(int, row[name].split())) for row in rows}
        for name in ("with ascents", "without")
    )
    return one, other


def _aimed(networks: Sequence[Network]) -> Iterator[Network]:
    """Yield networks whose backdoor leads to one class."""
    for network in networks:
        if network.truth["target"] is not None and network.kind != "all-to-all":
            yield network


def _placed(name: str, split: str, ranks: Ranks, networks: Sequence[Network]) -> dict[str, object]:
    """Return in how many networks the target is among the first classes."""
    aimed = [n for n in _aimed(networks) if n.truth["split"] == split]
    places = [
        1 + ranks[sha].index(n.truth["target"])
        for n in aimed
        if (sha := n.truth["sha256"]) in ranks
    ]
    among = {f"first {most}": sum(place <= most for place in places) for most in FIRST}
    return {"ranked": name, "split": split, "networks": len(places), **among}


def _separated(
    split: str, count: int, ranks: Ranks, networks: Sequence[Network]
) -> dict[str, object]:
    """Return how well a search of so many classes separates, beside one clean network."""
    guilty, innocent, named = list[float](), list[float](), list[bool]()
    ordered = sorted((n for n in networks if n.truth["split"] == split), key=_recipe)
    for _, group in itertools.groupby(ordered, _recipe):
        members = [n for n in group if n.truth["sha256"] in ranks]
        clean = [n for n in members if n.clean]
        for network in [*clean, *_aimed(members)]:
            pairs = [
                pair
                for other in clean
                if other is not network and (pair := _beside(network, other, count, ranks))
            ]
            if network.clean:
                innocent += [statistic for statistic, _ in pairs]
            elif pairs:
                guilty.append(float(np.mean([statistic for statistic, _ in pairs])))
                named += [target == network.truth["target"] for _, target in pairs]
    level = float(np.quantile(innocent, 0.95, method="higher"))
    return {
        "split": split,
        "searched": count or "all",
        "backdoored": len(guilty),
        "clean pairs": len(innocent),
        "AUC": auc(np.array(guilty), np.array(innocent)),
        "95 % of clean below": level,
        "backdoored above": float(np.mean(np.array(guilty) > level)),
        "right class": float(np.mean(named)),
    }


def _recipe(network: Network) -> str:
    return network.recipe


def _beside(
    network: Network, other: Network, count: int, ranks: Ranks
) -> tuple[float, int | None] | None:
    """Return the statistic of a network beside another, and the class that stands out."""
    order = tuple(ranks[network.truth["sha256"]])
    ranking = Ranking(classes=order, ascents=len(order))
    few = 0 < count < len(order)
    chosen = drawn(ranking, 0, count, 0).classes if few else order
    own, theirs = (_of(n.measurement(SEARCH), chosen) for n in (network, other))
    if own is None or theirs is None:
        return None
    found = compare(DETECTORS[STATISTICS[SEARCH].rule], own, [theirs])
    return None if found.statistic is None else (found.statistic, found.evidence.target_class)


def _of(measurement: Measurement | None, classes: Sequence[int]) -> Measurement | None:
    """Return what a search of some classes alone would have measured."""
    profile = measurement.by_class if measurement else None
    if measurement is None or profile is None:
        return None
    rows = tuple(row for row in profile.rows if row.class_id in classes)
    return Measurement(
        rule=measurement.rule,
        statistic=None,
        parameters={},
        by_class=ByClass(classes=profile.classes, rows=rows),
    )


if __name__ == "__main__":
    app()
