"""The answers to noise are those of each image alone, however a model wants its batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import models
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from scanner.errors import UnsupportedModelError, WorkerLimitError
from scanner.instruments import noise_runs, runtime
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.settings import Device, Noise, Settings

SHAPE = (1, models.SIDE, models.SIDE)
SETTINGS = Settings(images=7, device=Device.CPU)


def session(model: onnx.ModelProto) -> runtime.Session:
    return runtime.open_session(model.SerializeToString(), Device.CPU, 1)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    return Subject(model=open_model(path), settings=SETTINGS)


def one_by_one(opened: runtime.Session) -> npt.NDArray[Any]:
    images = np.random.default_rng(0).random((7, *SHAPE), dtype=np.float32)
    return np.concatenate([opened.run(image[None])[0] for image in images])


@pytest.mark.parametrize(
    "build",
    [
        models.plain,
        models.mixing_batch,
        lambda: models.plain(input_shape=(3, *SHAPE)),
        lambda: models.plain(input_shape=(1, *SHAPE)),
    ],
    ids=["any batch", "batch not on axis 0", "batch of 3", "batch of 1"],
)
def test_an_answer_is_that_of_the_image_alone(
    build: Callable[[], onnx.ModelProto], subject: Subject
) -> None:
    (answers,) = noise_runs.over_noise(session(build()), SHAPE, subject)
    np.testing.assert_allclose(answers, one_by_one(session(models.plain())), rtol=1e-5, atol=1e-7)


def test_images_that_lie_side_by_side_are_run_one_at_a_time(subject: Subject) -> None:
    """Axis 0 of this output holds channels; run in a batch it would mix the images."""
    model = models.mixing_batch()
    model.graph.output[0].CopyFrom(onnx.helper.make_empty_tensor_value_info("activated"))
    (answers,) = noise_runs.over_noise(session(model), SHAPE, subject)
    plain = models.plain()
    plain.graph.output[0].CopyFrom(onnx.helper.make_empty_tensor_value_info("activated"))
    maps = one_by_one(session(plain)).reshape(7, -1)
    np.testing.assert_allclose(answers.reshape(7, -1), maps, rtol=1e-5, atol=1e-7)


def test_progress_ends_at_the_total(subject: Subject) -> None:
    told: list[tuple[int | None, ...]] = []
    watched = Subject(
        model=subject.model,
        settings=SETTINGS,
        progress=lambda *step: told.append(step),
    )
    noise_runs.over_noise(session(models.plain(input_shape=(3, *SHAPE))), SHAPE, watched)
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_what_is_not_a_number_is_refused(subject: Subject) -> None:
    with pytest.raises(UnsupportedModelError, match="not a finite number on noise images"):
        noise_runs.over_noise(session(models.with_nan()), SHAPE, subject)


@pytest.mark.parametrize(("size", "fixed"), [("N", None), (1, 1), (3, 3)])
def test_the_batch_that_a_model_insists_on(size: int | str, fixed: int | None) -> None:
    opened = session(models.plain(input_shape=(size, *SHAPE)))
    assert noise_runs.fixed_batch(opened) == fixed


def test_a_short_batch_is_filled_and_the_filling_is_dropped() -> None:
    rows = np.random.default_rng(1).random((2, *SHAPE), dtype=np.float32)
    (filled,) = noise_runs.run_filled(session(models.plain(input_shape=(3, *SHAPE))), rows, 3)
    (plain,) = session(models.plain()).run(rows)
    assert filled.shape == (2, models.CLASSES)
    np.testing.assert_allclose(filled, plain, rtol=1e-5)


def test_the_conditions_name_all_that_the_noise_depends_on(subject: Subject) -> None:
    found = noise_runs.conditions(session(models.plain()), SHAPE, subject)
    assert found == {
        "noise": "uniform", "images": 7, "seed": 0, "input_range": [0.0, 1.0],
        "input_shape": [1, 8, 8], "dtype": "float32", "provider": "CPU", "threads": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("noise", "used"), [(Noise.SHUFFLED, True), (Noise.UNIFORM, False)])
def test_images_are_named_only_where_they_were_used(
    noise: Noise, used: bool, subject: Subject
) -> None:
    settings = Settings(noise=noise, images_file="own.npz", device=Device.CPU)
    using = Subject(model=subject.model, settings=settings)
    found = noise_runs.conditions(session(models.plain()), SHAPE, using)
    named = {"data": settings.images_file} if used else {}
    assert {key: value for key, value in found.items() if key == "data"} == named


def test_a_value_that_has_no_part_for_each_image_is_refused(subject: Subject) -> None:
    made = models.plain()
    size = made.graph.input[0].type.tensor_type.shape.dim[0]
    size.Clear()
    size.dim_value = 255
    made.graph.node.add(op_type="ReduceSum", input=["logits"], output=["sum"])
    made.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("sum", 1, None))
    with pytest.raises(UnsupportedModelError, match="cannot be told apart by image"):
        noise_runs.over_noise(session(made), SHAPE, subject)


@pytest.mark.parametrize("error", [WorkerLimitError.memory(2**30), MemoryError()])
def test_a_batch_that_does_not_fit_is_run_in_halves(
    error: Exception, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = session(models.plain())
    expected = noise_runs.over_noise(opened, SHAPE, subject)[0]
    run, sizes = runtime.Session.run, list[int]()

    def short(self: runtime.Session, batch: npt.NDArray[Any], outputs: Any = None) -> Any:
        if len(batch) > 2:
            raise error
        sizes.append(len(batch))
        return run(self, batch, outputs)

    monkeypatch.setattr(runtime.Session, "run", short)
    (found,) = noise_runs.over_noise(opened, SHAPE, subject)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert max(sizes) == 2


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_that_cannot_be_smaller_fails(
    batch: int, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = session(models.plain(input_shape=(batch, *SHAPE)))
    monkeypatch.setattr(runtime.Session, "run", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        noise_runs.over_noise(opened, SHAPE, subject)
