"""One line about many models."""

from dataclasses import replace

from examples import result, unopened

from scanner.report.totals import chances, is_failed, place, totals, why
from scanner.results import Suppression, Verdict


def test_every_kind_is_counted() -> None:
    allowed = Suppression(rule="model", reason="known", expires="2030-01-01")
    results = [
        replace(result(), verdict=Verdict.CLEAN),
        result(),
        replace(result(), suppressions=(allowed,)),
        replace(result(), verdict=Verdict.INCONCLUSIVE),
        unopened(),
    ]
    assert totals(results) == (
        "5 models: 1 clean, 2 suspicious (1 allowed), 1 inconclusive, 1 failed"
    )
    assert totals(results[:1]) == "1 model: 1 clean"


def test_failed_is_what_was_not_measured_at_all() -> None:
    assert is_failed(unopened())
    assert not is_failed(result())


def test_what_chance_does_is_said() -> None:
    ranked = [replace(result(), score=score, size=2.0) for score in (0.96, 0.96, 0.5)]
    alone, found = chances(ranked, 0.1)
    assert alone.startswith("false alarms expected by chance: at most 0.15 of 3 ranked models")
    assert "2 of 3 ranked models stand out, the smallest p-value is 0.04" in found
    assert list(chances([unopened()])) == []


def test_a_p_value_at_the_share_is_a_discovery() -> None:
    """Beside 19 clean models no p is below 0.05; read off a score, it is a little above."""
    first = replace(result(), score=1 - 1 / 20, size=2.0)
    (*_, found) = chances([first, first], 0.05)
    assert "2 of 2 ranked models stand out" in found


def test_what_a_graph_contains_has_no_place_among_clean_models() -> None:
    assert place(replace(result(), score=0.75, size=2.0)) == (0.25, 2.0)
    assert place(replace(result(), score=None, size=None)) == (None, None)
    structural = replace(result(), score=1.0, size=-0.1)
    assert place(structural) == (None, None)
    assert list(chances([structural])) == []


def test_what_stopped_a_measurement_is_its_reason() -> None:
    failed = unopened()
    assert why(failed) == failed.failures[0].sentence.rstrip(".")
    assert why(result()) == result().reason
