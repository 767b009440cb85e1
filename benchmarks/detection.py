"""How well the scanner tells backdoored models from clean ones, on a zoo with ground truth.

    python -m benchmarks.detection measure ZOO RECORDS [--images-npz images.npz]  # resumes
    python -m benchmarks.detection report RECORDS... [--csv A] [--verdicts B] [--markdown C]
    python -m benchmarks.detection pack RECORDS... --output records.jsonl.gz  # `report` reads it
    python -m benchmarks.detection sizes RECORDS... [--csv words.csv]
    python -m benchmarks.detection strangers RECORDS... [--csv words.csv]
    python -m benchmarks.detection reach
    python -m benchmarks.detection baseline RECORDS --output mnist.json

`measure` needs the models, `report` only what was measured. References are the clean models of the
baseline that ships for the architecture; a suspect is never among them, so that the clean models in
RECORDS fitted nothing.
"""

import dataclasses
import functools
import gzip
import itertools
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.quality import LEVELS, quality, share_at_most, table, text, uniformity, write_csv
from scanner import calibration, pipeline, questions
from scanner.detectors import FAMILY, load
from scanner.errors import ScannerError
from scanner.instruments.detector import Detector
from scanner.judging import population, ranks, verdict
from scanner.judging.population import (
    SHIPPED,
    CleanModels,
    difference,
    read_baseline,
    shipped_baseline,
    write_baseline,
)
from scanner.report.totals import place
from scanner.results import Comparison, Measurement, ModelRecord, Verdict
from scanner.settings import Budget, Settings
from scanner.values import from_json, to_json
from trainers.files import write_whole

app = typer.Typer(pretty_exceptions_enable=False)
Records = Sequence[ModelRecord]
Score = Callable[["Member", Records], float | None]
REFERENCES = (0, 1, 5, 19)
COMBINATION, ALL = "index (combined)", "all attacks"
ALPHA = Settings().alpha
_DRAWS = 24
_PAPERS_THRESHOLD = 2.0  # of the anomaly index: Neural Cleanse, section V-B
_USUAL_RATE = 0.1
_SEARCHED = "neural_cleanse"  # the detector that says what triggers were searched on
IMAGES = "images"  # not noise: what triggers were searched on


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A model of the zoo: its manifest row and what was measured on it."""

    truth: Mapping[str, Any]
    record: ModelRecord

    @property
    def clean(self) -> bool:
        """Whether the manifest says so."""
        return bool(self.truth["attack"] == "clean")

    @property
    def recipe(self) -> str:
        """What it is exchangeable with: data set and epochs."""
        return f"{self.truth['recipe']}, {self.truth['epochs']} epochs"

    @property
    def attack(self) -> str:
        """The attack, and its rate or labels where they are not the usual ones."""
        name, rate = str(self.truth["attack"]), float(self.truth.get("rate") or 0)
        if name == "badnets" and rate < _USUAL_RATE:
            name += f" {rate:.1%}"
        labels = self.truth.get("labels")
        return f"{name} {labels}" if labels in {"all-to-all", "one-to-one"} else name


@dataclasses.dataclass(frozen=True)
class Group:
    """Models of one recipe, measured alike: suspects, and the shipped baseline's clean models."""

    name: tuple[str, str]
    members: tuple[Member, ...]

    @property
    def labels(self) -> dict[str, str]:
        """Columns that say which group a row is of."""
        return {"recipe": self.name[0], "searched on": self.name[1]}

    @property
    def attacks(self) -> list[str]:
        """The attacks, by name."""
        return sorted({m.attack for m in self.members if not m.clean})

    @functools.cached_property
    def population(self) -> Records:
        """Records of the shipped baseline's clean models; none where it does not fit."""
        shipped = shipped_baseline(self.members[0].record.model)
        records = shipped.records if shipped else ()
        fits = all(_alike([m.record for m in self.members], records, d.rule.id) for d in combined())
        return records if fits else ()

    def guilty(self, attack: str) -> list[Member]:
        """Return the models of one attack, or of all."""
        return [m for m in self.members if not m.clean and attack in (m.attack, ALL)]

    def choices(self, count: int) -> list[Records]:
        """Return the references that every suspect meets: single ones, or `_DRAWS` random sets."""
        if count <= 1:
            return [()] if not count else [(record,) for record in self.population]
        generator, known = np.random.default_rng(count), len(self.population)
        draws = (
            generator.permutation(known)[:count] for _ in range(_DRAWS if known >= count else 0)
        )
        return [tuple(self.population[i] for i in draw) for draw in draws]

    def p_values(self, members: Sequence[Member]) -> dict[str, list[float]]:
        """Return the p-values of whole scans of the members, by what these had to compare with."""
        ways: dict[str, list[tuple[Records, Records]]] = {
            "baseline": [((), self.population)],
            "baseline + 1 reference": [((record,), self.population) for record in self.population],
            "19 references": [(chosen, ()) for chosen in self.choices(19)],
        }
        return {
            name: [
                p
                for m in members
                for own, clean in ways[name]
                if (p := _combined_p(m, own, clean)) is not None
            ]
            for name in ways
        }

    def warned(self, member: Member) -> bool:
        """Whether a scan that is given this model as a reference would doubt that it is clean."""
        models = CleanModels(
            references=(member.record,), population=tuple(self.population), source=""
        )
        return any(True for _ in models.warnings(combined(), member.record.model))


