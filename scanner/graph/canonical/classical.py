"""Learnt numbers of classical models, which ONNX keeps in attributes, as weights.

A coefficient of a linear model, a support vector or a tree is trained as a convolution is: what
it is says nothing of the graph. What is chosen by people stays an attribute: kernels, the kinds of
tests in trees, what is done with the scores.
"""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from scanner.graph.canonical.plan import Array, Plan, Step

DOMAIN = "ai.onnx.ml."
# Learnt numbers by operator; a matrix has one row for each number of the second attribute.
_NUMBERS: dict[str, Mapping[str, str]] = {
    "Imputer": {"imputed_value_floats": "", "imputed_value_int64s": ""},
    "LinearClassifier": {"coefficients": "intercepts", "intercepts": ""},
    "LinearRegressor": {"coefficients": "intercepts", "intercepts": ""},
    "Scaler": {"offset": "", "scale": ""},
}
_VECTORS = ("coefficients", "kernel_params", "n_supports", "prob_a", "prob_b", "rho",
            "support_vectors", "vectors_per_class")  # fmt: skip
_MACHINES = ("SVMClassifier", "SVMRegressor")
_FORESTS = ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
_PARTS = ("nodes_", "class_", "target_", "leaf_")
_OF_TREES = ("tree_roots", "membership_values", "base_values", "base_values_as_tensor")
_COUNTS = frozenset({"nodes_hitrates", "nodes_hitrates_as_tensor"})  # of the training; no say
_LEAF = "LEAF"
_COLUMNS = 4


def learnt(plan: Plan) -> None:
    """Turn what was learnt from attributes into weights."""
    for step in plan.steps:
        if not step.operator.startswith(DOMAIN):
            continue
        for role, array in list(_learnt(step, step.operator.removeprefix(DOMAIN))):
            name = f"{step.outputs[0]}/{role}"
            plan.constants[name] = array
            step.weights[role] = name


def _learnt(step: Step, operator: str) -> Iterator[tuple[str, Array]]:
    """Take what was learnt out of a step's attributes, and yield it by its role."""
    for name, by in _NUMBERS.get(operator, {}).items():
        array = _array(step, name)
        rows = _array(step, by)
        if array is not None and array.size:
            whole = rows is not None and rows.size > 0 and array.size % rows.size == 0
            yield name, array.reshape(rows.size, -1) if rows is not None and whole else array
    for name in _NUMBERS.get(operator, {}):
        step.attributes.pop(name, None)
    if operator in _MACHINES:
        for name in _VECTORS:
            array = _array(step, name)
            step.attributes.pop(name, None)
            if array is not None and array.size:
                yield name, array
    if operator in _FORESTS:
        yield from _forest(step)


def _array(step: Step, name: str) -> Array | None:
    """Return an attribute of numbers as one line of them."""
    value = step.attributes.get(name)
    if value is None or isinstance(value, str):
        return None
    array = np.asarray(value)
    return array.reshape(-1) if array.dtype.kind in "iuf" else None


def _forest(step: Step) -> Iterator[tuple[str, Array]]:
    """Yield a forest's nodes and leaves, each as numbers that only tell whether two are equal."""
    modes = step.attributes.get("nodes_modes")
    kinds = sorted(set(np.asarray(modes).reshape(-1).tolist())) if modes is not None else []
    for part in _PARTS:
        names = sorted(name for name in step.attributes if name.startswith(part))
        columns = [np.asarray(step.attributes.pop(name)) for name in names if name not in _COUNTS]
        length = max((column.size for column in columns), default=0)
        lines = [column.reshape(-1).tolist() for column in columns if column.size == length]
        for name in _COUNTS.intersection(names):
            del step.attributes[name]
        if length:
            # Of a leaf there is nothing but its place, which the nodes before it tell.
            entries = [entry for entry in zip(*lines, strict=True) if _LEAF not in entry]
            if entries:
                yield part.removesuffix("_"), _digested(entries)
    for name in _OF_TREES:
        array = _array(step, name)
        if array is not None and array.size:
            yield name, array
        step.attributes.pop(name, None)
    step.attributes["modes"] = ", ".join(map(str, kinds))


def _digested(entries: list[tuple[object, ...]]) -> Array:
    """Return a row of numbers from -1 to 1 for each entry, the same for equal entries alone."""
    made = b"".join(
        hashlib.blake2b(repr(entry).encode(), digest_size=4 * _COLUMNS).digest()
        for entry in entries
    )
    codes = np.frombuffer(made, "<u4").reshape(-1, _COLUMNS)
    return np.asarray(codes >> 8, np.float32) / np.float32(2**23) - 1
