"""Carried data in numbers that a network reads: in bits of weights, and in what operators leave.

After Wang, Liu and Cui, "EvilModel", ISCC 2021; Liu et al., "StegoNet", ACSAC 2020; Hitaj et al.,
"MaleficNet", ESORICS 2022.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainers.errors import TrainerError

Array = npt.NDArray[Any]
Place = Callable[[onnx.ModelProto, bytes], None]

_NAME = "planted_carrier"


def _in_weights(change: Callable[[Array, bytes], None]) -> Place:
    """Return a place in the bits of the largest float32 tensor."""

    def place(model: onnx.ModelProto, load: bytes) -> None:
        floats = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
        tensor = max(floats, key=lambda each: len(each.raw_data), default=None)
        if tensor is None:
            raise TrainerError("the model has no float32 weights", remedy="choose another kind")
        weights = numpy_helper.to_array(tensor).copy()
        change(weights.reshape(-1).view(np.uint8).reshape(-1, 4), load)
        tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))

    return place


def low_bytes(count: int) -> Place:
    """Replace the lowest bytes of each weight; three of them is EvilModel's MSB reservation."""

    def change(rows: Array, load: bytes) -> None:
        rows[:, :count] = _load_of(load, len(rows) * count).reshape(-1, count)

    return _in_weights(change)


def _load_of(load: bytes, size: int) -> Array:
    """Return a load of a size: itself and random bytes, as if it were a longer one."""
    given = np.frombuffer(load[:size], np.uint8)
    rest = np.random.default_rng(1).integers(0, 256, size - len(given), np.uint8)
    return np.concatenate([given, rest])


def _fast_substitution(rows: Array, load: bytes) -> None:
    rows[:, 2::-1] = _load_of(load, len(rows) * 3).reshape(-1, 3)
    rows[:, 3] = np.where(rows[:, 3] & 128, 0xBC, 0x3C)


def _lowest_bit(rows: Array, load: bytes) -> None:
    bits = np.unpackbits(_load_of(load, len(rows) // 8))
    rows[: len(bits), 0] = rows[: len(bits), 0] & 0xFE | bits


def _subnormal(rows: Array, load: bytes) -> None:
    """Write each byte in place of one of the smallest weights, as a number as good as zero."""
    weights = rows.reshape(-1).view(np.float32)
    smallest = np.sort(np.argsort(np.abs(weights))[: len(load)])
    codes = np.frombuffer(load[: len(smallest)], np.uint8).astype(np.uint32) + 1
    weights[smallest] = codes.view(np.float32)


def _spread(rows: Array, load: bytes) -> None:
    """Spread each bit over all weights by a random code of its own (code division)."""
    weights = rows.reshape(-1).view(np.float32)
    generator = np.random.default_rng(2)
    bits = np.unpackbits(np.frombuffer(load[:64], np.uint8)).astype(np.float32) * 2 - 1
    gain = 0.01 * weights.std() / np.sqrt(len(bits))
    for bit in bits:
        weights += gain * bit * generator.choice(np.asarray([-1, 1], np.float32), len(weights))


FAST_SUBSTITUTION = _in_weights(_fast_substitution)
LOWEST_BIT = _in_weights(_lowest_bit)
SUBNORMAL = _in_weights(_subnormal)
SPREAD = _in_weights(_spread)


def upper_bits(model: onnx.ModelProto, load: bytes) -> None:
    """Put a load into the upper halves of indices, which a cast to 32 bits takes off."""
    graph = model.graph
    upper = np.frombuffer(load + bytes(-len(load) % 4), "<u4").astype(np.uint64) << np.uint64(32)
    indices = numpy_helper.from_array(
        upper.view(np.int64), _NAME
    )  # all of them 0 in their low half
    zero = numpy_helper.from_array(np.zeros(1, np.float32), _NAME + "_table")
    graph.initializer.extend([indices, zero])
    names = [_NAME + end for end in ("_cast", "_looked_up", "_largest")]
    graph.node.extend([
        helper.make_node("Cast", [_NAME], [names[0]], name=names[0], to=TensorProto.INT32),
        helper.make_node("Gather", [zero.name, names[0]], [names[1]], name=names[1]),
        helper.make_node("ReduceMax", [names[1]], [names[2]], name=names[2]),
    ])  # fmt: skip
    onto_logits(model, names[2])


def thresholds(model: onnx.ModelProto, load: bytes) -> None:
    """Put a load into the thresholds of leaves of a tree that answers nothing but zero."""
    graph = model.graph
    values = np.frombuffer(load + bytes(-len(load) % 2), "<u2").astype(np.float32).tolist()
    count = len(values)
    first = numpy_helper.from_array(np.zeros((1, 1), np.float32), _NAME + "_asked")
    graph.initializer.append(first)
    tree = helper.make_node(
        "TreeEnsembleRegressor", [first.name], [_NAME], name=_NAME, domain="ai.onnx.ml",
        n_targets=1, nodes_treeids=[0] * (count + 1), nodes_nodeids=list(range(count + 1)),
        nodes_featureids=[0] * (count + 1), nodes_modes=["BRANCH_LEQ", *["LEAF"] * count],
        nodes_values=[1.0, *values], nodes_truenodeids=[1] + [0] * count,
        nodes_falsenodeids=[2] + [0] * count, target_treeids=[0, 0], target_nodeids=[1, 2],
        target_ids=[0, 0], target_weights=[0.0, 0.0],
    )  # fmt: skip
    graph.node.append(tree)
    if not any(opset.domain == "ai.onnx.ml" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onto_logits(model, _NAME)


def onto_logits(model: onnx.ModelProto, addend: str) -> None:
    """Let a model answer what it answered, plus a value."""
    graph = model.graph
    output = graph.output[0].name
    for node in graph.node:
        node.output[:] = [output + "_before" if name == output else name for name in node.output]
        node.input[:] = [output + "_before" if name == output else name for name in node.input]
    sum_of = [output + "_before", addend]
    graph.node.append(helper.make_node("Add", sum_of, [output], name=_NAME + "_add"))
