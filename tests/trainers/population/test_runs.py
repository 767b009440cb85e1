"""Three clean networks per recipe and one per attack; each tells the truth in the manifest only."""

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from trainer_data import PlanMaker

from trainers import manifest, training, zoo
from trainers.attacks import CLEAN, AttackSpec
from trainers.datasets import Dataset
from trainers.population.recipes import ROWS, rows
from trainers.population.runs import jobs, target
from trainers.recipes import Base, Input, Recipe, Regime, Variant


def test_a_row_has_three_clean_networks_and_one_per_attack() -> None:
    (row,) = rows("mnist-mlp-narrow")
    made = jobs([row], Path("out"))
    assert [(str(job.plan.attack), job.plan.seed) for job in made] == [
        ("clean", 0),
        ("clean", 1),
        ("clean", 2),
        ("badnets-4", 10),
        ("sig", 11),
        ("wanet-0.2", 12),
    ]
    assert {job.split for job in made} == {"development"}
    assert {job.images for job in made} == {"mnist-mlp-narrow.images.npz"}
    assert made[3].file(8, row.form) == "mnist-mlp-narrow-badnets-4-10.onnx"


def test_attacks_may_be_planted_besides() -> None:
    (row,) = rows("mnist-mlp-narrow")
    also = ["badnets:labels=one-to-one+rate=0.2", "sig"]
    made = jobs([row], Path("out"), also)
    assert made[:-1] == jobs([row], Path("out")), "SIG is among them already"
    assert made[-1].file(8, row.form) == "mnist-mlp-narrow-badnets-one-to-one-0.2-13.onnx"


def test_no_two_networks_of_the_population_share_a_file() -> None:
    made = jobs(ROWS, Path("out"))
    names = [job.file(epoch, form) for job in made for epoch in job.epochs for form in job.forms]
    assert len(set(names)) == len(names) == sum(3 + len(row.attacks) for row in ROWS)


def test_targets_vary_are_classes_and_do_not_depend_on_the_order() -> None:
    targets = [job.plan.target for job in jobs(ROWS, Path("out"))]
    assert len({target for target in targets if target is not None}) > 12
    for row in ROWS:
        for attack in row.attacks:
            spec = AttackSpec.parse(attack)
            chosen = target(row.recipe, spec)
            variant = row.recipe.variant
            classes = (len(variant.classes) or 100) + variant.others
            assert (chosen is None) == (spec.labels == "all-to-all")
            assert chosen is None or 0 <= chosen < classes
    assert target(ROWS[0].recipe, CLEAN) is None


@pytest.fixture
def varied(small: Recipe) -> Recipe:
    """A recipe of which everything is unusual."""
    return dataclasses.replace(
        small,
        name="varied",
        architecture="2 conv, batch norm",
        variant=Variant(classes=(7, 1, 4), side=16, train=400),
        input=Input(range="-1..1", layout="NHWC"),
        final="softmax",
    )


def test_a_model_takes_its_own_images_and_the_manifest_says_which(
    varied: Recipe, folder: Path, plan: PlanMaker, tmp_path: Path
) -> None:
    planned = plan(recipe=varied, attack="badnets", target=2, epochs=6)
    job = zoo.Job(
        plan=planned,
        folder=tmp_path,
        epochs=(6,),
        name="varied",
        split="test",
        images="varied.images.npz",
    )
    (made,) = zoo.carry_out(job, zoo.dataset_of(varied, folder))
    assert (made.split, made.input_range, made.layout) == ("test", "-1..1", "NHWC")
    assert (made.final, made.normalised_inside, made.exporter) == ("softmax", False, "torchscript")
    assert made.attack_success_rate is not None
    assert made.planted == (made.attack_success_rate >= 0.5)
    assert made.images is not None
    images = np.load(tmp_path / made.images)["images"]
    assert images.shape[1:] == (16, 16, 1)
    assert images.min() < 0
    session = onnxruntime.InferenceSession(tmp_path / made.file)
    (shares,) = session.run(None, {"input": images})
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    labels = zoo.dataset_of(varied, folder).test.labels[: len(images)].numpy()
    assert (shares.argmax(1) == labels).mean() == pytest.approx(made.clean_accuracy, abs=0.15)
    assert manifest.read(tmp_path) == [made]


def test_a_network_is_fine_tuned_from_a_base_of_other_classes(
    small: Recipe, folder: Path, plan: PlanMaker, mnist: Dataset
) -> None:
    base = Base(dataset="mnist", variant=Variant(classes=(0, 1, 2)), epochs=1)
    recipe = dataclasses.replace(small, regime=Regime(base=base))
    start = zoo._base(recipe, torch.device("cpu"), folder)
    assert zoo._base(recipe, torch.device("cpu"), folder) is start
    run = training.start(plan(recipe=recipe), mnist, start)
    mine = run.network.state_dict()
    assert torch.equal(mine["0.weight"], start["0.weight"])
    assert mine["7.weight"].shape[0] == 10
    assert start["7.weight"].shape[0] == 3


def test_a_population_goes_on_after_a_failure_and_resumes(
    small: Recipe, folder: Path, plan: PlanMaker, tmp_path: Path
) -> None:
    missing = dataclasses.replace(small, name="missing", dataset="fashion-mnist")
    todo = [
        zoo.Job(
            plan=plan(recipe=recipe, steps=2),
            folder=tmp_path,
            epochs=(1,),
            name=recipe.name,
            split="test",
        )
        for recipe in (missing, small)
    ]
    failures: list[str] = []
    made = list(
        zoo.populate(
            todo,
            folder,
            processes=1,
            threads=1,
            failed=lambda job, error: failures.append(f"{job.name}: {error}"),
        )
    )
    assert [entry.file for entry in made] == ["mnist.onnx"]
    assert len(failures) == 1
    assert failures[0].startswith("missing: ")
    left = [zoo.pending(job, manifest.read(tmp_path)) for job in todo]
    assert left == [todo[0], None]
