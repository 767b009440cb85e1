"""The sentences that differences become."""

import dataclasses

import models
import planting

from scanner.graph.canonical.drawing import draw
from scanner.judging import observed
from scanner.judging.differences import differences
from scanner.judging.population import without_weights
from scanner.results import Comparison, Contribution, LayerChange, Relation, Severity

PLAIN, OTHER = draw(models.plain()), draw(models.plain(seed=1))
GATED = draw(planting.gated(2))


def test_what_one_reference_has_not_is_suspicious_whatever_others_have() -> None:
    (seen,) = observed.beside(observed.against(GATED, [draw(planting.gated()), PLAIN]))
    assert (seen.code, seen.severity) == ("nodes-without-counterpart", Severity.SUSPICIOUS)
    assert set(planting.PLANTED) <= set(seen.nodes)
    assert "1 of 2 references differs in this" in seen.sentence


def test_the_same_network_is_a_note_that_says_how_weights_are_related() -> None:
    (seen,) = observed.beside(observed.against(PLAIN, [OTHER]))
    assert (seen.code, seen.severity) == ("same-network", Severity.NOTE)
    assert seen.sentence.endswith("trained apart, and are not compared")
    (seen,) = observed.beside(observed.against(PLAIN, [PLAIN]))
    assert "equal bit for bit" in seen.sentence


def test_what_cannot_be_compared_is_never_the_same() -> None:
    (seen,) = observed.beside(observed.against(PLAIN, [draw(planting.deep())]))
    assert seen.code == observed.CANNOT_COMPARE
    assert observed.of(differences(PLAIN, draw(planting.deep()))) == (seen,)
    assert observed.beside(observed.against(PLAIN, [])) == ()


def test_channels_are_named() -> None:
    model = planting.deep()
    weights = planting.weights_of(model)
    weights["w1"][3] = -weights["w1"][3]
    suspect = draw(planting.with_weights(model, **weights))
    (seen,) = observed.beside(observed.against(suspect, [draw(model)]))
    assert (seen.code, seen.severity) == ("channels-replaced", Severity.SUSPICIOUS)
    assert "weight of Linear 'dense1', 1 of 16: 3" in seen.sentence
    weights = planting.weights_of(model)
    weights["b3"][0] += 1e-6
    (seen,) = observed.beside(
        observed.against(draw(planting.with_weights(model, **weights)), [draw(model)])
    )
    assert (seen.code, seen.severity) == ("weights-edited", Severity.WARNING)


def test_several_whole_layers_are_a_part_that_was_trained_anew() -> None:
    model = planting.deep()
    weights, others = planting.weights_of(model), planting.weights_of(planting.deep(seed=1))
    weights |= {name: others[name] for name in ("w1", "w2")}
    suspect = draw(planting.with_weights(model, **weights))
    (seen,) = observed.beside(observed.against(suspect, [draw(model)]))
    assert (seen.code, seen.severity) == ("part-retrained", Severity.WARNING)
    assert seen.nodes == ("dense1", "dense2")
    weights["w2"] = planting.weights_of(model)["w2"]
    suspect = draw(planting.with_weights(model, **weights))
    (seen,) = observed.beside(observed.against(suspect, [draw(model)]))
    assert (seen.code, seen.severity) == ("channels-replaced", Severity.SUSPICIOUS)


def test_a_baseline_warns_and_does_not_accuse() -> None:
    seen = observed.beside(observed.against(GATED, [PLAIN]))
    comparison = Comparison(rule="r", statistic=3.0, contribution=Contribution(), observations=seen)
    found = observed.softened(comparison, "baseline 'b'")
    assert [o.severity for o in found.observations] == [Severity.WARNING]
    assert "the baseline 'b' differs in this" in found.sentence
    same = dataclasses.replace(
        comparison,
        observations=observed.beside(observed.against(PLAIN, [without_weights(OTHER)])),
        statistic=1.0,
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


def test_of_very_many_differences_the_gravest_are_drawn() -> None:
    (found,) = observed.against(GATED, [PLAIN])
    shown = observed.drawn(found)
    assert shown == observed.drawn(shown)
    assert shown.unexplained == found.unexplained
    layer = LayerChange(
        node="n", operator="Conv", role="weight", rows=4, changed=4, apart=0.1,
        relation=Relation.FINE_TUNED,
    )  # fmt: skip
    grave = dataclasses.replace(layer, standing_out=(1,))
    many = dataclasses.replace(
        found, changes=found.changes * 50, layers=(*[layer] * 300, grave, *[layer] * 300)
    )
    shown = observed.drawn(many)
    assert (len(shown.changes), len(shown.layers)) == (100, 100)
    assert not any(change.explained for change in shown.changes)
    assert shown.layers[-1] == grave


def test_no_reference_is_the_gravest_where_none_compares() -> None:
    assert observed.gravest(observed.against(PLAIN, [draw(planting.deep())])) is None
    found = observed.against(GATED, [GATED, PLAIN])
    assert observed.gravest(found) == found[1]
