"""The promise of `scanner.graph`: what is given a model never touches it.

Every public function of the package that takes a model has a row in `CALLS`, which says how it is
called; each is tried on every model of tests/models.py.
"""

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest

import scanner.graph
from scanner.errors import ScannerError
from scanner.graph.audit import (
    carried,
    checks,
    claims,
    ledger,
    mixing,
    names,
    second_reader,
    silent_units,
    spare_units,
    usage,
)
from scanner.graph.canonical import drawing, reading
from scanner.graph.core import (
    conform,
    draft,
    extract,
    facts,
    flatten,
    fused,
    image_size,
    map_sizes,
    open_sizes,
    scopes,
    shapes,
    sparse,
    structure,
    unrolled,
)
from scanner.graph.dormancy import bounds, half_range, odd_channels, rewired
from scanner.graph.gradient import (
    backward,
    float_twin,
    nan_weights,
    real_input,
    signs,
    unsaturated,
)
from scanner.graph.layers import activations, head, logits, reductions, two_scores, weights
from scanner.graph.logic import excerpt, unfold
from scanner.graph.logic.gates import observe
from scanner.graph.surgery import excision, parameters, parcel
from scanner.modelfile import nested
from trainers.graph_backdoor import plant

MODELS: dict[str, onnx.ModelProto] = {
    **{f"{name}, planted": make(True) for name, make in models.MEASURABLE.items()},
    **{name: make(False) for name, make in models.MEASURABLE.items()},
    "QDQ int8, ReLU fused": models.quantised(fused=True),
    "ONNX Runtime's FusedConv": models.fused_convolution(),
    "ReLU in a computed branch": models.branch_relu(constant=False),
    "without an activation": models.without_activation(),
    "two inputs": models.two_inputs(default=False),
    "two inputs, one of them with a default": models.two_inputs(default=True),
    "NaN": models.with_nan(),
    "planted gate": plant(models.plain(), "where", target=1).model,
}


def gradient(model: onnx.ModelProto) -> object:
    scores = logits.find_logits(model).value
    return backward.gradient_model(model, of=scores, with_respect_to=["image"])


def per_image(model: onnx.ModelProto) -> object:
    return reductions.per_image_maximum(model, activations.choose(model), "highest")


def per_channel(model: onnx.ModelProto) -> object:
    return reductions.per_channel_statistics(model, activations.activations(model))


def behind_the_pool(model: onnx.ModelProto) -> object:
    info = onnx.helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, ["N", 4])
    return extract.between(model, info, ["logits"])


def cut_out(model: onnx.ModelProto) -> object:
    return [excerpt.excerpt(model, o.details) for o in observe(unfold.unfold(model))]


def evaluated(model: onnx.ModelProto) -> object:
    return second_reader.evaluate(model, {"image": np.zeros((1, 1, 8, 8), np.float32)})


def held_still(model: onnx.ModelProto) -> object:
    return rewired.held(model, "activated", np.zeros((1, 4, 8, 8), np.float32), "logits")


def with_other_numbers(model: onnx.ModelProto) -> object:
    held = parameters.values(model, [tensor.name for tensor in model.graph.initializer])
    return parameters.replaced(model, {name: numbers + 1 for name, numbers in held.items()})


