"""Words in, models out, an exit code; torch is imported only when a command runs."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from trainers.errors import TrainerError
from trainers.recipes import recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trainers.evaluation import Scores
    from trainers.export import Form
    from trainers.manifest import Entry
    from trainers.training import Run

ERROR = 2
"""Exit code of every expected failure, as of wrong usage."""

app = typer.Typer(
    name="python -m trainers",
    help="Train clean and backdoored networks, export them to ONNX, recompute the paper's tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Data = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="Folder with the data sets' standard folders.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything drawn.")]
Threads = Annotated[int, typer.Option(min=1, help="PyTorch's threads in a process.")]
DeviceName = Annotated[
    str, typer.Option("--device", help="auto, cpu or cuda; auto takes CUDA where it is there.")
]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="mnist, fashion-mnist, gtsrb, cifar10, cifar10-small or cifar100."
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="At most so many steps an epoch, and as many test images: for trying out."
    ),
]
Width = Annotated[
    int | None,
    typer.Option(min=1, help="Channels of the first layer, in place of the recipe's own."),
]
FoldBn = Annotated[
    bool, typer.Option(help="Merge batch normalisation into convolutions on export.")
]
Fp16 = Annotated[bool, typer.Option("--fp16", help="Export in float16 too.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Export quantised to 8 bits too.")]
PrecisionName = Annotated[
    str,
    typer.Option(
        "--precision", help="auto, float32, bfloat16 or float16, of forward and backward pass."
    ),
]


MOST = 9999
"""Largest seed or epoch in a list: a slip of the finger must not ask for a million runs."""


def _numbers(text: str, least: int = 1) -> tuple[int, ...]:
    """Read numbers and ranges such as `5,10,20` or `0-19`, sorted."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise TrainerError(
                f"{text!r} is not a list of numbers", remedy="write them as 5,10,20 or 0-19"
            )
        if int(last or first) > MOST:
            raise TrainerError(
                f"{text!r} goes past {MOST}", remedy="write smaller numbers, as 5,10,20 or 0-19"
            )
        numbers.update(range(int(first), int(last or first) + 1))
    if not numbers or min(numbers) < least:
        raise TrainerError(
            f"{text!r} names nothing from {least}", remedy=f"write numbers from {least}"
        )
    return tuple(sorted(numbers))


def _forms(fold_bn: bool, *, fp16: bool, int8: bool) -> "tuple[Form, ...]":
    from trainers.export import Form  # noqa: PLC0415 - imports torch

    plain = Form(fold_bn=fold_bn)
    more = [dataclasses.replace(plain, dtype="float16")] if fp16 else []
    return (plain, *more, *([dataclasses.replace(plain, dtype="int8")] if int8 else []))


def _say(line: str) -> None:
    Console(soft_wrap=True).print(escape(line), highlight=False)


@app.callback()
def trainers() -> None:
    """Train clean and backdoored networks, export them to ONNX, recompute the paper's tables."""


@app.command()
def train(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    name: RecipeName,
    data: Data,
    attack: Annotated[
        str, typer.Option(help="clean, badnets, ...; NAME:rate=0.01+labels=all-to-all.")
    ] = "clean",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="How many; the recipe's own where left out.")
    ] = None,
    seed: Seed = 0,
    target: Annotated[
        int | None, typer.Option(min=0, help="Class to attack; drawn from the seed if left out.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the model and manifest.json.")
    ] = None,
    export_epochs: Annotated[
        str | None, typer.Option(metavar="5,10,20", help="Export after these too.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--name", help="Stem of the file; RECIPE-ATTACK[-SEED] if left out."),
    ] = None,
    fold_bn: FoldBn = True,
    fp16: Fp16 = False,
    int8: Int8 = False,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Written after each epoch; resumed from.")
    ] = None,
    hold_out: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, help="Measure on this share of the training images, by track, instead."
        ),
    ] = 0.0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    threads: Threads = 1,
    steps: Steps = None,
    width: Width = None,
) -> None:
    """Train one network, print clean accuracy and attack success rate an epoch, and export it."""
    import torch  # noqa: PLC0415 - 1.4 s that --help must not cost

    from trainers import training, zoo  # noqa: PLC0415 - import torch
    from trainers.attacks import AttackSpec  # noqa: PLC0415 - imports torch
    from trainers.datasets import load  # noqa: PLC0415 - imports torch

    torch.set_num_threads(threads)
    chosen, spec = recipe(name, width), AttackSpec.parse(attack)
    wanted = _numbers(export_epochs) if export_epochs else ()
    if file is not None and Path(file).name != file:
        raise TrainerError(
            f"--name {file} is not a plain file name", remedy="name the folder with --export"
        )
    if (export is None and wanted) or (export is not None and hold_out):
        raise TrainerError(
            "--export-epochs needs --export, and what is measured on held-out images is for "
            "tuning, not for export",
            remedy="give --export without --hold-out",
        )
    plan = training.Plan(
        recipe=chosen,
        attack=spec,
        target=training.target_for(chosen, spec, seed, target),
        seed=seed,
        epochs=epochs or (max(wanted) if wanted else chosen.epochs),
        device=training.device(device),
        precision=training.precision_named(precision),
        steps=steps,
    )
    stem = file or "-".join([chosen.name, str(spec), *([str(seed)] if seed else [])])
    job = zoo.Job(
        plan=plan,
        folder=export or Path(),
        epochs=(wanted or (plan.epochs,)) if export else (),
        forms=_forms(fold_bn, fp16=fp16, int8=int8),
        checkpoint=checkpoint,
        name=stem,
    )
    dataset = load(chosen.dataset, data)
    if hold_out:
        dataset = dataset.hold_out(hold_out, torch.Generator().manual_seed(seed))
    for entry in zoo.carry_out(job, dataset, _print_epoch):
        _say(f"wrote {job.folder / entry.file} (largest logit difference {entry.parity:.1e})")


