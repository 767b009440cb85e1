"""How the statistics by class do on networks of many recipes, beside one clean reference.

    python -m trainers population --data DIR --out FOLDER
    python -m benchmarks.population measure FOLDER RECORDS.jsonl
    python -m benchmarks.population report RECORDS.jsonl... [--csv FILE]

The unit of replication is the recipe. A suspect is compared with each clean network of its own
recipe, class by class: by how much more suspicious a class is, less the median class's; the
statistic is the largest class's. Its p-value is over recipes: p = (1 + sum over the other recipes
of the share of their clean pairs that stand out as far) / (their number + 1), after V. Vovk, A.
Gammerman, G. Shafer, "Algorithmic Learning in a Random World", Springer 2005, with recipes for
examples. `measure` resumes where it was stopped; `report` needs no model.
"""

import dataclasses
import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.quality import quality, table, write_csv
from scanner.detectors import load
from scanner.errors import ScannerError
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.settings import Settings
from trainers import manifest
from trainers.manifest import Entry

app = typer.Typer(pretty_exceptions_enable=False)
Floats = npt.NDArray[np.float64]
Truth = Mapping[str, Any]
LEVEL = 0.05
MOST_CLASSES = 50  # of a network that is searched on images too: more take minutes


class Statistic(NamedTuple):
    """One statistic by class.

    Attributes:
        rule: The detector that measures it.
        images: Whether it is measured on clean images of the recipe, not on noise.
        suspicion: From the detector's figures to a scale on which larger is more suspicious.
        by_class: Whether there is a figure for each class, and not one for the model.
    """

    rule: str
    images: bool
    suspicion: Callable[[Floats], Floats]
    by_class: bool = True


