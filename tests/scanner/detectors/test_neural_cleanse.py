"""Trigger inversion on classifiers whose trigger is known: a bright corner of four pixels."""

import base64
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from scanner.detectors import neural_cleanse
from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.errors import UnsupportedModelError, UsageError
from scanner.instruments.statistics import anomaly_index
from scanner.judging.comparison import compare as beside
from scanner.results import (
    Array,
    ByClass,
    ClassRow,
    Comparison,
    Contest,
    Grant,
    Lead,
    Measurement,
    Standing,
    Trigger,
)
from scanner.settings import Budget, Settings

TARGET, QUICK = triggered.TARGET, triggered.QUICK
VARIANTS: dict[str, dict[str, Any]] = {
    "NCHW": {},
    "three channels": {"shape": (3, 8, 8)},
    "NHWC": {"shape": (8, 8, 3)},
    "vector": {"shape": (64,)},
    "matrix": {"shape": (8, 8)},
    "uint8": {"kind": TensorProto.UINT8},
    "float16": {"kind": TensorProto.FLOAT16},
    "float64": {"kind": TensorProto.DOUBLE},
    "fixed batch of 5": {"batch": 5},
    "softmax": {"softmax": True},
}


def measure(folder: Path, planted: bool, settings: Settings = QUICK, **variant: Any) -> Measurement:
    return triggered.measure(
        NeuralCleanse(), triggered.classifier(planted, **variant), folder, settings
    )


def compare(
    folder: Path, settings: Settings = QUICK, **variant: Any
) -> tuple[Comparison, Measurement]:
    suspect = measure(folder, planted=True, settings=settings, **variant)
    reference = triggered.measure(
        NeuralCleanse(), triggered.classifier(**variant), folder, settings, suspect=suspect
    )
    return beside(NeuralCleanse(), suspect, [reference]), suspect


def unpacked(array: Array) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(array.data), "<f4").reshape(array.shape)


def rows(measurement: Measurement) -> tuple[ClassRow, ...]:
    assert measurement.by_class is not None
    return measurement.by_class.rows


def trigger(measurement: Measurement) -> Trigger:
    assert measurement.by_class is not None
    return next(t for t in measurement.by_class.triggers if t.class_id == TARGET)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_planted_class_is_named_and_its_trigger_is_the_corner(
    name: str, tmp_path: Path
) -> None:
    comparison, suspect = compare(tmp_path, **VARIANTS[name])
    assert comparison.evidence.target_class == TARGET
    assert comparison.statistic == dict(comparison.scores)[TARGET]
    assert (comparison.statistic or 0) > 1
    assert comparison.evidence.trigger == trigger(suspect)
    picture = trigger(suspect)
    mask, shape = unpacked(picture.mask), VARIANTS[name].get("shape", (1, 8, 8))
    inside = np.broadcast_to(mask, shape).ravel()[triggered.corner(shape)]
    assert inside.mean() > 3 * np.broadcast_to(mask, shape).mean()
    assert picture.class_after == TARGET
    assert picture.class_before != TARGET


def test_a_clean_twin_differs_far_less(tmp_path: Path) -> None:
    planted, _ = compare(tmp_path)
    other = measure(tmp_path, planted=False, seed=1)
    clean = beside(NeuralCleanse(), other, [measure(tmp_path, planted=False)])
    assert (clean.statistic or 0) < (planted.statistic or 0) / 2


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    first, second = (measure(tmp_path, planted=True) for _ in range(2))
    assert first == second
    assert measure(tmp_path, planted=True, settings=dataclasses.replace(QUICK, seed=1)) != first


def test_the_images_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    whole, single = (measure(tmp_path, planted=True, batch=batch) for batch in ("N", 1))
    sizes = [[row.figure or 0 for row in rows(m)] for m in (whole, single)]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=1e-2)


def test_pictures_hold_what_was_reported(tmp_path: Path) -> None:
    suspect = measure(tmp_path, planted=True, kind=TensorProto.UINT8)
    found, row = trigger(suspect), rows(suspect)[TARGET]
    arrays = (found.mask, found.pattern, found.original, found.stamped)
    mask, pattern, original, stamped = map(unpacked, arrays)
    assert mask.sum() == pytest.approx(row.figure, rel=1e-5)
    assert (found.low, found.high) == (0, 255)
    assert found.success == row.figures["success"]
    assert 0 <= mask.min() <= mask.max() <= 1
    assert 0 <= pattern.min() <= pattern.max() <= 255
    np.testing.assert_allclose(stamped, (1 - mask) * original + mask * pattern, atol=1e-3)


def test_everything_that_influenced_the_numbers_is_recorded(tmp_path: Path) -> None:
    parameters = measure(tmp_path, planted=True, softmax=True).parameters
    assert parameters["logits"] == "logits"
    assert parameters["cut"] == ["Softmax"]
    assert parameters["data"] == "multi-scale noise (no images given)"
    assert (parameters["images"], parameters["held_back"], parameters["steps"]) == (32, 32, 100)
    assert (parameters["classes"], parameters["seed"], parameters["input_range"]) == (
        4,
        0,
        [0.0, 1.0],
    )


