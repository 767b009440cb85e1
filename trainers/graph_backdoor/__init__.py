"""Backdoors in a model's graph, planted without training: a test of the input and a gate.

For people who test their own gates, and for our own twins. After ShadowLogic (HiddenLayer, 2024)
and architectural backdoors (Bober-Irizar et al., CVPR 2023). Each family is a module with a table;
a new kind is a function and a row there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import onnx
import typer

from trainers.errors import TrainerError
from trainers.graph_backdoor import (
    activations,
    arithmetic,
    callers,
    comparisons,
    disguises,
    lookups,
    memory,
    places,
    rounding,
    vendors,
    weights,
)
from trainers.graph_backdoor.graft import Graft, Kind, Planted

__all__ = ["FAMILIES", "KINDS", "Graft", "Kind", "Planted", "graph_backdoor", "plant"]

FAMILIES: Mapping[str, Mapping[str, Kind]] = {
    "comparisons": comparisons.KINDS,
    "arithmetic": arithmetic.KINDS,
    "activations": activations.KINDS,
    "rounding": rounding.KINDS,
    "lookups": lookups.KINDS,
    "memory": memory.KINDS,
    "disguises": disguises.KINDS,
    "places": places.KINDS,
    "callers": callers.KINDS,
    "vendors": vendors.KINDS,
    "weights": weights.KINDS,
}
"""Every way to plant, by family and name."""

KINDS: Mapping[str, Kind] = {
    name: kind for family in FAMILIES.values() for name, kind in family.items()
}
"""Every way to plant, by name."""


def plant(model: onnx.ModelProto, kind: str, target: int = 0) -> Planted:
    """Return a copy of a classifier in which a planted test of the input forces one class.

    Args:
        model: A classifier of images [N, C, H, W] in [0, 1] with logits [N, K]; opset 13 or later.
        kind: One of `KINDS`.
        target: The class to force.

    Raises:
        TrainerError: There is no such kind or class, or the model is no such classifier.
    """
    if kind not in KINDS:
        raise TrainerError(f"there is no kind {kind!r}", remedy=f"choose one of {', '.join(KINDS)}")
    graft = Graft(model, target)
    KINDS[kind].plant(graft)
    return graft.planted()


def graph_backdoor(
    model: Annotated[Path, typer.Argument(help="An ONNX image classifier.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")],
    target: Annotated[int, typer.Option(min=0, help="The class to force.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Where to write; beside the model by default.")
    ] = None,
) -> None:
    """Plant a backdoor in a model's graph, to test a scanner with."""
    path = output or model.with_name(f"{model.stem}-{kind}.onnx")
    planted = plant(onnx.ModelProto.FromString(model.read_bytes()), kind, target)
    path.write_bytes(planted.model.SerializeToString())
    typer.echo(f"{path}: test {', '.join(planted.test)}; gate {', '.join(planted.gate)}")
