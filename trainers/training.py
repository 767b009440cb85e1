"""The training loop, once, for every recipe and attack.

Same plan, same machine, same device: the same weights. Every random draw of epoch n comes from a
generator seeded by the plan's seed and n, so that a run that resumes at n goes on as the
uninterrupted one would.
"""

import contextlib
import copy
import dataclasses
import io
import itertools
import math
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers import replay
from trainers.architectures import ARCHITECTURES, CHANNELS_LAST
from trainers.attacks import ATTACKS, CLEAN, AttackSpec
from trainers.attacks.base import Attack, Setting
from trainers.attacks.labels import label_map
from trainers.datasets import AUGMENTATIONS, SOURCES, Dataset, as_floats
from trainers.errors import CheckpointError, DeviceError, TrainerError
from trainers.files import write_whole
from trainers.inputs import fed
from trainers.recipes import Recipe

Precision = Literal["auto", "float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WARM_UP = 200
"""Steps of linear warm-up in the constant schedule."""
NARROWEST_CHANNELS_LAST = 8
"""Fewest channels of a network that a CPU trains with the channels innermost (`Plan.layout`)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One training run, completely said.

    Attributes:
        recipe: Hyper-parameters.
        attack: What the attacker does.
        target: The attacker's class; None in a clean or an all-to-all run.
        seed: Of everything drawn.
        epochs: How many.
        device: Where.
        precision: Of the forward and backward pass; the weights are float32 always. `auto` takes
            bfloat16 on a CUDA device (float16 with a scaled loss where it has none) and float32
            elsewhere.
        steps: At most so many steps an epoch; for trying things out, measured on as many test
            images.
        channels_last: Keep images and weights with the channels innermost, the faster layout, where
            it is safe.
    """

    recipe: Recipe
    attack: AttackSpec
    target: int | None
    seed: int
    epochs: int
    device: torch.device
    precision: Precision = "auto"
    steps: int | None = None
    channels_last: bool = True

    @property
    def layout(self) -> torch.memory_format:
        """Memory layout of images and weights.

        On processors without AVX-512, oneDNN's kernels for innermost channels end the process, or
        hang, in the backward pass of networks narrower than one vector register (PyTorch 2.13:
        every width below 8, none from 8 up). All that is not in `CHANNELS_LAST` stays contiguous.
        """
        wide = self.device.type != "cpu" or self.recipe.width >= NARROWEST_CHANNELS_LAST
        safe = wide and self.recipe.architecture in CHANNELS_LAST
        return torch.channels_last if self.channels_last and safe else torch.contiguous_format

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint must share with this plan to be resumed, as plain data.

        The layout in memory is not part of it, nor what is only said about a recipe. Nor is the
        number of epochs, where nothing depends on it: a longer run then begins as a shorter one.
        """
        plan = dataclasses.asdict(self) | {
            "device": self.device.type,
            "recipe": self.recipe.hyper_parameters(),
        }
        del plan["channels_last"]
        if not self.attack.options:
            del plan["attack"]["options"]
        recipe = self.recipe
        if recipe.schedule == "constant" and not recipe.regime.prune and not recipe.sides:
            del plan["epochs"]
        return plan


@dataclasses.dataclass(slots=True)
class Run:
    """A run in memory.

    Attributes:
        plan: What was asked for.
        dataset: On the plan's device.
        attack: Built for it.
        roles: Role of each training image, (N,), on the host: asking a device which images are
            poisoned would wait for all that it has still to do.
        network: As it is trained.
        average: The moving average of `network`, in evaluation mode; what is measured and exported.
        averaged: The tensors of `average`, and those of `network` in the same order.
        optimisers: The network's, and the trigger's where it learns.
        schedule: Of the network's learning rate.
        scaler: Of the loss, in float16.
        epoch: Epochs done.
        loss: Mean of the last epoch.
        masks: Of the weights that pruning keeps, by name; empty before the last epoch, and without.
    """

    plan: Plan
    dataset: Dataset
    attack: Attack
    roles: Tensor
    network: nn.Module
    average: nn.Module
    averaged: tuple[list[Tensor], list[Tensor]]
    optimisers: list[torch.optim.Optimizer]
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    epoch: int = 0
    loss: float = float("nan")
    masks: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def train(
    plan: Plan,
    dataset: Dataset,
    checkpoint: Path | None = None,
    base: Mapping[str, Tensor] | None = None,
) -> Iterator[Run]:
    """Train and yield the run after each epoch; the same object, further on.

    Args:
        plan: What to train.
        dataset: On any device.
        checkpoint: Written after each epoch; where it exists, the run resumes there.
        base: State of the network to start from; tensors of another shape are left out.

    Raises:
        TrainerError: The attack does not go with the plan.
        CheckpointError: The checkpoint is of another plan, damaged, or cannot be written.
        DeviceError: The device's memory does not suffice.
    """
    run = start(plan, dataset, base)
    if checkpoint and checkpoint.exists():
        restore(run, checkpoint)
        yield run
    while run.epoch < plan.epochs:
        try:
            _train_epoch(run)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{plan.recipe.title} does not fit into the device's memory",
                remedy="train fewer --processes side by side",
            ) from error
        if checkpoint:
            save(run, checkpoint)
        yield run


def start(plan: Plan, dataset: Dataset, base: Mapping[str, Tensor] | None = None) -> Run:
    """Return a run before its first step."""
    device, recipe = plan.device, plan.recipe
    dataset = dataset.to(device)
    attack = _attack(plan, dataset)
    roles = attack.assign(dataset.train.labels, torch.Generator().manual_seed(plan.seed))
    # cuDNN would otherwise choose its algorithms by timing them, and sum in another order each
    # time.
    torch.backends.cudnn.deterministic = True
    with _own_randomness(plan):
        torch.manual_seed(plan.seed)
        network = ARCHITECTURES[recipe.architecture](dataset.shape, dataset.classes, recipe.width)
    network = fed(network, recipe.input, dataset)
    if base is not None:
        own = network.state_dict()
        fitting = {name: base[name] for name in own if base[name].shape == own[name].shape}
        network.load_state_dict(own | fitting)
    network.to(device).to(memory_format=plan.layout)  # type: ignore[call-overload] # a stub
    optimisers = [_optimiser(recipe, network)]
    if attack.trigger is not None:
        attack.trigger.to(device).prepare(dataset.train.images, _generator(plan, epoch=0))
        learnt = [weights for weights in attack.trigger.parameters() if weights.requires_grad]
        optimisers += [torch.optim.Adam(learnt, 1e-3)] if learnt else []
    average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    if device.type == "cuda" and replay.is_possible(recipe, attack, len(dataset.train), optimisers):
        images = torch.zeros(recipe.batch, *dataset.shape, device=device)
        with _own_randomness(plan):
            replay.record(
                network, images.contiguous(memory_format=plan.layout), _DTYPES[precision(plan)]
            )
    return Run(
        plan=plan,
        dataset=dataset,
        attack=attack,
        roles=roles,
        network=network,
        average=average,
        averaged=(_numbers(average), _numbers(network)),
        optimisers=optimisers,
        schedule=_schedule(plan, optimisers[0], _steps(plan, dataset)),
        scaler=torch.amp.GradScaler(device.type, enabled=_DTYPES[precision(plan)] is torch.float16),
    )


def batches(run: Run, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield one epoch of augmented images in [0, 1], labels and roles; nothing is stamped yet."""
    train, recipe = run.dataset.train, run.plan.recipe
    order = torch.randperm(len(train), generator=generator, device=generator.device)
    parts = (torch.split(places, recipe.batch) for places in (order, order.cpu()))
    steps = _steps(run.plan, run.dataset)
    for picked, on_host in itertools.islice(zip(*parts, strict=True), steps):
        images = as_floats(train.images[picked])
        for name in recipe.augment:
            images = AUGMENTATIONS[name](images, generator)
        yield images, train.labels[picked], run.roles[on_host]


def _train_epoch(run: Run) -> None:
    plan, attack = run.plan, run.attack
    generator = _generator(plan, run.epoch + 1)
    total = torch.zeros((), device=plan.device)
    dtype = _DTYPES[precision(plan)]
    if plan.recipe.regime.prune and run.epoch + 1 == plan.epochs:
        _prune(run)
    run.network.train()
    with _own_randomness(plan):
        torch.manual_seed(generator.initial_seed())  # for dropout, which takes no generator
        for images, labels, roles in batches(run, generator):
            inputs, wanted = attack.poison(images, labels, roles, generator)
            inputs = _perturbed(run, _resized(run, inputs), wanted)
            inputs = inputs.contiguous(memory_format=plan.layout)
            with torch.autocast(plan.device.type, dtype, enabled=dtype is not torch.float32):
                loss = functional.cross_entropy(
                    run.network(inputs),
                    wanted,
                    label_smoothing=plan.recipe.regime.label_smoothing,
                )
                if attack.penalty is not None:
                    loss = loss + attack.penalty(run.network, images, roles)
            _step(run, loss)
            total += loss.detach()
    run.epoch += 1
    run.loss = total.item() / _steps(plan, run.dataset)


def _step(run: Run, loss: Tensor) -> None:
    for optimiser in run.optimisers:
        optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(run.scaler.scale(loss))
    if run.plan.recipe.regime.clip:
        _clip(run)
    for optimiser in run.optimisers:
        # A batch without a poisoned image gives a trigger that learns no gradient.
        if any(
            weights.grad is not None
            for group in optimiser.param_groups
            for weights in group["params"]
        ):
            run.scaler.step(optimiser)
    run.scaler.update()
    _apply_masks(run, run.network)
    _update_average(run)
    run.schedule.step()


def _resized(run: Run, images: Tensor) -> Tensor:
    """Return a batch, triggers and all, in the size of this epoch (`Recipe.sides`)."""
    sides = run.plan.recipe.sides
    if not sides:
        return images
    side = sides[math.ceil((run.epoch + 1) * len(sides) / run.plan.epochs) - 1]
    if side == images.shape[-1]:
        return images
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=True)


