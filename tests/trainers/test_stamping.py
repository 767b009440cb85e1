"""Test images under a listed network's own trigger."""

from pathlib import Path

import numpy as np
import pytest
import torch
from trainer_data import PlanMaker, entry

from trainers import manifest, stamping, training
from trainers.datasets import Dataset, as_floats
from trainers.errors import TrainerError


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("badnets", {}),
        ("badnets:side=4+place=random", {"side": 4, "place": "random"}),
        ("blended", {}),
        ("wanet", {}),
        ("evasive", {"weight": 1.0}),
        ("all-to-all", {}),
    ],
)
def test_the_trigger_is_the_one_that_the_network_was_trained_with(
    folder: Path, mnist: Dataset, plan: PlanMaker, attack: str, options: dict[str, float | str]
) -> None:
    name, labels = ("badnets", "all-to-all") if attack == "all-to-all" else (attack, "all-to-one")
    target = None if attack == "all-to-all" else 3
    trained = training._attack(plan(attack, seed=5, target=target), mnist)
    assert trained.trigger is not None
    listed = entry(
        "m.onnx", attack=name.partition(":")[0], labels=labels, target=target, rate=0.1, seed=5,
        parameters=options,
    )  # fmt: skip
    found = stamping.stamped(listed, folder, count=150, others=50)
    asked = (found.labels + 1) % 10 if target is None else np.full(150, 3)
    victims = found.labels != asked
    np.testing.assert_array_equal(found.targets, asked[victims])
    with torch.no_grad():
        wanted = trained.trigger(torch.from_numpy(found.clean[victims])).numpy()
    np.testing.assert_array_equal(found.stamped, wanted)


def test_no_image_is_given_twice(folder: Path, mnist: Dataset) -> None:
    found = stamping.stamped(
        entry("m.onnx", attack="badnets", target=3, rate=0.1), folder, count=1000, others=50
    )
    both = np.concatenate([found.clean, found.others])
    known = as_floats(mnist.test.images).numpy()
    assert len(found.others) == 50
    np.testing.assert_array_equal(np.sort(both.sum((1, 2, 3))), np.sort(known.sum((1, 2, 3))))


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [("clean", "is clean, so that"), ("input-aware", "was learnt along with it")],
)
def test_what_has_no_trigger_to_stamp_is_one_sentence(
    folder: Path, attack: str, sentence: str
) -> None:
    with pytest.raises(TrainerError, match=sentence):
        stamping.stamped(entry("m.onnx", attack=attack), folder, count=10, others=0)


def test_a_model_that_no_manifest_lists_is_one_sentence(tmp_path: Path) -> None:
    manifest.add(tmp_path, [entry("other.onnx")])
    with pytest.raises(TrainerError, match=r"no manifest.json beside .*m\.onnx lists it"):
        stamping.listed(tmp_path / "m.onnx")


def test_both_files_are_as_scan_takes_them(folder: Path, tmp_path: Path) -> None:
    manifest.add(tmp_path, [entry("m.onnx", attack="badnets", target=3, rate=0.1)])
    output, clean = tmp_path / "stamped.npz", tmp_path / "clean.npz"
    stamping.write(tmp_path / "m.onnx", folder, output, count=60, clean=clean, others=20)
    with np.load(output) as arrays:
        assert set(arrays) == {"images", "targets"}
        assert len(arrays["images"]) == len(arrays["targets"]) <= 60
    with np.load(clean) as arrays:
        assert set(arrays) == {"images", "labels"}
        assert arrays["images"].shape == (20, 1, 28, 28)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(TrainerError, match="cannot be written"):
        stamping.write(
            tmp_path / "m.onnx", folder, tmp_path / "folder.npz", count=60, clean=None, others=0
        )


@pytest.mark.parametrize(
    ("output", "clean", "sentence"),
    [
        ("m.onnx", None, r"m\.onnx is no \.npz"),
        ("a.npz", "m.onnx", r"m\.onnx is no \.npz"),
        ("a.npz", "a.npz", "named for both kinds of images"),
    ],
)
def test_neither_a_model_nor_the_other_file_is_written_over(
    folder: Path, tmp_path: Path, output: str, clean: str | None, sentence: str
) -> None:
    manifest.add(tmp_path, [entry("m.onnx", attack="badnets", target=3, rate=0.1)])
    other = tmp_path / clean if clean else None
    with pytest.raises(TrainerError, match=sentence):
        stamping.write(
            tmp_path / "m.onnx", folder, tmp_path / output, count=60, clean=other, others=20
        )
    assert not (tmp_path / output).exists()


def test_too_few_images_to_stamp_are_one_sentence(folder: Path) -> None:
    listed = entry("m.onnx", attack="badnets", target=3, rate=0.1)
    with pytest.raises(TrainerError, match="of 200 test images none is left"):
        stamping.stamped(listed, folder, count=10, others=300)
