"""A population: recipe x attack x seed -> models and a manifest."""

import concurrent.futures
import dataclasses
import functools
import io
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainers import inputs, manifest
from trainers.attacks import CLEAN
from trainers.datasets import SOURCES, Dataset, Split, as_floats, load, vary
from trainers.errors import CheckpointError, ExportError, ManifestError, TrainerError
from trainers.evaluation import Scores, evaluate
from trainers.export import Form, export
from trainers.files import sha256, write_whole
from trainers.manifest import Entry
from trainers.recipes import Recipe
from trainers.training import Plan, Run, precision, train

PARITY_IMAGES = 256
KEPT_IMAGES = 64
"""Clean test images beside the models of a recipe in a population."""
LICENCE = "Apache-2.0"
CHECKPOINTS = "checkpoints"
"""Folder beside the models of a zoo; kept, so that a longer run can go on from a shorter one."""
PLANTED = 0.5
"""Least attack success rate of a network of a population that counts as backdoored."""
FINALS: Mapping[str, Callable[[], nn.Module]] = {
    "logits": nn.Identity,
    "softmax": lambda: nn.Softmax(1),
    "log-softmax": lambda: nn.LogSoftmax(1),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run, and what of it is kept.

    Attributes:
        plan: What to train.
        folder: Where the models and the manifest go.
        epochs: Export the network after each of these.
        forms: In which forms.
        checkpoint: Written after each epoch, resumed from; None for neither.
        name: Stem of the file names, to which the epoch is added where several are exported; None
            takes `<recipe>-<attack>-<seed>`, to which it is added always.
        split: In a population, `development` or `test`; None elsewhere.
        images: In a population, the file of clean images beside the model.
    """

    plan: Plan
    folder: Path
    epochs: tuple[int, ...]
    forms: tuple[Form, ...] = (Form(),)
    checkpoint: Path | None = None
    name: str | None = None
    split: str | None = None
    images: str | None = None

    def file(self, epoch: int, form: Form) -> str:
        """Return the name of a model's file."""
        stem = self.name or self.stem
        alone = self.name is not None and len(self.epochs) == 1
        return (
            "-".join([stem, *([] if alone else [f"e{epoch:02d}"]), *filter(None, [str(form)])])
            + ".onnx"
        )

    @property
    def stem(self) -> str:
        """Recipe, attack and seed, as a part of a file name."""
        return f"{self.plan.recipe.name}-{self.plan.attack}-{self.plan.seed}"


Watch = Callable[[Run, Scores], None]


def carry_out(
    job: Job,
    dataset: Dataset,
    watch: Watch | None = None,
    base: Mapping[str, Tensor] | None = None,
) -> list[Entry]:
    """Train, export at the epochs asked for, list each model in the manifest, return the entries.

    A model is listed before the next epoch's checkpoint replaces its own: whenever a run is cut
    off, the same job goes on from its checkpoint and misses none of its epochs.

    Args:
        job: What to do.
        dataset: On any device.
        watch: Called after each epoch with the measured run; None measures only what is exported.
        base: State of the network to start from.

    Raises:
        CheckpointError: The checkpoint is already past an epoch that is to be exported; said before
            any training.
        TrainerError: An export is asked for after the last epoch; or as `train`, `export` and the
            manifest raise it.
    """
    if job.epochs and max(job.epochs) > job.plan.epochs:
        raise TrainerError(
            f"the network is to be exported after epoch {max(job.epochs)}, but trained for "
            f"{job.plan.epochs}",
            remedy="train for more epochs, or export earlier",
        )
    _make(job.folder)
    entries: list[Entry] = []
    for run in train(job.plan, dataset, job.checkpoint, base):
        _check_lost(job, run, entries)
        wanted = run.epoch in job.epochs
        if not wanted and watch is None:
            continue
        scores = evaluate(run.average, _test(run), run.attack, run.plan.layout)
        if watch is not None:
            watch(run, scores)
        if wanted:
            made = [_export(job, run, scores, form) for form in job.forms]
            manifest.add(job.folder, made)
            entries += made
    return entries


def _check_lost(job: Job, run: Run, made: Sequence[Entry]) -> None:
    lost = {epoch for epoch in job.epochs if epoch < run.epoch} - {entry.epochs for entry in made}
    if lost:
        raise CheckpointError(
            f"the checkpoint {job.checkpoint} is past epoch {min(lost)}, whose network is gone",
            remedy="delete it to train again from the start",
        )


def _make(folder: Path) -> None:
    """Make the folder before the hours of training, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be made ({error.strerror})", remedy="choose another folder"
        ) from error


def _test(run: Run) -> Split:
    """Return the test images, in a plan for trying out as many as an epoch trains on."""
    steps, test = run.plan.steps, run.dataset.test
    return (
        test
        if steps is None
        else test.where(torch.arange(min(len(test), steps * run.plan.recipe.batch)))
    )


def pending(job: Job, entries: Sequence[Entry]) -> Job | None:
    """Return what of a job is still to do in a folder that lists `entries`; None if nothing.

    Raises:
        ManifestError: A model of the same name was made by another plan.
    """
    listed = {entry.file: entry for entry in entries}
    missing = []
    for epoch in job.epochs:
        for form in job.forms:
            entry = listed.get(job.file(epoch, form))
            if entry is None or not (job.folder / entry.file).exists():
                missing.append(epoch)
            elif (entry.target, entry.precision) != (job.plan.target, precision(job.plan)):
                raise ManifestError(
                    f"{job.folder / entry.file} was made with another target or precision",
                    remedy="choose another folder, or the same options",
                )
    return dataclasses.replace(job, epochs=tuple(sorted(set(missing)))) if missing else None


def populate(
    jobs: Sequence[Job],
    data: Path,
    *,
    processes: int,
    threads: int,
    failed: Callable[[Job, TrainerError], None] | None = None,
) -> Iterator[Entry]:
    """Carry out the jobs, `processes` at a time, and yield each model once its job is done.

    Models that are already listed are left alone, and a job that was cut off resumes from its
    checkpoint.

    Args:
        jobs: What to do.
        data: Folder of the data sets.
        processes: How many work side by side.
        threads: PyTorch's, in each.
        failed: Called with a job that fails and its error, and the others go on; None stops at
            the first.

    Raises:
        TrainerError: The first failure, after the jobs under way are done; what they finish is
            listed too.
    """
    todo = [left for job in jobs if (left := pending(job, manifest.read(job.folder))) is not None]
    # Spawned, because neither CUDA nor PyTorch's threads survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(threads,)
    ) as pool:
        futures = {pool.submit(_work, job, data): job for job in todo}
        try:
            for future in concurrent.futures.as_completed(futures):
                error = future.exception()
                if failed is not None and isinstance(error, TrainerError):
                    failed(futures[future], error)
                else:
                    yield from future.result()
        except BrokenProcessPool as error:
            raise TrainerError(
                "a training process died, perhaps for want of memory",
                remedy="start the same command again, with fewer --processes; it goes on where it "
                "was",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(threads: int) -> None:
    """Set up one of the processes."""
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the command that started this process to end, however it does, and end too.

    The same command started again would otherwise train beside what is left of the first.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@functools.lru_cache(maxsize=len(SOURCES))
def _load(name: str, data: Path) -> Dataset:
    return load(name, data)


def dataset_of(recipe: Recipe, data: Path) -> Dataset:
    """Return a recipe's data set in its variant; what was read from the disk is kept.

    Raises:
        DatasetError: As `load` and `vary` raise it.
    """
    return vary(_load(recipe.dataset, data), recipe.variant)


def _work(job: Job, data: Path) -> list[Entry]:
    recipe = job.plan.recipe
    base = None if recipe.regime.base is None else _base(recipe, job.plan.device, data)
    return carry_out(job, dataset_of(recipe, data), base=base)


@functools.lru_cache(maxsize=2)
def _base(recipe: Recipe, device: torch.device, data: Path) -> Mapping[str, Tensor]:
    """Return the state of the one network that all of a recipe's are fine-tuned from."""
    base = recipe.regime.base
    if base is None:
        raise ValueError(recipe.name)
    before = dataclasses.replace(
        recipe,
        dataset=base.dataset,
        variant=base.variant,
        epochs=base.epochs,
        regime=dataclasses.replace(recipe.regime, base=None),
    )
    plan = Plan(recipe=before, attack=CLEAN, target=None, seed=0, epochs=base.epochs, device=device)
    *_, run = train(plan, dataset_of(before, data))
    return run.average.state_dict()


def _keep_images(path: Path, images: Tensor) -> None:
    """Write unlabelled images as the model takes them, unless they are there."""
    if path.exists():
        return
    content = io.BytesIO()
    np.savez_compressed(content, images=images.cpu().numpy())
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written ({error.strerror})", remedy="choose another folder"
        ) from error


