"""A child that was taken over gives a wrong answer about its own file, and can do no more."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import replies
from hostile.replies import Puppet, scanned

from scanner import Verdict, pipeline, scan_many
from scanner.errors import DeviceError, WorkerCrashedError
from scanner.examine import compare
from scanner.pipeline import Judge
from scanner.protocol import COMPARE, EXAMINE, IDENTIFY, PREPARE, Trial
from scanner.results import ModelRecord, ScanResult
from scanner.sandbox import messages, worker
from scanner.values import from_json, to_json

Replies = dict[str, Any]


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> list[Replies]:
    """What honest children answer."""
    return replies.true_replies(tmp_path_factory.mktemp("models"))


def changed(given: Replies, change: Callable[[Any], None]) -> Replies:
    """The same replies with another examination."""
    data = copy.deepcopy(given)
    change(data[EXAMINE.function])
    return data


def refused(result: ScanResult, field: str) -> bool:
    """Whether nothing came of a reply but an error about its own file that names the field."""
    (failure,) = result.failures
    return (
        result.verdict is Verdict.INCONCLUSIVE
        and [f.rule.id for f in result.findings] == ["unanalysable-crash"]
        and field in failure.sentence
        and "not an answer" in failure.sentence
    )


def test_true_replies_make_a_result(true: list[Replies], tmp_path: Path) -> None:
    alone, beside = true
    result = scanned(alone, alone)
    assert not result.failures
    assert result.verdict is Verdict.SUSPICIOUS
    assert scanned(alone, beside).references[0].path.endswith("clean.onnx")
    (tmp_path / "out").mkdir()
    replies.shown(result, tmp_path / "out" / "evidence")
    assert list((tmp_path / "out" / "evidence").rglob("*.onnx"))


def test_twisted_replies_are_survived() -> None:
    tally, broken = replies.fuzz(300, seed=1)
    assert not broken, "\n".join(trace for _, _, trace in broken.values())
    assert tally["refused"] > 100
    assert tally["a result"] > 50


def put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        replies.at(data, path[:-1])[path[-1]] = value

    return change


HUGE = {"shape": [3, 20_000, 20_000], "data": ""}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (put("rules", 0, "id", value="../../out"), "rules[0].id"),
        (put("rules", 0, "name", value="something else"), "rules"),
        (put("comparisons", 0, "rule", value="unheard-of"), "rule"),
        (put("suspect", "measurements", 0, "rule", value="/out"), "suspect.measurements[0].rule"),
        (put("suspect", "model", "sha256", value="no hash"), "suspect.model.sha256"),
        (put("suspect", "runtime", "seconds", value=float("nan")), "suspect.runtime.seconds"),
        (put("suspect", "runtime", "threads", value=10**400), "not an answer"),
        (put("comparisons", 0, "statistic", value=float("inf")), "comparisons[0].statistic"),
        (put("comparisons", 0, "statistic", value=True), "comparisons[0].statistic"),
        (put("comparisons", 0, "contribution", "part", value="mine"), "contribution.part"),
        (put("comparisons", 0, "evidence", "target_class", value=-1), "evidence.target_class"),
        (put("suspect", "measurements", 0, "parameters", value=replies.deep(30)), "parameters"),
        (put("suspect", "measurements", value=[{}] * 300), "suspect.measurements"),
        (put("references", value=[None]), "references"),
        (put("more", value=1), "the whole of it"),
    ],
)  # fmt: skip
def test_what_is_not_a_result_is_named_by_its_field(
    true: list[Replies], change: Callable[[Any], None], field: str
) -> None:
    alone = true[0]
    assert refused(scanned(changed(alone, change), alone), field)


def test_a_picture_of_a_gigabyte_is_not_made(true: list[Replies]) -> None:
    def change(data: Any) -> None:
        seen = next(o for m in data["suspect"]["measurements"] for o in m["observations"])
        seen["input"] = {"image": HUGE, "low": 0.0, "high": 1.0}

    assert refused(scanned(changed(true[0], change), true[0]), "input.image")


def test_a_text_without_end_is_cut(true: list[Replies]) -> None:
    long = changed(true[0], put("suspect", "model", "producer", value="x" * 10**6))
    assert len(scanned(long, true[0]).model.producer) < 2**16


def test_a_child_cannot_rename_its_file_or_praise_its_sandbox(true: list[Replies]) -> None:
    alone = changed(true[0], put("suspect", "model", "path", value="other.onnx"))
    put(EXAMINE.function, "suspect", "runtime", "isolation", value={"seccomp": "yes"})(alone)
    result = scanned(alone, alone)
    assert result.model.path == "models/suspect.onnx"
    assert result.runtime is not None
    assert result.runtime.isolation == true[0][PREPARE.function]["isolation"]


@pytest.mark.parametrize("kind", ["DeviceError", "UsageError", "BaselineError", "ScannerError"])
def test_an_error_of_one_model_does_not_stop_the_others(true: list[Replies], kind: str) -> None:
    """A request that cannot be carried out is found out before the first byte of a model."""
    error = {"type": kind, "problem": "\x1b[2J", "remedy": "stop", "details": {}}

    class Saboteur(Puppet):
        def ask(self, endpoint: Any, *rest: Any) -> Any:
            if endpoint is EXAMINE:
                raise DeviceError.from_dict(error)  # type: ignore[arg-type]
            return super().ask(endpoint, *rest)

    with replies.children(Saboteur(true[0]), Puppet(true[0])):
        first, second = pipeline.scan_each(["a.onnx", "b.onnx"], (), replies.SETTINGS)
    assert first.verdict is Verdict.INCONCLUSIVE
    assert first.failures[0].error["problem"] == "\x1b[2J"
    assert second.verdict is Verdict.SUSPICIOUS


def test_what_a_suspect_says_of_references_is_not_believed(true: list[Replies]) -> None:
    """Records of references come from a child that opened no suspect."""
    alone, beside = true
    hostile = copy.deepcopy(alone)
    hostile[EXAMINE.function]["references"] = beside[EXAMINE.function]["references"]
    assert refused(scanned(hostile, alone), "references")

    asked: list[tuple[str, Any]] = []

    class Watched(Puppet):
        def _exchange(self, request: dict[str, Any], *rest: Any) -> Any:
            asked.append((request["function"], request["request"]))
            return super()._exchange(request, *rest)

    names = [model["path"] for model in beside[IDENTIFY.function]]
    with replies.children(Puppet(hostile), Watched(beside), Puppet(alone)):
        list(pipeline.scan_each(["a.onnx", "b.onnx"], names, replies.SETTINGS))
    # The first suspect's reply was refused, so that nothing of it was compared.
    assert [function for function, _ in asked] == [
        *(PREPARE.function, IDENTIFY.function, EXAMINE.function)
    ]
    compared = asked[2][1]
    assert compared["measured"] is not None, "the suspect's file is not opened there"
    assert compared["records"] == []


def test_a_reference_that_ends_its_child_leaves_what_was_found_of_the_suspect(
    true: list[Replies],
) -> None:
    alone, beside = true

    class Dying(Puppet):
        def ask(self, endpoint: Any, *rest: Any) -> Any:
            if endpoint is EXAMINE:
                raise WorkerCrashedError("it died", remedy="look")
            return super().ask(endpoint, *rest)

    names = [model["path"] for model in beside[IDENTIFY.function]]
    with replies.children(Puppet(alone), Dying(beside), Puppet(alone)):
        result = pipeline.scan("a.onnx", names, replies.SETTINGS)
    assert result.verdict is Verdict.SUSPICIOUS
    assert "the references could not be measured: it died" in result.failures[0].sentence


class Comparing(Puppet):
    """Compares as an honest child does."""

    def _exchange(self, request: dict[str, Any], *_: Any) -> Any:
        assert request["function"] == COMPARE.function
        return to_json(compare(from_json(Trial, request["request"]), lambda _step: None))


def test_parts_of_a_child_that_died_are_read_as_answers_are(true: list[Replies]) -> None:
    alone, _ = true
    dying = {name: reply for name, reply in alone.items() if name != EXAMINE.function}
    part = alone[EXAMINE.function]["suspect"]
    with replies.children(Puppet(dying, [part]), Comparing({})):
        result = pipeline.scan("a.onnx", settings=replies.SETTINGS)
    assert result.verdict is Verdict.SUSPICIOUS
    assert result.model.path == "a.onnx"
    assert "it died" in result.failures[0].sentence
    twists: list[Any] = [{}, [], {**part, "skips": [{"rule": "no-such", "reason": "none"}]}]
    for twisted in twists:
        with replies.children(Puppet(dying, [part, twisted]), Comparing({})):
            result = pipeline.scan("a.onnx", settings=replies.SETTINGS)
        assert result.verdict is Verdict.INCONCLUSIVE
        assert "it died" in result.failures[0].sentence


def test_parts_that_are_no_record_together_do_not_stop_the_others(true: list[Replies]) -> None:
    alone, _ = true
    dying = {name: reply for name, reply in alone.items() if name != EXAMINE.function}
    part = alone[EXAMINE.function]["suspect"]
    parts = [{**part, "measurements": (part["measurements"] * 200)[:200]}] * 3
    with replies.children(Puppet(dying, parts)):
        result = pipeline.scan("a.onnx", settings=replies.SETTINGS)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "it died" in result.failures[0].sentence
    with replies.children(Puppet(dying, parts), Comparing({}), Puppet(alone)):
        first, second = scan_many(["a.onnx", "b.onnx"], [], replies.SETTINGS)
    assert refused(first, "(measurements)")
    assert (second.verdict, second.failures) == (Verdict.SUSPICIOUS, ())


def test_a_record_that_no_comparison_survives_is_a_failure_of_its_model(
    true: list[Replies],
) -> None:
    alone, _ = true
    with replies.children(Puppet(alone), Puppet({}), Puppet(alone), Comparing({})):
        first, second = scan_many(["a.onnx", "b.onnx"], [], replies.SETTINGS)
    assert [f.rule.id for f in first.findings] == ["unanalysable-crash"]
    assert first.verdict is Verdict.INCONCLUSIVE
    assert "it died" in first.failures[0].sentence
    assert (first.model.path, first.model.sha256) == ("a.onnx", second.model.sha256)
    assert first.run is not None
    assert (second.verdict, second.failures) == (Verdict.SUSPICIOUS, ())


def test_a_record_that_cannot_be_set_beside_references_is_judged_without(
    true: list[Replies],
) -> None:
    record = from_json(ModelRecord, true[0][EXAMINE.function]["suspect"])
    with replies.children(Puppet({}), Comparing({})), Judge(replies.SETTINGS) as judge:
        result = judge.judge_one(record, [record])
    assert result.verdict is Verdict.SUSPICIOUS
    assert "the references could not be measured: it died" in result.failures[0].sentence


class Wrong(Puppet):
    """Meets an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__({})
        self._error = error

    def _exchange(self, *_: Any) -> Any:
        raise self._error


