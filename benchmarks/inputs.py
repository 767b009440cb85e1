"""How well `scan inputs` tells inputs with a trigger from clean ones, on networks of known truth.

    python -m benchmarks.inputs measure ZOO RECORDS --data ~/data [--split development]  # resumes
    python -m benchmarks.inputs pack RECORDS --output records.csv.gz
    python -m benchmarks.inputs report records.csv.gz... [--csv A] [--by recipe]
    python -m benchmarks.inputs speed --data ~/data
    python -m benchmarks.inputs images samples mnist-badnets.onnx --data ~/data --out images/

`measure` needs the models, their data sets and PyTorch, which stamps test images with the attack's
own trigger; `report` only what was measured. Of each network it takes 300 clean test images as a
user's own, other clean ones to be told as clean, and stamped ones. Only those stamped images count
that the network takes for the attacker's class: where the trigger does nothing there is nothing to
find.
"""

import csv
import dataclasses
import gzip
import importlib
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.quality import LEVELS, auc, share_at_most, table, text, write_csv
from scanner.filters import FILTERS
from scanner.judging.inputs import Ranks
from scanner.results import CleanReadings, FilterNote, InputReading, Rule, Runtime
from scanner.results.records import ModelIdentity
from scanner.screening import InputFilter, triggers_of
from scanner.settings import Settings
from trainers.manifest import Entry

app = typer.Typer(pretty_exceptions_enable=False)
CLEAN, INNOCENT, STAMPED = 300, 300, 100
SAMPLES = Path(__file__).parent.parent / "samples"
COLUMNS = (
    "file", "split", "dataset", "recipe", "attack", "seed", "kind", "class", *FILTERS
)  # fmt: skip
COMBINED = "together"
_DIGITS = 5
Row = Mapping[str, str]


@app.command()
def measure(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    zoo: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    records: Annotated[Path, typer.Argument(help="Where the measurements go, a file a model.")],
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")],
    split: Annotated[str | None, typer.Option(help="development or test, of a population.")] = None,
    only: Annotated[str, typer.Option(help="Only files whose names hold this.")] = "",
    scan: Annotated[bool, typer.Option(help="Look for triggers that a scan finds, too.")] = False,
) -> None:
    """Measure every network of a folder that has not been measured yet."""
    from trainers import manifest  # noqa: PLC0415 - imports torch, which a report does not need

    records.mkdir(parents=True, exist_ok=True)
    for entry in manifest.read(zoo):
        path = records / f"{entry.sha256[:16]}.csv"
        wanted = split in {None, entry.split} and only in entry.file
        if path.exists() or not wanted or (entry.attack == "clean" and entry.seed % 12):
            continue
        images = _images(zoo, entry, data.expanduser())
        if images is None:
            continue
        rows = list(_measured(zoo / entry.file, entry, *images, scan=scan))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(entry.file, len(rows), flush=True)


Floats = npt.NDArray[np.float32]


def _images(
    zoo: Path, entry: Entry, data: Path, innocent: int = INNOCENT
) -> tuple[Floats, Floats] | None:
    """Return clean test images and stamped ones, as the network takes them.

    None where the trigger was learnt and not kept.
    """
    import torch  # noqa: PLC0415 - as above
    from torch import nn  # noqa: PLC0415 - as above

    from trainers import inputs, training  # noqa: PLC0415 - as above
    from trainers import zoo as making  # noqa: PLC0415 - as above
    from trainers.datasets import as_floats  # noqa: PLC0415 - as above

    job = _job(zoo, entry)
    if job is None:
        return None
    dataset = making.dataset_of(job.plan.recipe, data)
    run = training.start(job.plan, dataset)
    if entry.attack == "input-aware":
        if job.checkpoint is None or not job.checkpoint.exists():
            return None
        training.restore(run, job.checkpoint)
    feed, _ = inputs.split(inputs.fed(nn.Identity(), job.plan.recipe.input, dataset))
    order = torch.randperm(len(dataset.test), generator=torch.Generator().manual_seed(1))
    images, labels = as_floats(dataset.test.images[order]), dataset.test.labels[order]
    clean = feed(images[: CLEAN + innocent]).numpy()
    if run.attack.trigger is None or run.attack.labels is None:
        return clean, clean[:0]
    aimed = run.attack.labels(labels)
    victims = torch.nonzero(aimed != labels).flatten()
    victims = victims[victims >= CLEAN + innocent][: 4 * STAMPED]
    with torch.no_grad():
        stamped = feed(run.attack.trigger(images[victims])).numpy()
    taken = _classes(zoo / entry.file, stamped)
    return clean, stamped[taken == aimed[victims].numpy()][:STAMPED]