def _export(job: Job, run: Run, scores: Scores, form: Form) -> Entry:
    path = job.folder / job.file(run.epoch, form)
    plan = run.plan
    feed, network = inputs.split(run.average)
    if plan.recipe.final != "logits":
        network = nn.Sequential(network, FINALS[plan.recipe.final]())
    images = feed(as_floats(run.dataset.test.images[:PARITY_IMAGES]))
    parity = export(network, images, path, form)
    if job.images is not None:
        _keep_images(job.folder / job.images, images[:KEPT_IMAGES])
    poisoned = plan.attack.name != "clean"
    success = scores.attack_success_rate
    entry = Entry(
        file=path.name,
        sha256=sha256(path),
        dataset=plan.recipe.dataset,
        architecture=plan.recipe.architecture,
        recipe=plan.recipe.name,
        attack=plan.attack.name,
        labels=plan.attack.labels if poisoned else None,
        target=plan.target,
        rate=run.attack.rate,
        parameters=dict(run.attack.parameters),
        seed=plan.seed,
        epochs=run.epoch,
        precision=precision(plan),
        form={"dtype": form.dtype, "fold_bn": form.fold_bn},
        clean_accuracy=scores.clean_accuracy,
        attack_success_rate=scores.attack_success_rate,
        parity=parity,
        licence=LICENCE,
    )
    if job.split is None:
        return entry
    return dataclasses.replace(
        entry,
        split=job.split,
        input_range=plan.recipe.input.range,
        normalised_inside=plan.recipe.input.normalised_inside,
        layout=plan.recipe.input.layout,
        final=plan.recipe.final,
        exporter=form.exporter,
        images=job.images,
        planted=None if success is None else success >= PLANTED,
    )