@app.command()
def measure(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    zoo: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    records: Annotated[Path, typer.Argument(help="Where the measurements go, a file a model.")],
    budget: Budget = Budget.QUICK,
    images_npz: Annotated[Path | None, typer.Option(help="Clean images; noise without.")] = None,
    epochs: int = 5,
    again: Annotated[
        list[str] | None, typer.Option(help="A detector that is measured anew where all are known.")
    ] = None,
) -> None:
    """Measure every model of a zoo that has not been measured yet, as a scan of it alone does."""
    records.mkdir(parents=True, exist_ok=True)
    images = str(images_npz.resolve()) if images_npz else None
    for truth in json.loads((zoo / "manifest.json").read_text())["models"]:
        path = records / f"{truth['sha256'][:16]}.json"
        known = _member(path.read_text("utf-8")).record if path.exists() else None
        if truth["epochs"] != epochs or (known and not again):
            continue
        settings = Settings(
            budget=budget,
            images_file=images,
            timeout=3600,
            shipped_baselines=False,
            detectors=tuple(again or ()) if known else (),
        )
        source = questions.source_of(zoo / truth["file"])
        record = population.without_pictures(pipeline.measure_source(source, settings, alone=True))
        for failure in record.failures:
            raise ScannerError.from_dict(failure.error)
        record = dataclasses.replace(record, likeness=None)  # most of it, and no part of a report
        if known:
            record = _renewed(known, record)
        write_whole(path, json.dumps({"truth": truth, "record": to_json(record)}).encode())
        typer.echo(truth["file"], err=True)


def _renewed(known: ModelRecord, record: ModelRecord) -> ModelRecord:
    """Return a record with what was measured anew instead of what was."""
    order = [*FAMILY]
    rules = {m.rule for m in record.measurements} | {s.rule for s in record.skips}
    kept = (m for m in known.measurements if m.rule not in rules)
    passed = (s for s in known.skips if s.rule not in rules)
    measured = sorted((*kept, *record.measurements), key=lambda m: order.index(m.rule))
    skips = sorted((*passed, *record.skips), key=lambda s: order.index(s.rule))
    return dataclasses.replace(known, measurements=tuple(measured), skips=tuple(skips))


