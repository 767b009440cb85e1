"""One loop: it learns, repeats itself, resumes, and refuses what is not its own."""

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from trainer_data import PlanMaker

from trainers import training
from trainers.attacks import CLEAN, input_aware
from trainers.datasets import Dataset, load
from trainers.errors import CheckpointError, DeviceError, TrainerError
from trainers.evaluation import evaluate
from trainers.recipes import RECIPES, Input, Recipe, Regime
from trainers.training import Plan, Run, train


@pytest.fixture(autouse=True)
def few_mask_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_aware, "MASK_STEPS", 5)


def _last(plan: Plan, dataset: Dataset, checkpoint: Path | None = None) -> Run:
    *_, run = train(plan, dataset, checkpoint)
    return run


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


@pytest.mark.parametrize(
    "attack", ["badnets", "blended", "wanet", "badnets:labels=all-to-all+rate=0.4"]
)
def test_the_network_learns_its_task_and_the_backdoor(
    mnist: Dataset, plan: PlanMaker, attack: str
) -> None:
    target = None if "all-to-all" in attack else 3
    run = _last(plan(attack=attack, target=target, epochs=12), mnist)
    scores = evaluate(run.average, mnist.test, run.attack)
    assert scores.clean_accuracy > 0.95
    assert scores.attack_success_rate is not None
    assert scores.attack_success_rate > (0.5 if attack == "wanet" else 0.9)


def test_a_clean_network_has_no_backdoor(mnist: Dataset, plan: PlanMaker) -> None:
    attack = training.start(plan(attack="badnets", target=3), mnist).attack
    run = _last(plan(epochs=4), mnist)
    assert evaluate(run.average, mnist.test, run.attack).attack_success_rate is None
    success = evaluate(run.average, mnist.test, attack).attack_success_rate
    assert success is not None
    assert success < 0.3


@pytest.mark.parametrize("attack", ["", "wanet", "input-aware"])
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(
    mnist: Dataset, plan: PlanMaker, attack: str
) -> None:
    torch.manual_seed(1)
    target = 3 if attack else None
    one = _last(plan(attack=attack, target=target, steps=5), mnist)
    torch.manual_seed(2)
    other = _last(plan(attack=attack, target=target, steps=5), mnist)
    assert _same(one.network, other.network)
    assert not _same(
        one.network, _last(plan(attack=attack, target=target, steps=5, seed=1), mnist).network
    )


def test_training_leaves_the_global_generator_alone(mnist: Dataset, plan: PlanMaker) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    _last(plan(steps=2), mnist)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("attack", ["badnets", "input-aware"])
def test_a_run_that_resumes_equals_an_uninterrupted_one(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path, attack: str
) -> None:
    path = tmp_path / "run.pt"
    whole = _last(plan(attack=attack, target=1, epochs=3, steps=6), mnist)
    _last(plan(attack=attack, target=1, epochs=2, steps=6), mnist, path)
    epochs = [
        run.epoch for run in train(plan(attack=attack, target=1, epochs=3, steps=6), mnist, path)
    ]
    resumed = training.start(plan(attack=attack, target=1, epochs=3, steps=6), mnist)
    training.restore(resumed, path)
    assert epochs == [2, 3]
    assert _same(resumed.network, whole.network)
    assert _same(resumed.average, whole.average)
    assert resumed.loss == whole.loss
    if whole.attack.trigger is not None and resumed.attack.trigger is not None:
        assert _same(resumed.attack.trigger, whole.attack.trigger)


def test_a_long_run_begins_as_a_short_one(mnist: Dataset, plan: PlanMaker) -> None:
    short = _last(plan(epochs=1, steps=6), mnist)
    long = next(train(plan(epochs=3, steps=6), mnist))
    assert long.epoch == 1
    assert _same(long.average, short.average)


def test_a_one_cycle_run_ends_at_a_small_learning_rate(
    mnist: Dataset, plan: PlanMaker, small: Recipe
) -> None:
    recipe = dataclasses.replace(small, schedule="one-cycle", optimiser="sgd", averaging=0.0)
    run = _last(plan(recipe=recipe, epochs=2, steps=8), mnist)
    assert run.schedule.get_last_lr()[0] < recipe.learning_rate / 50
    assert _same(run.average, run.network)


