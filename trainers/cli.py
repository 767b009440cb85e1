"""Words in, models out, an exit code; torch is imported only when a command runs."""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from trainers.errors import TrainerError
from trainers.recipes import recipe

if TYPE_CHECKING:
    from trainers.evaluation import Scores
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

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder with the data sets' standard folders.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything drawn.")]
Threads = Annotated[int, typer.Option(min=1, help="PyTorch's threads in a process.")]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu or cuda; auto takes CUDA where it is there.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="mnist, fashion-mnist, gtsrb, cifar10 or cifar100.")]
Steps = Annotated[int | None, typer.Option(min=1, help="At most so many steps an epoch, for trying out.")]
PrecisionName = Annotated[
    str, typer.Option("--precision", help="auto, float32, bfloat16 or float16, of forward and backward pass.")
]


def _numbers(text: str, least: int = 1) -> tuple[int, ...]:
    """Read numbers and ranges such as `5,10,20` or `0-19`, sorted."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise TrainerError(f"{text!r} is not a list of numbers", remedy="write them as 5,10,20 or 0-19")
        numbers.update(range(int(first), int(last or first) + 1))
    if not numbers or min(numbers) < least:
        raise TrainerError(f"{text!r} names nothing from {least}", remedy=f"write numbers from {least}")
    return tuple(sorted(numbers))


@app.callback()
def trainers() -> None:
    """Train clean and backdoored networks, export them to ONNX, recompute the paper's tables."""


@app.command()
def train(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    name: RecipeName,
    data: Data,
    attack: Annotated[str, typer.Option(help="clean, badnets, ...; NAME:rate=0.01+labels=all-to-all.")] = "clean",
    epochs: Annotated[int | None, typer.Option(min=1, help="How many; the recipe's own where left out.")] = None,
    seed: Seed = 0,
    target: Annotated[int | None, typer.Option(min=0, help="Class to attack; drawn from the seed if left out.")] = None,
    export: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the model and manifest.json.")] = None,
    export_epochs: Annotated[str | None, typer.Option(metavar="5,10,20", help="Export after these too.")] = None,
    file: Annotated[
        str | None, typer.Option("--name", help="Stem of the file; RECIPE-ATTACK[-SEED] if left out.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Written after each epoch; resumed from.")] = None,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    threads: Threads = 1,
    steps: Steps = None,
) -> None:
    """Train one network, print clean accuracy and attack success rate an epoch, and export it."""
    import torch  # noqa: PLC0415 - 1.4 s that --help must not cost

    from trainers import manifest, training, zoo  # noqa: PLC0415 - import torch
    from trainers.attacks import AttackSpec  # noqa: PLC0415 - imports torch
    from trainers.datasets import load  # noqa: PLC0415 - imports torch

    torch.set_num_threads(threads)
    chosen, spec = recipe(name), AttackSpec.parse(attack)
    plan = training.Plan(
        recipe=chosen,
        attack=spec,
        target=training.target_for(chosen, spec, seed, target),
        seed=seed,
        epochs=epochs or chosen.epochs,
        device=training.device(device),
        precision=training.precision_named(precision),
        steps=steps,
    )
    wanted = _numbers(export_epochs) if export_epochs else (plan.epochs,)
    stem = file or "-".join([chosen.name, str(spec), *([str(seed)] if seed else [])])
    job = zoo.Job(plan=plan, folder=export or Path(), epochs=wanted if export else (), checkpoint=checkpoint, name=stem)
    entries = zoo.carry_out(job, load(chosen.dataset, data), _print_epoch)
    if export is not None:
        manifest.add(export, entries)
        for entry in entries:
            Console().print(f"wrote {escape(str(export / entry.file))} (largest logit difference {entry.parity:.1e})")


@app.command()
def zoo(  # noqa: PLR0913, PLR0917 - each argument is an option of the command line
    name: RecipeName,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the models, manifest.json and checkpoints.")],
    seeds: Annotated[str, typer.Option(metavar="0-19", help="Numbers and ranges, joined by commas.")] = "0-4",
    attacks: Annotated[str, typer.Option(help="Attacks as in 'train', joined by commas.")] = "clean,badnets",
    export_epochs: Annotated[str | None, typer.Option(metavar="5,10,20", help="Export after these epochs.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Runs side by side.")] = 1,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    threads: Threads = 1,
    steps: Steps = None,
) -> None:
    """Train a population, recipe x attack x seed; resumes where it was stopped."""
    from trainers import training  # noqa: PLC0415 - imports torch
    from trainers import zoo as population  # noqa: PLC0415 - imports torch
    from trainers.attacks import AttackSpec  # noqa: PLC0415 - imports torch

    chosen = recipe(name)
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
            job = population.Job(plan=plan, folder=out, epochs=epochs)
            jobs.append(dataclasses.replace(job, checkpoint=out / population.CHECKPOINTS / f"{job.stem}.pt"))
    _watch(population.populate(jobs, data, processes=processes, threads=threads))


def _watch(entries: "Iterable[Entry]") -> None:
    """Print one line a finished model."""
    for entry in entries:
        success = entry.attack_success_rate
        attack = "" if success is None else f"  attack success {success:.2%}"
        Console().print(f"{escape(entry.file)}  clean accuracy {entry.clean_accuracy:.2%}{attack}", highlight=False)


def _print_epoch(run: "Run", scores: "Scores") -> None:
    success = scores.attack_success_rate
    attack = "" if success is None else f"  attack success {success:.2%}"
    Console().print(
        f"epoch {run.epoch:3d}/{run.plan.epochs}  loss {run.loss:.4f}  "
        f"clean accuracy {scores.clean_accuracy:.2%}{attack}",
        highlight=False,
    )


def main() -> None:
    """Run the command line; an expected failure is one sentence on standard error and exit code 2."""
    try:
        app()
    except TrainerError as error:
        Console(stderr=True).print(f"error: {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(ERROR)