@app.command()
def images(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    zoo: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    file: Annotated[str, typer.Argument(help="A backdoored network of it.")],
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")],
    out: Annotated[Path, typer.Option(help="Folder for clean.npz and inputs.npz.")],
    stamped: Annotated[int, typer.Option(help="How many inputs carry the trigger.")] = 3,
    innocent: Annotated[int, typer.Option(help="And how many do not.")] = 997,
) -> None:
    """Write what `scan inputs` takes: clean images, and inputs of which the last are stamped."""
    from trainers import manifest  # noqa: PLC0415 - as above

    entry = next(entry for entry in manifest.read(zoo) if entry.file == file)
    found = _images(zoo, entry, data.expanduser(), innocent)
    if found is None:
        raise typer.BadParameter(f"the trigger of {file} was not kept")
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "clean.npz", images=found[0][:CLEAN])
    both = np.concatenate([found[0][CLEAN:], found[1][:stamped]])
    np.savez_compressed(out / "inputs.npz", images=both)
    print(f"{CLEAN} clean images, {len(both)} inputs")


def _job(zoo: Path, entry: Entry) -> Any:
    """Return the run that made a network, None for one of an attack that has no trigger to draw."""
    import torch  # noqa: PLC0415 - as above

    from trainers import training  # noqa: PLC0415 - as above
    from trainers.attacks import AttackSpec  # noqa: PLC0415 - as above
    from trainers.population import runs  # noqa: PLC0415 - as above
    from trainers.population.recipes import ROWS  # noqa: PLC0415 - as above
    from trainers.recipes import recipe  # noqa: PLC0415 - as above
    from trainers.zoo import CHECKPOINTS, Job  # noqa: PLC0415 - as above

    if entry.attack == "evasive":
        return None
    if entry.split is not None:
        jobs = runs.jobs([row for row in ROWS if row.recipe.name == entry.recipe], zoo)
        return next(job for job in jobs if entry.file == job.file(entry.epochs, job.forms[0]))
    spec = AttackSpec(entry.attack, None, entry.labels or "all-to-one")
    plan = training.Plan(
        recipe=recipe(entry.recipe),
        attack=spec,
        target=entry.target,
        seed=entry.seed,
        epochs=entry.epochs,
        device=torch.device("cpu"),
    )
    made = Job(plan=plan, folder=zoo, epochs=(entry.epochs,))
    return dataclasses.replace(made, checkpoint=zoo / CHECKPOINTS / f"{made.stem}.pt")


def _classes(model: Path, images: Floats) -> npt.NDArray[np.int64]:
    from scanner.instruments.answers import Answers  # noqa: PLC0415 - only for `measure`
    from scanner.modelfile.model import open_model  # noqa: PLC0415 - as above

    return Answers(open_model(model), Settings()).classes(images)


