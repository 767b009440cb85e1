"""Networks of many recipes: what a scan says of a model whose recipe nobody measured.

    python -m trainers population --data DIR --out FOLDER
    python -m benchmarks.population measure FOLDER RECORDS.jsonl
    python -m benchmarks.population ship RECORDS.jsonl...
    python -m benchmarks.population report RECORDS.jsonl... [--csv FILE]
    python -m benchmarks.population statistics RECORDS.jsonl... [--csv FILE]
    python -m benchmarks.population later RECORDS.jsonl... --among RECORDS.jsonl [--csv FILE]

The unit of replication is the recipe. Every network is set beside clean networks of its own recipe,
none, one or two, as a scan sets a suspect beside references. `ship` makes the file that judges
strangers (`scanner.judging.recipes`). `report` judges each network by that file without the recipes
that it shares something with: without its own recipe, and without its whole data set.
`statistics` says how each statistic separates by itself. `later` judges networks by other
recipes, all of which are given. `measure` resumes where it was stopped; the others need no model.
"""

import dataclasses
import itertools
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from benchmarks.quality import auc, quality, table, text, write_csv
from scanner.detectors import load
from scanner.errors import ScannerError
from scanner.instruments.detector import Subject
from scanner.judging import recipes, verdict
from scanner.judging.comparison import compare
from scanner.judging.recipes import Attack, Condition, Recipe, Recipes, Stranger
from scanner.modelfile.model import open_model
from scanner.results import ByClass, ClassRow, Comparison, Measurement, Verdict
from scanner.settings import Settings
from scanner.values import to_json
from trainers import manifest
from trainers.manifest import Entry

app = typer.Typer(pretty_exceptions_enable=False)
Truth = Mapping[str, Any]
MOST_CLASSES = 20  # of a network that is searched on images too: the time ends what has more
MANY = 100  # classes of the networks that have most
LEVELS = (0.05, 0.02)
UNREAD = {"share": 0.0, "pixels": 0.0, "moved": 0.0}  # for sentences that nobody reads here
LEAST = 0.5  # a unit is no smaller, so that no figure is divided by what no clean network reached


class Statistic(NamedTuple):
    """One statistic.

    Attributes:
        rule: The detector that measures it.
        images: Whether it is measured on clean images of the recipe, not on noise.
        by_class: Whether there is a figure for each class, and not one for the model.
    """

    rule: str
    images: bool
    by_class: bool = True


STATISTICS = {
    "neural_cleanse, noise": Statistic("neural_cleanse", images=False),
    "neural_cleanse, images": Statistic("neural_cleanse", images=True),
    "source_dependent, images": Statistic("source_dependent", images=True, by_class=False),
    "universal_perturbation, images": Statistic("universal_perturbation", images=True),
    "universal_warp, images": Statistic("universal_warp", images=True),
    "universal_perturbation, made": Statistic("universal_perturbation", images=False),
    "data_free_inversion, made": Statistic("data_free_inversion", images=False),
    "mm_bd": Statistic("mm_bd", images=False),
    "head": Statistic("head", images=False),
}


class Way(NamedTuple):
    """One way of measuring all networks; what is in it was chosen on the development recipes.

    Attributes:
        images: Whether triggers are searched for on clean images, not on noise; None where nothing
            depends on them.
        references: How many clean networks of its own recipe each is set beside.
        statistics: Which together make a network's place.
        leads: In which one class must not lead too far, and where its lead counts besides.
        classes: How many classes a network may have. Beyond 12, a contest on noise gives up some of
            them at different steps in different networks; HEAD searches for nothing.
        fewest: How many it must have. Noise falls into one class: of two, the masks of that one and
            of the other are of two kinds, and without references one always leads.
    """

    images: bool | None
    references: int
    statistics: tuple[str, ...]
    classes: int
    fewest: int = 2
    leads: tuple[str, ...] = ("head",)


_ON_OWN = ("data_free_inversion, made", "universal_perturbation, made")
_ON_NOISE = ("neural_cleanse, noise", "universal_perturbation, made")
_ON_IMAGES = tuple(name for name, one in STATISTICS.items() if one.images)


# Where there are several for one number of references, a scan takes the first of which it has all.
WAYS = (
    Way(False, 0, _ON_OWN, 12, fewest=3, leads=()),
    Way(False, 0, _ON_NOISE, 12, fewest=3, leads=()),
    *(Way(False, n, (*_ON_NOISE, "mm_bd", "head"), 12) for n in (1, recipes.MOST_REFERENCES)),
    *(Way(True, n, _ON_IMAGES, MOST_CLASSES) for n in range(recipes.MOST_REFERENCES + 1)),
    *(Way(None, n, ("head",), MANY, fewest=13) for n in (1, recipes.MOST_REFERENCES)),
)

