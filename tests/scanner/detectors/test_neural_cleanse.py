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
from scanner.detectors.neural_cleanse import NeuralCleanse, channel_axis, stamp
from scanner.errors import UnsupportedModelError, UsageError
from scanner.instruments.statistics import anomaly_index
from scanner.results import Comparison, Measurement
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
        NeuralCleanse(), triggered.classifier(**variant), folder, settings, lead=suspect
    )
    return NeuralCleanse().compare(suspect, [reference]), suspect


def unpacked(array: Any) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(array["data"]), "<f4").reshape(array["shape"])


@pytest.mark.parametrize("name", VARIANTS)
def test_the_planted_class_is_named_and_its_trigger_is_the_corner(
    name: str, tmp_path: Path
) -> None:
    comparison, suspect = compare(tmp_path, **VARIANTS[name])
    assert comparison.values["target_class"] == comparison.evidence["target_class"] == TARGET
    assert comparison.statistic == comparison.classes[str(TARGET)]
    assert (comparison.statistic or 0) > 1
    picture = suspect.series["pictures"][str(TARGET)]
    mask, shape = unpacked(picture["mask"]), VARIANTS[name].get("shape", (1, 8, 8))
    inside = np.broadcast_to(mask, shape).ravel()[triggered.corner(shape)]
    assert inside.mean() > 3 * np.broadcast_to(mask, shape).mean()
    assert picture["class_after"] == TARGET
    assert picture["class_before"] != TARGET


def test_a_clean_twin_differs_far_less(tmp_path: Path) -> None:
    planted, _ = compare(tmp_path)
    other = measure(tmp_path, planted=False, seed=1)
    clean = NeuralCleanse().compare(other, [measure(tmp_path, planted=False)])
    assert (clean.statistic or 0) < (planted.statistic or 0) / 2


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    first, second = (measure(tmp_path, planted=True) for _ in range(2))
    assert first == second
    assert measure(tmp_path, planted=True, settings=dataclasses.replace(QUICK, seed=1)) != first


def test_the_images_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    whole, single = (measure(tmp_path, planted=True, batch=batch) for batch in ("N", 1))
    sizes = [[row["size"] for row in m.series["classes"]] for m in (whole, single)]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=1e-2)


def test_pictures_hold_what_was_reported(tmp_path: Path) -> None:
    suspect = measure(tmp_path, planted=True, kind=TensorProto.UINT8)
    picture, row = suspect.series["pictures"][str(TARGET)], suspect.series["classes"][TARGET]
    mask, pattern, original, stamped = (
        unpacked(picture[n]) for n in ("mask", "pattern", "original", "stamped")
    )
    assert mask.sum() == pytest.approx(row["size"], rel=1e-5)
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
    (row,) = measure(tmp_path, planted=True, settings=settings).series["classes"]
    assert len(row["restarts"]) == 3
    assert len(set(row["restarts"])) > 1
    assert row["size"] == min(row["restarts"])


def test_chosen_classes_only(tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, classes=(3, TARGET))
    assert [
        row["class"] for row in measure(tmp_path, planted=True, settings=settings).series["classes"]
    ] == [TARGET, 3]


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
        triggered.measure(NeuralCleanse(), triggered.classifier(classes=5), tmp_path, lead=suspect)


def test_the_users_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    settings = dataclasses.replace(QUICK, images_file=str(tmp_path / "images.npz"))
    comparison, suspect = compare(tmp_path, settings)
    assert comparison.values["target_class"] == TARGET
    assert suspect.parameters["data"] == f"40 images of {tmp_path / 'images.npz'}"
    assert (suspect.parameters["images"], suspect.parameters["held_back"]) == (20, 20)


def test_without_a_reference_the_planted_class_leads(tmp_path: Path) -> None:
    suspect = measure(tmp_path, planted=True)
    comparison = NeuralCleanse().compare(suspect, [])
    clean = NeuralCleanse().compare(measure(tmp_path, planted=False), [])
    assert comparison.statistic is None
    assert comparison.values["target_class"] == comparison.values["lead_class"] == TARGET
    assert (comparison.values["lead"] or 0) > 1 > (clean.values["lead"] or 0)
    assert f"class {TARGET} has a mask" in comparison.sentence
    assert comparison.values["anomaly_index"] == suspect.statistic
    assert len(comparison.evidence["classes"]) == 4


def profile(*courses: list[float | None], finished: bool = False) -> Measurement:
    rows = [
        {"class": t, "size": c[-1], "course": c, "finished": finished, "success": 1.0}
        for t, c in enumerate(courses)
    ]
    return Measurement(
        rule="neural_cleanse",
        statistic=None,
        parameters={"input_shape": [1, 8, 8], "classes": len(courses), "steps": 100},
        series={"classes": rows, "granted": {str(t): 25 for t in range(len(courses))}},
    )


def test_the_log_ratio_by_hand() -> None:
    comparison = NeuralCleanse().compare(
        profile([9.0], [3.0]), [profile([19.0], [4.0]), profile([4.0], [24.0])]
    )
    assert comparison.values["reference_size"] == pytest.approx(np.sqrt(5 * 25) - 1)
    assert comparison.statistic == pytest.approx(np.log(np.sqrt(5 * 25) / 4))
    assert (
        comparison.sentence
        == "class 1 needs a mask of 3.0 pixels; the 2 clean references need 4.0 to 24.0"
    )


