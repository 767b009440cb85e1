"""Images that a model makes itself: of all its classes, in its range, or else a reason."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import NoImagesError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import made_images, pace
from scanner.instruments.differentiable import Differentiable, differentiable
from scanner.instruments.memory import Need
from scanner.instruments.pace import Pace
from scanner.instruments.runtime import Session
from scanner.settings import Settings


def loaded(model: onnx.ModelProto, folder: Path, **changes: object) -> Differentiable:
    settings = dataclasses.replace(triggered.QUICK, **changes)  # type: ignore[arg-type]
    return differentiable(triggered.subject(model, folder, settings), Objective.CROSS_ENTROPY)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (8, 8, 3), (64,)])
@pytest.mark.parametrize("span", [(0.0, 1.0), (-2.0, 3.0)])
def test_there_are_images_of_every_class(
    shape: tuple[int, ...], span: tuple[float, float], tmp_path: Path
) -> None:
    model = loaded(triggered.lit(shape=shape), tmp_path, input_range=span)
    found = made_images.images(model, triggered.QUICK)
    everything = np.concatenate([found.shown, found.held_back])
    assert len(everything) > made_images.COUNT / 2
    assert len(found.held_back) == len(everything) // 4
    assert np.bincount(model.predict(everything), minlength=triggered.BANDS).min() > 3
    assert span[0] <= found.shown.min() <= found.shown.max() <= span[1]
    assert found.source == made_images.SOURCE


def test_noise_alone_shows_fewer(tmp_path: Path) -> None:
    """What the images are made for: the planted corner draws noise into one class."""
    model = loaded(triggered.lit(planted=True), tmp_path)
    start = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)
    assert (model.predict(start) == triggered.TARGET).mean() > 0.9
    found = made_images.images(model, triggered.QUICK)
    assert (model.predict(found.shown) == triggered.TARGET).mean() < 0.5


def test_the_same_seed_makes_the_same_images(tmp_path: Path) -> None:
    model = loaded(triggered.lit(), tmp_path)
    first, again, other = (
        made_images.images(model, Settings(seed=seed)).shown for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_model_of_many_classes_makes_none(tmp_path: Path) -> None:
    model = loaded(triggered.classifier(classes=made_images.MOST_CLASSES + 1), tmp_path)
    with pytest.raises(NoImagesError, match=r"up to 12 classes, and this one has 13; give clean"):
        made_images.images(model, triggered.QUICK)


def test_a_slow_model_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(triggered.lit(), tmp_path)
    slow = pace.Pace(seconds=0.05)
    monkeypatch.setattr(pace, "measured", lambda *_, **__: slow)
    with pytest.raises(NoImagesError, match=r"of its own would take the model 120 seconds"):
        made_images.images(model, triggered.QUICK)


def test_the_plan_is_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Pace(seconds=1e-4, need=Need(held=100, highest=0, each=1))
    monkeypatch.setattr(pace, "measured", lambda *_, **__: seen)
    model = loaded(triggered.lit(), tmp_path)
    noise, stage = made_images.planned("rule", model, triggered.QUICK)
    assert (stage.rules, stage.images, stage.steps) == (("rule",), 40, 60)
    assert stage.seconds == pytest.approx(0.24)
    assert stage.memory == 140
    found = made_images.images(model, triggered.QUICK)
    assert len(noise) >= len(found.shown) > 0
    assert noise.shape[1:] == found.shown.shape[1:]


def test_what_makes_no_images_plans_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(triggered.classifier(classes=13), tmp_path)
    with pytest.raises(NoImagesError, match="up to 12 classes"):
        made_images.planned("rule", model, triggered.QUICK)
    monkeypatch.setattr(pace, "measured", lambda *_, **__: Pace(seconds=1.0))
    with pytest.raises(NoImagesError, match="2,400 seconds"):
        made_images.planned("rule", loaded(triggered.lit(), tmp_path), triggered.QUICK)


def test_a_run_takes_no_more_images_than_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, feed = set[int](), Session.feed

    def noted(self: Session, feeds: dict[str, npt.NDArray[np.float32]], outputs: object) -> object:
        sizes.add(len(feeds["image"]))
        return feed(self, feeds, outputs)  # type: ignore[arg-type] # passed on

    model = loaded(triggered.lit(), tmp_path)
    monkeypatch.setattr(pace, "measured", lambda *_, **__: Pace(seconds=1e-4, most=7))
    monkeypatch.setattr(Session, "feed", noted)
    made_images.images(model, triggered.QUICK)
    assert max(sizes) == 7


def unsure() -> onnx.ModelProto:
    graph = triggered.lit()
    for constant in graph.graph.initializer:
        weights = onnx.numpy_helper.to_array(constant)
        constant.CopyFrom(onnx.numpy_helper.from_array(weights * 0, constant.name))
    return graph


def test_a_model_that_is_sure_of_nothing_makes_none(tmp_path: Path) -> None:
    with pytest.raises(NoImagesError, match=r"too few images that the model is sure of \(0 of "):
        made_images.images(loaded(unsure(), tmp_path), triggered.QUICK)


@pytest.mark.parametrize("graph", [unsure(), triggered.lit()], ids=["none", "some"])
def test_what_one_search_made_the_next_does_not_make_again(
    graph: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []
    descended = made_images.descended

    def counted(*arguments: object) -> object:
        tries.append(arguments)
        return descended(*arguments)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(made_images, "descended", counted)
    subject = triggered.subject(graph, tmp_path, triggered.QUICK)
    said = []
    for _ in range(2):
        try:
            said.append(made_images.shared(subject).source)
        except NoImagesError as error:
            said.append(str(error))
    assert len(tries) == 1
    assert said[0] == said[1]


def variation(unit: npt.NDArray[np.float64]) -> float:
    steps = [float(np.abs(np.diff(unit, axis=axis)).sum()) for axis in (2, 3)]
    return float(sum(steps) / unit[0].size)


@given(seed=st.integers(0, 10**6))
def test_the_derivative_is_that_of_total_variation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    unit, direction = generator.random((1, 3, 6, 5)), generator.normal(size=(1, 3, 6, 5))
    ahead, behind = (variation(unit + step * direction) for step in (1e-7, -1e-7))
    found = made_images._roughness(unit.astype(np.float32))
    assert found.shape == unit.shape
    assert float((found * direction).sum()) == pytest.approx((ahead - behind) / 2e-7, abs=1e-4)