CALLS: Mapping[Callable[..., Any], Callable[[onnx.ModelProto], object]] = {
    activations.activations: activations.activations,
    activations.choose: activations.choose,
    backward.gradient_model: gradient,
    bounds.bounded: lambda model: bounds.bounded(model, ["activated"]),
    carried.observe: lambda model: list(carried.observe(model, model.SerializeToString())),
    checks.audit: lambda model: checks.audit(model, model.SerializeToString(), Path("m.onnx")),
    checks.tensors: lambda model: list(checks.tensors(model)),
    claims.observe: lambda model: list(claims.observe(model)),
    conform.check_nodes: conform.check_nodes,
    draft.copied: draft.copied,
    drawing.draw: drawing.draw,
    sparse.written_out: sparse.written_out,
    excerpt.excerpt: cut_out,
    excerpt.held: lambda model: excerpt.held(model, "activated", onnx.TensorProto.FLOAT),
    excerpt.openable: lambda model: excerpt.openable(model, "activated"),
    excision.bypassed: lambda model: excision.bypassed(model, "activated", "convolved"),
    excision.bypasses: lambda model: excision.bypasses(model, "activated"),
    excision.held: lambda model: excision.held(
        model, "activated", np.zeros((1, 4, 8, 8), np.float32)
    ),
    excision.is_past: lambda model: excision.is_past(model, "activated", "logits", "convolved"),
    extract.between: behind_the_pool,
    extract.dependent: lambda model: extract.dependent(model.graph),
    extract.upstream: lambda model: extract.upstream(model, ["activated"]),
    facts.infer: facts.infer,
    flatten.flatten: flatten.flatten,
    fused.unfused: fused.unfused,
    float_twin.float_twin: float_twin.float_twin,
    half_range.find: half_range.find,
    head.head_input: lambda model: head.head_input(model, "logits"),
    image_size.taking: lambda model: image_size.taking(model, _sizes_of_image(model)),
    ledger.observe: lambda model: list(ledger.observe(model, nested.Contents(model))),
    logits.find_logits: logits.find_logits,
    map_sizes.check: lambda model: map_sizes.check(
        model.graph, shapes.value_types(model), model.graph.input[0].name, _sizes_of_image(model)
    ),
    mixing.counted: mixing.counted,
    mixing.default_numbers: lambda model: [
        mixing.default_numbers(model, tensor.name) for tensor in model.graph.initializer
    ],
    mixing.mixing_nodes: mixing.mixing_nodes,
    mixing.trees: mixing.trees,
    names.strays: lambda model: list(names.strays(model.graph)),
    nan_weights.weights_with_nan: lambda model: list(nan_weights.weights_with_nan(model)),
    open_sizes.open_sizes: lambda model: open_sizes.open_sizes(
        model.graph, facts.infer(model).shapes
    ),
    odd_channels.find: lambda model: odd_channels.find(model, facts.infer(model)),
    parameters.as_inputs: lambda model: parameters.as_inputs(
        model, [tensor.name for tensor in model.graph.initializer]
    ),
    parameters.layers: lambda model: list(parameters.layers(model)),
    parameters.normalisations: lambda model: list(parameters.normalisations(model)),
    parameters.replaced: with_other_numbers,
    parameters.values: lambda model: parameters.values(
        model, [tensor.name for tensor in model.graph.initializer]
    ),
    parcel.locations: parcel.locations,
    parcel.outside: parcel.outside,
    parcel.packed: lambda model: parcel.packed(
        model, {tensor.name for tensor in model.graph.initializer}, "m.data"
    ),
    reading.read: reading.read,
    real_input.real_input: real_input.real_input,
    reductions.per_channel_statistics: per_channel,
    reductions.per_image_maximum: per_image,
    rewired.held: held_still,
    rewired.leaking: rewired.leaking,
    scopes.own_names: lambda model: scopes.own_names(model.graph),
    scopes.renamed_apart: lambda model: scopes.renamed_apart(
        model.graph, scopes.own_names(model.graph), [node.name for node in model.graph.node], "x/"
    ),
    scopes.with_defaults: scopes.with_defaults,
    second_reader.evaluate: evaluated,
    second_reader.is_brief: second_reader.is_brief,
    second_reader.is_small: second_reader.is_small,
    second_reader.rounds: second_reader.rounds,
    shapes.value_types: shapes.value_types,
    silent_units.rows: lambda model: list(silent_units.rows(model.graph)),
    spare_units.rows: lambda model: list(spare_units.rows(model.graph)),
    structure.captures: lambda model: structure.captures(model.graph),
    signs.turning: lambda model: signs.turning(model.graph),
    two_scores.scored: lambda model: two_scores.scored(
        model, logits.Logits(value="logits", single=2)
    ),
    unfold.unfold: unfold.unfold,
    unrolled.unrolled: unrolled.unrolled,
    unsaturated.unsaturated: unsaturated.unsaturated,
    usage.asks_for_batch_size: usage.asks_for_batch_size,
    usage.drawn: usage.drawn,
    weights.from_the_last: lambda model: [*weights.from_the_last(model)],
    weights.linear_layers: lambda model: [*weights.linear_layers(model)],
}
ITSELF = {
    flatten.flatten, float_twin.float_twin, fused.unfused, real_input.real_input, unrolled.unrolled,
    unsaturated.unsaturated,
}  # fmt: skip
"""Transforms that return their argument where nothing is left to do."""


def _sizes_of_image(model: onnx.ModelProto) -> list[int]:
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    return [dimension.dim_value for dimension in dimensions][1:]


def public_functions() -> Iterator[Callable[..., Any]]:
    for module in pkgutil.walk_packages(scanner.graph.__path__, "scanner.graph."):
        if not module.name.endswith("__main__"):
            loaded = importlib.import_module(module.name)
            for name, function in inspect.getmembers(loaded, inspect.isfunction):
                if function.__module__ == module.name and not name.startswith("_"):
                    yield function


def takes(function: Callable[..., Any], *kinds: object) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.annotation in kinds for parameter in parameters)


def test_every_function_that_takes_a_model_is_called_here() -> None:
    found = {f for f in public_functions() if takes(f, onnx.ModelProto, onnx.GraphProto)}
    assert found == set(CALLS)


@pytest.mark.parametrize("function", CALLS, ids=lambda f: f"{f.__module__[14:]}.{f.__name__}")
def test_the_argument_stays_as_it_was(function: Callable[..., Any]) -> None:
    answered = 0
    for name, model in MODELS.items():
        before = model.SerializeToString(deterministic=True)
        with contextlib.suppress(ScannerError):
            CALLS[function](model)
            answered += 1
        assert model.SerializeToString(deterministic=True) == before, name
    assert answered >= len(MODELS) // 2


@pytest.mark.parametrize("name", MODELS)
def test_what_is_done_once_is_done(name: str) -> None:
    model = flatten.flatten(MODELS[name])
    for transform in ITSELF:
        with contextlib.suppress(ScannerError):
            once = transform(model)
            assert transform(once) is once


def test_a_step_that_changes_a_draft_returns_no_model() -> None:
    steps = [function for function in public_functions() if takes(function, draft.Draft)]
    assert {step.__name__ for step in steps} >= {"lift", "widen_halves", "fold_constants"}
    returned = {inspect.signature(step).return_annotation for step in steps}
    assert returned.isdisjoint({onnx.ModelProto, onnx.GraphProto, draft.Draft})


@pytest.mark.parametrize("cut", [draft.copied, CALLS[extract.upstream], behind_the_pool])
def test_a_draft_shares_nothing_with_its_model(cut: Callable[[onnx.ModelProto], Any]) -> None:
    model = models.plain()
    before = model.SerializeToString(deterministic=True)
    made = cut(model)
    for node in made.graph.node:
        node.input[:] = ["changed"]
    for tensor in made.graph.initializer:
        tensor.raw_data = b""
    assert model.SerializeToString(deterministic=True) == before
