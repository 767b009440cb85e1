"""Whatever a call does, the child answers it; how it lives and ends is in test_worker.py."""

import io
from typing import Any

import pytest

from scanner.limits import Allowance, Limits
from scanner.sandbox import child, messages
from scanner.sandbox.endpoint import Step
from scanner.values import to_json

ALLOWANCE = to_json(Allowance(seconds=1, limits=Limits(memory=2**20)))


def answer(function: str, request: Any = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the answer to a call of one of the deeds, and what was sent before it."""
    pipe = io.BytesIO()
    call = {"function": f"hostile.deeds:{function}", "request": request, "allowance": ALLOWANCE}
    found = child._answer(call, pipe)
    pipe.seek(0)
    return found, list(iter(lambda: messages.read(pipe), None))


def test_an_answer_comes_after_its_progress() -> None:
    step = Step(done=1, total=2, rule="head", class_id=3)
    assert answer("report") == ({"answer": "reported"}, [{"progress": to_json(step)}])


def test_the_first_steps_of_each_measurement_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_PROGRESS_SECONDS", 600)
    _, told = answer("report_often")
    assert [(step["progress"]["rule"], step["progress"]["class_id"]) for step in told] == [
        *(("head", None), ("head", 0), ("mm_bd", None), ("mm_bd", 0))
    ]


@pytest.mark.parametrize(
    ("function", "request_", "kind", "problem"),
    [
        ("bug", None, "WorkerCrashedError", "internal error: RuntimeError: a bug"),
        ("none", None, "WorkerCrashedError", "internal error: AttributeError"),
        ("refuse", None, "UsageError", "no"),
        ("starve", None, "WorkerLimitError", "the model needs more than 1 MiB of memory"),
    ],
)
def test_an_error_is_an_answer(function: str, request_: Any, kind: str, problem: str) -> None:
    found, _ = answer(function, request_)
    assert found["error"]["type"] == kind
    assert found["error"]["problem"].startswith(problem)


def test_a_library_that_is_missing_answers_every_call() -> None:
    refusal = child.import_ahead(["json", "a_library_that_nobody_has"])
    assert refusal is not None
    assert refusal["error"]["type"] == "DeviceError"
    assert "a_library_that_nobody_has" in refusal["error"]["problem"]
    assert child.import_ahead(["json"]) is None