DETECTORS = {d.rule.id: d for d in load([one.rule for one in STATISTICS.values()])}


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """A network of the population: its manifest row, and its figures by statistic."""

    truth: Truth
    figures: Mapping[str, Sequence[float | None]]

    @property
    def clean(self) -> bool:
        """Whether the manifest says so."""
        return bool(self.truth["attack"] == "clean")

    @property
    def recipe(self) -> str:
        """Its recipe's name."""
        return str(self.truth["recipe"])

    @property
    def kind(self) -> str:
        """The kind of its backdoor, in words."""
        attack = str(self.truth["attack"])
        labels = self.truth["labels"]
        if labels in {"all-to-all", "one-to-one"}:
            return str(labels)
        return {"badnets": "patch", "sig": "SIG", "wanet": "WaNet"}.get(attack, attack)

    @property
    def classes(self) -> int:
        """How many it has."""
        return max(len(own) for name, own in self.figures.items() if STATISTICS[name].by_class)

    def measurement(self, name: str) -> Measurement | None:
        """Return what a detector measured, so far as judging reads it; None where it did not."""
        figures, statistic = self.figures.get(name), STATISTICS[name]
        if not figures:
            return None
        if not statistic.by_class:
            return Measurement(
                rule=statistic.rule, statistic=figures[0], parameters={}, figures=UNREAD
            )
        rows = tuple(
            ClassRow(class_id=number, figure=figure, course=(figure,), figures=UNREAD)
            for number, figure in enumerate(figures)
        )
        profile = ByClass(classes=len(rows), rows=rows)
        return Measurement(rule=statistic.rule, statistic=None, parameters={}, by_class=profile)


@dataclasses.dataclass(frozen=True, slots=True)
class Draw:
    """A network beside references of its recipe.

    Attributes:
        network: The network.
        shown: What each detector says of the network.
        reached: How far the network stands out by each detector, by its rule's id.
        led: How far its foremost class leads, likewise.
    """

    network: Network
    shown: tuple[recipes.Shown, ...]
    reached: Mapping[str, float]
    led: Mapping[str, float]
    _found: dict[object, recipes.Furthest | None] = dataclasses.field(default_factory=dict)

    def furthest(self, among: "Reached") -> recipes.Furthest | None:
        """Return where the network stands out most.

        Most recipes that are left out leave the units as they are, so that it is asked again.
        """
        if among not in self._found:
            self._found[among] = recipes.furthest(
                self.shown, dict(among.units), among.together, dict(among.leads)
            )
        return self._found[among]


class Reached(NamedTuple):
    """What clean networks reach, as `recipes.furthest` takes it."""

    units: tuple[tuple[str, float], ...]
    together: float
    leads: tuple[tuple[str, float], ...]


def _known_names(names: list[str] | None) -> list[str] | None:
    for name in set(names or ()) - set(STATISTICS):
        quoted = ", ".join(f'"{known}"' for known in STATISTICS)
        raise typer.BadParameter(f'"{name}" is none of {quoted}')
    return names


@app.command()
def measure(
    folder: Path,
    records: Path,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A statistic; all if left out.", callback=_known_names),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the searches.")] = 0,
) -> None:
    """Measure what RECORDS does not hold yet of the networks of a population.

    A network whose backdoor did not take says nothing of either kind, and is left out.
    """
    known = {n.truth["sha256"]: n.figures for n in read([records])} if records.exists() else {}
    for entry in (e for e in manifest.read(folder) if e.attack == "clean" or e.planted):
        missing = [name for name in only or STATISTICS if name not in known.get(entry.sha256, {})]
        if not missing:
            continue
        figures = {name: _figures(folder, entry, STATISTICS[name], seed) for name in missing}
        row = {"truth": dataclasses.asdict(entry), "figures": figures}
        with records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        typer.echo(entry.file)


def _figures(folder: Path, entry: Entry, statistic: Statistic, seed: int) -> list[float | None]:
    """Return a figure per class, None where there is none; empty where it cannot be measured."""
    pixels = folder / (entry.images or "")
    settings = Settings(
        input_range=span(entry, pixels),
        images_file=str(pixels) if statistic.images else None,
        seed=seed,
    )
    subject = Subject(model=open_model(folder / entry.file), settings=settings)
    if statistic.images and _classes(subject) > MOST_CLASSES:
        return []
    try:
        measured = DETECTORS[statistic.rule].measure(subject)
    except ScannerError as error:
        typer.echo(f"{entry.file}: {statistic.rule}: {error}", err=True)
        return []
    if not statistic.by_class:
        return [measured.statistic]
    profile = measured.by_class
    assert profile is not None  # noqa: S101 - these detectors have one
    if profile.stages is not None:
        typer.echo(f"{entry.file}: {statistic.rule}: too slow here for a full search", err=True)
        return []
    found = {row.class_id: row.figure for row in profile.rows}
    return [found.get(class_id) for class_id in range(profile.classes)]


