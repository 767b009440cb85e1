"""Observations with an input that wakes what they are about."""

from pathlib import Path

import numpy as np
import pytest
from models import SIDE, plain, save

from scanner.graph.core import flatten
from scanner.graph.dormancy.side_paths import Paths
from scanner.instruments import confirming, forcing, waking
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.results import Observation, Severity
from scanner.settings import Device, Settings
from trainers.graph_backdoor import plant

TOLD = Observation(
    code="sleeping-path", severity=Severity.SUSPICIOUS, sentence="It sleeps", nodes=("gate",)
)


@pytest.fixture
def gate(tmp_path: Path) -> tuple[forcing.Rig, Paths, waking.Sleeper]:
    """The value of a gate that one exact pixel opens."""
    path = save(plant(plain(), "pixel-equals", target=1).model, tmp_path / "model.onnx")
    subject = Subject(model=open_model(path), settings=Settings(device=Device.CPU))
    flat = flatten.flatten(subject.model.proto)
    rig, paths = forcing.Rig(subject, flat, (1, SIDE, SIDE), "logits"), Paths(flat, "logits")
    (joint,) = paths.joints()
    typical = rig.read(rig.reader([joint.side]), rig.images[0])[0]
    model = rig.forced(joint.side, typical)
    sleeper = waking.Sleeper(
        value=joint.side,
        trail=paths.trail(joint.side),
        held=~typical,
        channels=None,
        shown=(),
        doubt="",
        asleep=lambda image: model.answer(image, typical),
    )
    return rig, paths, sleeper


def test_an_input_that_wakes_it_confirms(
    gate: tuple[forcing.Rig, Paths, waking.Sleeper],
) -> None:
    rig, paths, sleeper = gate
    until = rig.until
    found = confirming.confirmed(TOLD, sleeper, paths, rig)
    assert found.severity is Severity.CONFIRMED
    assert found.input is not None
    assert (found.input.class_after, found.details["confirmation"]["woken"]) == (1, True)
    assert found.input.class_without != 1
    assert rig.until == until


def test_without_time_it_stays_what_it_was(
    gate: tuple[forcing.Rig, Paths, waking.Sleeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "_TO_WAKE", -1.0)
    rig, paths, sleeper = gate
    found = confirming.confirmed(TOLD, sleeper, paths, rig)
    assert (found.severity, found.input) == (Severity.SUSPICIOUS, None)
    assert found.details["confirmation"]["how"] == "the time ran out"


def test_what_is_doubted_is_a_warning_with_its_reason() -> None:
    found = confirming.doubted(TOLD, "nothing wakes it")
    assert (found.severity, found.sentence) == (
        Severity.WARNING,
        "It sleeps; but nothing wakes it",
    )


def test_numbers_that_json_lacks_are_words() -> None:
    assert confirming.as_data(np.array([[1.5, np.inf], [2.0, np.nan]])) == [1.5, "inf", 2.0, "nan"]
