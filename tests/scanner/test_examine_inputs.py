"""The child's side: clean images are parted, inputs read on, and what does not fit is refused."""

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import scenes

from scanner import examine_inputs
from scanner.errors import (
    ScannerError,
    TooFewImagesError,
    UnsupportedModelError,
    UsageError,
)
from scanner.examine_inputs import FEWEST_HOSTS, MOST_HOSTS, read_clean, read_part, show_input
from scanner.protocol import Part, Shown, Source, Watch
from scanner.sandbox.endpoint import Step
from scanner.settings import Device, Settings


def quiet(_step: Step) -> None:
    """Take no note of progress."""


def watch(folder: Path, count: int = 60, least: int = 19, **settings: Any) -> Watch:
    models.save(scenes.model(), folder / "model.onnx")
    np.savez(folder / "clean.npz", images=scenes.clean(count))
    chosen = Settings(
        images_file=str(folder / "clean.npz"), alpha=0.05, device=Device.CPU, **settings
    )
    model = Source(name="m", path=str(folder / "model.onnx"))
    return Watch(model=model, least=least, settings=chosen)


@pytest.mark.parametrize(("count", "hosts"), [(60, 41), (29, FEWEST_HOSTS), (100, MOST_HOSTS)])
def test_clean_images_are_hosts_or_ranked_and_never_both(
    count: int, hosts: int, tmp_path: Path
) -> None:
    asked = watch(tmp_path, count)
    clean = read_clean(asked, quiet)
    assert (len(clean.hosts), len(clean.ranked)) == (hosts, count - hosts)
    watched = examine_inputs._watched(asked)
    both = np.concatenate([watched.scene.hosts, watched.ranked]).reshape(count, -1)
    assert len(np.unique(both, axis=0)) == count


def test_the_seed_draws_the_hosts(tmp_path: Path) -> None:
    one, again, other = (read_clean(watch(tmp_path, seed=s), quiet).hosts for s in (1, 1, 2))
    assert one == again
    assert one != other


def test_too_few_clean_images(tmp_path: Path) -> None:
    with pytest.raises(TooFewImagesError, match="at least 29 clean images") as caught:
        read_clean(watch(tmp_path, 28), quiet)
    assert caught.value.details == {"found": 28, "needed": 29}


def test_inputs_are_read_on_and_again_from_the_start(tmp_path: Path) -> None:
    asked = watch(tmp_path)
    np.savez(tmp_path / "inputs.npz", images=scenes.stamped(7))
    path = str(tmp_path / "inputs.npz")

    def part(start: int, most: int) -> list[str]:
        read = read_part(Part(watch=asked, path=path, start=start, most=most), quiet)
        return [reading.name for reading in read]

    assert part(0, 3) == ["0", "1", "2"]
    assert part(3, 3) == ["3", "4", "5"]
    assert part(6, 3) == ["6"]
    assert part(7, 3) == []
    assert part(2, 2) == ["2", "3"]
    shown = show_input(Shown(watch=asked, place=1), quiet)
    assert shown.image.shape == scenes.SHAPE
    with pytest.raises(UsageError, match="no such input"):
        show_input(Shown(watch=asked, place=2), quiet)


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_a_fixed_batch_answers_alike(batch: int | str, tmp_path: Path) -> None:
    asked = watch(tmp_path)
    free = read_clean(asked, quiet)
    models.save(scenes.model(batch=batch), tmp_path / "fixed.onnx")
    fixed = Watch(
        model=Source(name="f", path=str(tmp_path / "fixed.onnx")),
        least=asked.least,
        settings=asked.settings,
    )
    found = read_clean(fixed, quiet)
    assert np.allclose(
        [r.statistics for r in found.ranked], [r.statistics for r in free.ranked], atol=1e-5
    )


def test_a_quantised_model_is_run_as_it_is(tmp_path: Path) -> None:
    asked = watch(tmp_path)
    models.save(models.quantised(), tmp_path / "model.onnx")
    assert len(read_clean(asked, quiet).ranked) == 19


@pytest.mark.parametrize(
    ("model", "error"),
    [
        (models.two_inputs(default=False), UnsupportedModelError),
        (models.with_nan(), ScannerError),
    ],
)
def test_a_model_that_is_no_classifier(model: object, error: type, tmp_path: Path) -> None:
    asked = watch(tmp_path)
    models.save(model, tmp_path / "model.onnx")  # type: ignore[arg-type]
    with pytest.raises(error):
        read_clean(asked, quiet)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 1, 9, 9), np.float32),
        np.full((3, 1, 8, 8), 40.0, np.float32),
        np.full((3, 1, 8, 8), np.nan, np.float32),
        np.array(["a", "b"]),
        np.zeros(2, "V8"),
    ],
)
def test_inputs_of_another_shape_or_range(images: np.ndarray, tmp_path: Path) -> None:
    asked = watch(tmp_path, input_range=(0.0, 1.0))
    np.savez(tmp_path / "inputs.npz", images=images)
    part = Part(watch=asked, path=str(tmp_path / "inputs.npz"), start=0, most=5)
    with pytest.raises(UsageError, match=r"inputs\.npz"):
        read_part(part, quiet)


def test_inputs_in_fractions_beside_clean_ones_in_bytes(tmp_path: Path) -> None:
    """As black as they are to the model, all would be told as clean."""
    asked = watch(tmp_path, input_range=(0.0, 255.0))
    np.savez(tmp_path / "clean.npz", images=np.round(255 * scenes.clean(60)))
    watched = examine_inputs._watched(asked)
    with pytest.raises(UsageError, match="scale both alike"):
        watched.fitted(scenes.stamped(1), "inputs.npz")
    for bright in (0, 1, 255):  # a black image is one
        watched.fitted(np.full((1, *scenes.SHAPE), bright, np.float32), "inputs.npz")


def test_an_answer_to_a_mixed_image_that_is_no_number_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model answers each input, and fails on the images that a filter makes of it."""
    watched = examine_inputs._watched(watch(tmp_path))
    images, logits = watched.ranked[:3], watched.answers.logits
    answered = iter([logits(images)])

    def once(mixed: Any) -> Any:
        return next(answered, np.full((len(mixed), 2), np.nan))

    monkeypatch.setattr(watched.answers, "logits", once)
    with pytest.raises(UnsupportedModelError, match="not a finite number"):
        watched.read(["a", "b", "c"], images, quiet)