def _classes(subject: Subject) -> int:
    size = subject.model.identity.outputs[0].shape[-1]
    return size if isinstance(size, int) else 0


def span(entry: Entry, pixels: Path) -> tuple[float, float]:
    """Return the range of the pixels that a network takes."""
    if entry.input_range == "mean/std":  # another one for each channel: the widest
        images = np.load(pixels)["images"]
        return float(images.min()), float(images.max())
    low, high = (entry.input_range or "0..1").split("..")
    return float(low), float(high)


def read(paths: Iterable[Path]) -> list[Network]:
    """Return the networks of several files; what one says of a network completes the others."""
    found: dict[str, Network] = {}
    for path in paths:
        for row in map(json.loads, text(path).splitlines()):
            before = found.get(row["truth"]["sha256"])
            figures = {**(before.figures if before else {}), **row["figures"]}
            found[row["truth"]["sha256"]] = Network(truth=row["truth"], figures=figures)
    return list(found.values())


def _known(records: Iterable[Path]) -> list[Network]:
    """Return the clean networks, and those in which the attack succeeded."""
    return [n for n in read(records) if n.clean or n.truth["planted"]]


@app.command()
def ship(records: list[Path], output: Annotated[Path, typer.Option()] = recipes.SHIPPED) -> None:
    """Write the file by which scans judge models of other recipes."""
    networks = _known(records)
    conditions = tuple(condition(way, _draws(way, networks)) for way in WAYS)
    # One that was trained again, on another machine, is no second one.
    files = {str(network.truth["file"]): network.clean for network in networks}
    clean = sum(files.values())
    found = Recipes(
        provenance=f"{clean} clean and {len(files) - clean} backdoored networks of "
        f"{len({n.recipe for n in networks})} recipes (python -m trainers population), budget "
        "quick; made by python -m benchmarks.population ship",
        conditions=conditions,
    )
    output.write_text(json.dumps(_short(to_json(found)), indent=1) + "\n", encoding="utf-8")


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value


def _draws(way: Way, networks: Sequence[Network]) -> list[Draw]:
    """Return every network beside each choice of clean networks of its recipe."""
    found = []
    fitting = [n for n in networks if way.fewest <= n.classes <= way.classes]
    for _, group in itertools.groupby(sorted(fitting, key=_recipe), _recipe):
        members = [n for n in group if all(n.figures.get(name) for name in way.statistics)]
        clean = [n for n in members if n.clean]
        for network in members:
            others = [n for n in clean if n is not network]
            chosen = itertools.combinations(others, way.references)
            names = dict.fromkeys((*way.statistics, *way.leads))
            found += [_draw(network, references, names) for references in chosen]
    return found


def _draw(network: Network, references: Sequence[Network], names: Iterable[str]) -> Draw:
    compared = [c for name in names if (c := _beside(network, references, name)) is not None]
    shown = recipes.shown(compared, len(references))
    reached = {one.comparison.rule: max(one.scores.values()) for one in shown if one.scores}
    led = {one.comparison.rule: one.lead[1] for one in shown if one.lead is not None}
    return Draw(network, shown, reached, led)


def _recipe(network: Network) -> str:
    return network.recipe


def _beside(network: Network, references: Iterable[Network], name: str) -> Comparison | None:
    own = network.measurement(name)
    others = [m for r in references if (m := r.measurement(name)) is not None]
    return None if own is None else compare(DETECTORS[own.rule], own, others)