def test_what_all_classes_share_is_taken_off() -> None:
    halved, reference = profile([9.0], [3.0], [5.0]), profile([19.0], [15.0], [11.0])
    comparison = NeuralCleanse().compare(halved, [reference])
    assert comparison.values["log_ratio"] == pytest.approx(np.log(4))
    assert comparison.statistic == pytest.approx(np.log(4 / 2))
    assert comparison.classes == pytest.approx({"0": 0, "1": np.log(4 / 2), "2": 0})


def test_classes_are_compared_at_equal_steps() -> None:
    suspect = profile([40.0, 20.0, 5.0])
    assert NeuralCleanse().compare(suspect, [profile([40.0])]).statistic == pytest.approx(0)
    finished = NeuralCleanse().compare(suspect, [profile([40.0], finished=True)])
    assert finished.statistic == pytest.approx(np.log(41 / 6))


def test_a_class_that_was_not_searched_everywhere_is_not_compared() -> None:
    comparison = NeuralCleanse().compare(profile([9.0], [3.0]), [profile([9.0])])
    assert (comparison.values["target_class"], comparison.values["classes_compared"]) == (0, 1)


def test_a_class_that_no_mask_reaches_counts_as_the_whole_image() -> None:
    assert NeuralCleanse().compare(profile([63.0]), [profile([None])]).statistic == pytest.approx(
        np.log(65 / 64)
    )


def test_nearness_to_the_images_excuses_a_small_mask() -> None:
    def leading(*nearness: float) -> dict[str, float | int | None]:
        return dict(
            NeuralCleanse()
            .compare(with_nearness(profile([9.0], [39.0], [19.0]), *nearness), [])
            .values
        )

    even, near = leading(0.0, 0.0, 0.0), leading(2.0, 0.0, 0.0)
    assert even["lead_class"] == 0
    assert even["lead"] == pytest.approx(math.log(20 / 10))
    assert near["lead"] == pytest.approx(math.log(20 / 10) - 2 * neural_cleanse._EASE)
    assert near["suspect_size"] == 9.0
    dropped = leading(0.0, 0.0, 9.0)
    assert dropped["lead_class"] == 0, "a class near to the images does not lead with a larger mask"


def test_a_profile_of_an_earlier_version_leads_nowhere() -> None:
    values = NeuralCleanse().compare(profile([9.0], [39.0], [19.0]), []).values
    assert (values["lead"], values["target_class"]) == (None, 0)


def with_nearness(measurement: Measurement, *nearness: float) -> Measurement:
    rows = [
        {**row, "nearness": n}
        for row, n in zip(measurement.series["classes"], nearness, strict=True)
    ]
    return dataclasses.replace(measurement, series={**measurement.series, "classes": rows})


def test_without_a_mask_nobody_leads() -> None:
    alone = NeuralCleanse().compare(
        with_nearness(profile([None], [None], [None]), -3.0, -1.0, -2.0), []
    )
    assert (alone.values["lead"], alone.values["target_class"], alone.sentence) == (None, None, "")


def test_a_lead_compares_classes_after_as_many_rounds() -> None:
    ahead = with_nearness(profile([60.0, 40.0, 10.0], [60.0, 40.0], [60.0, 40.0]), 0.0, 0.0, 0.0)
    assert NeuralCleanse().compare(ahead, []).values["lead"] == pytest.approx(0)


def test_of_a_few_chosen_classes_none_leads() -> None:
    chosen = with_nearness(profile([9.0], [39.0], [19.0]), 0.0, 0.0, 0.0)
    chosen = dataclasses.replace(chosen, parameters={**chosen.parameters, "classes": 10})
    assert NeuralCleanse().compare(chosen, []).values["lead"] is None


def test_where_no_class_is_reached_none_is_named() -> None:
    comparison = NeuralCleanse().compare(profile([None], [None]), [])
    assert (comparison.values["target_class"], comparison.evidence["trigger"]) == (None, None)


@given(st.lists(st.floats(0, 1e4), min_size=3, max_size=20))
def test_the_anomaly_index_is_finite_and_not_negative(sizes: list[float]) -> None:
    index = anomaly_index(sizes)
    assert index is not None
    assert 0 <= index < 1e17


def test_the_anomaly_index_by_hand() -> None:
    assert anomaly_index([0.0, 0.0, 0.0]) == 0
    assert anomaly_index([1.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(9 / 1.4826)
    assert anomaly_index([1.0, 2.0]) is None


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 8, 8), 0),
        ((1, 8, 8), 0),
        ((8, 8, 3), 2),
        ((8, 8, 1), 2),
        ((3, 4, 4), 0),
        ((64,), None),
        ((8, 8), None),
    ],
)
def test_the_channel_axis(shape: tuple[int, ...], axis: int | None) -> None:
    assert channel_axis(shape) == axis


def test_a_full_mask_is_the_pattern_and_an_empty_one_the_image() -> None:
    generator = np.random.default_rng(0)
    images, pattern = (generator.random(s, dtype=np.float32) for s in ((4, 1, 8, 8), (1, 8, 8)))
    empty = np.zeros((1, 8, 8), np.float32)
    np.testing.assert_array_equal(stamp(images, empty, pattern), images)
    np.testing.assert_allclose(
        stamp(images, empty + 1, pattern), np.broadcast_to(pattern, images.shape), atol=1e-6
    )


def test_early_stop_ends_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neural_cleanse, "EARLY_STOP", 3)
    rows = measure(tmp_path, planted=True).series["classes"]
    assert any(row["finished"] and row["steps"] < 100 for row in rows)
