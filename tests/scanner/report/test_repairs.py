"""A repair as a page: everything measured is on it, and names do no harm."""

import dataclasses
import functools
from typing import Any

import pytest

from scanner.report.repairs import markdown, text
from scanner.results import (
    Ending,
    KnownTrigger,
    ModelIdentity,
    Outcome,
    Repaired,
    RepairResult,
    RepairStep,
    ScanResult,
    TriggerProof,
    Verdict,
    Way,
)
from scanner.values import from_json, to_json


def _scan(verdict: Verdict) -> ScanResult:
    model = ModelIdentity(
        path="a\x1b[31m|b.onnx", sha256=None, producer="", opset=17, inputs=(), outputs=()
    )
    return ScanResult(
        model=model, references=(), score=None, findings=(), skips=(), failures=(), runtime=None,
        verdict=verdict, reason="because",
    )  # fmt: skip


@pytest.fixture
def result() -> RepairResult:
    before = _scan(Verdict.SUSPICIOUS)
    return RepairResult(
        model=before.model,
        ending=Ending.REPAIRED,
        reason="it worked",
        before=before,
        after=_scan(Verdict.CLEAN),
        output="fixed.onnx",
        repaired=Repaired(
            steps=(
                RepairStep(
                    way=Way.UNLEARN, outcome=Outcome.KEPT, sentence="steps", success=0.05,
                    agreement=0.975,
                ),
            ),
            proofs=(TriggerProof(class_id=3, before=0.9, after=0.05, size_before=4.0),),
            agreement=0.975,
            accuracy_before=0.95,
            accuracy_after=0.925,
            lost=3,
            gained=2,
            known=KnownTrigger(images=1915, before=1.0, after=0.002),
            images=60,
            held_back=40,
            source="100 images of x.npz",
            structural_before=2,
            structural_after=0,
            warnings=("no images",),
        ),
    )  # fmt: skip


WORDS = (
    "repaired", "it worked", "suspicious", "clean", "90.0%", "5.0%", "97.5%", "95.0%", "92.5%",
    "-14 to +9 points", "at most 9%", "1,915", "0.2%", "4.0 px", "none found", "unlearn", "steps",
    "no images",
)  # fmt: skip


PAGES = [functools.partial(text, width=80), markdown]


@pytest.mark.parametrize("render", PAGES)
def test_all_that_was_measured_is_on_the_page(render: Any, result: RepairResult) -> None:
    page = render(result)
    assert [word for word in WORDS if word not in " ".join(page.split())] == []
    assert "\x1b" not in page


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int, result: RepairResult) -> None:
    long = dataclasses.replace(result, reason="of the trigger " * 30)
    assert 70 <= max(map(len, text(long, width).splitlines())) <= width


@pytest.mark.parametrize("render", PAGES)
def test_a_model_that_was_left_alone_has_a_page(render: Any, result: RepairResult) -> None:
    page = render(dataclasses.replace(result, repaired=None, after=None, output=""))
    assert "it worked" in page


def test_it_survives_json(result: RepairResult) -> None:
    assert from_json(RepairResult, to_json(result)) == result
