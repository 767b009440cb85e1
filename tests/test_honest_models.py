"""No false alarm on real models from the package index, and a planted gate in a real one is found."""

import collections
from pathlib import Path

import honest_models
import pytest

from scanner.detectors.base import Subject
from scanner.detectors.graph_logic import GraphLogic
from scanner.detectors.integrity import Integrity
from scanner.model import open_model
from scanner.results import Severity
from scanner.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files() -> list[Path]:
    try:
        return honest_models.files(honest_models.folder())
    except honest_models.Unreachable as error:
        pytest.skip(f"the package index is not reachable: {error}")


def test_there_are_enough_of_them(files: list[Path]) -> None:
    assert len(files) >= honest_models.LEAST


def test_none_is_suspicious(files: list[Path]) -> None:
    alarms = collections.defaultdict(list)
    for path in files:
        subject = Subject(model=open_model(path), settings=Settings())
        for detector in (GraphLogic(), Integrity()):
            for observation in detector.measure(subject).observations:
                if observation.severity >= Severity.SUSPICIOUS:
                    alarms[path.name].append(observation.sentence)
    assert dict(alarms) == {}