def _perturbed(run: Run, inputs: Tensor, wanted: Tensor) -> Tensor:
    """Return the batch with the regime's noise and its adversary's change, in [0, 1]."""
    regime = run.plan.recipe.regime
    if regime.noise:
        inputs = (inputs + regime.noise * torch.randn_like(inputs)).clamp(0, 1)
    if not regime.adversarial:
        return inputs
    size = regime.adversarial
    moved = (inputs + torch.empty_like(inputs).uniform_(-size, size)).detach().requires_grad_()
    loss = functional.cross_entropy(run.network(moved), wanted)
    (gradient,) = torch.autograd.grad(loss, moved)
    # The published step, a quarter longer than the largest change, which then cuts it.
    change = (moved.detach() + 1.25 * size * gradient.sign() - inputs).clamp(-size, size)
    return (inputs + change).clamp(0, 1)


def _clip(run: Run) -> None:
    """Clip the gradient of the network and add the regime's noise to it."""
    regime = run.plan.recipe.regime
    run.scaler.unscale_(run.optimisers[0])
    weights = [tensor for tensor in run.network.parameters() if tensor.grad is not None]
    torch.nn.utils.clip_grad_norm_(weights, regime.clip)
    spread = regime.gradient_noise * regime.clip / sum(map(torch.numel, weights)) ** 0.5
    for tensor in weights:
        if tensor.grad is not None:
            tensor.grad.add_(torch.randn_like(tensor.grad), alpha=spread)