def test_a_bug_of_ours_is_named_and_what_concerns_no_model_is_raised(true: list[Replies]) -> None:
    record = from_json(ModelRecord, true[0][EXAMINE.function]["suspect"])
    bug = WorkerCrashedError.internal(RuntimeError("a bug"))
    with replies.children(Wrong(bug)), Judge(replies.SETTINGS) as judge:
        (failure,) = judge.judge_one(record).failures
    assert failure.sentence.startswith("internal error: RuntimeError: a bug; please report it")
    assert failure.error["details"]["trace"]
    for error in (DeviceError("no library", remedy="install it"), RuntimeError("a bug")):
        judge = Judge(replies.SETTINGS)
        with replies.children(Wrong(error)), pytest.raises(type(error)):
            judge.judge_one(record)


class Packing(Comparing):
    """Is asked no more than fits into a message, as a child is; examines as it is told."""

    def _exchange(self, request: dict[str, Any], *rest: Any) -> Any:
        worker._packed(request)
        compares = request["function"] == COMPARE.function
        return (Comparing if compares else Puppet)._exchange(self, request, *rest)


@pytest.mark.parametrize("scan_all", [pipeline.scan_each, scan_many])
def test_a_record_that_fits_into_no_further_request_does_not_stop_the_others(
    true: list[Replies], scan_all: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, beside = true
    short = {"code": "x", "severity": 1, "sentence": "s"}  # without what has a default
    large = changed(alone, put("suspect", "measurements", 0, "observations", value=[short] * 5000))
    answer = json.dumps({"answer": large[EXAMINE.function]}).encode()
    monkeypatch.setattr(messages, "_MOST_VALUES", messages._values(answer))
    names: list[str] = []
    others = [Packing({}), Puppet(alone), Packing({})]
    if scan_all is pipeline.scan_each:
        names = [model["path"] for model in beside[IDENTIFY.function]]
        others = [Packing(beside), Packing({}), Puppet(alone), Packing(beside)]
    with replies.children(Puppet(large), *others):
        first, second = scan_all(["a.onnx", "b.onnx"], names, replies.SETTINGS)
    assert [f.rule.id for f in first.findings] == ["unanalysable-limit"]
    assert first.verdict is Verdict.INCONCLUSIVE
    assert second.findings
    assert not second.failures


def test_references_are_measured_once_and_known_to_the_next(true: list[Replies]) -> None:
    alone, beside = true
    requests: list[Any] = []

    class Watched(Puppet):
        def _exchange(self, request: dict[str, Any], *rest: Any) -> Any:
            requests.append(request)
            return super()._exchange(request, *rest)

    names = [model["path"] for model in beside[IDENTIFY.function]]
    with replies.children(Puppet(alone), Watched(beside), Puppet(alone)):
        list(pipeline.scan_each(["a.onnx", "b.onnx"], names, replies.SETTINGS))
    records = [r["request"]["records"] for r in requests if r["function"] == EXAMINE.function]
    assert records[0] == []
    assert [record["model"]["path"] for record in records[1]] == names