STATISTICS = {
    "neural_cleanse, noise": Statistic("neural_cleanse", False, lambda size: -np.log(size + 1)),
    "neural_cleanse, images": Statistic("neural_cleanse", True, lambda size: -np.log(size + 1)),
    "source_dependent, images": Statistic("source_dependent", True, lambda ratio: ratio, False),
    # A class that leads nowhere has no margin.
    "mm_bd": Statistic(
        "mm_bd", False, lambda margin: np.log(np.where(margin > 0, margin, np.nan) + 1)
    ),
    "head": Statistic("head", False, lambda margin: margin),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """A network of the population: its manifest row, and its classes' figures by statistic."""

    truth: Truth
    figures: Mapping[str, Sequence[float | None]]

    @property
    def clean(self) -> bool:
        """Whether the manifest says so."""
        return bool(self.truth["attack"] == "clean")

    @property
    def all_to_all(self) -> bool:
        """Whether the backdoor has no single target."""
        return bool(self.truth["labels"] == "all-to-all")


class Pair(NamedTuple):
    """A suspect beside one clean reference of its recipe."""

    recipe: str
    suspect: Network
    statistic: float
    foremost: int


@app.command()
def measure(folder: Path, records: Path) -> None:
    """Measure what RECORDS does not hold yet of the networks of a population."""
    known = {n.truth["sha256"]: n.figures for n in _networks(records)} if records.exists() else {}
    for entry in manifest.read(folder):
        missing = [name for name in STATISTICS if name not in known.get(entry.sha256, {})]
        if not missing:
            continue
        figures = {name: _figures(folder, entry, STATISTICS[name]) for name in missing}
        row = {"truth": dataclasses.asdict(entry), "figures": figures}
        with records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        typer.echo(entry.file)


def _figures(folder: Path, entry: Entry, statistic: Statistic) -> list[float | None]:
    """Return a figure per class, None where there is none; empty where it cannot be measured."""
    pixels = folder / (entry.images or "")
    settings = Settings(
        input_range=_range(entry, pixels), images_file=str(pixels) if statistic.images else None
    )
    subject = Subject(model=open_model(folder / entry.file), settings=settings)
    if statistic.images and _classes(subject) > MOST_CLASSES:
        return []
    (detector,) = load([statistic.rule])
    try:
        measured = detector.measure(subject)
    except ScannerError as error:
        typer.echo(f"{entry.file}: {statistic.rule}: {error}", err=True)
        return []
    if not statistic.by_class:
        return [measured.statistic]
    profile = measured.by_class
    assert profile is not None  # noqa: S101 - these detectors have one
    found = {row.class_id: row.figure for row in profile.rows}
    return [found.get(class_id) for class_id in range(profile.classes)]


def _classes(subject: Subject) -> int:
    size = subject.model.identity.outputs[0].shape[-1]
    return size if isinstance(size, int) else 0


def _range(entry: Entry, pixels: Path) -> tuple[float, float]:
    """Return the range of the pixels that a network takes."""
    if entry.input_range == "mean/std":  # another one for each channel: the widest
        images = np.load(pixels)["images"]
        return float(images.min()), float(images.max())
    low, high = (entry.input_range or "0..1").split("..")
    return float(low), float(high)


def _networks(path: Path) -> list[Network]:
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    found: dict[str, Network] = {}
    for row in map(json.loads, text.splitlines()):
        before = found.get(row["truth"]["sha256"])
        figures = {**(before.figures if before else {}), **row["figures"]}
        found[row["truth"]["sha256"]] = Network(truth=row["truth"], figures=figures)
    return list(found.values())


@app.command()
def report(
    records: list[Path], csv_file: Annotated[Path | None, typer.Option("--csv")] = None
) -> None:
    """Print how each statistic separates, by split and attack, and what it finds at 5 %."""
    networks = [network for path in records for network in _networks(path)]
    generator = np.random.default_rng(0)
    rows = [
        row
        for split in ("development", "test")
        for name in STATISTICS
        for row in _rows(split, name, networks, generator)
    ]
    typer.echo(table(rows))
    write_csv(csv_file, rows)


def _rows(
    split: str, name: str, networks: Sequence[Network], generator: np.random.Generator
) -> Iterator[dict[str, Any]]:
    pairs = list(_pairs(name, [n for n in networks if n.truth["split"] == split]))
    clean = [pair for pair in pairs if pair.suspect.clean]
    guilty = [pair for pair in pairs if pair.suspect.truth["planted"]]
    for attacks, chosen in (
        ("all-to-one", [pair for pair in guilty if not pair.suspect.all_to_all]),
        ("all-to-all", [pair for pair in guilty if pair.suspect.all_to_all]),
    ):
        if not chosen:
            continue
        found = quality(_by_network(chosen), _by_network(clean), generator)
        names_one = attacks == "all-to-one" and STATISTICS[name].by_class
        hits = [pair.foremost == pair.suspect.truth["target"] for pair in chosen]
        yield {
            "split": split,
            "statistic": name,
            "attacks": attacks,
            "recipes": len({pair.recipe for pair in clean}),
            "clean": len(_by_network(clean)),
            "backdoored": len(_by_network(chosen)),
            **{key: found[key] for key in ("AUC", "AUC low", "AUC high")},
            "right target": float(np.mean(hits)) if names_one else float("nan"),
            "false alarms": _share_found(clean, clean),
            "found": _share_found(chosen, clean),
        }


def _pairs(name: str, networks: Sequence[Network]) -> Iterator[Pair]:
    """Yield every network beside every other clean one of its recipe."""
    recipes = itertools.groupby(sorted(networks, key=_recipe), _recipe)
    for recipe, members in ((recipe, list(found)) for recipe, found in recipes):
        for suspect, reference in itertools.permutations(members, 2):
            if reference.clean and (standing := _standing(name, suspect, reference)) is not None:
                yield Pair(recipe, suspect, *standing)


def _recipe(network: Network) -> str:
    return str(network.truth["recipe"])


def _standing(name: str, suspect: Network, reference: Network) -> tuple[float, int] | None:
    """Return how far the foremost class stands out, and the class; None if nothing is known.

    A class that was not reached in one of the two is unknown: it enters no comparison.
    """
    own, other = (_suspicion(name, network) for network in (suspect, reference))
    if len(own) != len(other) or not np.isfinite(difference := own - other).any():
        return None
    foremost = int(np.nanargmax(difference))
    level = float(np.nanmedian(difference)) if STATISTICS[name].by_class else 0.0
    return float(difference[foremost]) - level, foremost


def _suspicion(name: str, network: Network) -> Floats:
    known = network.figures.get(name, ())  # older records lack newer statistics
    figures = np.array([np.nan if f is None else f for f in known], dtype=np.float64)
    return STATISTICS[name].suspicion(figures)


def _by_network(pairs: Sequence[Pair]) -> list[list[float]]:
    """Return the statistics of each suspect, one per reference."""
    found: dict[str, list[float]] = {}
    for pair in pairs:
        found.setdefault(pair.suspect.truth["sha256"], []).append(pair.statistic)
    return list(found.values())


def _share_found(pairs: Sequence[Pair], clean: Sequence[Pair]) -> float:
    """Return the share of pairs whose p over the other recipes is at most `LEVEL`."""
    by_recipe: dict[str, list[float]] = {}
    for pair in clean:
        by_recipe.setdefault(pair.recipe, []).append(pair.statistic)
    return float(np.mean([_p(pair, by_recipe) <= LEVEL for pair in pairs]))


def _p(pair: Pair, by_recipe: Mapping[str, Sequence[float]]) -> float:
    others = [values for recipe, values in by_recipe.items() if recipe != pair.recipe]
    shares = [float(np.mean(np.array(values) >= pair.statistic)) for values in others]
    return (1 + sum(shares)) / (len(others) + 1)


if __name__ == "__main__":
    app()
