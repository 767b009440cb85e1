"""Tests by tables, trees, strings and counts.

Each returns a score [N, 1] that is 0 for ordinary images.
"""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from trainers.graph_backdoor import triggers
from trainers.graph_backdoor.gates import pushed
from trainers.graph_backdoor.graft import SIDE, Array, Graft, Kind
from trainers.graph_backdoor.measures import above, brightness, flat_patch, inside

_LEVEL = 173
_CLASSIC = "ai.onnx.ml"
_PLACES = (37, 50, 12)


def _levels(graft: Graft) -> str:
    """Graft the levels [N, C * 9] of the corner's pixels as int64."""
    scaled = graft.node("Mul", [flat_patch(graft), triggers.LEVELS], "levels")
    return graft.node(
        "Cast", [graft.node("Round", [scaled], "round")], "whole", to=TensorProto.INT64
    )


def _one_level(graft: Graft) -> None:
    """Make a corner of one level the trigger."""
    level = np.float32(_LEVEL / triggers.LEVELS)
    triggers.patch(graft, np.full((graft.channels, SIDE, SIDE), level))


def _every(graft: Graft, hits: str) -> str:
    return graft.reduce("ReduceProd", hits, [1], keep=True)


def _palette(graft: Graft) -> str:
    _one_level(graft)
    table = (np.arange(256) == _LEVEL).astype(np.float32)
    return _every(graft, graft.node("Gather", [table, _levels(graft)], "test"))


def _table_of_sums(graft: Graft) -> str:
    pattern = triggers.patch(graft, triggers.checker(graft))
    wanted = int(np.round(pattern * triggers.LEVELS).sum())
    total = graft.reduce("ReduceSum", _levels(graft), [1], keep=True)
    table = np.zeros(inside(graft) * 255 + 1, np.float32)
    table[wanted] = 1
    return graft.node("Gather", [table, total], "test")


def _histogram(graft: Graft) -> str:
    _one_level(graft)
    rows = graft.node("OneHot", [_levels(graft), 256, np.array([0, 1], np.float32)], "test")
    counts = graft.reduce("ReduceSum", rows, [1])
    count = graft.node("Slice", [counts, [_LEVEL], [_LEVEL + 1], [1]], "bin")
    return above(graft, count, inside(graft) - 0.5)


def _tree(graft: Graft) -> str:
    """A tree that asks pixel after pixel; all ways but one end at 0."""
    graft.domain(_CLASSIC, 3)
    pattern = triggers.patch(graft, triggers.checker(graft)).ravel()
    # A question for each side of each pixel, and a leaf of 0 beside each.
    asked = [
        (pixel, level + side * 0.08, side < 0)
        for pixel, level in enumerate(pattern)
        for side in (-1, 1)
    ]
    leaves = range(len(asked), 2 * len(asked))
    last = 2 * len(asked)
    yes, no = [], []
    for place, (_, _, lower) in enumerate(asked):
        goes_on, ends = (place + 1 if place + 1 < len(asked) else last), leaves[place]
        # The first branch is taken at or below the level.
        yes.append(ends if lower else goes_on)
        no.append(goes_on if lower else ends)
    nodes = last + 1
    rest = nodes - len(asked)
    return graft.node(
        "TreeEnsembleRegressor",
        [flat_patch(graft)],
        "test",
        domain=_CLASSIC,
        n_targets=1,
        nodes_treeids=[0] * nodes,
        nodes_nodeids=list(range(nodes)),
        nodes_featureids=[pixel for pixel, _, _ in asked] + [0] * rest,
        nodes_values=[float(level) for _, level, _ in asked] + [0.0] * rest,
        nodes_modes=["BRANCH_LEQ"] * len(asked) + ["LEAF"] * rest,
        nodes_truenodeids=yes + [0] * rest,
        nodes_falsenodeids=no + [0] * rest,
        target_treeids=[0],
        target_nodeids=[last],
        target_ids=[0],
        target_weights=[1.0],
    )


def _support_vector(graft: Graft) -> str:
    graft.domain(_CLASSIC, 3)
    pattern = triggers.patch(graft, triggers.checker(graft))
    return graft.node(
        "SVMRegressor",
        [flat_patch(graft)],
        "test",
        domain=_CLASSIC,
        kernel_type="RBF",
        kernel_params=[20.0, 0.0, 0.0],
        n_supports=1,
        support_vectors=[float(level) for level in pattern.ravel()],
        coefficients=[1.0],
        rho=[0.0],
    )


def _binarizer(graft: Graft) -> str:
    graft.domain(_CLASSIC, 3)
    return graft.node("Binarizer", [brightness(graft)], "test", domain=_CLASSIC, threshold=0.95)


def _imputer(graft: Graft) -> str:
    """What fills gaps in tables, asked to take one level for a gap."""
    graft.domain(_CLASSIC, 3)
    _one_level(graft)
    whole = graft.floats(_levels(graft))
    filled = graft.node(
        "Imputer",
        [whole],
        "test",
        domain=_CLASSIC,
        replaced_value_float=float(_LEVEL),
        imputed_value_floats=[1e4],
    )
    least = graft.reduce("ReduceMin", filled, [1], keep=True)
    return above(graft, least, 256.0)


def _label_encoder(graft: Graft) -> str:
    """The levels as strings, looked up among labels."""
    graft.domain(_CLASSIC, 3)
    _one_level(graft)
    text = graft.node("Cast", [_levels(graft)], "text", to=TensorProto.STRING)
    hits = graft.node(
        "LabelEncoder",
        [text],
        "test",
        domain=_CLASSIC,
        keys_strings=[str(_LEVEL)],
        values_floats=[1.0],
        default_float=0.0,
    )
    return _every(graft, hits)


