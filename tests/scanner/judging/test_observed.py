"""The sentences that differences become."""

import dataclasses

import models
import planting

from scanner.graph.canonical.drawing import draw
from scanner.judging import observed
from scanner.judging.differences import differences
from scanner.judging.population import without_weights
from scanner.results import Comparison, Contribution, Severity

PLAIN, OTHER = draw(models.plain()), draw(models.plain(seed=1))
GATED = draw(planting.gated(2))


def test_what_one_reference_has_not_is_suspicious_whatever_others_have() -> None:
    (seen,) = observed.beside(GATED, [draw(planting.gated()), PLAIN])
    assert (seen.code, seen.severity) == ("nodes-without-counterpart", Severity.SUSPICIOUS)
    assert set(planting.PLANTED) <= set(seen.nodes)
    assert "1 of 2 references differs in this" in seen.sentence


def test_the_same_network_is_a_note_that_says_how_weights_are_related() -> None:
    (seen,) = observed.beside(PLAIN, [OTHER])
    assert (seen.code, seen.severity) == ("same-network", Severity.NOTE)
    assert seen.sentence.endswith("trained apart, and are not compared")
    (seen,) = observed.beside(PLAIN, [PLAIN])
    assert "equal bit for bit" in seen.sentence


def test_what_cannot_be_compared_is_never_the_same() -> None:
    (seen,) = observed.beside(PLAIN, [draw(planting.deep())])
    assert seen.code == observed.CANNOT_COMPARE
    assert observed.of(differences(PLAIN, draw(planting.deep()))) == (seen,)
    assert observed.beside(PLAIN, []) == ()


def test_channels_are_named() -> None:
    model = planting.deep()
    weights = planting.weights_of(model)
    weights["w1"][3] = -weights["w1"][3]
    suspect = draw(planting.with_weights(model, **weights))
    (seen,) = observed.beside(suspect, [draw(model)])
    assert (seen.code, seen.severity) == ("channels-replaced", Severity.SUSPICIOUS)
    assert "weight of Linear 'dense1', 1 of 16: 3" in seen.sentence
    weights = planting.weights_of(model)
    weights["b3"][0] += 1e-6
    (seen,) = observed.beside(draw(planting.with_weights(model, **weights)), [draw(model)])
    assert (seen.code, seen.severity) == ("weights-edited", Severity.WARNING)


def test_a_baseline_warns_and_does_not_accuse() -> None:
    seen = observed.beside(GATED, [PLAIN])
    comparison = Comparison(rule="r", statistic=3.0, contribution=Contribution(), observations=seen)
    found = observed.softened(comparison, "baseline 'b'")
    assert [o.severity for o in found.observations] == [Severity.WARNING]
    assert "the baseline 'b' differs in this" in found.sentence
    same = dataclasses.replace(
        comparison, observations=observed.beside(PLAIN, [without_weights(OTHER)]), statistic=1.0
    )
    assert observed.softened(same, "baseline 'b'").sentence == (
        "The graph is that of the baseline 'b'"
    )


def test_a_foreign_graph_is_told_by_what_differs() -> None:
    assert not list(observed.foreign(PLAIN, [without_weights(OTHER)], "baseline 'b'"))
    (why,) = observed.foreign(GATED, [without_weights(OTHER)], "baseline 'b'")
    assert why.startswith("the baseline 'b' speaks of another graph")
    assert "planted_brightest" in why
    (why,) = observed.foreign(PLAIN, [draw(planting.deep())], "baseline 'b'")
    assert "layers are in the suspect" in why
