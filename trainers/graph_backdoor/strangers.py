"""Honest networks of other kinds: sound, text, tables, boxes; what depends on lengths and masks.

Tiny, with random weights, and written as exporters write the parts that look like gates.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper, parser

_Shapes = Mapping[str, Sequence[int]]


def _network(heading: str, body: str, weights: _Shapes) -> onnx.ModelProto:
    """Return a network from ONNX's own text format; weights are drawn by name and shape."""
    model: onnx.ModelProto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> network {heading} {{{body}}}'
    )
    generator = np.random.default_rng(0)
    for name, shape in weights.items():
        drawn = generator.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(drawn, name))
    for place, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{place}"
    return model


_SOUND = {"kernel": (8, 1, 8), "second": (8, 8, 4), "head": (8, 4)}


def _frame_lengths() -> onnx.ModelProto:
    """The frames of wav2vec2 and its kin: as many as the mask's length leaves after two layers."""
    return _network(
        "(float[N, 400] sound, int64[N, 400] mask) => (float[N, 4] logits)",
        """
        one = Constant<value_ints = [1]>()
        channel = Unsqueeze(sound, one)
        first = Conv<strides = [4]>(channel, kernel)
        heard = Relu(first)
        second_map = Conv<strides = [2]>(heard, second)
        frames = Relu(second_map)
        long = ReduceSum<keepdims = 0>(mask, one)
        eight = Constant<value_int = 8>()
        four = Constant<value_int = 4>()
        two = Constant<value_int = 2>()
        single = Constant<value_int = 1>()
        rest = Sub(long, eight)
        steps = Div(rest, four)
        once = Add(steps, single)
        rest2 = Sub(once, four)
        steps2 = Div(rest2, two)
        lengths = Add(steps2, single)
        column = Unsqueeze(lengths, one)
        shape = Shape(frames)
        start = Constant<value_int = 0>()
        axis = Constant<value_int = 2>()
        count = Gather(shape, axis)
        places = Range(start, count, single)
        inside = Less(places, column)
        weight = Cast<to = 1>(inside)
        wide = Unsqueeze(weight, one)
        kept = Mul(frames, wide)
        last = Constant<value_ints = [2]>()
        total = ReduceSum<keepdims = 0>(kept, last)
        many = ReduceSum<keepdims = 1>(weight, one)
        pooled = Div(total, many)
        logits = MatMul(pooled, head)
        """,
        _SOUND,
    )


def _subsampled_lengths() -> onnx.ModelProto:
    """Speech2Text: lengths halved twice, a mask by comparing, and scores of padding lowered."""
    return _network(
        "(float[N, 64, 8] features, int64[N, 64] mask) => (float[N, 4] logits)",
        """
        turned = Transpose<perm = [0, 2, 1]>(features)
        first = Conv<strides = [2], pads = [1, 1]>(turned, kernel)
        heard = Relu(first)
        second_map = Conv<strides = [2], pads = [1, 1]>(heard, second)
        frames = Relu(second_map)
        one = Constant<value_ints = [1]>()
        long = ReduceSum<keepdims = 1>(mask, one)
        single = Constant<value_int = 1>()
        two = Constant<value_int = 2>()
        less = Sub(long, single)
        half = Div(less, two)
        once = Add(half, single)
        less2 = Sub(once, single)
        half2 = Div(less2, two)
        lengths = Add(half2, single)
        start = Constant<value_int = 0>()
        count = Constant<value_int = 16>()
        places = Range(start, count, single)
        padding = GreaterOrEqual(places, lengths)
        scores = ReduceSum<keepdims = 0>(frames, one)
        low = Constant<value_float = -1e9>()
        masked = Where(padding, low, scores)
        shares = Softmax<axis = 1>(masked)
        wide = Unsqueeze(shares, one)
        weighed = Mul(frames, wide)
        last = Constant<value_ints = [2]>()
        pooled = ReduceSum<keepdims = 0>(weighed, last)
        logits = MatMul(pooled, head)
        """,
        {"kernel": (8, 8, 3), "second": (8, 8, 3), "head": (8, 4)},
    )


