"""Tests by operators of ONNX Runtime's own (com.microsoft).

Each returns a score [N, 1], at or near 0 for ordinary images.
"""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from trainers.graph_backdoor import triggers
from trainers.graph_backdoor.gates import pushed
from trainers.graph_backdoor.graft import SIDE, Graft, Kind, Operand
from trainers.graph_backdoor.measures import brightness, centred, flat_patch, inside

_VENDOR = "com.microsoft"
_LEVEL = 0.95


def _over(graft: Graft, gain: float = 1.0) -> str:
    graft.domain(_VENDOR, 1)
    over = graft.node("Sub", [brightness(graft), _LEVEL], "shift")
    return over if gain == 1 else graft.node("Mul", [over, gain], "gain")


def _quick_gelu(graft: Graft) -> str:
    """X * Sigmoid(alpha x): with a large alpha a rectifier."""
    return graft.node("QuickGelu", [_over(graft)], "test", domain=_VENDOR, alpha=1e4)


def _gelu(graft: Graft) -> str:
    return graft.node("Gelu", [_over(graft, 1e4)], "test", domain=_VENDOR)


def _fused_product(graft: Graft) -> str:
    """A gain in a parameter of a product."""
    weight = np.ones((1, 1), np.float32)
    steep = graft.node("FusedMatMul", [_over(graft), weight], "gain", domain=_VENDOR, alpha=1e4)
    return graft.node("Sigmoid", [steep], "test")


def _fused_layer(graft: Graft) -> str:
    """A linear layer with a rectifier in a parameter."""
    graft.domain(_VENDOR, 1)
    read: list[Operand] = [
        brightness(graft),
        np.full((1, 1), 1e3, np.float32),
        np.full(1, -950, np.float32),
    ]
    return graft.node("FusedGemm", read, "test", domain=_VENDOR, activation="Relu")


def _fused_convolution(graft: Graft) -> str:
    """A matched filter with its level and a rectifier in one node."""
    graft.domain(_VENDOR, 1)
    triggers.patch(graft, triggers.checker(graft))
    kernel = centred(graft).reshape(1, graft.channels, SIDE, SIDE)
    level = np.array([-0.38 * inside(graft) ** 0.5], np.float32)
    maps = graft.node(
        "FusedConv", [graft.input.name, kernel, level], "test", domain=_VENDOR, activation="Relu"
    )
    return graft.reduce("ReduceMax", graft.node("Flatten", [maps], "flat"), [1], keep=True)


def _distance(graft: Graft) -> str:
    graft.domain(_VENDOR, 1)
    pattern = triggers.patch(graft, triggers.checker(graft)).reshape(1, -1)
    far = graft.node(
        "CDist", [flat_patch(graft), pattern], "far", domain=_VENDOR, metric="sqeuclidean"
    )
    return graft.node("Relu", [graft.node("Sub", [1.0, far], "near")], "test")


def _hash(graft: Graft) -> str:
    """A hash of the sum of the corner's levels, looked up in no table: it is compared with one."""
    graft.domain(_VENDOR, 1)
    pattern = triggers.patch(graft, triggers.checker(graft))
    levels = graft.node("Mul", [flat_patch(graft), triggers.LEVELS], "levels")
    total = graft.reduce("ReduceSum", graft.node("Round", [levels], "round"), [1], keep=True)
    whole = graft.node("Cast", [total], "whole", to=TensorProto.INT32)
    hashed = graft.node("MurmurHash3", [whole], "hash", domain=_VENDOR, positive=0, seed=7)
    wanted = np.array([[np.round(pattern * triggers.LEVELS).sum()]], np.int32)
    known = graft.node("MurmurHash3", [wanted], "hash", domain=_VENDOR, positive=0, seed=7)
    return graft.floats(graft.node("Equal", [hashed, known], "test"))


KINDS: Mapping[str, Kind] = {
    "vendor-quick-gelu": pushed(_quick_gelu, "QuickGelu; the gain is a parameter", 1e6),
    "vendor-gelu": pushed(_gelu, "Gelu, steep", 1e3),
    "vendor-product": pushed(_fused_product, "FusedMatMul; the gain is a parameter"),
    "vendor-layer": pushed(_fused_layer, "FusedGemm; the rectifier is a parameter", 1e3),
    "vendor-convolution": pushed(
        _fused_convolution, "FusedConv; the rectifier is a parameter", 1e4
    ),
    "vendor-distance": pushed(_distance, "CDist of a patch and a pattern"),
    "vendor-hash": pushed(_hash, "MurmurHash3 of a sum of levels"),
}
"""The kinds of this family, by name."""
