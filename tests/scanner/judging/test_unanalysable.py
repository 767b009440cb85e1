"""Each cause has a rule of its own; errors of the user's and files that are no models have none."""

import pytest

from scanner.errors import (
    MalformedModelError,
    ScannerError,
    UnsafeModelError,
    UnsupportedModelError,
    UsageError,
    WorkerCrashedError,
    WorkerLimitError,
    WorkerTimeoutError,
)
from scanner.judging.unanalysable import explains, findings
from scanner.results import Failure, Verdict


def failure(kind: type[ScannerError], rule: str = "model") -> Failure:
    return Failure(rule=rule, error=kind("a problem", remedy="mend it").to_dict())


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (WorkerTimeoutError, "unanalysable-timeout"),
        (WorkerCrashedError, "unanalysable-crash"),
        (WorkerLimitError, "unanalysable-limit"),
        (UnsafeModelError, "unanalysable-refusal"),
    ],
)
def test_each_cause_is_a_finding_and_never_clean(kind: type[ScannerError], rule: str) -> None:
    (finding,) = findings([failure(kind)])
    assert finding.rule.id == rule
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.reason == "a problem; mend it"
    assert explains(failure(kind))


@pytest.mark.parametrize("kind", [MalformedModelError, UnsupportedModelError, UsageError])
def test_what_is_no_model_or_no_request_is_none(kind: type[ScannerError]) -> None:
    assert not list(findings([failure(kind)]))
    assert not explains(failure(kind))


def test_one_cause_met_by_several_detectors_is_one_finding() -> None:
    (finding,) = findings([failure(WorkerTimeoutError, rule) for rule in ("one", "two")])
    assert [f.rule for f in finding.evidence.failures] == ["one", "two"]