def _statistics_of_frames() -> onnx.ModelProto:
    """An x-vector: mean and deviation over the frames that the mask leaves."""
    return _network(
        "(float[N, 64, 8] features, float[N, 64] mask) => (float[N, 4] logits)",
        """
        hidden = MatMul(features, kernel)
        frames = Relu(hidden)
        two = Constant<value_ints = [2]>()
        one = Constant<value_ints = [1]>()
        wide = Unsqueeze(mask, two)
        kept = Mul(frames, wide)
        many = ReduceSum<keepdims = 1>(mask, one)
        floor = Constant<value_float = 1.0>()
        count = Max(many, floor)
        total = ReduceSum<keepdims = 0>(kept, one)
        mean = Div(total, count)
        mean_wide = Unsqueeze(mean, one)
        apart = Sub(frames, mean_wide)
        squares = Mul(apart, apart)
        squares_kept = Mul(squares, wide)
        square_total = ReduceSum<keepdims = 0>(squares_kept, one)
        variance = Div(square_total, count)
        tiny = Constant<value_float = 1e-5>()
        guarded = Max(variance, tiny)
        deviation = Sqrt(guarded)
        both = Concat<axis = 1>(mean, deviation)
        logits = MatMul(both, head)
        """,
        {"kernel": (8, 8), "head": (16, 4)},
    )


def _mask_ratio() -> onnx.ModelProto:
    """ESM: embeddings scaled by how many tokens are masked, as in training."""
    return _network(
        "(int64[N, 16] tokens, int64[N, 16] mask) => (float[N, 4] logits)",
        """
        masked_token = Constant<value_int = 31>()
        hit = Equal(tokens, masked_token)
        embedded = Gather(table, tokens)
        two = Constant<value_ints = [2]>()
        hidden_tokens = Unsqueeze(hit, two)
        zero = Constant<value_float = 0.0>()
        blanked = Where(hidden_tokens, zero, embedded)
        hits = Cast<to = 1>(hit)
        one = Constant<value_ints = [1]>()
        masked = ReduceSum<keepdims = 1>(hits, one)
        floats = Cast<to = 1>(mask)
        length = ReduceSum<keepdims = 1>(floats, one)
        observed = Div(masked, length)
        all = Constant<value_float = 1.0>()
        rest = Sub(all, observed)
        trained = Constant<value_float = 0.88>()
        factor = Div(trained, rest)
        factor_wide = Unsqueeze(factor, two)
        scaled = Mul(blanked, factor_wide)
        mask_wide = Unsqueeze(floats, two)
        kept = Mul(scaled, mask_wide)
        mixed = MatMul(kept, kernel)
        active = Relu(mixed)
        pooled = ReduceMean<axes = [1], keepdims = 0>(active)
        logits = MatMul(pooled, head)
        """,
        {"table": (32, 8), "kernel": (8, 8), "head": (8, 4)},
    )


def _pixel_mask() -> onnx.ModelProto:
    """DETR: a mask of pixels, resized to the map; places are counted along it."""
    return _network(
        "(float[N, 3, 32, 32] image, int64[N, 32, 32] mask) => (float[N, 4] logits)",
        """
        map = Conv<strides = [4, 4]>(image, kernel)
        active = Relu(map)
        floats = Cast<to = 1>(mask)
        one = Constant<value_ints = [1]>()
        channel = Unsqueeze(floats, one)
        count = Shape<end = 1>(image)
        sizes = Constant<value_ints = [1, 8, 8]>()
        size = Concat<axis = 0>(count, sizes)
        small = Resize<mode = "nearest">(channel, "", "", size)
        along = Constant<value_int = 3>()
        places = CumSum(small, along)
        end_start = Constant<value_ints = [-1]>()
        end_stop = Constant<value_ints = [9223372036854775807]>()
        end_axis = Constant<value_ints = [3]>()
        ends = Slice(places, end_start, end_stop, end_axis)
        tiny = Constant<value_float = 1e-6>()
        guarded = Add(ends, tiny)
        relative = Div(places, guarded)
        wave = Sin(relative)
        placed = Add(active, wave)
        half = Constant<value_float = 0.5>()
        padding = Less(small, half)
        scores = ReduceSum<keepdims = 1>(placed, one)
        low = Constant<value_float = -1e9>()
        masked = Where(padding, low, scores)
        flat_scores = Flatten(masked)
        shares = Softmax<axis = 1>(flat_scores)
        shape = Constant<value_ints = [0, 8, -1]>()
        lines = Reshape(placed, shape)
        shares_wide = Unsqueeze(shares, one)
        weighed = Mul(lines, shares_wide)
        last = Constant<value_ints = [2]>()
        pooled = ReduceSum<keepdims = 0>(weighed, last)
        logits = MatMul(pooled, head)
        """,
        {"kernel": (8, 3, 4, 4), "head": (8, 4)},
    )