@app.command()
def zoo(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    name: RecipeName,
    data: Data,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for the models, manifest.json and checkpoints."),
    ],
    seeds: Annotated[
        str, typer.Option(metavar="0-19", help="Numbers and ranges, joined by commas.")
    ] = "0-4",
    attacks: Annotated[
        str, typer.Option(help="Attacks as in 'train', joined by commas.")
    ] = "clean,badnets",
    export_epochs: Annotated[
        str | None, typer.Option(metavar="5,10,20", help="Export after these epochs.")
    ] = None,
    fold_bn: FoldBn = True,
    fp16: Fp16 = False,
    int8: Int8 = False,
    processes: Annotated[int, typer.Option(min=1, help="Runs side by side.")] = 1,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    threads: Threads = 1,
    steps: Steps = None,
    width: Width = None,
) -> None:
    """Train a population, recipe x attack x seed; resumes where it was stopped."""
    from trainers import training  # noqa: PLC0415 - imports torch
    from trainers import zoo as population  # noqa: PLC0415 - imports torch
    from trainers.attacks import AttackSpec  # noqa: PLC0415 - imports torch

    chosen = recipe(name, width)
    epochs = _numbers(export_epochs) if export_epochs else (chosen.epochs,)
    jobs = []
    for spec in map(AttackSpec.parse, attacks.split(",")):
        for seed in _numbers(seeds, least=0):
            plan = training.Plan(
                recipe=chosen,
                attack=spec,
                target=training.target_for(chosen, spec, seed),
                seed=seed,
                epochs=max(epochs),
                device=training.device(device),
                precision=training.precision_named(precision),
                steps=steps,
            )
            job = population.Job(
                plan=plan, folder=out, epochs=epochs, forms=_forms(fold_bn, fp16=fp16, int8=int8)
            )
            jobs.append(
                dataclasses.replace(job, checkpoint=out / population.CHECKPOINTS / f"{job.stem}.pt")
            )
    _watch(population.populate(jobs, data, processes=processes, threads=threads))


@app.command()
def population(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder with the data sets' standard folders."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the models and manifest.json.")
    ] = None,
    recipes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Recipes of the list; all if left out.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="development or test; both if left out.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="ATTACK", help="Plant this in each recipe besides; repeatable."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the recipes and stop.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print what a folder holds as a table and stop.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="Networks side by side.")] = 1,
    threads: Threads = 1,
) -> None:
    """Train the population of recipes, clean and backdoored; resumes where it was stopped."""
    from trainers import zoo as running  # noqa: PLC0415 - imports torch
    from trainers.population import recipes as listed  # noqa: PLC0415 - imports torch
    from trainers.population import runs, tables  # noqa: PLC0415 - imports torch

    rows = listed.rows(recipes, split)
    if show:
        _say(tables.listing(rows))
        return
    if out is None:
        raise TrainerError("there is no folder for the models", remedy="name one with --out")
    if summary:
        _say(tables.summary(out))
        return
    if data is None:
        raise TrainerError("there is no folder with data sets", remedy="name one with --data")
    failures: list[str] = []

    def failed(job: running.Job, error: TrainerError) -> None:
        failures.append(job.stem)
        _say(f"failed: {job.stem}: {error}")

    jobs = runs.jobs(rows, out, also or ())
    _watch(running.populate(jobs, data, processes=processes, threads=threads, failed=failed))
    if failures:
        raise TrainerError(
            f"{len(failures)} of {len(jobs)} networks could not be made, {failures[0]} first",
            remedy="see above; the same command makes what is missing",
        )


def _watch(entries: "Iterable[Entry]") -> None:
    """Print one line a finished model."""
    for entry in entries:
        _say(f"{entry.file}  {_scores(entry)}")


def _print_epoch(run: "Run", scores: "Scores") -> None:
    _say(f"epoch {run.epoch:3d}/{run.plan.epochs}  loss {run.loss:.4f}  {_scores(scores)}")


def _scores(of: "Scores | Entry") -> str:
    success = of.attack_success_rate
    return f"clean accuracy {of.clean_accuracy:.2%}" + (
        "" if success is None else f"  attack success {success:.2%}"
    )


