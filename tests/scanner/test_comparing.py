"""What one detector does wrong never takes what the others found."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from examples import identity
from onnx import numpy_helper

from scanner import calibrate, comparing
from scanner.errors import UsageError
from scanner.instruments import kinship
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.judging.population import CleanModels, shipped_baseline
from scanner.limits import Limits
from scanner.modelfile.model import open_model
from scanner.pipeline import judge, measure, scan
from scanner.results import (
    ByClass,
    ClassRow,
    Comparison,
    Contest,
    Contribution,
    Description,
    Grant,
    Measurement,
    ModelRecord,
    Part,
    Rule,
)
from scanner.settings import Settings

SAMPLES = Path(__file__).parents[2] / "samples"


class Steady(Detector):
    """A detector that describes anything."""

    rule: ClassVar[Rule] = Rule(id="steady", name="S", summary="s", source="p")
    needs: ClassVar[Needs] = Needs.GRAPH

    def measure(self, subject: Subject) -> Measurement:
        """Not asked for here."""
        raise NotImplementedError


class Broken(Steady):
    """A detector with a bug."""

    rule: ClassVar[Rule] = Rule(id="broken", name="B", summary="s", source="p")

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Divide by nothing."""
        del measurement, comparison
        raise ZeroDivisionError


class Decisive(Steady):
    """A search whose silence may be called clean."""

    contribution: ClassVar[Contribution] = Contribution(part=Part.COMBINED, decisive=True)


def shown(path: str, *ranges: tuple[float, float] | None) -> ModelRecord:
    """A model that each detector showed images in a range, or none."""
    measurements = tuple(
        Measurement(
            rule=f"r{number}",
            statistic=1.0,
            parameters={} if values is None else {"input_range": values},
        )
        for number, values in enumerate(ranges)
    )
    return ModelRecord(
        model=identity(path), measurements=measurements, skips=(), failures=(), runtime=None
    )


def test_what_was_shown_nothing_was_not_shown_other_values() -> None:
    suspect = shown("m", (0, 1), None, (0, 1))
    comparing.check_same_values(suspect, shown("r", (0, 1), (0, 1), None))
    with pytest.raises(UsageError, match="measured on other values"):
        comparing.check_same_values(suspect, shown("r", (0, 1), None, (0, 255)))


def test_a_comparison_that_fails_is_a_failure_of_its_own() -> None:
    measurements = tuple(
        Measurement(rule=rule, statistic=1.0, parameters={}) for rule in ("broken", "steady")
    )
    suspect = ModelRecord(
        model=identity("m"), measurements=measurements, skips=(), failures=(), runtime=None
    )
    clean = CleanModels(references=(), population=(), source="")
    pairs, failures = comparing._compare(clean, clean, (Broken(), Steady()), suspect, Limits())
    assert [comparison.rule for comparison, _ in pairs] == ["steady"]
    assert [failure.rule for failure in failures] == ["broken"]


def test_a_class_that_a_decisive_search_never_reached_is_a_doubt() -> None:
    """Scores a hundred million times smaller, and no class but the one of all noise was reached."""
    found = Measurement(
        rule="steady",
        statistic=1.0,
        parameters={},
        by_class=ByClass(
            classes=3,
            rows=tuple(
                ClassRow(class_id=number, figure=figure, course=(figure,))
                for number, figure in enumerate((None, 14.4, None))
            ),
            unreached=64.0,
            contest=Contest(
                planned=100,
                round=25,
                finalists=3,
                granted=tuple(Grant(class_id=number, steps=100) for number in range(3)),
            ),
        ),
    )
    suspect = ModelRecord(
        model=identity("m"), measurements=(found,), skips=(), failures=(), runtime=None
    )
    (doubt,) = comparing._not_reached(suspect, (Decisive(),))
    assert "2 of 3 classes (0, 2)" in doubt
    assert not list(comparing._not_reached(suspect, (Steady(),)))


@pytest.mark.parametrize(
    "name",
    [
        "mnist-clean-1",
        "mnist-badnets",
        "mnist-blended",
        "mnist-wanet",
        "fashion-mnist-badnets",
        "gtsrb-badnets",
    ],
)
def test_samples_have_the_classes_of_their_baselines(name: str) -> None:
    model = open_model(SAMPLES / f"{name}.onnx")
    shipped = shipped_baseline(model.identity)
    assert shipped is not None
    on_noise = kinship.on_noise(model, Settings(input_range=(0.0, 1.0)))
    assert on_noise is not None
    assert not comparing.other_data(on_noise, shipped)
    assert not comparing.other_data(None, shipped)


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    """A sample with its classes in another order."""
    network = onnx.load(SAMPLES / "mnist-clean.onnx")
    for tensor in network.graph.initializer:
        if tensor.dims[0] == 10:
            rolled = np.roll(numpy_helper.to_array(tensor), 3, axis=0)
            tensor.CopyFrom(numpy_helper.from_array(rolled, tensor.name))
    onnx.save(network, tmp_path / "turned.onnx")
    return tmp_path / "turned.onnx"


def test_a_baseline_of_the_same_shapes_judges_no_network_of_other_classes(turned: Path) -> None:
    """Networks of other recipes judge it."""
    settings = Settings(detectors=("head",))
    own, other = (scan(path, settings=settings) for path in (SAMPLES / "mnist-clean.onnx", turned))
    assert own.calibration is not None
    assert "shipped baseline 'mnist'" in own.calibration
    assert not own.warnings
    assert other.calibration is None or "shipped" not in other.calibration
    (warning,) = other.warnings
    assert warning.startswith(
        "the shipped baseline 'mnist' has the model's weight shapes, but not its data: "
    )
    # A model that is measured now and judged later, beside a reference or not, is told likewise.
    record = measure(turned, settings=settings)
    assert record.on_noise is not None
    (judged,) = judge([record], settings=settings)
    assert judged.warnings == other.warnings
    assert judged.verdict is other.verdict


def test_a_baseline_that_the_user_named_judges_other_classes_with_a_warning(turned: Path) -> None:
    """Whoever could choose that it does not judge would choose the verdict."""
    settings = Settings(detectors=("head",), input_range=(0.0, 1.0), shipped_baselines=False)
    clean = [SAMPLES / f"mnist-clean-{n}.onnx" for n in (1, 2)]
    baseline = calibrate(clean, settings, name="mine", provenance="samples")
    assert all(record.on_noise is None for record in baseline.records)
    own, other = (
        scan(path, settings=settings, baseline=baseline)
        for path in (SAMPLES / "mnist-badnets.onnx", turned)
    )
    assert not own.warnings
    assert own.calibration is not None
    assert own.calibration == other.calibration
    (warning,) = other.warnings
    assert warning.startswith("the baseline 'mine' has the model's weight shapes, but not its data")
    assert warning.endswith("; make sure that it is the right one")
    (judged,) = judge([measure(turned, settings)], settings=settings, baseline=baseline)
    assert judged.warnings == other.warnings
    silent = dataclasses.replace(baseline, on_noise=None)
    assert not scan(turned, settings=settings, baseline=silent).warnings