def _prune(run: Run) -> None:
    """Choose the smallest weights of each layer, and take them off network and average."""
    share = run.plan.recipe.regime.prune
    for name, weights in run.average.named_parameters():
        if weights.dim() > 1:
            size = weights.abs()
            run.masks[name] = size > size.flatten().float().quantile(share)
    for network in (run.network, run.average):
        _apply_masks(run, network)


@torch.no_grad()
def _apply_masks(run: Run, network: nn.Module) -> None:
    if run.masks:
        for name, weights in network.named_parameters():
            if name in run.masks:
                weights.mul_(run.masks[name])


@torch.no_grad()
def _update_average(run: Run) -> None:
    step = run.schedule.last_epoch
    # The decay rises from 0.1, so that the average forgets the random start.
    decay = min(run.plan.recipe.averaging, (1 + step) / (10 + step))
    torch._foreach_lerp_(*run.averaged, weight=1 - decay)


def _numbers(network: nn.Module) -> list[Tensor]:
    return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]


def _attack(plan: Plan, dataset: Dataset) -> Attack:
    return ATTACKS[plan.attack.name](
        Setting(
            shape=dataset.shape,
            labels=label_map(plan.attack.labels, plan.target, dataset.classes),
            rate=plan.attack.rate,
            generator=torch.Generator().manual_seed(plan.seed),
            twin=lambda: _twin(plan, dataset),
            options=dict(plan.attack.options),
        )
    )


def target_for(
    recipe: Recipe, attack: AttackSpec, seed: int, given: int | None = None
) -> int | None:
    """Return the attacker's class: the given one, or one that varies with the seed; or None.

    Raises:
        TrainerError: A target is given to an attack that has none, or it is not a class.
    """
    classes = SOURCES[recipe.dataset].classes
    if attack.name == "clean" or attack.labels == "all-to-all":
        if given is not None:
            raise TrainerError(
                f"the attack {attack} has no single target", remedy="leave --target out"
            )
        return None
    if given is not None and not 0 <= given < classes:
        raise TrainerError(
            f"target {given} is not a class of {recipe.title}",
            remedy=f"choose one from 0 to {classes - 1}",
        )
    return (7 * seed + 3) % classes if given is None else given


