"""What two results say differently, and nothing else."""

import dataclasses

from examples import hostile, result, unopened

from scanner.report.changes import changes
from scanner.results import Severity


def test_a_result_has_not_changed_from_itself() -> None:
    for one in (result(), hostile(), unopened()):
        assert changes(one, one) == ()
        later = one.run and dataclasses.replace(one.run, time="2030-01-01T00:00:00Z")
        assert changes(one, dataclasses.replace(one, run=later)) == ()


def test_what_came_and_what_went() -> None:
    before, after = hostile(), unopened("other.onnx")
    told = {turn.what: (turn.before, turn.after) for turn in changes(before, after)}
    assert told["verdict"] == ("suspicious", "inconclusive")
    assert told["model: failed"][0] == "-"
    assert "cut short" in told["model: failed"][1]
    assert told["graph_logic: input-test"][1] == "-"
    assert next(iter(told)) == "verdict"


def test_what_a_graph_shows_has_no_p_value_here_as_in_every_other_report() -> None:
    ranked = dataclasses.replace(result(), score=0.75, size=0.5)
    structural = dataclasses.replace(ranked, score=1.0)
    told = {turn.what: (turn.before, turn.after) for turn in changes(ranked, structural)}
    assert (told["p-value"], told["size"]) == (("0.25", "-"), ("0.5", "-"))


def test_observations_of_one_code_are_told_apart() -> None:
    whole = hostile()
    finding = whole.findings[0]
    seen = finding.observations[0]
    more = dataclasses.replace(seen, sentence="another", severity=Severity.NOTE)
    twice = dataclasses.replace(finding, observations=(*finding.observations, more))
    (turn,) = changes(whole, dataclasses.replace(whole, findings=(twice,)))
    assert (turn.what, turn.before) == ("graph_logic: input-test 2", "-")
    assert turn.after == "note: another"