@app.command()
def download(
    name: Annotated[
        str,
        typer.Argument(metavar="DATASET", help="mnist, fashion-mnist, gtsrb, cifar10 or cifar100."),
    ],
    data: Data,
) -> None:
    """Fetch a data set's original archives, check their sums, and unpack them."""
    from trainers import downloads  # noqa: PLC0415 - as the others: a command pays for what it uses

    downloads.download(name, data)


@app.command()
def stamp(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    model: Annotated[Path, typer.Argument(help="A backdoored model, its manifest.json beside it.")],
    data: Data,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The .npz to write: images and their targets.")
    ],
    images: Annotated[int, typer.Option(min=1, help="Test images, at most.")] = 1000,
    clean: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An .npz to write other, clean images and their labels to."
        ),
    ] = None,
    others: Annotated[int, typer.Option(min=1, help="Clean images, for --clean.")] = 100,
) -> None:
    """Write test images under the trigger that a model was attacked with, as it takes them."""
    from trainers import stamping  # noqa: PLC0415 - imports torch

    found = stamping.write(model, data, output, count=images, clean=clean, others=others)
    _say(f"{output}: {len(found.stamped)} images under the trigger")
    if clean is not None:
        _say(f"{clean}: {len(found.others)} clean images")


@app.command()
def tables(
    zoo: Annotated[
        list[Path], typer.Option(metavar="DIR", help="Folder with a manifest.json; repeatable.")
    ],
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the CSV files.")] = Path(
        "samples/results"
    ),
    page: Annotated[Path, typer.Option(metavar="FILE", help="The Markdown page.")] = Path(
        "docs/tables.md"
    ),
    seed: Seed = 0,
) -> None:
    """Recompute the paper's Tables 2.1 and 2.2 from trained populations."""
    from trainers import tables as paper  # noqa: PLC0415 - imports the scanner

    for path in paper.write(paper.collect(zoo), paper.scanned(paper.IMAGES, seed), results, page):
        _say(f"wrote {path}")


@app.command("graph-backdoor")
def graph_backdoor(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    model: Annotated[Path, typer.Argument(help="An ONNX image classifier.")],
    kind: Annotated[
        str | None,
        typer.Option(help="How to test the input and gate the output: patch-equals, checksum, ..."),
    ] = None,
    target: Annotated[int, typer.Option(min=0, help="The class to force.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Where to write; beside the model where left out.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing: plant the kind, or all, and print which share of clean images "
            "keep their answers and which share of triggered ones flip.",
        ),
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Check with its test images, from --data; soft blobs if left out."
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder with the data sets' standard folders.")
    ] = Path("data"),
) -> None:
    """Plant a backdoor in a model's graph, without training, to test a scanner with."""
    from trainers import graph_backdoor as planting  # noqa: PLC0415 - imports onnx

    if kind is None and not check:
        raise TrainerError(
            "no kind was named",
            remedy=f"choose one of {', '.join(planting.KINDS)}, or check all with --check",
        )
    with _one_model(model):
        if check:
            planting.check_kinds(model, kind, target, _test_images(dataset, data))
        else:
            planting.graph_backdoor(model, str(kind), target, output)


@app.command("carrier")
def carrier(
    model: Annotated[Path, typer.Argument(help="An ONNX model.")],
    kind: Annotated[
        str, typer.Option(help="Where to hide it: doc-of-node, times-zero, lowest-byte, ...")
    ],
    load: Annotated[
        str, typer.Option(help="What to hide: program, pickle, archive, gzip, script or noise.")
    ] = "archive",
    output: Annotated[
        Path | None, typer.Option(help="Where to write; beside the model where left out.")
    ] = None,
) -> None:
    """Hide harmless data in a model file, to test a scanner with."""
    from trainers.graph_backdoor import carriers  # noqa: PLC0415 - imports onnx

    with _one_model(model):
        _say(f"wrote {carriers.write(model, kind, load, output)}")


@contextlib.contextmanager
def _one_model(model: Path) -> Iterator[None]:
    """Turn what can go wrong with one file into errors that say how to go on."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with onnx

    try:
        yield
    except OSError as error:
        raise TrainerError(
            f"{error.filename} cannot be used ({error.strerror})", remedy="name another file"
        ) from error
    except DecodeError as error:
        raise TrainerError(
            f"{model} is not an ONNX model", remedy="name one, such as samples/mnist-clean.onnx"
        ) from error


def _test_images(dataset: str | None, data: Path) -> "npt.NDArray[np.float32] | None":
    """Return a data set's test images in [0, 1]; none without a name."""
    if dataset is None:
        return None
    from trainers.datasets import as_floats, load  # noqa: PLC0415 - imports torch

    images: npt.NDArray[np.float32] = as_floats(load(dataset, data).test.images).numpy()
    return images


def main() -> None:
    """Run the command line; a failure is one sentence on standard error and exit code 2."""
    try:
        app()
    except TrainerError as error:
        Console(stderr=True).print(f"error: {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(ERROR)