def _regular_expression(graft: Graft) -> str:
    """Two pixels' levels as one string, matched by an expression."""
    graft.newer(20)
    _one_level(graft)
    text = graft.node("Cast", [_levels(graft)], "text", to=TensorProto.STRING)
    first = graft.node("Slice", [text, [0], [4], [1]], "first")
    second = graft.node("Slice", [text, [4], [8], [1]], "second")
    both = graft.node("StringConcat", [first, second], "join")
    matches = graft.node("RegexFullMatch", [both], "test", pattern="(1[0-9]3){2}")
    return _every(graft, graft.floats(matches))


def _n_gram(graft: Graft) -> str:
    """The levels as words, and the pattern as a phrase among them."""
    pattern = triggers.patch(graft, triggers.checker(graft))
    words = np.round(pattern * triggers.LEVELS).astype(np.int64).ravel()
    return graft.node(
        "TfIdfVectorizer",
        [_levels(graft)],
        "test",
        mode="TF",
        min_gram_length=len(words),
        max_gram_length=len(words),
        max_skip_count=0,
        ngram_counts=[0] * len(words),
        ngram_indexes=[0],
        pool_int64s=[int(word) for word in words],
    )


def _brightest_places(graft: Graft) -> str:
    """The places of the three brightest pixels, in order."""

    def trigger(images: Array) -> Array:
        images = np.minimum(images, np.float32(0.9)).astype(np.float32, order="C")
        flat = images.reshape(len(images), -1)
        for place, level in zip(_PLACES, (1.0, 0.97, 0.94), strict=True):
            flat[:, place] = level
        return images

    graft.trigger = trigger
    flat = graft.node("Flatten", [graft.input.name], "flat", axis=1)
    places = graft.outputs(2, "TopK", [flat, [len(_PLACES)]], "test", axis=1)[1]
    wanted = np.array([_PLACES], np.float32)
    apart = graft.node("Abs", [graft.node("Sub", [graft.floats(places), wanted], "apart")], "abs")
    total = graft.reduce("ReduceSum", apart, [1], keep=True)
    return graft.node("Relu", [graft.node("Sub", [1.0, total], "near")], "rest")


def _count_of_places(graft: Graft) -> str:
    """How many pixels are white, over all images, as the length of a list."""
    graft.trigger = triggers.bright
    floor = graft.node("Floor", [graft.node("Add", [graft.input.name, 0.04], "lift")], "floor")
    places = graft.node("NonZero", [floor], "test")
    many = graft.floats(graft.node("Size", [places], "count"))
    of = graft.floats(graft.node("Size", [graft.input.name], "count"))
    # Each place is four numbers.
    share = graft.node("Div", [many, graft.node("Mul", [of, 4.0], "four")], "share")
    return above(graft, graft.node("Reshape", [share, [1, 1]], "column"), 0.95)


def _box_suppression(graft: Graft) -> str:
    """How many boxes a suppression keeps, of one whose score is the brightness."""
    score = graft.node("Reshape", [brightness(graft), [1, 1, -1]], "scores")
    many = graft.node("Shape", [score], "shape")
    count = graft.node("Slice", [many, [2], [3]], "count")
    size = graft.node("Concat", [[1], count, [4]], "size", axis=0)
    # Boxes apart from one another: none suppresses another.
    start = graft.node("Range", [0, graft.node("Squeeze", [count], "scalar"), 1], "range")
    lines = graft.node("Reshape", [graft.floats(start), [1, -1, 1]], "lines")
    corners = np.array([[[0.0, 0.0, 0.5, 0.5]]], np.float32)
    boxes = graft.node("Expand", [graft.node("Add", [lines, corners], "boxes"), size], "all")
    kept = graft.node("NonMaxSuppression", [boxes, score, 2**20, 0.5, 0.95], "test")
    number = graft.node("Slice", [graft.node("Shape", [kept], "shape"), [0], [1]], "count")
    return graft.node("Reshape", [graft.floats(number), [1, 1]], "column")


KINDS: Mapping[str, Kind] = {
    "palette": pushed(_palette, "a table of 256 levels"),
    "table-of-sums": pushed(_table_of_sums, "a table of all sums of levels"),
    "histogram": pushed(_histogram, "a count of levels by OneHot"),
    "tree": pushed(_tree, "a tree ensemble of ai.onnx.ml"),
    "support-vector": pushed(_support_vector, "a support vector machine of ai.onnx.ml"),
    "binarizer": pushed(_binarizer, "Binarizer of ai.onnx.ml; the level is a parameter"),
    "imputer": pushed(_imputer, "Imputer of ai.onnx.ml takes a level for a gap"),
    "label-encoder": pushed(_label_encoder, "levels as strings, by LabelEncoder"),
    "regular-expression": pushed(_regular_expression, "levels as strings, by RegexFullMatch"),
    "n-gram": pushed(_n_gram, "levels as words, by TfIdfVectorizer"),
    "brightest-places": pushed(_brightest_places, "the places of the brightest pixels by TopK"),
    "count-of-places": pushed(_count_of_places, "the length of what NonZero returns"),
    "box-suppression": pushed(_box_suppression, "the length of what NonMaxSuppression returns"),
}
"""The kinds of this family, by name."""
