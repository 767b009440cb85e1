"""The law of every gradient rule: it agrees with central differences, whatever the geometry."""

from typing import Any

import numpy as np
from finite_differences import Function, assert_gradient, node
from hypothesis import given, settings
from hypothesis import strategies as st

LAW = settings(deadline=None, derandomize=True, max_examples=30, database=None)
SEEDS = st.integers(0, 2**32 - 1)
OPEN = st.sampled_from([0, 1, None])


def spatial(draw: st.DrawFn, rank: int, low: int, high: int) -> list[int]:
    return [draw(st.integers(low, high)) for _ in range(rank)]


@st.composite
def convolutions(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    rank, group = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel, strides, dilations = (
        spatial(draw, rank, 1, 3),
        spatial(draw, rank, 1, 3),
        spatial(draw, rank, 1, 2),
    )
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = [r + draw(st.integers(0, 4)) for r in reach]
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group}
    padding = draw(st.sampled_from(["explicit", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if padding == "explicit":
        attributes["pads"] = spatial(draw, 2 * rank, 0, 2)
    else:
        attributes["auto_pad"] = padding
    if padding.startswith("SAME"):
        attributes["dilations"] = [1] * rank
    fixed = padding.startswith("SAME") and max(strides) > 1
    weights = rng.standard_normal((2 * group, 2, *kernel))
    return Function(
        [node("Conv", "x w b", **attributes)],
        {"x": rng.standard_normal((2, 2 * group, *sizes))},
        {"w": weights, "b": rng.standard_normal(2 * group)},
        open_axes=draw(st.sampled_from([0, 1] if fixed else [0, 1, None])),
    )


@LAW
@given(convolutions(), SEEDS)
def test_convolution(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed))


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    rank, group = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, strides, dilations = (
        spatial(draw, rank, 1, 3),
        spatial(draw, rank, 1, 3),
        spatial(draw, rank, 1, 2),
    )
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group}
    attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    attributes["pads"] = [
        draw(st.integers(0, d * (k - 1) // 2)) for k, d in zip(kernel, dilations, strict=True)
    ] * 2
    return Function(
        [node("ConvTranspose", "x w b", **attributes)],
        {"x": rng.standard_normal((2, 2 * group, *spatial(draw, rank, 1, 4)))},
        {"w": rng.standard_normal((2 * group, 3, *kernel)), "b": rng.standard_normal(3 * group)},
        open_axes=draw(OPEN),
    )


@LAW
@given(transposed_convolutions(), SEEDS)
def test_transposed_convolution(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed), linear=True)


@st.composite
def pools(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    rank, kind = (
        draw(st.integers(1, 3)),
        draw(st.sampled_from(["MaxPool", "AveragePool", "LpPool"])),
    )
    kernel, strides = spatial(draw, rank, 1, 3), spatial(draw, rank, 1, 3)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel] * 2
    if kind == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    if kind == "MaxPool":
        attributes["dilations"] = spatial(draw, rank, 1, 2)
    reach = [
        d * (k - 1) + 1
        for k, d in zip(kernel, attributes.get("dilations", [1] * rank), strict=True)
    ]
    sizes = [r + draw(st.integers(0, 4)) for r in reach]
    return Function(
        [node(kind, "x", **attributes)],
        {"x": rng.standard_normal((2, 2, *sizes))},
        open_axes=draw(OPEN),
    )


@LAW
@given(pools(), SEEDS)
def test_pool(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed))


@st.composite
def broadcasts(draw: st.DrawFn) -> Function:
    """Two operands of up to three axes whose shapes broadcast."""
    rng = np.random.default_rng(draw(SEEDS))
    kind = draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow"]))
    whole = spatial(draw, 3, 1, 3)
    shapes = []
    for _ in range(2):
        shape = [size if draw(st.booleans()) else 1 for size in whole]
        shapes.append(tuple(shape[draw(st.integers(0, 2)) :]))
    a, b = (rng.uniform(0.5, 2, shape) for shape in shapes)
    return Function(
        [node(kind, "a b")], {"a": a, "b": b}, open_axes=draw(st.sampled_from([0, None]))
    )


@LAW
@given(broadcasts(), SEEDS)
def test_broadcasting(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed))


@st.composite
def products(draw: st.DrawFn) -> Function:
    """Matrix products of vectors, matrices and broadcast stacks of matrices."""
    rng = np.random.default_rng(draw(SEEDS))
    m, k, n = spatial(draw, 3, 1, 4)
    batch = spatial(draw, 2, 2, 3)
    lead = [
        tuple(size if draw(st.booleans()) else 1 for size in batch[draw(st.integers(0, 2)) :])
        for _ in range(2)
    ]
    a = (k,) if not lead[0] and draw(st.booleans()) else (*lead[0], m, k)
    b = (k,) if not lead[1] and draw(st.booleans()) else (*lead[1], k, n)
    inputs = {"a": rng.standard_normal(a), "b": rng.standard_normal(b)}
    return Function([node("MatMul", "a b")], inputs, open_axes=draw(st.sampled_from([0, None])))