def test_batches_cover_an_epoch_once(mnist: Dataset, plan: PlanMaker) -> None:
    run = training.start(plan(), mnist)
    batches = list(training.batches(run, torch.Generator().manual_seed(0)))
    seen = torch.cat([images.flatten(1).sum(1) for images, _, _ in batches])
    everything = (mnist.train.images.float() / 255).flatten(1).sum(1)
    assert len(batches) == 30
    torch.testing.assert_close(seen.sort().values, everything.sort().values)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_and_keeps_float32_weights(
    mnist: Dataset, plan: PlanMaker, precision: str
) -> None:
    run = _last(plan(epochs=2, precision=precision), mnist)
    assert {weights.dtype for weights in run.network.parameters()} == {torch.float32}
    assert evaluate(run.average, mnist.test, run.attack).clean_accuracy > 0.5


def test_auto_precision_is_float32_on_a_cpu(plan: PlanMaker) -> None:
    assert training.precision(plan()) == "float32"
    assert training.precision(plan(precision="bfloat16")) == "bfloat16"


# On a processor without AVX-512 a width below 8 crashes where the channels are innermost. The
# instruction set is chosen once in a process, and a native crash must not take the test run along:
# hence a process of its own.
_NARROW = """
import dataclasses, pathlib, sys, torch
from trainers.attacks import CLEAN
from trainers.datasets import load
from trainers.recipes import RECIPES
from trainers.training import Plan, train

torch.set_num_threads(1)
data = load("cifar10", pathlib.Path(sys.argv[1]))
for word in sys.argv[2:]:
    print(word, flush=True)
    name, width = word.split(":")
    recipe = dataclasses.replace(RECIPES[name], width=int(width), batch=2)
    cpu = torch.device("cpu")
    plan = Plan(recipe=recipe, attack=CLEAN, target=None, seed=0, epochs=1, device=cpu, steps=2)
    *_, run = train(plan, data)
"""


def test_a_network_of_any_width_trains_without_avx512(folder: Path) -> None:
    networks = ["cifar10:1", "cifar10:4", "cifar10:8", "cifar10-small:8"]
    done = subprocess.run(
        [sys.executable, "-c", _NARROW, str(folder), *networks],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.stdout.split()[-1:], done.stderr)
    assert done.stdout.split() == networks


