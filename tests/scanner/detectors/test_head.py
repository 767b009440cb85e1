"""The head's answers to random latents, against a plain computation."""

from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from scanner.detectors import head
from scanner.detectors.head import Head
from scanner.errors import NoLayerError, NoLogitsError
from scanner.instruments.detector import Subject
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.results import ByClass, ClassRow, Lead, Measurement
from scanner.settings import Device, Settings

SETTINGS = Settings(images=20, device=Device.CPU)


def measure(model: onnx.ModelProto, folder: Path, settings: Settings = SETTINGS) -> Measurement:
    path = models.save(model, folder / "model.onnx")
    return Head().measure(Subject(model=open_model(path), settings=settings))


def preferring(target: int | None) -> onnx.ModelProto:
    """A plain model whose head prefers one class."""
    model = models.plain()
    dense = models.weights(False)["dense"]
    if target is not None:
        dense[:, target] += 1
    index = [tensor.name for tensor in model.graph.initializer].index("dense")
    model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(dense, "dense"))
    return model


def by_class(logits: Any) -> dict[str, Any]:
    """Share, centred logit and margin, class by class and row by row."""
    unit = np.mean([row.std() for row in logits])
    classes = range(logits.shape[1])
    return {
        "share": [np.mean([row.argmax() == t for row in logits]) for t in classes],
        "logit": [np.mean([row[t] - row.mean() for row in logits]) / unit for t in classes],
        "margin": [
            np.mean([row[t] - np.delete(row, t).max() for row in logits]) / unit for t in classes
        ],
    }


def column(measurement: Measurement, name: str) -> list[float]:
    assert measurement.by_class is not None
    rows = measurement.by_class.rows
    return [(row.figure if name == "margin" else row.figures[name]) or 0.0 for row in rows]


def test_by_hand(tmp_path: Path) -> None:
    measured = measure(preferring(2), tmp_path)
    drawn = [
        head.scaled(values, measured.figures["latent_scale"] or 0, signed=False)
        for values in head.sparse_normal((models.CHANNELS,), 0)
    ]
    dense = models.weights(False)["dense"] + np.array([0, 0, 1], np.float32)
    expected = by_class(np.concatenate(drawn).astype(np.float64) @ dense)
    for name, values in expected.items():
        np.testing.assert_allclose(column(measured, name), values, rtol=1e-3, atol=1e-3)
    assert np.sum(column(measured, "share")) == pytest.approx(1)
    assert np.sum(column(measured, "noise_share")) == pytest.approx(1)


@pytest.mark.parametrize("target", range(models.CLASSES))
def test_the_preferred_class_is_named(target: int, tmp_path: Path) -> None:
    clean, planted = (measure(preferring(t), tmp_path) for t in (None, target))
    comparison = compare(Head(), planted, [clean, clean])
    assert comparison.evidence.target_class == target
    differences = np.subtract(column(planted, "margin"), column(clean, "margin"))
    assert comparison.statistic == pytest.approx(differences[target] - np.median(differences))
    assert list(dict(comparison.scores).values()) == pytest.approx(
        differences - np.median(differences)
    )
    assert f"class {target} lies" in comparison.sentence
    assert compare(Head(), clean, [clean]).statistic == pytest.approx(0)


@pytest.mark.parametrize("name", [n for n in models.MEASURABLE if n != "activation is the output"])
def test_every_export_says_the_same(name: str, tmp_path: Path) -> None:
    tolerance = 0.05 if name in ("QDQ int8", "float16") else 1e-3
    expected = measure(models.plain(True), tmp_path)
    found = measure(models.MEASURABLE[name](True), tmp_path)
    for figure in ("margin", "noise_margin"):
        np.testing.assert_allclose(column(found, figure), column(expected, figure), atol=tolerance)


@given(scale=st.floats(0.1, 10), signed=st.booleans(), seed=st.integers(0, 2**32))
def test_latents(scale: float, signed: bool, seed: int) -> None:
    drawn = np.concatenate(list(head.sparse_normal((10, 5), seed)))
    latents = head.scaled(drawn, scale, signed=signed)
    assert latents.shape == (head.LATENTS, 10, 5)
    assert (latents.min() < 0) == signed
    assert np.sqrt(np.mean(np.square(latents))) == pytest.approx(scale, rel=0.1)
    assert np.mean(latents != 0) == pytest.approx(head.DENSITY, abs=0.015)


@pytest.mark.parametrize("most", [0, 1 << 22])
def test_latents_are_the_same_whenever_they_are_drawn(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = measure(models.plain(), tmp_path)
    monkeypatch.setattr(head, "_MOST_AHEAD", most)
    assert column(measure(models.plain(), tmp_path), "margin") == column(expected, "margin")


def test_a_signed_feature_gets_signed_latents(tmp_path: Path) -> None:
    assert measure(models.without_activation(), tmp_path).parameters["signed"]
    assert not measure(models.plain(), tmp_path).parameters["signed"]


def test_without_a_comparable_reference() -> None:
    def measured(*margins: float) -> Measurement:
        rows = tuple(
            ClassRow(class_id=t, figure=margin, course=(margin,), figures={"share": 0.5})
            for t, margin in enumerate(margins)
        )
        by_class = ByClass(classes=len(margins), rows=rows)
        return Measurement(rule="head", statistic=1.0, parameters={}, by_class=by_class)

    alone = compare(Head(), measured(-1, -2, -4), [])
    assert (alone.statistic, alone.evidence.target_class) == (None, 0)
    assert alone.evidence.lead == Lead(class_id=0, distance=1.0)
    assert (
        alone.sentence
        == "on random latents class 0 is the nearest to winning, by 1.00 standard deviations"
    )
    assert compare(Head(), measured(-1, -2), []).evidence.lead is None
    comparison = compare(Head(), measured(-1, -2), [measured(-1, -2, -3)])
    assert comparison.statistic is None
    assert comparison.sentence == "no reference has as many classes"
    mixed = compare(
        Head(), measured(-1, -2), [measured(-1, -2, -3), measured(-1, -4), measured(-1, -3)]
    )
    assert (mixed.statistic, mixed.evidence.target_class) == (1.5, 1)


def test_refused(tmp_path: Path) -> None:
    no_head = models.build([helper.make_node("Flatten", ["image"], ["flat"]),
                            helper.make_node("Relu", ["flat"], ["logits"])], {})  # fmt: skip
    with pytest.raises(NoLayerError, match="no linear layer makes the logits 'logits'"):
        measure(no_head, tmp_path)
    one_class = models.plain()
    index = [tensor.name for tensor in one_class.graph.initializer].index("dense")
    one_class.graph.initializer[index].CopyFrom(
        onnx.numpy_helper.from_array(np.ones((4, 1), np.float32), "dense")
    )
    with pytest.raises(NoLogitsError, match=r"of shape \(1,\) for each image"):
        measure(one_class, tmp_path)
    sequence = models.build([helper.make_node("MatMul", ["image", "matrix"], ["logits"])],
                            {"matrix": np.ones((models.SIDE, 5), np.float32)})  # fmt: skip
    with pytest.raises(NoLogitsError, match=r"of shape \(1, 8, 5\) for each image"):
        measure(sequence, tmp_path)