@LAW
@given(products(), SEEDS)
def test_matrix_product(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed))


@st.composite
def gemms(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    m, k, n = spatial(draw, 3, 1, 4)
    trans_a, trans_b = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    inputs = {
        "a": rng.standard_normal((k, m) if trans_a else (m, k)),
        "b": rng.standard_normal((n, k) if trans_b else (k, n)),
        "c": rng.standard_normal(draw(st.sampled_from([(n,), (1, n), (m, 1), (m, n), ()]))),
    }
    gemm = node("Gemm", "a b c", alpha=0.5, beta=2.0, transA=trans_a, transB=trans_b)
    return Function([gemm], inputs, open_axes=draw(st.sampled_from([0, None])))


@LAW
@given(gemms(), SEEDS)
def test_gemm(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed))


@st.composite
def slices(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    shape = spatial(draw, 3, 3, 6)
    axes = draw(st.permutations([0, 1, 2]).map(lambda order: order[:2]))
    steps = [draw(st.sampled_from([1, 1, 2, -1, -2])) for _ in axes]
    starts = [draw(st.integers(0, 1)) if s > 0 else draw(st.sampled_from([-1, 100])) for s in steps]
    ends = [
        draw(st.sampled_from([2, -1, 2**31])) if s > 0 else draw(st.sampled_from([0, -100]))
        for s in steps
    ]
    constants = {
        "s": starts,
        "e": ends,
        "a": [a - draw(st.sampled_from([0, 3])) for a in axes],
        "t": steps,
    }
    integers = {name: np.array(numbers, np.int64) for name, numbers in constants.items()}
    return Function(
        [node("Slice", "x s e a t")],
        {"x": rng.standard_normal(shape)},
        integers,
        open_axes=draw(OPEN),
    )


@LAW
@given(slices(), SEEDS)
def test_slice(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed))


@st.composite
def pads(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
    amounts = spatial(draw, 6, -1 if mode == "constant" else 0, 2)
    constants = {"p": np.array(amounts, np.int64)}
    x = rng.standard_normal(spatial(draw, 3, 3, 5))
    return Function([node("Pad", "x p", mode=mode)], {"x": x}, constants, open_axes=draw(OPEN))


@LAW
@given(pads(), SEEDS)
def test_pad(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed), linear=True)


@st.composite
def gathers(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    shape, axis = spatial(draw, 3, 2, 4), draw(st.integers(-3, 2))
    indices = rng.integers(
        -shape[axis], shape[axis], draw(st.sampled_from([(), (1,), (3,), (2, 3), (1, 1)]))
    )
    gather = node("Gather", "x i", axis=axis)
    return Function(
        [gather],
        {"x": rng.standard_normal(shape)},
        {"i": indices.astype(np.int64)},
        open_axes=draw(OPEN),
    )


@LAW
@given(gathers(), SEEDS)
def test_gather(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed))


@st.composite
def reductions(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    kinds = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"]
    kind = draw(st.sampled_from(kinds))
    axes = draw(st.sampled_from([[0], [1], [-1], [0, 2], [-2, -1], [0, 1, 2]]))
    x = rng.uniform(0.5, 2, spatial(draw, 3, 1, 4))
    reduce = node(f"Reduce{kind}", "x a", keepdims=draw(st.integers(0, 1)))
    return Function([reduce], {"x": x}, {"a": np.array(axes, np.int64)}, open_axes=draw(OPEN))


@LAW
@given(reductions(), SEEDS)
def test_reduction(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed))


@st.composite
def resizes(draw: st.DrawFn) -> Function:
    rng = np.random.default_rng(draw(SEEDS))
    sizes = spatial(draw, 2, 2, 4)
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    coordinates = draw(
        st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
    )
    modes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        modes["nearest_mode"] = draw(
            st.sampled_from(["round_prefer_floor", "floor", "ceil", "round_prefer_ceil"])
        )
    x = rng.standard_normal((2, 2, *sizes))
    if draw(st.booleans()):
        scales = np.array(
            [1, 1, *(draw(st.sampled_from([0.5, 1.0, 2.0, 3.0])) for _ in sizes)], np.float32
        )
        constants = {"s": scales}
        resize = node("Resize", "x - s", **modes)
    else:
        constants = {"s": np.array([2, 2, *spatial(draw, 2, 2, 7)], np.int64)}
        resize = node("Resize", "x - - s", **modes)
    return Function([resize], {"x": x}, constants, open_axes=0)


@LAW
@given(resizes(), SEEDS)
def test_resize(function: Function, seed: int) -> None:
    assert_gradient(function, np.random.default_rng(seed), linear=True)