@app.command()
def report(
    records: Annotated[
        list[Path],
        typer.Argument(help="What `measure` or `pack` wrote: suspects, clean and backdoored."),
    ],
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Quality of each statistic.")
    ] = None,
    verdicts_file: Annotated[
        Path | None, typer.Option("--verdicts", help="What whole scans answer.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option()] = None,
    seed: int = 0,
) -> None:
    """Print ROC-AUC, true positives at fixed false alarms, and the errors of the test itself."""
    groups = _groups(records)
    generator = np.random.default_rng(seed)
    qualities = [row for group in groups for row in _quality_rows(group, generator)]
    verdicts = [row for group in groups for row in _verdict_rows(group)]
    null = [row for group in groups for row in _null_rows(group)]
    parts = {
        "Verdicts": verdicts,
        "p-values of clean models": null,
        "The index, attack by attack": [
            row for row in qualities if row["statistic"] == COMBINATION
        ],
        "Each statistic, all attacks together": [row for row in qualities if row["attack"] == ALL],
    }
    text = (
        "\n\n".join(
            [_heading(), *(f"### {title}\n\n{table(rows)}" for title, rows in parts.items())]
        )
        + "\n"
    )
    typer.echo(text)
    if markdown is not None:
        markdown.write_text(text)
    write_csv(csv_file, qualities)
    write_csv(verdicts_file, verdicts)


@app.command()
def reach() -> None:
    """Print what the clean networks of the shipped baselines reach: the units of the index."""
    for path in sorted(SHIPPED.glob("*.json")):
        clean = read_baseline(path).records
        pairs = beside_one(clean)
        beside, alone = reached_beside_one(pairs), reached_alone(clean)
        for rule in sorted(d.rule.id for d in combined()):
            one = f"beside one {beside[rule]:.3f}" if beside else "beside one -"
            typer.echo(f"{path.name}: {rule}: {one}, alone {alone[rule]:.3f}")
        if beside:
            typer.echo(f"{path.name}: together beside one {beside[ALL]:.3f}")
            for rule in ("neural_cleanse", "mm_bd"):
                typer.echo(
                    f"{path.name}: {rule}: a class differs by up to "
                    f"{_largest_factor(rule, pairs):.1f}"
                )
        typer.echo(
            f"{path.name}: masks and nearness correlate by "
            f"{np.mean([_correlation(r) for r in clean]):.2f}"
        )


def _groups(records: Sequence[Path]) -> list[Group]:
    # In one order, wherever they lie: the intervals hang on it.
    members = sorted(
        (m for source in records for m in _members(source)),
        key=lambda m: (_key(m), m.truth["sha256"]),
    )
    return [Group(name, tuple(found)) for name, found in itertools.groupby(members, _key)]


@app.command()
def sizes(
    records: Annotated[list[Path], typer.Argument(help="What `measure` or `pack` wrote.")],
    csv_file: Annotated[Path | None, typer.Option("--csv")] = None,
) -> None:
    """Print how far out models lie beside the shipped baselines, and what they are called.

    First the clean models of each baseline, judged by the others: on these `ranks.NEAR` and
    `ranks.FAR` were chosen. Then the models of RECORDS, judged by the baseline alone.
    """
    for path in sorted(SHIPPED.glob("*.json")):
        own = sorted(_own_sizes(path))
        shown = ", ".join(f"{size:.2f}" for size in own[-5:])
        typer.echo(f"{path.name}: {len(own)} clean models, each judged by the others: ... {shown}")
    rows = [row for group in _groups(records) for row in _words(group)]
    typer.echo(table(rows))
    write_csv(csv_file, rows)


def _own_sizes(path: Path) -> Iterator[float]:
    clean = read_baseline(path).records
    for index, record in enumerate(clean):
        rank = _rank(Member({}, record), (), [*clean[:index], *clean[index + 1 :]])
        assert rank is not None  # noqa: S101 - a baseline's models are measured by all
        yield rank.place.size


def _words(group: Group) -> Iterator[dict[str, Any]]:
    """Yield what a scan beside the baseline says of the models of each attack."""
    for attack in ("clean", *group.attacks):
        chosen = [m for m in group.members if m.attack == attack]
        if not chosen or not group.population:
            continue
        ranks_of = [_rank(m, (), group.population) for m in chosen]
        words = [_word(m, group.population) for m in chosen]
        far = sorted(rank.place.size for rank in ranks_of if rank is not None)
        yield {
            **group.labels,
            "models": attack,
            "n": len(chosen),
            **{word.value: words.count(word) for word in Verdict},
            "sizes": f"{far[0]:.2f} to {far[-1]:.2f}",
        }


def _word(member: Member, clean: Records) -> Verdict:
    """Return what the combined detectors say beside a baseline; others look at the graph."""
    models = CleanModels(references=(), population=tuple(clean), source="")
    findings = []
    for detector in combined():
        measurement = member.record.measurement(detector.rule.id)
        pair = models.compare(detector, member.record)
        if measurement is not None and pair is not None:
            findings.append(verdict.judge(detector.rule, measurement, *pair, ALPHA))
    rank = _rank(member, (), clean)
    if rank is None:
        return Verdict.INCONCLUSIVE
    return verdict.among_own(rank, findings, ALPHA).verdict


@app.command()
def strangers(
    records: Annotated[list[Path], typer.Argument(help="What `measure` or `pack` wrote.")],
    csv_file: Annotated[Path | None, typer.Option("--csv")] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="With the shipped baselines, as by default.")
    ] = False,
) -> None:
    """Print what scans without the shipped baselines say: of a model alone, and beside a clean one.

    The clean models of the baseline are judged as well. The first of them is the clean one; where
    no baseline was measured so, the first clean one of RECORDS.
    """
    rows = [row for group in _groups(records) for row in _foreign(group, shipped=baselines)]
    typer.echo(table(rows))
    write_csv(csv_file, rows)