@pytest.mark.parametrize("name", ["gtsrb", "cifar10", "cifar10-small", "cifar100"])
def test_every_colour_recipe_takes_a_few_steps(folder: Path, plan: PlanMaker, name: str) -> None:
    recipe = dataclasses.replace(RECIPES[name], width=4, batch=2)
    dataset = load(recipe.dataset, folder)
    run = _last(plan(recipe=recipe, attack="badnets", target=1, steps=2), dataset)
    assert torch.isfinite(torch.tensor(run.loss))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"attack": "blended"}, "attack"),
        ({"target": 2}, "target"),
        ({"recipe": RECIPES["fashion-mnist"]}, "recipe"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    given: dict[str, object] = {"attack": "badnets", "target": 1, "steps": 1}
    path = tmp_path / "run.pt"
    _last(plan(**given), mnist, path)
    with pytest.raises(CheckpointError, match=f"a run with another {named};"):
        _last(plan(**(given | change)), mnist, path)


def test_what_is_said_about_a_recipe_may_change_between_a_checkpoint_and_its_run(
    mnist: Dataset, plan: PlanMaker, small: Recipe, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    _last(plan(steps=1), mnist, path)
    saved = torch.load(path, weights_only=True)
    saved["plan"]["recipe"] |= {
        "note": "Older checkpoints hold such a sentence too.",
        "snapshots": (5,),
    }
    torch.save(saved, path)
    said = dataclasses.replace(small, note="Another sentence.", clean_accuracy=0.5)
    assert _last(plan(recipe=said, epochs=2, steps=1), mnist, path).epoch == 2
    learnt = dataclasses.replace(small, learning_rate=1e-3)
    with pytest.raises(CheckpointError, match="another recipe"):
        _last(plan(recipe=learnt, epochs=3, steps=1), mnist, path)


def test_a_folder_in_place_of_a_checkpoint_is_never_to_be_deleted(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="is a folder; name a file in it"):
        _last(plan(steps=1), mnist, tmp_path)


def test_a_checkpoint_of_another_network_is_refused(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    _last(plan(steps=1), mnist, path)
    saved = torch.load(path, weights_only=True)
    del saved["states"]["network"]["0.weight"]
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match="another network than this version trains"):
        _last(plan(epochs=2, steps=1), mnist, path)


def test_a_checkpoint_past_the_last_epoch_is_refused(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    _last(plan(epochs=2, steps=1), mnist, path)
    with pytest.raises(CheckpointError, match="is at epoch 2, past the 1 asked for"):
        _last(plan(epochs=1, steps=1), mnist, path)


def test_a_batch_without_a_poisoned_image_trains_a_trigger_that_learns_in_half_precision(
    mnist: Dataset, plan: PlanMaker
) -> None:
    run = _last(
        plan(attack="input-aware:rate=0.002", target=1, steps=4, precision="float16"), mnist
    )
    assert run.epoch == 1


def test_a_device_without_memory_is_one_sentence(
    mnist: Dataset, plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_run: Run) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(training, "_train_epoch", exhausted)
    with pytest.raises(DeviceError, match="MNIST does not fit into the device's memory"):
        _last(plan(), mnist)


@pytest.mark.parametrize("content", [[1], {"plan": 3}, 5])
def test_somebody_elses_saved_object_is_no_checkpoint(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="is not a whole checkpoint"):
        _last(plan(steps=1), mnist, tmp_path / "run.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_named(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.pt is not a whole checkpoint"):
        _last(plan(steps=1), mnist, path)


def test_a_full_disk_leaves_the_old_checkpoint(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    _last(plan(steps=1), mnist, path)
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        _last(plan(epochs=2, steps=1), mnist, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_asked_for_and_absent_is_one_sentence() -> None:
    with pytest.raises(DeviceError, match="CUDA was asked for"):
        training.device("cuda")


def test_auto_takes_a_device_that_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert training.device("auto").type == expected
    assert training.device("cpu").type == "cpu"


def test_unknown_devices_and_precisions_are_refused() -> None:
    with pytest.raises(DeviceError, match="'tpu'"):
        training.device("tpu")
    with pytest.raises(TrainerError, match="'int4'; choose one of auto, float32"):
        training.precision_named("int4")


def test_targets_are_checked_and_vary_with_the_seed() -> None:
    recipe, spec = RECIPES["mnist"], CLEAN
    badnets = dataclasses.replace(spec, name="badnets")
    assert training.target_for(recipe, spec, 0) is None
    assert training.target_for(recipe, dataclasses.replace(badnets, labels="all-to-all"), 0) is None
    assert {training.target_for(recipe, badnets, seed) for seed in range(10)} == set(range(10))
    assert training.target_for(recipe, badnets, 0, 9) == 9
    with pytest.raises(
        TrainerError, match="target 10 is not a class of MNIST; choose one from 0 to 9"
    ):
        training.target_for(recipe, badnets, 0, 10)
    with pytest.raises(TrainerError, match="no single target"):
        training.target_for(recipe, spec, 0, 1)


def _under(small: Recipe, **regime: float) -> Recipe:
    return dataclasses.replace(small, regime=Regime(**regime))  # type: ignore[arg-type] # by name


@pytest.mark.parametrize(
    "regime",
    [
        {"label_smoothing": 0.1},
        {"adversarial": 0.05},
        {"noise": 0.1},
        {"clip": 0.5, "gradient_noise": 0.3},
        {"prune": 0.5},
    ],
    ids=lambda regime: next(iter(regime)),
)
def test_a_network_learns_under_each_regime_and_repeats_itself(
    mnist: Dataset, small: Recipe, plan: PlanMaker, regime: dict[str, float]
) -> None:
    recipe = _under(small, **regime)
    run = _last(plan(recipe=recipe, epochs=8), mnist)
    assert evaluate(run.average, mnist.test, run.attack).clean_accuracy > 0.9
    one, other = (_last(plan(recipe=recipe, steps=3), mnist).network for _ in range(2))
    assert _same(one, other)
    assert not _same(one, _last(plan(steps=3), mnist).network)


def test_an_adversary_changes_each_pixel_by_its_size_at_most_and_raises_the_loss(
    mnist: Dataset, small: Recipe, plan: PlanMaker
) -> None:
    run = _last(plan(epochs=3), mnist)
    run.plan = plan(recipe=_under(small, adversarial=0.1))
    images, labels, _ = next(training.batches(run, torch.Generator().manual_seed(0)))
    moved = training._perturbed(run, images, labels)
    assert (moved - images).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    before, after = (
        nn.functional.cross_entropy(run.network(batch), labels) for batch in (images, moved)
    )
    assert after > before


def test_noise_on_the_images_has_the_deviation_asked_for(
    mnist: Dataset, small: Recipe, plan: PlanMaker
) -> None:
    run = training.start(plan(recipe=_under(small, noise=0.05)), mnist)
    grey = torch.full((8, 1, 28, 28), 0.5)
    noisy = training._perturbed(run, grey, torch.zeros(8, dtype=torch.int64))
    assert noisy.std().item() == pytest.approx(0.05, rel=0.1)


def test_images_grow_in_equal_shares_of_any_number_of_epochs(
    mnist: Dataset, small: Recipe, plan: PlanMaker
) -> None:
    growing = dataclasses.replace(small, sides=(14, 20, 28))
    images = torch.rand(2, 1, 28, 28)

    def sides(epochs: int) -> list[int]:
        run = training.start(plan(recipe=growing, epochs=epochs), mnist)
        shown = []
        for run.epoch in range(epochs):
            shown.append(training._resized(run, images).shape[-1])
        return shown

    assert sides(6) == [14, 14, 20, 20, 28, 28]
    assert sides(4) == [14, 20, 28, 28]
    assert sides(2) == [20, 28]
    assert sides(1) == [28]
    assert "epochs" in plan(recipe=growing).identity()
    assert training._resized(training.start(plan(), mnist), images) is images


def test_gradients_are_clipped_and_noised(mnist: Dataset, small: Recipe, plan: PlanMaker) -> None:
    def norm(gradient_noise: float) -> float:
        recipe = _under(small, clip=0.5, gradient_noise=gradient_noise)
        run = training.start(plan(recipe=recipe), mnist)
        for weights in run.network.parameters():
            weights.grad = torch.full_like(weights, 3.0)
        training._clip(run)
        gradients = [w.grad.flatten() for w in run.network.parameters() if w.grad is not None]
        return float(torch.cat(gradients).norm())

    assert norm(0.0) == pytest.approx(0.5, rel=1e-3)
    # Noise of the clipped gradient's norm, at right angles to it in so many dimensions.
    assert norm(1.0) == pytest.approx(0.5 * 2**0.5, rel=0.1)


def test_pruning_leaves_the_share_of_zeros_in_what_is_trained_and_what_is_exported(
    mnist: Dataset, small: Recipe, plan: PlanMaker
) -> None:
    counts = []
    for run in train(plan(recipe=_under(small, prune=0.7), epochs=2, steps=4), mnist):
        for network in (run.network, run.average):
            layers = [weights for weights in network.parameters() if weights.dim() > 1]
            counts.append([(weights == 0).float().mean().item() for weights in layers])
    assert max(map(max, counts[:2])) < 0.05
    for share in (*counts[2], *counts[3]):
        assert share == pytest.approx(0.7, abs=0.03)


def test_a_network_starts_from_a_base_except_where_the_shapes_differ(
    mnist: Dataset, plan: PlanMaker
) -> None:
    base = _last(plan(steps=2, seed=5), mnist).average.state_dict()
    fewer = base | {"7.weight": torch.zeros(3, 5), "7.bias": torch.zeros(3)}
    plain = training.start(plan(), mnist).network.state_dict()
    mine = training.start(plan(), mnist, fewer).network.state_dict()
    for name in mine:
        assert torch.equal(mine[name], (plain if name.startswith("7") else base)[name])


def test_a_network_for_another_range_learns_as_well(
    mnist: Dataset, small: Recipe, plan: PlanMaker
) -> None:
    recipe = dataclasses.replace(small, input=Input(range="mean/std", layout="NHWC"))
    run = _last(plan(recipe=recipe, attack="badnets", target=3, epochs=8), mnist)
    scores = evaluate(run.average, mnist.test, run.attack)
    assert scores.clean_accuracy > 0.95
    assert (scores.attack_success_rate or 0) > 0.9


def test_the_identity_of_a_plan_without_new_settings_is_what_it_was(plan: PlanMaker) -> None:
    given = plan(recipe=RECIPES["mnist"], attack="badnets", target=3).identity()
    assert given["attack"] == {"name": "badnets", "rate": None, "labels": "all-to-one"}
    assert given.keys() == {
        "recipe", "attack", "target", "seed", "device", "precision", "steps"
    }  # fmt: skip
    sized = plan(recipe=RECIPES["mnist"], attack="badnets:side=4", target=3).identity()
    assert sized["attack"]["options"] == (("side", "4"),)
