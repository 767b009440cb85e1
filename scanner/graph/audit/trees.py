"""Branches of decision trees that no row reaches, or that decide nothing.

A threshold is read only where rows go both ways. Behind a test that a former one has answered, or
of a number beyond those that are measured, one branch is closed; where all leaves below a test say
the same, none of them matters.
"""

import collections
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import onnx

from scanner.graph.audit import views
from scanner.graph.core.structure import attribute, held_tensor, label
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

_LEAST = 32
"""Thresholds below which nothing worth a name can be hidden."""
_DIFFERENT = 16
"""So many of them differ."""
_FARTHEST = 1e30
"""No measured number is larger."""
_MOST = 1 << 20
"""Nodes of an ensemble that are walked."""

Key = tuple[int, int]
"""A tree and a node of it."""


class _Test(NamedTuple):
    mode: str
    feature: int
    threshold: float
    true: Key
    false: Key


def observe(contents: Contents) -> Iterator[Observation]:
    """Yield for each ensemble the thresholds that nothing depends on."""
    for node in contents.of(onnx.NodeProto):
        if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor"):
            tests, leaves = _tests(node), _leaves(node)
            idle = [tests[key].threshold for key in sorted(_idle(tests, leaves))]
            if len(idle) >= _LEAST and len(set(idle)) >= _DIFFERENT:
                yield Observation(
                    code="idle-branches",
                    severity=Severity.NOTE,
                    sentence=f"{len(idle)} tests of {label(node)!r} decide nothing: rows of "
                    "measured numbers never reach them, or all get the same answer there",
                    nodes=(label(node),),
                    details={"count": len(idle)},
                )


def _tests(node: onnx.NodeProto) -> dict[Key, _Test]:
    """Return the tests of an ensemble, leaves left out."""
    held = held_tensor(node, "nodes_values_as_tensor")
    numbers = None if held is None else views.numbers(held)
    values = attribute(node, "nodes_values", ()) if numbers is None else numbers.tolist()
    columns = [
        attribute(node, f"nodes_{name}", ())
        for name in ("treeids", "nodeids", "modes", "featureids", "truenodeids", "falsenodeids")
    ]
    found: dict[Key, _Test] = {}
    for tree, own, mode, feature, true, false, value in zip(*columns, values, strict=False):
        said = mode.decode("utf-8", "replace") if isinstance(mode, bytes) else str(mode)
        if said != "LEAF" and isinstance(value, int | float):
            found[tree, own] = _Test(said, feature, value, (tree, true), (tree, false))
        if len(found) > _MOST:
            return {}
    return found


def _leaves(node: onnx.NodeProto) -> Mapping[Key, frozenset[tuple[int, float]]]:
    """Return what each leaf adds to which class or target; those of weight zero add nothing."""
    kind = "class" if node.op_type.endswith("Classifier") else "target"
    held = held_tensor(node, f"{kind}_weights_as_tensor")
    numbers = None if held is None else views.numbers(held)
    weights = attribute(node, f"{kind}_weights", ()) if numbers is None else numbers.tolist()
    columns = [attribute(node, f"{kind}_{name}", ()) for name in ("treeids", "nodeids", "ids")]
    found: dict[Key, set[tuple[int, float]]] = collections.defaultdict(set)
    for tree, own, target, weight in zip(*columns, weights, strict=False):
        if weight:
            found[tree, own].add((target, weight))
    return {key: frozenset(said) for key, said in found.items()}


def _idle(tests: Mapping[Key, _Test], leaves: Mapping[Key, Any]) -> set[Key]:
    """Return the tests that decide nothing."""
    inner = {key for test in tests.values() for key in (test.true, test.false)}
    open_ways: dict[Key, list[Key]] = {}
    for root in tests.keys() - inner:
        open_ways.update(_reached(root, tests))
    said: dict[Key, Any] = {}
    rooted = {tree for tree, _ in tests.keys() - inner}  # of any other tree nothing is known
    same = {key for key in tests if key[0] in rooted and len(open_ways.get(key, ())) <= 1}
    nothing: frozenset[tuple[int, float]] = frozenset()
    for key in reversed(open_ways):  # what is below a test stands behind it
        both = {
            said.get(below) if below in tests else leaves.get(below, nothing)
            for below in open_ways[key]
        }
        said[key] = both.pop() if len(both) == 1 else None
        if said[key] is not None:
            same.add(key)
    return same


Bounds = dict[int, tuple[float, float]]


def _reached(root: Key, tests: Mapping[Key, _Test]) -> Iterator[tuple[Key, list[Key]]]:
    """Yield the tests that rows of measured numbers reach, and where these go on from each.

    Each stands before those below it.
    """
    bounds: Bounds = {}
    # A step down carries what it changes; a step back up, what was there before.
    waiting: list[tuple[Key | None, int, tuple[float, float] | None]] = [(root, -1, None)]
    met: set[Key] = set()
    while waiting:
        key, feature, limits = waiting.pop()
        if key is None:
            _set(bounds, feature, limits)
            continue
        before = bounds.get(feature)
        _set(bounds, feature, limits)
        waiting.append((None, feature, before))
        if key not in tests or key in met:
            continue
        met.add(key)
        test = tests[key]
        ways = list(_ways(test, bounds.get(test.feature, (-_FARTHEST, _FARTHEST))))
        yield key, [below for below, _ in ways]
        waiting += [(below, test.feature, narrowed) for below, narrowed in ways]


def _set(bounds: Bounds, feature: int, limits: tuple[float, float] | None) -> None:
    if limits is None:
        bounds.pop(feature, None)
    else:
        bounds[feature] = limits


def _ways(test: _Test, within: Sequence[float]) -> Iterator[tuple[Key, tuple[float, float]]]:
    """Yield the branches that are open, with the numbers that a feature has there."""
    low, high = within
    below, above = (low, min(high, test.threshold)), (max(low, test.threshold), high)
    if test.mode in ("BRANCH_LEQ", "BRANCH_LT"):
        ways = ((test.true, below), (test.false, above))
    elif test.mode in ("BRANCH_GT", "BRANCH_GTE"):
        ways = ((test.true, above), (test.false, below))
    else:  # equality closes nothing that is worth a name
        ways = ((test.true, (low, high)), (test.false, (low, high)))
    for key, (least, most) in ways:
        if least < most or math.isnan(test.threshold) or least == most == test.threshold:
            yield key, (least, most)