def condition(way: Way, draws: Sequence[Draw]) -> Condition:
    """Return what networks reach that were measured in one way."""
    used = [STATISTICS[name] for name in way.statistics]
    innocent = [draw for draw in draws if draw.network.clean]
    reached = [(draw.network, draw.reached) for draw in innocent]
    units = {one.rule: max(LEAST, reach(_of_rule(one.rule, reached))) for one in used}
    by_class = {one.rule: units[one.rule] for one in used if one.by_class}
    asked = Reached(tuple(by_class.items()), 1.0, ())
    sums = ((draw.network, draw.furthest(asked)) for draw in innocent)
    together = max(LEAST, reach((n, own.size) for n, own in sums if own is not None))
    led = [(draw.network, draw.led) for draw in innocent]
    leading = [STATISTICS[name].rule for name in way.leads]
    leads = {rule: max(LEAST, reach(_of_rule(rule, led))) for rule in leading}
    clean: dict[str, list[float]] = {}
    backdoored: dict[str, dict[str, list[float]]] = {}
    asked = Reached(tuple(units.items()), together, tuple(leads.items()))
    for draw in draws:
        network, own = draw.network, draw.furthest(asked)
        if own is None:
            continue
        if network.clean:
            clean.setdefault(network.recipe, []).append(own.size)
        else:
            kind = backdoored.setdefault(network.kind, {})
            kind.setdefault(network.truth["sha256"], []).append(own.size)
    return Condition(
        images=way.images,
        references=way.references,
        fewest=way.fewest,
        classes=way.classes,
        units=units,
        together=together,
        leads=leads,
        recipes=tuple(Recipe(name=name, reached=tuple(v)) for name, v in sorted(clean.items())),
        attacks=tuple(
            Attack(name=kind, reached=tuple(sorted(float(np.mean(v)) for v in found.values())))
            for kind, found in sorted(backdoored.items())
        ),
    )


def _of_rule(
    rule: str, found: Iterable[tuple[Network, Mapping[str, float]]]
) -> Iterator[tuple[Network, float]]:
    """Yield the figure of each network of which one detector has one."""
    return ((network, own[rule]) for network, own in found if rule in own)


def _outermost(comparison: Comparison, references: int) -> tuple[float, int | None] | None:
    """Return how far a network stands out by one detector, and by which class."""
    known = recipes.scores(comparison, references)
    if not known:
        return None
    class_id = max(known, key=lambda one: known[one])
    return known[class_id], class_id


def reach(found: Iterable[tuple[Network, float]]) -> float:
    """Return the largest figure, but for the recipe that reaches furthest.

    One recipe whose searches go astray would else blind every scan of another.
    """
    furthest: dict[str, float] = {}
    for network, figure in found:
        furthest[network.recipe] = max(figure, furthest.get(network.recipe, 0.0))
    return sorted(furthest.values())[-2]


@app.command()
def report(
    records: list[Path],
    csv_file: Annotated[Path | None, typer.Option("--csv")] = None,
    accuracy: Annotated[
        float, typer.Option(help="Tell of recipes only whose clean networks reach it on average.")
    ] = 0.0,
) -> None:
    """Print what a scan says of each network, judged by the recipes that it shares nothing with."""
    networks = _known(records)
    told_of = _accurate(networks, accuracy)
    rows = [
        row
        for way in WAYS
        for draws in [_draws(way, networks)]
        for left_out in ("recipe", "dataset")
        for row in _verdicts(way, left_out, draws, told_of)
    ]
    typer.echo(table(rows))
    write_csv(csv_file, rows)


def _accurate(networks: Sequence[Network], least: float) -> frozenset[str]:
    """Return the recipes whose clean networks have this accuracy or more on average."""
    known: dict[str, list[float]] = {}
    for network in networks:
        if network.clean:
            known.setdefault(network.recipe, []).append(network.truth["clean_accuracy"])
    return frozenset(recipe for recipe, values in known.items() if np.mean(values) >= least)


class Judged(NamedTuple):
    """A network, and its place among the recipes that it shares nothing with."""

    network: Network
    place: Stranger


def _verdicts(
    way: Way, left_out: str, draws: Sequence[Draw], told_of: Container[str]
) -> Iterator[dict[str, Any]]:
    judged = [j for j in _judged(way, left_out, draws) if j.network.recipe in told_of]
    for split in ("development", "test"):
        chosen = [j for j in judged if j.network.truth["split"] == split]
        for row in _by_kind(chosen):
            yield {**_told(way), "left out": left_out, "split": split, **row}


def _told(way: Way) -> dict[str, Any]:
    return {
        "images": {True: "images", False: "noise", None: "either"}[way.images],
        "references": way.references,
        "classes": f"{way.fewest} to {way.classes}",
        "measured": ", ".join(STATISTICS[name].rule for name in way.statistics),
    }