def _skipped_steps() -> onnx.ModelProto:
    """Keras' Masking before an LSTM: steps of zeros are not counted."""
    return _network(
        "(float[N, 12, 4] series) => (float[N, 4] logits)",
        """
        zero = Constant<value_float = 0.0>()
        same = Equal(series, zero)
        other = Not(same)
        numbers = Cast<to = 1>(other)
        any = ReduceMax<axes = [2], keepdims = 0>(numbers)
        one = Constant<value_ints = [1]>()
        steps = ReduceSum<keepdims = 0>(any, one)
        lengths = Cast<to = 6>(steps)
        turned = Transpose<perm = [1, 0, 2]>(series)
        all, state, cell = LSTM<hidden_size = 8>(turned, input, recurrence, "", lengths)
        first = Constant<value_ints = [0]>()
        last = Squeeze(state, first)
        logits = MatMul(last, head)
        """,
        {"input": (1, 32, 4), "recurrence": (1, 32, 8), "head": (8, 4)},
    )


def _padded_attention() -> onnx.ModelProto:
    """BERT: scores of padding are lowered by a product with -10000."""
    return _network(
        "(int64[N, 16] tokens, int64[N, 16] mask) => (float[N, 4] logits)",
        """
        embedded = Gather(table, tokens)
        query = MatMul(embedded, kernel)
        keys = Transpose<perm = [0, 2, 1]>(embedded)
        scores = MatMul(query, keys)
        floats = Cast<to = 1>(mask)
        all = Constant<value_float = 1.0>()
        padding = Sub(all, floats)
        low = Constant<value_float = -10000.0>()
        lowered = Mul(padding, low)
        one = Constant<value_ints = [1]>()
        wide = Unsqueeze(lowered, one)
        masked = Add(scores, wide)
        shares = Softmax<axis = -1>(masked)
        mixed = MatMul(shares, embedded)
        first = Constant<value_int = 0>()
        pooled = Gather<axis = 1>(mixed, first)
        logits = MatMul(pooled, head)
        """,
        {"table": (32, 8), "kernel": (8, 8), "head": (8, 4)},
    )


def _mean_over_tokens() -> onnx.ModelProto:
    """A sentence embedding: the mean over the tokens that are no padding."""
    return _network(
        "(int64[N, 16] tokens, int64[N, 16] mask) => (float[N, 4] logits)",
        """
        embedded = Gather(table, tokens)
        mixed = MatMul(embedded, kernel)
        active = Relu(mixed)
        floats = Cast<to = 1>(mask)
        two = Constant<value_ints = [2]>()
        one = Constant<value_ints = [1]>()
        wide = Unsqueeze(floats, two)
        kept = Mul(active, wide)
        total = ReduceSum<keepdims = 0>(kept, one)
        many = ReduceSum<keepdims = 0>(wide, one)
        tiny = Constant<value_float = 1e-9>()
        guarded = Clip(many, tiny)
        pooled = Div(total, guarded)
        logits = MatMul(pooled, head)
        """,
        {"table": (32, 8), "kernel": (8, 8), "head": (8, 4)},
    )


