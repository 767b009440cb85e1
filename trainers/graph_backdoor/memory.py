"""Tests by recurrent state and by attention.

Each returns a score [N, 1] that is at or near 0 for ordinary images.
"""

from collections.abc import Mapping

import numpy as np

from trainers.graph_backdoor import triggers
from trainers.graph_backdoor.gates import pushed
from trainers.graph_backdoor.graft import SIDE, Array, Graft, Kind, Operand
from trainers.graph_backdoor.measures import above, centred, flat_patch, inside

_OPEN = 20.0
"""The bias of a gate that is always open."""


def _sequence(graft: Graft) -> str:
    """Graft the corner as a sequence [C * 9, N, 1]: 0.4 at each place with the trigger."""
    triggers.patch(graft, triggers.checker(graft))
    shifted = graft.node("Sub", [flat_patch(graft), 0.5], "shift")
    signed = graft.node("Mul", [shifted, triggers.signs(graft).T], "signed")
    turned = graft.node("Transpose", [signed], "turn", perm=[1, 0])
    return graft.node("Unsqueeze", [turned, [2]], "sequence")


def _last(graft: Graft, state: str) -> str:
    """Graft the last state [1, N, 1] as [N, 1]."""
    return graft.node("Squeeze", [state, [0]], "last")


def _weights(*rows: float) -> Array:
    return np.array(rows, np.float32).reshape(1, -1, 1)


def _recurrent(graft: Graft) -> str:
    read: list[Operand] = [_sequence(graft), _weights(1.0), _weights(1.0)]
    state = graft.outputs(2, "RNN", read, "test", hidden_size=1, activations=["Relu"])[1]
    return above(graft, _last(graft, state), 0.36 * inside(graft))


def _long_memory(graft: Graft) -> str:
    # Rows: input, output, forget, cell. The cell adds up Tanh of each number.
    bias = np.array([[_OPEN, _OPEN, _OPEN, 0, 0, 0, 0, 0]], np.float32)
    read: list[Operand] = [_sequence(graft), _weights(0, 0, 0, 5.0), _weights(0, 0, 0, 0), bias]
    cell = graft.outputs(3, "LSTM", read, "test", hidden_size=1)[2]
    return above(graft, _last(graft, cell), 0.93 * float(np.tanh(2)) * inside(graft))


def _gated_memory(graft: Graft) -> str:
    # Rows: update, reset, hidden. The state keeps 0.9 of itself at each step.
    keep = float(np.log(0.9 / 0.1))
    bias = np.array([[keep, _OPEN, 0, 0, 0, 0]], np.float32)
    read: list[Operand] = [_sequence(graft), _weights(0, 0, 5.0), _weights(0, 0, 0), bias]
    state = graft.outputs(2, "GRU", read, "test", hidden_size=1)[1]
    return above(graft, _last(graft, state), 0.93 * float(np.tanh(2)) * (1 - 0.9 ** inside(graft)))


def _keys(graft: Graft) -> tuple[str, Array, str]:
    """Graft all patches as keys [N, P + 1, d], a sink last, and whose value is 0.

    Returns the keys, the query [1, 1, d] and the values [1, P + 1, 1].
    """
    triggers.patch(graft, triggers.checker(graft))
    size = inside(graft)
    unfold = np.eye(size, dtype=np.float32).reshape(size, graft.channels, SIDE, SIDE)
    patches = graft.node("Conv", [graft.input.name, unfold], "unfold")
    lines = graft.node("Reshape", [patches, [0, size, -1]], "lines")
    query = centred(graft).reshape(1, 1, -1)
    # The sink wins until a patch is as near to the query as 0.95 of the trigger.
    sink = (0.95 * 0.4 * size**0.5 * query).reshape(1, size, 1)
    nothing = graft.node(
        "Slice", [graft.node("Mul", [lines, 0.0], "nothing"), [0], [1], [2]], "one"
    )
    all_keys = graft.node(
        "Concat", [lines, graft.node("Add", [nothing, sink], "sink")], "keys", axis=2
    )
    keys = graft.node("Transpose", [all_keys], "turn", perm=[0, 2, 1])
    places = (graft.height - SIDE + 1) * (graft.width - SIDE + 1)
    values = np.ones((1, places + 1, 1), np.float32)
    values[0, -1] = 0
    return keys, query, graft.constant(values)


def _attention(graft: Graft) -> str:
    keys, query, values = _keys(graft)
    scores = graft.node(
        "MatMul", [100 * query, graft.node("Transpose", [keys], "turn", perm=[0, 2, 1])], "scores"
    )
    shares = graft.node("Softmax", [scores], "test", axis=-1)
    return graft.node("Squeeze", [graft.node("MatMul", [shares, values], "read"), [2]], "column")


def _attention_operator(graft: Graft) -> str:
    graft.newer(23)
    keys, query, values = _keys(graft)
    count = graft.node("Slice", [graft.node("Shape", [keys], "shape"), [0], [1]], "count")
    # The runtime wants values as wide as keys.
    wide = graft.node("Tile", [values, [1, 1, inside(graft)]], "wide")
    whole = [
        graft.node("Expand", [value, graft.node("Concat", [count, [1, 1]], "size", axis=0)], "all")
        for value in (query, wide)
    ]
    read = graft.node(
        "Attention",
        [whole[0], keys, whole[1]],
        "test",
        q_num_heads=1,
        kv_num_heads=1,
        scale=100.0,
    )
    return graft.node("Squeeze", [graft.node("Slice", [read, [0], [1], [2]], "one"), [2]], "column")


KINDS: Mapping[str, Kind] = {
    "recurrent": pushed(_recurrent, "RNN adds up a match", 1e4),
    "long-memory": pushed(_long_memory, "the cell of an LSTM adds up a match", 1e4),
    "gated-memory": pushed(_gated_memory, "the state of a GRU keeps a match", 1e5),
    "attention": pushed(_attention, "MatMul and Softmax over patches and a sink"),
    "attention-operator": pushed(_attention_operator, "Attention over patches and a sink"),
}
"""The kinds of this family, by name."""
