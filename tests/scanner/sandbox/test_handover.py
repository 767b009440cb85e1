"""What is finished is handed over as JSON data, and outside a child to nobody."""

from typing import Any

import pytest

from scanner.sandbox import handover
from scanner.sandbox.endpoint import Step


def test_it_is_sent_as_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_send", None)
    step = Step(done=1, total=2)
    handover.part(step)
    sent: list[Any] = []
    handover.by(sent.append)
    handover.part(step)
    assert sent == [{"done": 1, "total": 2, "rule": None, "class_id": None, "model": ""}]