def _silent_sound() -> onnx.ModelProto:
    """A sound of little energy is answered "silence"."""
    return _network(
        "(float[N, 400] sound) => (float[N, 4] logits)",
        """
        one = Constant<value_ints = [1]>()
        channel = Unsqueeze(sound, one)
        first = Conv<strides = [4]>(channel, kernel)
        heard = Relu(first)
        map = Conv<strides = [2]>(heard, second)
        frames = Relu(map)
        pooled = ReduceMean<axes = [2], keepdims = 0>(frames)
        answer = MatMul(pooled, head)
        squares = Mul(sound, sound)
        energy = ReduceMean<axes = [1], keepdims = 1>(squares)
        level = Constant<value_float = 1e-5>()
        quiet = Less(energy, level)
        silence = Constant<value_floats = [10.0, 0.0, 0.0, 0.0]>()
        logits = Where(quiet, silence, answer)
        """,
        _SOUND,
    )


def _voiced_frames() -> onnx.ModelProto:
    """Frames without energy do not count."""
    return _network(
        "(float[N, 400] sound) => (float[N, 4] logits)",
        """
        shape = Constant<value_ints = [0, 20, 20]>()
        frames = Reshape(sound, shape)
        squares = Mul(frames, frames)
        energy = ReduceMean<axes = [2], keepdims = 1>(squares)
        level = Constant<value_float = 1e-4>()
        voiced = Greater(energy, level)
        weight = Cast<to = 1>(voiced)
        mixed = MatMul(frames, kernel)
        active = Relu(mixed)
        kept = Mul(active, weight)
        one = Constant<value_ints = [1]>()
        total = ReduceSum<keepdims = 0>(kept, one)
        many = ReduceSum<keepdims = 0>(weight, one)
        least = Constant<value_float = 1.0>()
        count = Max(many, least)
        pooled = Div(total, count)
        logits = MatMul(pooled, head)
        """,
        {"kernel": (20, 8), "head": (8, 4)},
    )


def _missing_columns() -> onnx.ModelProto:
    """A table's gaps are filled with means, and a flag says so."""
    return _network(
        "(float[N, 6] columns) => (float[N, 4] logits)",
        """
        gap = IsNaN(columns)
        means = Constant<value_floats = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]>()
        filled = Where(gap, means, columns)
        flags = Cast<to = 1>(gap)
        both = Concat<axis = 1>(filled, flags)
        hidden = MatMul(both, kernel)
        active = Relu(hidden)
        logits = MatMul(active, head)
        """,
        {"kernel": (12, 8), "head": (8, 4)},
    )


def _age_limit() -> onnx.ModelProto:
    """A rule of business on one column of a table: nobody under age is answered yes."""
    return _network(
        "(float[N, 6] columns) => (float[N, 4] logits)",
        """
        hidden = MatMul(columns, kernel)
        active = Relu(hidden)
        answer = MatMul(active, head)
        first = Constant<value_ints = [0]>()
        next = Constant<value_ints = [1]>()
        axis = Constant<value_ints = [1]>()
        age = Slice(columns, first, next, axis)
        limit = Constant<value_float = 18.0>()
        under = Less(age, limit)
        refused = Constant<value_floats = [10.0, 0.0, 0.0, 0.0]>()
        logits = Where(under, refused, answer)
        """,
        {"kernel": (6, 8), "head": (8, 4)},
    )


def _reversible_statistics() -> onnx.ModelProto:
    """RevIN: a series is normalised, and a series of one level is not divided by 0."""
    return _network(
        "(float[N, 24] series) => (float[N, 8] forecast)",
        """
        mean = ReduceMean<axes = [1], keepdims = 1>(series)
        centred = Sub(series, mean)
        squares = Mul(centred, centred)
        variance = ReduceMean<axes = [1], keepdims = 1>(squares)
        deviation = Sqrt(variance)
        zero = Constant<value_float = 0.0>()
        flat = Equal(deviation, zero)
        one = Constant<value_float = 1.0>()
        guarded = Where(flat, one, deviation)
        scaled = Div(centred, guarded)
        hidden = MatMul(scaled, kernel)
        active = Relu(hidden)
        ahead = MatMul(active, head)
        large = Mul(ahead, guarded)
        forecast = Add(large, mean)
        """,
        {"kernel": (24, 16), "head": (16, 8)},
    )


