"""What the detector returns; the search is tested in tests/scanner/instruments."""

from pathlib import Path

import onnx
import pytest
from models import plain, save

from scanner.detectors.dormant import Dormant
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.results import Measurement, Severity
from scanner.settings import Device, Settings
from trainers.graph_backdoor import plant


def measure(model: onnx.ModelProto, folder: Path) -> Measurement:
    path = save(model, folder / "model.onnx")
    return Dormant().measure(
        Subject(model=open_model(path), settings=Settings(device=Device.CPU, seed=3))
    )


def test_a_clean_network_is_silent(tmp_path: Path) -> None:
    measurement = measure(plain(), tmp_path)
    assert (measurement.statistic, measurement.observations) == (0.0, ())
    assert measurement.parameters["answer"] == "logits"


@pytest.mark.parametrize("kind", ["mul-mask", "shrink", "gelu"])
def test_the_statistic_is_the_highest_severity(kind: str, tmp_path: Path) -> None:
    measurement = measure(plant(plain(), kind, target=1).model, tmp_path)
    worst = max(observation.severity for observation in measurement.observations)
    assert measurement.statistic == float(worst) >= Severity.SUSPICIOUS
    assert measurement.parameters["seed"] == 3


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    model = plant(plain(), "relu-arithmetic", target=1).model
    assert measure(model, tmp_path) == measure(model, tmp_path)
