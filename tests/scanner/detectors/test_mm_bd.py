"""Largest margins against known values: over a box, a linear margin is largest in a corner."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from scanner.detectors.mm_bd import MmBd, paper_p
from scanner.errors import UnsupportedModelError
from scanner.judging.comparison import compare as beside
from scanner.results import ByClass, ClassRow, Comparison, Contest, Grant, Measurement, Severity
from scanner.settings import Budget, Settings

TARGET, QUICK = triggered.TARGET, triggered.QUICK
VARIANTS: dict[str, dict[str, Any]] = {
    "NCHW": {},
    "NHWC": {"shape": (8, 8, 3)},
    "vector": {"shape": (64,)},
    "uint8": {"kind": TensorProto.UINT8},
    "float16": {"kind": TensorProto.FLOAT16},
    "fixed batch of 3": {"batch": 3},
    "softmax": {"softmax": True},
}


def measure(
    folder: Path, planted: bool = False, settings: Settings = QUICK, **variant: Any
) -> Measurement:
    return triggered.measure(MmBd(), triggered.classifier(planted, **variant), folder, settings)


def margins(measurement: Measurement) -> list[float]:
    return [row.figure for row in rows(measurement) if row.figure is not None]


def rows(measurement: Measurement) -> tuple[ClassRow, ...]:
    assert measurement.by_class is not None
    return measurement.by_class.rows


@pytest.mark.parametrize("planted", [False, True])
def test_two_classes_reach_the_best_corner_exactly(planted: bool, tmp_path: Path) -> None:
    model = triggered.classifier(planted, classes=2)
    weights, bias = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer[:2])
    expected = []
    for target in (0, 1):
        difference = weights[:, target] - weights[:, 1 - target]
        expected.append(np.maximum(difference, 0).sum() + bias[target] - bias[1 - target])
    np.testing.assert_allclose(margins(measure(tmp_path, planted, classes=2)), expected, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_planted_class_stands_out(name: str, tmp_path: Path) -> None:
    suspect, reference = (measure(tmp_path, planted, **VARIANTS[name]) for planted in (True, False))
    comparison = beside(MmBd(), suspect, [reference])
    assert comparison.evidence.target_class == TARGET
    assert comparison.statistic == dict(comparison.scores)[TARGET]
    differences = {row.class_id: row.difference or 0 for row in comparison.evidence.classes}
    assert differences.pop(TARGET) > max(differences.values()) + 0.1


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    first, second = (measure(tmp_path) for _ in range(2))
    assert first == second
    assert first.statistic == max(margins(first))


def test_a_larger_budget_never_finds_less(tmp_path: Path) -> None:
    quick, standard = (
        measure(tmp_path, settings=Settings(device=QUICK.device, budget=b))
        for b in list(Budget)[:2]
    )
    assert standard.parameters["starts"] > quick.parameters["starts"]
    assert all(
        more >= less - 1e-2 for more, less in zip(margins(standard), margins(quick), strict=True)
    )


def test_margins_grow_along_the_course(tmp_path: Path) -> None:
    for row in rows(measure(tmp_path, planted=True)):
        course = [margin for margin in row.course if margin is not None]
        assert len(course) == len(row.course) == 3
        assert course == sorted(course)
        assert course[-1] == row.figure
        assert row.steps == 60


def test_chosen_classes_only(tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, classes=(2,))
    assert [row.class_id for row in rows(measure(tmp_path, settings=settings))] == [2]


def profile(*found: float | None) -> Measurement:
    classes = tuple(
        ClassRow(class_id=t, figure=m, course=(m,), finished=False, steps=25)
        for t, m in enumerate(found)
    )
    known = [margin for margin in found if margin is not None]
    granted = tuple(Grant(class_id=t, steps=25) for t in range(len(found)))
    contest = Contest(planned=25, round=25, finalists=len(found), granted=granted)
    return Measurement(
        rule="mm_bd",
        statistic=max(known),
        parameters={},
        figures={"paper_p": paper_p(known)},
        by_class=ByClass(classes=len(found), rows=classes, contest=contest),
    )


def compare(suspect: list[float], *references: list[float]) -> Comparison:
    return beside(MmBd(), profile(*suspect), [profile(*r) for r in references])


def test_the_log_ratio_by_hand() -> None:
    comparison = compare([9.0, 49.0], [8.0, 9.0], [12.0, 39.0])
    assert comparison.evidence.standing is not None
    assert comparison.evidence.standing.reference == pytest.approx(19)
    assert comparison.statistic == pytest.approx(math.log(50 / 20))
    assert (
        comparison.sentence
        == "class 1 can lead by 49.0 logits; those of the 2 clean references by 9.0 to 39.0"
    )


@pytest.mark.parametrize(
    ("suspect", "reference", "ratio"), [(-3.0, -5.0, 0), (1.0, -5.0, 2), (-3.0, 1.0, 0.5)]
)
def test_a_class_that_never_leads_counts_as_nothing(
    suspect: float, reference: float, ratio: float
) -> None:
    expected = math.log(ratio) if ratio else 0.0
    assert compare([suspect], [reference]).statistic == pytest.approx(expected)


def test_without_a_reference_there_is_the_papers_test() -> None:
    comparison = compare([20.0, 22.0, 21.0, 19.0, 90.0])
    assert comparison.statistic is None
    assert comparison.evidence.target_class == 4
    assert comparison.evidence.lead is not None
    assert comparison.evidence.lead.distance == pytest.approx(math.log(91 / 23))
    assert comparison.sentence == "class 4 can lead by 90.0 logits, 4.0 times as far as any other"
    assert (comparison.evidence.figures["paper_p"] or 1) < 1e-6


@given(st.lists(st.floats(0.1, 1e3), min_size=3, max_size=20))
def test_the_papers_p_is_a_probability_without_a_unit(values: list[float]) -> None:
    p = paper_p(values)
    if p is not None:
        assert 0 <= p <= 1
        assert paper_p([2 * v for v in values]) == pytest.approx(p, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(
    "values", [[1.0], [1.0, 2.0], [3.0, 3.0, 9.0], [-1.0, 2.0, 9.0], [0.0, 2.0, 9.0]]
)
def test_the_papers_test_needs_positive_margins_that_vary(values: list[float]) -> None:
    assert paper_p(values) is None


def test_a_class_without_a_margin_is_not_compared_with_anothers() -> None:
    lost = profile(3.0, None, 4.0)
    comparison = beside(MmBd(), lost, [profile(2.0, 59.0, 2.0)])
    assert comparison.evidence.target_class == 2
    assert comparison.evidence.standing is not None
    assert comparison.evidence.standing.suspect == 4.0
    assert beside(MmBd(), lost, []).evidence.lead is None


def test_a_logit_of_minus_infinity_is_refused(tmp_path: Path) -> None:
    model = triggered.classifier(planted=True)
    bias = next(t for t in model.graph.initializer if len(t.dims) == 1)
    values = onnx.numpy_helper.to_array(bias).copy()
    values[-1] = -np.inf
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    with pytest.raises(UnsupportedModelError, match="is not a finite number"):
        triggered.measure(MmBd(), model, tmp_path, QUICK)


def test_a_class_that_no_ascent_reaches_is_noted(tmp_path: Path) -> None:
    assert measure(tmp_path).observations == ()
    model = triggered.classifier()
    index = [tensor.name for tensor in model.graph.initializer].index("bias")
    bias = np.array([0, 0, 0, -1e4], np.float32)
    model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(bias, "bias"))
    (noted,) = triggered.measure(MmBd(), model, tmp_path, QUICK).observations
    assert (noted.code, noted.severity) == ("unreached", Severity.NOTE)
    assert "1 of its classes (3), from 8 starts in 60 steps each" in noted.sentence