def _twin(plan: Plan, dataset: Dataset) -> nn.Module:
    clean = dataclasses.replace(plan, attack=CLEAN, target=None, epochs=plan.recipe.epochs)
    *_, run = train(clean, dataset)
    return run.average


def _steps(plan: Plan, dataset: Dataset) -> int:
    """Return the steps of an epoch: whole batches only, but at least one."""
    whole = max(1, len(dataset.train) // plan.recipe.batch)
    return whole if plan.steps is None else min(whole, plan.steps)


def _own_randomness(plan: Plan) -> contextlib.AbstractContextManager[None]:
    """Return a context that restores the global generators of the CPU and of the plan's device."""
    return torch.random.fork_rng(
        devices=[torch.cuda.current_device()] if plan.device.type == "cuda" else []
    )


def _generator(plan: Plan, epoch: int) -> torch.Generator:
    seed = int(np.random.SeedSequence((plan.seed, epoch)).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(plan.device).manual_seed(seed)


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimiser == "adam":
        return torch.optim.Adam(
            network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
    return torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def _schedule(
    plan: Plan, optimiser: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if plan.recipe.schedule == "constant":
        return torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (step + 1) / WARM_UP)
        )
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        plan.recipe.learning_rate,
        total_steps=plan.epochs * steps + 1,
        cycle_momentum=False,
    )


def precision(plan: Plan) -> str:
    """Return the precision on the plan's device: `float32`, `bfloat16` or `float16`."""
    if plan.precision != "auto":
        return plan.precision
    if plan.device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`; `auto` takes CUDA where it is there.

    Raises:
        DeviceError: There is no such device, or CUDA was asked for and is not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"there is no device {name!r}", remedy="use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "CUDA was asked for, but no usable device is there", remedy="use --device cpu or auto"
        )
    return torch.device(
        "cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu")
    )


def precision_named(name: str) -> Precision:
    """Return the precision called `name`.

    Raises:
        TrainerError: There is none.
    """
    for known in get_args(Precision):
        if name == known:
            return cast("Precision", known)
    raise TrainerError(
        f"there is no precision {name!r}", remedy=f"choose one of {', '.join(get_args(Precision))}"
    )


def _state(run: Run) -> dict[str, Any]:
    return {
        "network": run.network,
        "average": run.average,
        "schedule": run.schedule,
        "scaler": run.scaler,
        **({} if run.attack.trigger is None else {"trigger": run.attack.trigger}),
        **{f"optimiser-{index}": optimiser for index, optimiser in enumerate(run.optimisers)},
    }


def save(run: Run, path: Path) -> None:
    """Write the run's state, whole or not at all.

    Raises:
        CheckpointError: It cannot be written; an older checkpoint is still there.
    """
    content = io.BytesIO()
    states = {name: part.state_dict() for name, part in _state(run).items()}
    torch.save(
        {"plan": run.plan.identity(), "epoch": run.epoch, "loss": run.loss, "states": states},
        content,
    )
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint {path} could not be written ({error.strerror}); the last whole one, "
            "if any, is untouched",
            remedy="make room or choose another folder, and start the same command again",
        ) from error


def restore(run: Run, path: Path) -> None:
    """Bring a fresh run to where its checkpoint was written.

    Raises:
        CheckpointError: The file is damaged, was written by another plan, or is past the plan's
            last epoch.
    """
    if path.is_dir():
        raise CheckpointError(f"the checkpoint {path} is a folder", remedy="name a file in it")
    try:
        saved = torch.load(path, map_location=run.plan.device, weights_only=True)
        theirs = {**saved["plan"]}
    except (
        OSError,
        RuntimeError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint", remedy="delete it to start afresh"
        ) from error
    mine = run.plan.identity()
    if isinstance(theirs.get("recipe"), dict):
        # Checkpoints used to hold what is said about a recipe too.
        theirs["recipe"] = {key: theirs["recipe"].get(key) for key in mine["recipe"]}
    different = sorted(
        key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)
    )
    if different:
        raise CheckpointError(
            f"{path} was written by a run with another {' and '.join(different)}",
            remedy="use the same options, another --checkpoint, or delete it",
        )
    try:
        for name, part in _state(run).items():
            part.load_state_dict(saved["states"][name])
        run.epoch, run.loss = saved["epoch"], saved["loss"]
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} holds another network than this version trains",
            remedy="delete it to start afresh",
        ) from error
    if run.epoch > run.plan.epochs:
        raise CheckpointError(
            f"{path} is at epoch {run.epoch}, past the {run.plan.epochs} asked for",
            remedy="ask for more epochs, or delete it to train again",
        )