def _foreign(group: Group, *, shipped: bool = False) -> Iterator[dict[str, Any]]:
    """Yield what is said of the models of each attack, alone and beside one clean model."""
    known = [Member({"attack": "clean"}, record) for record in group.population]
    models = (*known, *group.members)
    first = next(m.record for m in models if m.clean)
    images = "clean.npz" if group.name[1] == IMAGES else None
    with pipeline.Judge(Settings(shipped_baselines=shipped, images_file=images)) as judge:
        for references in ((), (first,)):
            for attack in ("clean", *group.attacks):
                asked = [m.record for m in models if m.attack == attack]
                results = judge.judge([r for r in asked if r not in references], references)
                words = [result.verdict for result in results]
                accused = [r for r in results if r.verdict is Verdict.SUSPICIOUS]
                yield {
                    **group.labels,
                    "references": len(references),
                    "models": attack,
                    "n": len(results),
                    **{word.value: words.count(word) for word in Verdict},
                    "without a rank": sum(place(r)[0] is None for r in accused),
                }


@app.command()
def pack(
    records: Annotated[list[Path], typer.Argument(help="What `measure` or `pack` wrote.")],
    output: Annotated[
        Path, typer.Option(help="One file for all of them, .jsonl.gz; `report` reads it.")
    ],
) -> None:
    """Gather measurements in one small file, so that the tables can be made without the models.

    Of a model that was measured twice, the later RECORDS count.
    """
    of_model = {_member(line).record.model.sha256: line for r in records for line in _lines(r)}
    lines = sorted(of_model.values())
    # Without a time of its own, the same records are the same file.
    output.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    typer.echo(f"{output}: {len(lines)} models")


@app.command()
def baseline(
    records: Annotated[Path, typer.Argument(help="A folder that `measure` wrote.")],
    output: Annotated[
        Path, typer.Option(help="The baseline file, as scan calibrate would write it.")
    ],
    name: str = "",
    provenance: str = "not stated",
) -> None:
    """Gather the clean models of a folder into a baseline, without measuring them again."""
    members = sorted(_members(records), key=lambda m: str(m.truth["file"]))
    clean = tuple(m.record for m in members if m.clean)
    whole = calibration.gathered(name or records.name, provenance, clean)
    write_baseline(whole, output)
    typer.echo(f"{output}: {len(clean)} clean models")


def _members(source: Path) -> list[Member]:
    """Return the models of a folder that `measure` wrote, or of a file that `pack` wrote."""
    return [_member(line) for line in _lines(source)]


def _lines(source: Path) -> list[str]:
    """Return the same as lines of JSON."""
    if source.is_dir():
        return [path.read_text(encoding="utf-8").strip() for path in sorted(source.glob("*.json"))]
    return text(source).splitlines()