def test_restarts_spread_in_the_series(tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, budget=Budget.THOROUGH, classes=(TARGET,))
    (row,) = rows(measure(tmp_path, planted=True, settings=settings))
    assert len(row.restarts) == 3
    assert len(set(row.restarts)) > 1
    assert row.figure == min(size for size in row.restarts if size is not None)


def test_chosen_classes_only(tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, classes=(3, TARGET))
    assert [row.class_id for row in rows(measure(tmp_path, planted=True, settings=settings))] == [
        TARGET,
        3,
    ]


def test_logits_by_name(tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, logits="product")
    assert measure(tmp_path, planted=True, settings=settings).parameters["logits"] == "product"


def test_no_such_class(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no class 9; the model has the classes 0 to 3"):
        measure(tmp_path, planted=True, settings=dataclasses.replace(QUICK, classes=(0, 9)))


def test_a_reference_of_other_classes_is_refused(tmp_path: Path) -> None:
    suspect = measure(tmp_path, planted=True)
    with pytest.raises(
        UnsupportedModelError, match="has 5 classes, and the scanned model 4; compare with a clean"
    ):
        triggered.measure(
            NeuralCleanse(), triggered.classifier(classes=5), tmp_path, suspect=suspect
        )


def test_the_users_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    settings = dataclasses.replace(QUICK, images_file=str(tmp_path / "images.npz"))
    comparison, suspect = compare(tmp_path, settings)
    assert comparison.evidence.target_class == TARGET
    assert suspect.parameters["data"] == f"40 images of {tmp_path / 'images.npz'}"
    assert (suspect.parameters["images"], suspect.parameters["held_back"]) == (30, 10)
    assert (suspect.parameters["batch"], suspect.parameters["first_cost"]) == (32, 1e-2)
    assert suspect.parameters["steps"] == 250
    answered = [row.answered for row in rows(suspect)]
    counts = [round(share * 40) for share in answered if share is not None]
    assert len(counts) == len(answered)
    assert sum(counts) == 40
    assert answered == pytest.approx([count / 40 for count in counts])


def test_without_a_reference_the_planted_class_leads(tmp_path: Path) -> None:
    suspect = measure(tmp_path, planted=True)
    comparison = beside(NeuralCleanse(), suspect, [])
    clean = beside(NeuralCleanse(), measure(tmp_path, planted=False), [])
    assert comparison.statistic is None
    assert comparison.evidence.target_class == lead(comparison).class_id == TARGET
    assert lead(comparison).distance > 1 > lead(clean).distance
    assert f"class {TARGET} has a mask" in comparison.sentence
    assert comparison.evidence.figures["anomaly_index"] == suspect.statistic
    assert len(comparison.evidence.classes) == 4


def standing(comparison: Comparison) -> Standing:
    assert comparison.evidence.standing is not None
    return comparison.evidence.standing


def lead(comparison: Comparison) -> Lead:
    assert comparison.evidence.lead is not None
    return comparison.evidence.lead


def profile(
    *courses: list[float | None], finished: bool = False, classes: int | None = None
) -> Measurement:
    found = tuple(
        ClassRow(
            class_id=t, figure=c[-1], course=tuple(c), finished=finished, figures={"success": 1}
        )
        for t, c in enumerate(courses)
    )
    granted = tuple(Grant(class_id=t, steps=25) for t in range(len(courses)))
    contest = Contest(planned=100, round=25, finalists=len(courses), granted=granted)
    return Measurement(
        rule="neural_cleanse",
        statistic=None,
        parameters={},
        by_class=ByClass(
            classes=classes or len(courses), rows=found, unreached=64.0, contest=contest
        ),
    )


def test_the_log_ratio_by_hand() -> None:
    comparison = beside(
        NeuralCleanse(), profile([9.0], [3.0]), [profile([19.0], [4.0]), profile([4.0], [24.0])]
    )
    assert standing(comparison).reference == pytest.approx(np.sqrt(5 * 25) - 1)
    assert comparison.statistic == pytest.approx(np.log(np.sqrt(5 * 25) / 4))
    assert (
        comparison.sentence
        == "class 1 needs a mask of 3.0 pixels; the 2 clean references need 4.0 to 24.0"
    )


def test_what_all_classes_share_is_taken_off() -> None:
    halved, reference = profile([9.0], [3.0], [5.0]), profile([19.0], [15.0], [11.0])
    comparison = beside(NeuralCleanse(), halved, [reference])
    assert comparison.evidence.classes[1].difference == pytest.approx(np.log(4))
    assert comparison.statistic == pytest.approx(np.log(4 / 2))
    assert dict(comparison.scores) == pytest.approx({0: 0, 1: np.log(4 / 2), 2: 0})


def test_classes_are_compared_at_equal_steps() -> None:
    suspect = profile([40.0, 20.0, 5.0])
    assert beside(NeuralCleanse(), suspect, [profile([40.0])]).statistic == pytest.approx(0)
    finished = beside(NeuralCleanse(), suspect, [profile([40.0], finished=True)])
    assert finished.statistic == pytest.approx(np.log(41 / 6))


def test_a_class_that_was_not_searched_everywhere_is_not_compared() -> None:
    comparison = beside(NeuralCleanse(), profile([9.0], [3.0]), [profile([9.0], classes=2)])
    assert (comparison.evidence.target_class, comparison.evidence.classes_compared) == (0, 1)


def test_a_class_that_no_mask_reaches_says_nothing() -> None:
    others: list[list[float | None]] = [[9.0], [9.0], [9.0]]
    reached, unreached = profile([63.0], *others), profile([None], *others)
    for suspect, reference in ((reached, unreached), (unreached, reached)):
        found = beside(NeuralCleanse(), suspect, [reference])
        assert [row.class_id for row in found.evidence.classes] == [1, 2, 3]
        assert found.statistic == 0.0


def test_nearness_to_the_images_excuses_a_small_mask() -> None:
    def leading(*nearness: float) -> Comparison:
        return beside(NeuralCleanse(), with_nearness(profile([9.0], [39.0], [19.0]), *nearness), [])

    even, near = lead(leading(0.0, 0.0, 0.0)), lead(leading(2.0, 0.0, 0.0))
    assert even.class_id == 0
    assert even.distance == pytest.approx(math.log(20 / 10))
    assert near.distance == pytest.approx(math.log(20 / 10) - 2 * neural_cleanse._EASE)
    assert standing(leading(2.0, 0.0, 0.0)).suspect == 9.0
    dropped = lead(leading(0.0, 0.0, 9.0))
    assert dropped.class_id == 0, "a class near to the images does not lead with a larger mask"


def test_without_nearness_nobody_leads() -> None:
    evidence = beside(NeuralCleanse(), profile([9.0], [39.0], [19.0]), []).evidence
    assert (evidence.lead, evidence.target_class) == (None, 0)


def with_nearness(measurement: Measurement, *nearness: float) -> Measurement:
    assert measurement.by_class is not None
    near = tuple(
        dataclasses.replace(row, nearness=n)
        for row, n in zip(rows(measurement), nearness, strict=True)
    )
    by_class = dataclasses.replace(measurement.by_class, rows=near)
    return dataclasses.replace(measurement, by_class=by_class)


def test_without_a_mask_nobody_leads() -> None:
    alone = beside(
        NeuralCleanse(), with_nearness(profile([None], [None], [None]), -3.0, -1.0, -2.0), []
    )
    assert (alone.evidence.lead, alone.evidence.target_class, alone.sentence) == (None, None, "")


def test_a_lead_compares_classes_after_as_many_rounds() -> None:
    ahead = with_nearness(profile([60.0, 40.0, 10.0], [60.0, 40.0], [60.0, 40.0]), 0.0, 0.0, 0.0)
    assert lead(beside(NeuralCleanse(), ahead, [])).distance == pytest.approx(0)


def test_of_a_few_chosen_classes_none_leads() -> None:
    chosen = with_nearness(profile([9.0], [39.0], [19.0]), 0.0, 0.0, 0.0)
    assert chosen.by_class is not None
    by_class = dataclasses.replace(chosen.by_class, classes=10)
    chosen = dataclasses.replace(chosen, by_class=by_class)
    assert beside(NeuralCleanse(), chosen, []).evidence.lead is None


def test_where_no_class_is_reached_none_is_named() -> None:
    comparison = beside(NeuralCleanse(), profile([None], [None]), [])
    assert (comparison.evidence.target_class, comparison.evidence.trigger) == (None, None)


@given(st.lists(st.floats(0, 1e4), min_size=3, max_size=20))
def test_the_anomaly_index_is_finite_and_not_negative(sizes: list[float]) -> None:
    index = anomaly_index(sizes)
    assert index is not None
    assert 0 <= index < 1e17


def test_the_anomaly_index_by_hand() -> None:
    assert anomaly_index([0.0, 0.0, 0.0]) == 0
    assert anomaly_index([1.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(9 / 1.4826)
    assert anomaly_index([1.0, 2.0]) is None


def test_with_images_no_class_is_dropped(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    settings = dataclasses.replace(QUICK, images_file=str(tmp_path / "images.npz"))
    on_images, on_noise = (
        measure(tmp_path, planted=True, settings=chosen, classes=20) for chosen in (settings, QUICK)
    )
    assert dropped(on_images) == []
    assert dropped(on_noise) != []


def dropped(measurement: Measurement) -> list[int]:
    """Return the classes whose search neither ended nor got all the steps that there are."""
    assert measurement.by_class is not None
    assert measurement.by_class.contest is not None
    planned = measurement.by_class.contest.planned
    return [r.class_id for r in rows(measurement) if not r.finished and r.steps < planned]


@pytest.mark.parametrize("count", [2, 3])
def test_of_a_few_images_one_is_held_back(count: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    settings = dataclasses.replace(QUICK, images_file=str(tmp_path / "images.npz"))
    suspect = measure(tmp_path, planted=True, settings=settings)
    assert (suspect.parameters["images"], suspect.parameters["held_back"]) == (count - 1, 1)
    assert trigger(suspect).class_id == TARGET
