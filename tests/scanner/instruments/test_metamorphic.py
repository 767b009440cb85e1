"""All ways of asking together: each gate is found by its own way, and nothing takes that away."""

from collections.abc import Iterator
from pathlib import Path

import listening
import models
import numpy as np
import pytest

from scanner.errors import WorkerTimeoutError
from scanner.instruments import metamorphic
from scanner.instruments.interview import Interview
from scanner.results import Observation, Severity

GATES = {**listening.SURROUNDINGS, **listening.NEAR_IMAGES}


@pytest.mark.parametrize("code", GATES)
def test_what_no_image_shows_is_found(code: str, tmp_path: Path) -> None:
    # The gate shows only where the network would not have said the target anyway.
    found = [o for t in (1, 2) for o in _search(code, t, tmp_path)]
    assert {o.code for o in found if o.severity is Severity.SUSPICIOUS} == {code}
    worst = next(o for o in found if o.severity is Severity.SUSPICIOUS)
    assert worst.details["flips"] > 0
    assert worst.input is not None
    assert np.argmax(worst.details["before"]) != np.argmax(worst.details["after"])


def _search(code: str, target: int, folder: Path) -> tuple[Observation, ...]:
    model = listening.gated(GATES[code], target)
    return metamorphic.search(listening.subject(model, folder)).observations


def test_the_time_that_runs_out_takes_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_asked: Interview) -> Iterator[Observation]:
        raise WorkerTimeoutError("the time ran out", remedy="give it more")

    early = metamorphic._RELATIONS[:2]
    monkeypatch.setattr(metamorphic, "_RELATIONS", (*early, late))
    gate = listening.SURROUNDINGS["depends-on-batch-size"]
    found = metamorphic.search(listening.subject(listening.gated(gate, 2), tmp_path))
    assert [o.code for o in found.observations] == ["depends-on-batch-size"]
    assert found.parameters["tried"] == ["repetition", "size"]
    with pytest.raises(WorkerTimeoutError):
        metamorphic.search(listening.subject(models.plain(), tmp_path))
