"""Suspicions about nodes that every reference has as well.

Honest networks have gates too: guards against silence, routers, range guessing. Whoever names a
reference with the same nodes, told the same, says that they belong there.
"""

import dataclasses
from collections.abc import Collection, Sequence

from scanner.judging.differences import LAYERS, compared
from scanner.results import CanonicalGraph, Measurement, ModelRecord, Observation, Severity


def excused(
    suspect: ModelRecord, references: Sequence[ModelRecord], rules: Collection[str]
) -> ModelRecord:
    """Return a record of which suspicions about nodes that all references share are notes.

    Args:
        suspect: What was measured on the suspect.
        references: The same of the references.
        rules: Of the detectors whose suspicions are about nodes alone.
    """
    graph, graphs = _graph(suspect), [_graph(reference) for reference in references]
    grave = any(
        m.rule in rules and any(map(_is_grave, m.observations)) for m in suspect.measurements
    )
    if graph is None or not graphs or not grave:
        return suspect
    shared = {node.name for node in graph.nodes}
    for other in graphs:
        shared &= set() if other is None else _shared(graph, other)
    known = {node.name for node in graph.nodes}
    measurements = tuple(
        _noted(m, shared, known) if m.rule in rules else m for m in suspect.measurements
    )
    return dataclasses.replace(suspect, measurements=measurements)


def _graph(record: ModelRecord) -> CanonicalGraph | None:
    return next((m.by_node for m in record.measurements if m.by_node is not None), None)


def _is_grave(observation: Observation) -> bool:
    return observation.severity >= Severity.SUSPICIOUS


def _shared(graph: CanonicalGraph, other: CanonicalGraph) -> set[str]:
    """Return the names of the nodes that another graph has too, told the same."""
    found, matching = compared(graph, other)
    if found.obstacle:
        return set()
    trained = {node.name for node in graph.nodes if node.operator in LAYERS}
    unlike = {change.node for change in found.changes}
    unlike |= {layer.node for layer in found.layers} - trained
    alone = {node.name for place, node in enumerate(graph.nodes) if place not in matching.pairs}
    return {node.name for node in graph.nodes} - unlike - alone


def _noted(measurement: Measurement, shared: set[str], known: set[str]) -> Measurement:
    seen = tuple(
        _note(o) if _is_grave(o) and _is_shared(o, shared, known) else o
        for o in measurement.observations
    )
    worst = max((o.severity for o in seen), default=0)
    return dataclasses.replace(measurement, observations=seen, statistic=float(worst))


def _is_shared(observation: Observation, shared: set[str], known: set[str]) -> bool:
    """Whether all nodes that an observation is about, as far as they compute, are shared."""
    nodes = set(observation.nodes) & known
    return bool(nodes) and nodes <= shared


def _note(observation: Observation) -> Observation:
    return dataclasses.replace(
        observation,
        severity=Severity.NOTE,
        sentence=f"{observation.sentence}. Every reference has the same nodes: where these are "
        "clean, it belongs there",
    )