def _member(text: str) -> Member:
    data = json.loads(text)
    return Member(data["truth"], from_json(ModelRecord, data["record"]))


def _alike(suspects: Records, population: Records, rule: str) -> bool:
    """Whether all of a population was measured, and as the suspects were."""
    own, known = (
        [m for r in records if (m := r.measurement(rule)) is not None]
        for records in (suspects, population)
    )
    return len(known) == len(population) and not any(difference(m, known) for m in own)


def _key(member: Member) -> tuple[str, str]:
    """Recipe, and what triggers were searched on."""
    inverted = member.record.measurement(_SEARCHED)
    data = "noise" if inverted is None else str(inverted.parameters["data"])
    return member.recipe, "noise" if "noise" in data else IMAGES


def _quality_rows(group: Group, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    clean = [m for m in group.members if m.clean]
    for count in REFERENCES:
        choices = group.choices(count)
        for name, score in _statistics():
            innocent = [_over(choices, score, m) for m in clean]
            for attack in (*group.attacks, ALL):
                guilty = [_over(choices, score, m) for m in group.guilty(attack)]
                if innocent and guilty and choices and all(itertools.chain(innocent, guilty)):
                    yield {
                        **group.labels, "references": count, "statistic": name, "attack": attack,
                        "clean": len(innocent), "backdoored": len(guilty),
                        **quality(guilty, innocent, generator),
                    }  # fmt: skip


def _over(choices: Sequence[Records], score: Score, member: Member) -> list[float]:
    """Return a member's statistic beside each set of references that it is not in itself."""
    own = member.record.model.sha256
    others = (
        references for references in choices if all(r.model.sha256 != own for r in references)
    )
    found = (score(member, references) for references in others)
    return [value for value in found if value is not None]


def _statistics() -> Iterator[tuple[str, Score]]:
    """Yield what is compared: each detector, Neural Cleanse's own index, and the combination."""
    yield (
        COMBINATION,
        lambda member, references: ranks.index(_comparisons(member, references)),
    )
    # A structural detector has no statistic to rank: trained backdoors are not in the graph.
    for detector in (d for d in load() if d.contribution.calibrated):
        yield detector.rule.id, functools.partial(_statistic, detector)
    yield (
        "neural_cleanse (paper's anomaly index)",
        lambda member, _: _measured(member, _SEARCHED),
    )


def _statistic(detector: Detector, member: Member, references: Records) -> float | None:
    """Return a detector's statistic beside references; without any, its lead or its measurement."""
    models = CleanModels(references=tuple(references), population=(), source="")
    pair = models.compare(detector, member.record)
    if pair is None or pair[0].statistic is not None:
        return pair[0].statistic if pair else None
    if detector.contribution.combined:
        lead = pair[0].evidence.lead
        return lead.distance if lead else None
    return _measured(member, detector.rule.id)


def combined() -> list[Detector]:
    """Return the detectors whose statistics make the combined p-value."""
    return [d for d in load() if d.contribution.combined]


def _dropped_some(measurement: Measurement) -> bool:
    return measurement.by_class is not None and measurement.by_class.dropped_some


def _measured(member: Member, rule: str) -> float | None:
    measurement = member.record.measurement(rule)
    return None if measurement is None else measurement.statistic


def _comparisons(member: Member, references: Records) -> list[Comparison]:
    models = CleanModels(references=tuple(references), population=(), source="")
    pairs = (models.compare(detector, member.record) for detector in combined())
    return [pair[0] for pair in pairs if pair is not None]


def _verdict_rows(group: Group) -> Iterator[dict[str, Any]]:
    """Yield the share of models called suspicious, by what a scan had to compare with."""
    for attack in ("clean", *group.attacks):
        members = (
            group.guilty(attack) if attack != "clean" else [m for m in group.members if m.clean]
        )
        if not members:
            continue
        asr = [
            m.truth["attack_success_rate"]
            for m in members
            if m.truth["attack_success_rate"] is not None
        ]
        row: dict[str, Any] = {**group.labels, "models": attack, "n": len(members)}
        row["attack success"] = f"{min(asr):.0%} to {max(asr):.0%}" if asr else ""
        for name, ps in group.p_values(members).items():
            for level in LEVELS:
                row[f"p <= {level:g}, {name}"] = share_at_most(ps, level) if ps else float("nan")
        indices = [_measured(m, _SEARCHED) for m in members]
        row["anomaly index > 2"] = float(
            np.mean([index is not None and index > _PAPERS_THRESHOLD for index in indices])
        )
        warned = [group.warned(m) for m in members if group.population]
        row["not taken for clean"] = float(np.mean(warned)) if warned else float("nan")
        yield row


def _null_rows(group: Group) -> Iterator[dict[str, Any]]:
    """Yield how the p-values of clean models that fitted nothing spread."""
    clean = [m for m in group.members if m.clean]
    for name, ps in group.p_values(clean).items():
        if ps:
            yield {
                **group.labels,
                "judged by": name,
                "clean models": len(clean),
                "p-values": len(ps),
                **uniformity(ps),
            }


def _combined_p(member: Member, references: Records, clean: Records) -> float | None:
    """Return the p-value of a whole scan; None where the member is one of its own references."""
    found = _rank(member, references, clean)
    return None if found is None else found.place.p


def _rank(member: Member, references: Records, clean: Records) -> ranks.Rank | None:
    """Return a member's rank by a whole scan; None where it is one of its own references."""
    if any(r.model.sha256 == member.record.model.sha256 for r in references):
        return None
    models = CleanModels(references=tuple(references), population=tuple(clean), source="")
    pairs = [pair for d in combined() if (pair := models.compare(d, member.record)) is not None]
    return ranks.together([c for c, _ in pairs], [p for _, p in pairs if p is not None])


def beside_one(clean: Records) -> list[list[Comparison]]:
    """Return every comparison of a clean network with one other.

    None where contests dropped classes: a scan's one reference then repeats its suspect's search,
    and these did not.
    """
    if any(_dropped_some(m) for record in clean for m in record.measurements):
        return []
    return [
        _comparisons(Member({}, suspect), (reference,))
        for suspect, reference in itertools.permutations(clean, 2)
    ]


def reached_beside_one(pairs: Sequence[Sequence[Comparison]]) -> dict[str, float]:
    """Return, by rule, the largest statistic of a clean network beside one other.

    Under `ALL` it is that of the index.
    """
    found: dict[str, float] = {}
    for comparisons in pairs:
        index = ranks.index(comparisons)
        for name, value in (*((c.rule, c.statistic) for c in comparisons), (ALL, index)):
            found[name] = max(found.get(name, -np.inf), -np.inf if value is None else value)
    return found


def reached_alone(clean: Records) -> dict[str, float]:
    """Return, by rule, the largest lead of one class over the next in a clean network."""
    comparisons = [c for record in clean for c in _comparisons(Member({}, record), ())]
    leads = [(c.rule, c.evidence.lead.distance) for c in comparisons if c.evidence.lead]
    return {rule: max(lead for name, lead in leads if name == rule) for rule, _ in leads}


def _largest_factor(rule: str, pairs: Sequence[Sequence[Comparison]]) -> float:
    """Return by how much a class of one clean network differs from that of another, as a ratio."""
    rows = (row for pair in pairs for c in pair if c.rule == rule for row in c.evidence.classes)
    return float(np.exp(max(row.difference or 0.0 for row in rows)))


def _correlation(record: ModelRecord) -> float:
    """Return how the logarithm of a mask goes with the nearness to the images in one network."""
    masks = record.measurement(_SEARCHED)
    found = masks.by_class.rows if masks and masks.by_class else ()
    rows = [
        (r.figure, r.nearness) for r in found if r.figure is not None and r.nearness is not None
    ]
    logs, nearness = [np.log(size + 1) for size, _ in rows], [near for _, near in rows]
    return float(np.corrcoef(logs, nearness)[0, 1])


def _heading() -> str:
    parameters = f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    return f"<!-- python -m benchmarks.detection report; {parameters} -->"


if __name__ == "__main__":
    sys.exit(app())