def _by_kind(judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """Yield a row for the clean networks, one for all others, and one for each kind of attack."""
    clean = [j for j in judged if j.network.clean]
    guilty = [j for j in judged if not j.network.clean]
    kinds = sorted({j.network.kind for j in guilty})
    groups = [("clean", clean), ("all attacks", guilty)]
    groups += [(kind, [j for j in guilty if j.network.kind == kind]) for kind in kinds]
    for kind, group in groups:
        if group:
            yield {"networks": kind, **_row(group, None if kind == "clean" else clean)}


def _judged(way: Way, left_out: str, draws: Sequence[Draw]) -> Iterator[Judged]:
    for name in sorted({str(draw.network.truth[left_out]) for draw in draws}):
        own = [draw for draw in draws if draw.network.truth[left_out] == name]
        others = [draw for draw in draws if draw.network.truth[left_out] != name]
        foreign = condition(way, others)
        for draw in own:
            place = recipes.placed(draw.shown, foreign)
            if place is not None:
                yield Judged(draw.network, place)


def _row(group: Sequence[Judged], clean: Sequence[Judged] | None) -> dict[str, Any]:
    """Return how a group was judged, and how it separates from clean networks."""
    words = [verdict.among_recipes(j.place, Settings()).verdict for j in group]
    own, others = (np.array([j.place.place.size for j in some]) for some in (group, clean or ()))
    told = [j for j in group if j.network.truth["target"] is not None]
    return {
        "recipes": len({j.network.recipe for j in group}),
        "n": len({j.network.truth["sha256"] for j in group}),
        "AUC": float("nan") if clean is None else auc(own, others),
        **{f"p <= {p}": _share(j.place.place.p <= p for j in group) for p in LEVELS},
        **{word.value: _share(found is word for found in words) for word in Verdict},
        "right class": _share(j.place.foremost == j.network.truth["target"] for j in told)
        if told
        else float("nan"),
    }


def _share(values: Iterable[bool]) -> float:
    return float(np.mean(list(values)))


@app.command()
def later(
    records: list[Path],
    among: Annotated[list[Path], typer.Option(help="Measurements of the recipes that judge.")],
    csv_file: Annotated[Path | None, typer.Option("--csv")] = None,
) -> None:
    """Print what a scan would say of networks if these recipes judged, none of them their own."""
    judges, rows = _known(among), []
    held = {network.recipe for network in judges}
    networks = [network for network in _known(records) if network.recipe not in held]
    for way in WAYS:
        known = condition(way, _draws(way, judges))
        draws = _draws(way, networks)
        places = ((draw.network, recipes.placed(draw.shown, known)) for draw in draws)
        judged = [Judged(network, place) for network, place in places if place is not None]
        rows += [{**_told(way), **row} for row in _by_kind(judged)]
    typer.echo(table(rows))
    write_csv(csv_file, rows)


@app.command()
def statistics(
    records: list[Path], csv_file: Annotated[Path | None, typer.Option("--csv")] = None
) -> None:
    """Print how each statistic separates by itself, beside one reference and beside none."""
    networks, generator = _known(records), np.random.default_rng(0)
    rows = [
        row
        for split in ("development", "test")
        for name in STATISTICS
        for references in (0, 1)
        for row in _rows(split, name, references, networks, generator)
    ]
    typer.echo(table(rows))
    write_csv(csv_file, rows)


def _rows(
    split: str,
    name: str,
    references: int,
    networks: Sequence[Network],
    generator: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    found: dict[str, dict[str, list[tuple[Network, float, int | None]]]] = {}
    members = [n for n in networks if n.truth["split"] == split and n.figures.get(name)]
    for network in members:
        others = [n for n in members if n.clean and n.recipe == network.recipe and n is not network]
        kind = "clean" if network.clean else "all-to-all" if network.kind == "all-to-all" else "one"
        for chosen in itertools.combinations(others, references):
            comparison = _beside(network, chosen, name)
            if comparison is None:
                continue
            own = _outermost(comparison, references)
            if own is not None:
                draws = found.setdefault(kind, {}).setdefault(network.truth["sha256"], [])
                draws.append((network, *own))
    clean = [[d for _, d, _ in own] for own in found.get("clean", {}).values()]
    for kind, words in (("one", "all-to-one"), ("all-to-all", "all-to-all")):
        chosen_networks = list(found.get(kind, {}).values())
        if not chosen_networks:
            continue
        separated = quality([[d for _, d, _ in own] for own in chosen_networks], clean, generator)
        names_one = kind == "one" and STATISTICS[name].by_class
        hits = [t == n.truth["target"] for own in chosen_networks for n, _, t in own]
        yield {
            "split": split,
            "statistic": name,
            "references": references,
            "attacks": words,
            "recipes": len({n.recipe for n in members}),
            "clean": len(clean),
            "backdoored": len(chosen_networks),
            **{key: separated[key] for key in ("AUC", "AUC low", "AUC high")},
            "right target": float(np.mean(hits)) if names_one else float("nan"),
        }


if __name__ == "__main__":
    app()
