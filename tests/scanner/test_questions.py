"""What a child is asked outside a scan, and which answers are believed."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import models
import pytest
from examples import identity

from scanner import pipeline, questions
from scanner.detectors import FAMILY
from scanner.errors import WorkerCrashedError
from scanner.limits import Allowance, Confinement
from scanner.protocol import Examination, Job, Preparation
from scanner.questions import allowance_for, check, diagnose, layers, rules, source_of, vouched
from scanner.results import ModelRecord, Rule, Skip
from scanner.sandbox import worker
from scanner.settings import Device, Settings


def test_layers(tmp_path: Path) -> None:
    file = models.save(models.plain(), tmp_path / "model.onnx")
    found = layers(file)
    assert found.model.path == str(file)
    assert [(row.value, row.operator, row.node, row.shape) for row in found.layers] == [
        ("activated", "Relu", "relu", ("N", 4, 8, 8))
    ]


def test_the_detectors_are_described_in_the_order_of_the_report() -> None:
    described = rules()
    assert [row.rule.id for row in described] == list(FAMILY)
    assert {"graph"} <= {need for row in described for need in row.needs}


def test_a_diagnosis_is_typed() -> None:
    found = diagnose()
    assert found.versions["onnxruntime"]
    assert found.telemetry is False
    assert found.isolation.granted()


def test_a_check_tells_the_obstacles(tmp_path: Path) -> None:
    file = models.save(models.plain(), tmp_path / "model.onnx")
    found = check(file, Settings(detectors=("overactivation", "graph_logic")))
    assert found.model.path == str(file)
    assert [prospect.rule for prospect in found.detectors] == ["graph_logic", "overactivation"]


def test_a_child_may_read_the_folder_of_the_model_and_the_images_named() -> None:
    settings = Settings(images_folder="/data/images")
    allowed = allowance_for(settings, (source_of("/models/a.onnx"),))
    assert allowed.readable == ("/models", "/data/images")


def test_a_model_that_is_a_link_is_read_where_it_lies(tmp_path: Path) -> None:
    for name in ("models", "links"):
        (tmp_path / name).mkdir()
    file = models.save(models.plain(), tmp_path / "models" / "a.onnx")
    link = tmp_path / "links" / "b.onnx"
    link.symlink_to(file)
    assert layers(link).model.path == str(link)
    assert allowance_for(Settings(), (source_of(link),)).readable == (str(link.parent), str(link))


def test_a_name_that_is_too_long_is_no_link(tmp_path: Path) -> None:
    allowed = allowance_for(Settings(), (source_of(tmp_path / ("a" * 300)),))
    assert allowed.readable == (str(tmp_path),)


RULE = Rule(id="head", name="H", summary="s", source="p")
OTHER = Rule(id="other", name="O", summary="s", source="p")


def _answer(*rules: Rule, skip: str = "head", references: int = 0) -> Examination:
    record = ModelRecord(
        model=identity("renamed.onnx"),
        measurements=(),
        skips=(Skip(rule=skip, reason="r"),),
        failures=(),
        runtime=None,
    )
    return Examination(
        suspect=record,
        references=(record,) * references,
        comparisons=(),
        populations=(),
        rules=rules,
        warnings=(),
    )


def test_an_answer_speaks_of_the_model_that_was_asked_for() -> None:
    job = Job(model=source_of("a.onnx"), settings=Settings())
    prepared = Preparation(rules=(RULE,), isolation=Confinement())
    assert vouched(_answer(RULE), job, prepared).suspect.model.path == "a.onnx"


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (_answer(), "rules"),
        (_answer(RULE, OTHER), "rules"),
        (_answer(RULE, skip="other"), "rule"),
        (_answer(RULE, references=1), "references"),
    ],
)
def test_an_answer_about_anything_else_is_a_crash(answer: Examination, word: str) -> None:
    job = Job(model=source_of("a.onnx"), settings=Settings())
    with pytest.raises(WorkerCrashedError, match=rf"\b{word}\b"):
        vouched(answer, job, Preparation(rules=(RULE,), isolation=Confinement()))


@pytest.mark.parametrize(
    ("device", "library", "asked"),
    [
        (Device.AUTO, "libonnxruntime_providers_cuda.so", True),
        (Device.CUDA, "onnxruntime_providers_cuda.dll", True),
        (Device.CPU, "libonnxruntime_providers_cuda.so", False),
        (Device.AUTO, "libonnxruntime_providers_shared.so", False),
    ],
)
def test_cuda_is_asked_for_where_the_runtime_is_built_for_it(
    device: Device, library: str, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / library).touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    questions._is_built_for_cuda.cache_clear()
    try:
        assert questions.allowance_for(Settings(device=device), ()).cuda is asked
    finally:
        questions._is_built_for_cuda.cache_clear()


class Refusing:
    """A child that notes what it was allowed, and answers nothing."""

    def __init__(self) -> None:
        self.allowed: list[Allowance] = []

    def ask(self, _endpoint: object, _request: object, allowance: Allowance) -> None:
        """Note it."""
        self.allowed.append(allowance)
        raise WorkerCrashedError.no_answer("test")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def kill(self) -> None:
        """Likewise."""


@pytest.mark.parametrize(
    ("question", "opened"),
    [
        (rules, False),
        (lambda: layers("a.onnx"), False),
        (lambda: check("a.onnx"), False),
        (lambda: questions.diff("a.onnx", "b.onnx"), False),
        (lambda: pipeline.judge([_answer().suspect]), False),
        (lambda: questions.plan("a.onnx"), True),
        (diagnose, True),
    ],
)
def test_who_runs_no_model_opens_no_device(
    question: Callable[[], object], opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Refusing()
    monkeypatch.setattr(questions, "_is_built_for_cuda", lambda: True)
    monkeypatch.setattr(worker, "take", lambda _: child)
    with pytest.raises(WorkerCrashedError):
        question()
    assert [allowance.cuda for allowance in child.allowed] == [opened]