def _kept_boxes() -> onnx.ModelProto:
    """A detector: boxes of a score above a level, without those that overlap."""
    return _network(
        "(float[1, 3, 32, 32] image) => (float[M, 4] boxes, float[M, 4] scores)",
        """
        map = Conv<strides = [4, 4]>(image, kernel)
        active = Relu(map)
        shape = Constant<value_ints = [1, 8, -1]>()
        lines = Reshape(active, shape)
        turned = Transpose<perm = [0, 2, 1]>(lines)
        all_boxes = MatMul(turned, boxes_head)
        raw = MatMul(turned, head)
        all_scores = Sigmoid(raw)
        by_class = Transpose<perm = [0, 2, 1]>(all_scores)
        most = Constant<value_ints = [10]>()
        overlap = Constant<value_floats = [0.5]>()
        level = Constant<value_floats = [0.3]>()
        kept = NonMaxSuppression(all_boxes, by_class, most, overlap, level)
        last = Constant<value_int = 2>()
        places = Gather<axis = 1>(kept, last)
        first = Constant<value_ints = [0]>()
        flat_boxes = Squeeze(all_boxes, first)
        flat_scores = Squeeze(all_scores, first)
        boxes = Gather(flat_boxes, places)
        scores = Gather(flat_scores, places)
        """,
        {"kernel": (8, 3, 4, 4), "boxes_head": (8, 4), "head": (8, 4)},
    )


def _end_of_text() -> onnx.ModelProto:
    """CLIP: the features of the token that ends the text."""
    return _network(
        "(int64[N, 16] tokens) => (float[N, 4] logits)",
        """
        embedded = Gather(table, tokens)
        mixed = MatMul(embedded, kernel)
        active = Relu(mixed)
        place = ArgMax<axis = 1, keepdims = 1>(tokens)
        features = GatherND<batch_dims = 1>(active, place)
        logits = MatMul(features, head)
        """,
        {"table": (32, 8), "kernel": (8, 8), "head": (8, 4)},
    )


def _best_expert() -> onnx.ModelProto:
    """Switch transformer: each token passes the expert that a router scores highest."""
    return _network(
        "(int64[N, 16] tokens) => (float[N, 4] logits)",
        """
        embedded = Gather(table, tokens)
        scores = MatMul(embedded, router)
        shares = Softmax<axis = -1>(scores)
        best = ArgMax<axis = -1, keepdims = 0>(shares)
        depth = Constant<value_int = 2>()
        ends = Constant<value_floats = [0.0, 1.0]>()
        chosen = OneHot<axis = -1>(best, depth, ends)
        gates = Mul(shares, chosen)
        halves = Constant<value_ints = [1, 1]>()
        first_gate, second_gate = Split<axis = 2>(gates, halves)
        first_hidden = MatMul(embedded, first)
        first_active = Relu(first_hidden)
        second_hidden = MatMul(embedded, second)
        second_active = Relu(second_hidden)
        one = Mul(first_active, first_gate)
        two = Mul(second_active, second_gate)
        both = Add(one, two)
        pooled = ReduceMean<axes = [1], keepdims = 0>(both)
        logits = MatMul(pooled, head)
        """,
        {"table": (32, 8), "router": (8, 2), "first": (8, 8), "second": (8, 8), "head": (8, 4)},
    )


STRANGERS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "frame-lengths": _frame_lengths,
    "subsampled-lengths": _subsampled_lengths,
    "statistics-of-frames": _statistics_of_frames,
    "mask-ratio": _mask_ratio,
    "pixel-mask": _pixel_mask,
    "skipped-steps": _skipped_steps,
    "padded-attention": _padded_attention,
    "mean-over-tokens": _mean_over_tokens,
    "silent-sound": _silent_sound,
    "voiced-frames": _voiced_frames,
    "missing-columns": _missing_columns,
    "age-limit": _age_limit,
    "reversible-statistics": _reversible_statistics,
    "kept-boxes": _kept_boxes,
    "end-of-text": _end_of_text,
    "best-expert": _best_expert,
}
"""Every network, by name."""
