"""Speed of the training loop, as ratios in one run.

    python benchmarks/training.py --data DIR

On any machine: an epoch of MNIST here over a plain PyTorch loop on the same tensors (bar: 1.1), on
the CPU, and the share of its time that goes into making batches. Both in CPU seconds over all
threads, which other work on the machine disturbs least, and the ratio in seconds of the clock too;
an epoch is cut to its first 200 steps, and the median of alternating rounds taken. Then the same
share for every other recipe, over a few steps on random images, on the CUDA device where there is
one (seconds of the clock) or on the CPU (CPU seconds).
On a CUDA device also: images a second of ResNet18 on CIFAR-10 shapes, with and without mixed
precision and channels-last. The figures go to samples/results/, named after the hardware and ONNX
Runtime's version.
"""

import argparse
import csv
import io
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional

from trainers import training
from trainers.architectures import ARCHITECTURES
from trainers.attacks import AttackSpec
from trainers.datasets import SOURCES, Dataset, Split, load
from trainers.files import write_whole
from trainers.recipes import RECIPES
from trainers.tables import hardware, onnxruntime_version
from trainers.training import Plan

ROUNDS = 5
STEPS = 200
FEW = {"fashion-mnist": 100, "gtsrb": 50, "cifar10": 2, "cifar10-small": 1, "cifar100": 1}
"""Steps of each other recipe on a CPU."""
MANY = 50
"""On a CUDA device."""
BAR = 1.1


def _plan(recipe: str, **others: object) -> Plan:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given = {
        "recipe": RECIPES[recipe],
        "attack": AttackSpec("badnets"),
        "target": 0,
        "seed": 0,
        "epochs": 10_000,
    }
    return Plan(**(given | {"device": device, "precision": "float32"} | others))  # type: ignore[arg-type] # by name


def _ours(plan: Plan, dataset: Dataset) -> Callable[[], None]:
    epochs = training.train(plan, dataset)
    return lambda: (next(epochs), None)[1]


def _plain(dataset: Dataset) -> Callable[[], None]:
    """Return the plain loop: float images, Adam, cross-entropy, no attack, no averaging."""
    recipe = RECIPES["mnist"]
    images, labels = dataset.train.images.float() / 255, dataset.train.labels
    network = ARCHITECTURES[recipe.architecture](dataset.shape, dataset.classes, recipe.width)
    optimiser = torch.optim.Adam(network.parameters(), recipe.learning_rate)

    def epoch() -> None:
        for picked in torch.split(torch.randperm(len(images)), recipe.batch)[:STEPS]:
            loss = functional.cross_entropy(network(images[picked]), labels[picked])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()

    return epoch


class Spent(NamedTuple):
    """What some work took, in seconds of the clock and CPU seconds over all threads."""

    clock: float
    cpu: float


def _seconds(work: Callable[[], None]) -> Spent:
    _finish()
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    _finish()
    return Spent(time.perf_counter() - clock, time.process_time() - cpu)


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _batches_only(plan: Plan, dataset: Dataset) -> Callable[[], None]:
    """Return one epoch of everything but the network: augmentation, stamping, layout."""
    run = training.start(plan, dataset)
    generator = torch.Generator(plan.device).manual_seed(0)

    def epoch() -> None:
        for images, labels, roles in training.batches(run, generator):
            run.attack.poison(images, labels, roles, generator)[0].contiguous(
                memory_format=plan.layout
            )

    return epoch


def mnist(data: Path) -> Iterator[tuple[str, float]]:
    """Yield the speed, its ratio to the plain loop, and the share of time spent on batches.

    All are medians of alternating rounds.
    """
    dataset = load("mnist", data)
    plan = _plan("mnist", device=torch.device("cpu"), steps=STEPS)
    works = {
        "ours": _ours(plan, dataset),
        "plain": _plain(dataset),
        "batches": _batches_only(plan, dataset),
    }
    for work in works.values():
        work()  # the first epoch of each pays for what is set up once
    rounds = [{name: _seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    ours, plain, batches = (statistics.median(each[name].cpu for each in rounds) for name in works)
    elapsed = [statistics.median(each[name].clock for each in rounds) for name in ("ours", "plain")]
    yield "MNIST, images a CPU second", STEPS * plan.recipe.batch / ours
    yield f"MNIST epoch over a plain loop, CPU seconds (bar {BAR})", ours / plain
    yield f"MNIST epoch over a plain loop, seconds (bar {BAR})", elapsed[0] / elapsed[1]
    yield "mnist: share of an epoch that makes batches", batches / ours


def _random(recipe: str, count: int) -> Dataset:
    """Return random images of a recipe's shape; speed does not depend on what is in them."""
    classes, shape = SOURCES[recipe].classes, (1, 28, 28) if "mnist" in recipe else (3, 32, 32)
    split = Split(
        images=torch.randint(256, (count, *shape), dtype=torch.uint8),
        labels=torch.randint(classes, (count,)),
        tracks=torch.arange(count),
    )
    return Dataset(name=recipe, classes=classes, train=split, test=split)


def shares() -> Iterator[tuple[str, float]]:
    """Yield each recipe's share of time spent on batches, after a warm-up epoch; not MNIST's."""
    for recipe, few in FEW.items():
        plan = _plan(recipe, steps=MANY if torch.cuda.is_available() else few, precision="auto")
        dataset = _random(recipe, (plan.steps or 1) * plan.recipe.batch)
        works = (_batches_only(plan, dataset), _ours(plan, dataset))
        for work in works:
            work()
        spent = [_seconds(work) for work in works]
        batches, ours = (each.clock if torch.cuda.is_available() else each.cpu for each in spent)
        yield f"{recipe}: share of an epoch that makes batches", batches / ours


def resnet18() -> Iterator[tuple[str, float]]:
    """Yield images a second of ResNet18 in training, four ways."""
    dataset = _random("cifar10", 100 * RECIPES["cifar10"].batch)
    for precision, channels_last in itertools.product(("float32", "auto"), (False, True)):
        plan = _plan("cifar10", epochs=1 + ROUNDS, precision=precision, channels_last=channels_last)
        epoch = _ours(plan, dataset)
        epoch()
        layout = "channels-last" if channels_last else "channels-first"
        rate = len(dataset.train) / statistics.median(_seconds(epoch).clock for _ in range(ROUNDS))
        yield f"ResNet18 training, {training.precision(plan)}, {layout}, images a second", rate


def main() -> None:
    """Measure, print, and write the figures to the results folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the data sets' standard folders"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("samples/results"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures = itertools.chain(
        mnist(options.data), shares(), resnet18() if torch.cuda.is_available() else ()
    )
    path = options.results / f"training-speed-{hardware()}-{onnxruntime_version()}.csv"
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("figure", "value", "torch", "threads"))
    for name, value in figures:
        print(f"{value:10.3f}  {name}", flush=True)
        writer.writerow((name, f"{value:.6g}", torch.__version__, options.threads))
    write_whole(path, table.getvalue().encode())
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