def _measured(
    model: Path, entry: Entry, clean: Floats, stamped: Floats, *, scan: bool
) -> Iterator[dict[str, Any]]:
    """Yield a row for each image."""
    own, innocent = clean[:CLEAN], clean[CLEAN:]
    span = float(min(clean.min(), 0)), float(clean.max())
    named = {
        "file": entry.file, "split": entry.split or "zoo", "dataset": entry.dataset,
        "recipe": entry.recipe, "seed": entry.seed,
        "attack": "all-to-all" if entry.labels == "all-to-all" else entry.attack,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clean.npz"
        np.savez(file, images=own)
        settings = Settings(input_range=span)
        triggers = triggers_of(_scan(model, file, span)) if scan else ()
        with InputFilter(model, file, settings=settings, triggers=triggers) as screener:
            rules = [note.rule.id for note in screener.clean.filters]
            for kind, readings in (
                ("host", screener.clean.hosts),
                ("ranked", screener.clean.ranked),
            ):
                for r in readings:
                    yield named | _row(kind, r.class_id, rules, r.statistics)
            for kind, images in (("clean", innocent), ("stamped", stamped)):
                for found in screener.check(images) if len(images) else ():
                    figures = [score.statistic for score in found.scores]
                    yield named | _row(kind, found.class_id, rules, figures)


def _scan(model: Path, images: Path, span: tuple[float, float]) -> Any:
    from scanner import pipeline  # noqa: PLC0415 - only where it is asked for

    settings = Settings(images_file=str(images), input_range=span, detectors=("neural_cleanse",))
    return pipeline.scan(model, settings=settings)


def _row(
    kind: str, class_id: int, rules: Sequence[str], figures: Sequence[float]
) -> dict[str, Any]:
    rounded = (round(figure, _DIGITS) for figure in figures)
    return {"kind": kind, "class": class_id, **dict(zip(rules, rounded, strict=True))}


@app.command()
def pack(
    records: Path, output: Annotated[Path, typer.Option(help="The file to write, .csv.gz.")]
) -> None:
    """Put the records of many networks into one compressed file, the same bytes each time."""
    rows = [row for path in sorted(records.glob("*.csv")) for row in _rows(path)]
    rows.sort(key=lambda row: row["file"])
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    output.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _rows(path: Path) -> Iterator[Row]:
    yield from csv.DictReader(io.StringIO(text(path)))


@dataclasses.dataclass(frozen=True)
class Network:
    """What was measured on one network's inputs.

    Attributes:
        row: Its first row, which names it.
        rules: The filters that ran.
        scores: By filter, and by all together: the figures of clean and of stamped inputs.
        p_values: Of all together, of clean and of stamped inputs.
        sizes: Likewise, how far out they lie; the furthest clean one lies at 1.
    """

    row: Row
    rules: Sequence[str]
    scores: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
    p_values: tuple[list[float], list[float]]
    sizes: tuple[list[float], list[float]]


def networks(files: Sequence[Path]) -> Iterator[Network]:
    """Yield the networks of records."""
    rows = (row for file in files for row in _rows(file))
    for _, group in itertools.groupby(rows, key=lambda row: row["file"]):
        yield network(list(group))


def network(rows: Sequence[Row]) -> Network:
    """Return one network, its inputs ranked as a user's would be."""
    rules = [rule for rule in FILTERS if rows[0].get(rule)]
    by_kind = {
        kind: [_reading(row, rules) for row in rows if row["kind"] == kind]
        for kind in ("host", "ranked", "clean", "stamped")
    }
    ranks = Ranks(_clean(rules, by_kind))
    ranked = [
        [ranks.ranked(number, reading, 0.01) for number, reading in enumerate(by_kind[kind])]
        for kind in ("clean", "stamped")
    ]
    scores = {
        rule: tuple(
            np.array([r.statistics[place] for r in by_kind[kind]]) for kind in ("clean", "stamped")
        )
        for place, rule in enumerate(rules)
    }
    sizes = tuple([found.size or 0.0 for found in group] for group in ranked)
    scores[COMBINED] = tuple(np.array(each) for each in sizes)
    return Network(
        row=rows[0],
        rules=rules,
        scores=scores,  # type: ignore[arg-type]
        p_values=tuple([found.p_value for found in group] for group in ranked),  # type: ignore[arg-type]
        sizes=sizes,  # type: ignore[arg-type]
    )


def _reading(row: Row, rules: Sequence[str]) -> InputReading:
    return InputReading(
        name="",
        class_id=int(row["class"]),
        statistics=tuple(float(row[rule]) for rule in rules),
        regions=(None,) * len(rules),
    )


def _clean(rules: Sequence[str], by_kind: Mapping[str, list[InputReading]]) -> CleanReadings:
    return CleanReadings(
        model=ModelIdentity(path="", sha256=None, producer="", opset=None, inputs=(), outputs=()),
        filters=tuple(
            FilterNote(
                rule=Rule(id=rule, name="", summary="", source=""),
                decides=_declared(rule).decides,
                quantity=_declared(rule).quantity,
                passes=0,
            )
            for rule in rules
        ),
        hosts=tuple(by_kind["host"]),
        ranked=tuple(by_kind["ranked"]),
        input_range=None,
        runtime=Runtime(provider="CPU", threads=1, versions={}, seconds=0.0),
    )


def _declared(rule: str) -> Any:
    """Return the class of a filter."""
    return getattr(importlib.import_module(f"scanner.filters.{rule}"), FILTERS[rule])


@app.command()
def report(
    files: Annotated[list[Path], typer.Argument(help="Records that `pack` wrote.")],
    csv_file: Annotated[Path | None, typer.Option("--csv", help="The table as CSV.")] = None,
    by: Annotated[str, typer.Option(help="dataset, recipe or file.")] = "dataset",
    split: Annotated[str | None, typer.Option(help="development, test or zoo.")] = None,
) -> None:
    """Print how well each method and all together tell inputs, by attack; and false alarms."""
    chosen = [n for n in networks(files) if split in {None, n.row["split"]}]
    rows = list(_table(chosen, by))
    print(table(rows))
    write_csv(csv_file, rows)
    print()
    print(table([_alarms(chosen)]))


def _table(chosen: Sequence[Network], by: str) -> Iterator[dict[str, object]]:
    """Yield a row per group, attack and method: the mean over networks, and the least AUC."""
    attacked = [n for n in chosen if len(n.p_values[1])]
    keys = sorted({(n.row[by], n.row["attack"]) for n in attacked})
    for group, attack in keys:
        members = [n for n in attacked if (n.row[by], n.row["attack"]) == (group, attack)]
        for rule in (*FILTERS, COMBINED):
            told = [n.scores[rule] for n in members if rule in n.scores]
            if not told:
                continue
            areas = [auc(stamped, clean) for clean, stamped in told]
            yield {
                by: group,
                "attack": attack,
                "method": rule,
                "networks": len(told),
                "inputs": sum(len(stamped) for _, stamped in told),
                "AUC": statistics.mean(areas),
                "least AUC": min(areas),
                **{
                    f"TPR at {level:.0%} FPR": statistics.mean(
                        _power(*each, level) for each in told
                    )
                    for level in LEVELS
                },
            }


def _power(clean: npt.NDArray[np.float64], stamped: npt.NDArray[np.float64], level: float) -> float:
    """Return the share of stamped inputs beyond all but so many of the clean ones."""
    at = np.quantile(clean, 1 - level, method="higher")
    return float((stamped > at).mean())


def _alarms(chosen: Sequence[Network]) -> dict[str, object]:
    """Return the share of clean inputs with p-values at or below some levels, and far out."""
    ps = [p for n in chosen for p in n.p_values[0]]
    sizes = np.array([size for n in chosen for size in n.sizes[0]])
    return {
        "networks": len(chosen),
        "clean inputs": len(ps),
        **{
            f"p <= {level:g}": f"{share_at_most(ps, level):.4f}" for level in (0.01, 0.05, 0.1, 0.5)
        },
        **{f"size >= {size:g}": f"{(sizes >= size).mean():.5f}" for size in (1, 1.25, 1.5, 2, 3)},
    }


@app.command()
def speed(
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")], threads: int = 0
) -> None:
    """Print what 1,000 test images of each sample's data set cost."""
    from trainers.datasets import as_floats, load  # noqa: PLC0415 - imports torch

    for dataset in ("mnist", "fashion-mnist", "gtsrb"):
        test = as_floats(load(dataset, data.expanduser()).test.images[: CLEAN + 1000]).numpy()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clean.npz"
            np.savez(file, images=test[:CLEAN])
            settings = Settings(threads=threads)
            with InputFilter(
                SAMPLES / f"{dataset}-badnets.onnx", file, settings=settings
            ) as screener:
                first = _processor_seconds(screener.pid)
                begin = time.monotonic()
                screener.check(test[CLEAN:])
                wall, last = time.monotonic() - begin, _processor_seconds(screener.pid)
        print(
            f"{dataset}: at most {screener.passes} passes an input; {CLEAN} clean images "
            f"{first:.1f} CPU s, 1,000 inputs {last - first:.1f} CPU s, {wall:.1f} s of wall time"
        )


def _processor_seconds(pid: int) -> float:
    """Return the processor time of a process, its threads included (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    app()
