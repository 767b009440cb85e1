"""Every way to plant, and planting by name."""

from collections.abc import Mapping

import onnx

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
    readings,
    rounding,
    structures,
    vendors,
    weights,
)
from trainers.graph_backdoor.graft import Graft, Kind, Planted

FAMILIES: Mapping[str, Mapping[str, Kind]] = {
    "comparisons": comparisons.KINDS,
    "arithmetic": arithmetic.KINDS,
    "activations": activations.KINDS,
    "rounding": rounding.KINDS,
    "readings": readings.KINDS,
    "lookups": lookups.KINDS,
    "memory": memory.KINDS,
    "disguises": disguises.KINDS,
    "places": places.KINDS,
    "structures": structures.KINDS,
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
