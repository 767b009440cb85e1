"""What is fuzzed: functions of bytes that return, or raise what nobody may ever see.

Each works with any driver: the seeded one (`fuzz.drive`), atheris (`fuzz.guided`), OSS-Fuzz. An
error of `scanner.errors` is an answer and is caught here; whatever else escapes is a fault. What is
returned says whether the bytes were let in.
"""

import contextlib
import functools
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from scanner import conclusion
from scanner.errors import ScannerError
from scanner.graph.audit import checks, usage
from scanner.graph.core import draft, flatten, shapes, simplify
from scanner.graph.gradient.backward import Objective, gradient_model
from scanner.graph.gradient.real_input import real_input
from scanner.graph.gradient.unsaturated import unsaturated
from scanner.graph.layers import activations, first_layer, head, logits, reductions, weights
from scanner.graph.logic import excerpt, gates, unfold
from scanner.limits import Limits
from scanner.modelfile import guards, tensor_sizes
from scanner.modelfile.model import Model
from scanner.protocol import EXAMINE
from scanner.report import json
from scanner.sandbox import messages
from scanner.settings import Settings

LIMITS = Limits(memory=2**28, nodes=5_000, parts=200_000)
"""Tighter than a scan's, so that a mutant costs milliseconds; the guards are the same."""
EMPTY_FOLDER = Path("/nonexistent")
"""Where a mutant is said to lie: external data has nothing to find there."""


def opened(data: bytes) -> Model | None:
    """Return an opened model, None where it is refused."""
    try:
        model = Model(EMPTY_FOLDER / "mutant.onnx", "mutant", data, LIMITS)
        _ = model.proto
    except ScannerError:
        return None
    return model


def fuzz_reader(data: bytes) -> bool:
    """Open a file: the wire reader, the parser, the guards, the order of nodes, the identity.

    Raises:
        AssertionError: The wire reader accepts what the guards refuse, or reads another model.
    """
    try:
        model = Model(EMPTY_FOLDER / "mutant.onnx", "mutant", data, LIMITS)
    except ScannerError:
        return False
    if model.plain is None:
        return True
    try:
        proto = model.proto
    except ScannerError as error:
        raise AssertionError("the guards refuse what the wire reader accepted") from error
    plain = model.plain
    assert [n.op_type for n in plain.graph.node] == [n.op_type for n in proto.graph.node]
    assert [t.name for t in plain.graph.initializer] == [t.name for t in proto.graph.initializer]
    assert all(
        bytes(one.raw_data) == other.raw_data and list(one.dims) == list(other.dims)
        for one, other in zip(plain.graph.initializer, proto.graph.initializer, strict=True)
    )
    return True


def fuzz_graphs(data: bytes) -> bool:
    """Open a file and run every pass over its graph, each by itself."""
    model = opened(data)
    if model is None:
        return False
    for work in PASSES.values():
        with contextlib.suppress(ScannerError):
            work(model)
    return True


def fuzz_files(data: bytes) -> bool:
    """Open a file with both readers, and run one pass that its bytes choose: a cheap mixture."""
    if not fuzz_reader(data):
        return False
    model = opened(data)
    if model is not None:
        names = tuple(PASSES)
        with contextlib.suppress(ScannerError):
            PASSES[names[zlib.crc32(data) % len(names)]](model)
    return model is not None


def fuzz_replies(data: bytes) -> bool:
    """Take bytes for a child's answer: read the message, rebuild the result, judge and report it.

    What is no message or no result is a crash of that child (`scanner.sandbox.worker`).
    """
    try:
        message = messages.read(io.BytesIO(struct.pack(">I", len(data)) + data))
        examination = EXAMINE.read((message or {}).get("answer"))
    except (AttributeError, KeyError, TypeError, ValueError, ScannerError):
        return False
    with contextlib.suppress(ScannerError):
        json.render(conclusion.judged(examination, Settings(), 1.0))
    return True


@functools.lru_cache(maxsize=1)
def _flat(model: Model) -> onnx.ModelProto:
    """Return a mutant's flat graph, which most passes start from."""
    return flatten.flatten(model.proto)


def _simplified(model: Model) -> None:
    if any(map(uses_external_data, tensor_sizes.tensors(model.proto))):
        return  # a scan reads it first
    made = draft.copied(_flat(model))
    simplify.widen_halves(made)
    keep = {output.name for output in made.graph.output}
    simplify.fold_constants(made, keep)
    simplify.fold_batch_normalisation(made, keep)


def _differentiated(model: Model) -> None:
    if not model.identity.inputs or any(map(uses_external_data, tensor_sizes.tensors(model.proto))):
        return
    flat = unsaturated(real_input(_flat(model)))
    gradient_model(
        flat,
        of=_scores(flat),
        with_respect_to=[model.identity.inputs[0].name],
        objective=Objective.MARGIN,
    )


def _scores(flat: onnx.ModelProto) -> str:
    """Return the logits or, in a model of one operator, its output."""
    try:
        return logits.find_logits(flat).value
    except ScannerError:
        return str(flat.graph.output[0].name)


def _logic(model: Model) -> None:
    for observation in gates.observe(unfold.unfold(model.proto)):
        excerpt.excerpt(model.proto, observation.details)
        excerpt.openable(model.proto, str(observation.details["switch"]))


def _reduced(model: Model) -> None:
    flat = _flat(model)
    found = activations.activations(flat)
    reductions.per_channel_statistics(flat, found)
    for activation in found[:1]:
        reductions.per_image_maximum(flat, activation, "largest")


def _head(model: Model) -> None:
    flat = _flat(model)
    head.head_input(flat, logits.find_logits(flat).value)


PASSES: Mapping[str, Callable[[Model], object]] = {
    "cost": lambda model: guards.check_cost(model.proto, LIMITS),
    "audit": lambda model: checks.audit(model.proto, model.data, model.path, LIMITS),
    "usage": lambda model: (usage.drawn(_flat(model)), usage.asks_for_batch_size(_flat(model))),
    "shapes": lambda model: shapes.value_types(_flat(model)),
    "simplify": _simplified,
    "logic": _logic,
    "reductions": _reduced,
    "head": _head,
    "weights": lambda model: [
        [*layer.weights.blocks()] for layer in weights.linear_layers(_flat(model))
    ],
    "first layer": lambda model: first_layer.cut(model, None),
    "gradients": _differentiated,
}
"""What a scan does with a graph, without running it."""

TARGETS: Mapping[str, Callable[[bytes], bool]] = {
    "reader": fuzz_reader,
    "graphs": fuzz_graphs,
    "files": fuzz_files,
    "replies": fuzz_replies,
}
