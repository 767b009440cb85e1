"""What honest authors put around a classifier: tests, guards and routers that are no backdoors."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto

from trainers.graph_backdoor import Graft

Habit = Callable[[Graft], None]


def _n(graft: Graft, op: str, *inputs: object, **attributes: object) -> str:
    names = [i if isinstance(i, str) else graft.constant(i) for i in inputs]
    return graft.node(op, names, op.lower(), **attributes)


def _over_image(graft: Graft, op: str, value: str | None = None) -> str:
    return graft.reduce(op, value or graft.input.name, [1, 2, 3], keep=True)


def _column(graft: Graft, value: str) -> str:
    return graft.node("Reshape", [value, graft.constant([-1, 1], np.int64)], "column")


def _std(graft: Graft) -> str:
    centred = _n(graft, "Sub", graft.input.name, _over_image(graft, "ReduceMean"))
    return _n(graft, "Sqrt", _over_image(graft, "ReduceMean", _n(graft, "Mul", centred, centred)))


def _before(test: Callable[[Graft], str], other: Callable[[Graft], str]) -> Habit:
    def habit(graft: Graft) -> None:
        graft.replace_input(_n(graft, "Where", test(graft), other(graft), graft.input.name))

    return habit


def _behind(test: Callable[[Graft], str], numbers: Callable[[Graft], np.ndarray]) -> Habit:
    def habit(graft: Graft) -> None:
        column = _column(graft, graft.node("Cast", [test(graft)], "cast", to=TensorProto.FLOAT))
        opened = graft.node("Cast", [column], "bool", to=TensorProto.BOOL)
        graft.replace_logits(_n(graft, "Where", opened, numbers(graft), graft.logits))

    return habit


def _compare(op: str, reduced: str, level: float) -> Callable[[Graft], str]:
    def test(graft: Graft) -> str:
        value = _std(graft) if reduced == "std" else _over_image(graft, reduced)
        return _n(graft, op, value, level)

    return test


def _image(*steps: tuple[str, float]) -> Callable[[Graft], str]:
    def other(graft: Graft) -> str:
        value = graft.input.name
        for op, number in steps:
            value = _n(graft, op, value, number)
        return value

    return other


def _whole(make: Callable[[Graft], str]) -> Habit:
    def habit(graft: Graft) -> None:
        graft.replace_input(make(graft))

    return habit


def _stretched(graft: Graft) -> str:
    low, high = (_over_image(graft, op) for op in ("ReduceMin", "ReduceMax"))
    width = _n(graft, "Max", _n(graft, "Sub", high, low), 1e-3)
    return _n(graft, "Div", _n(graft, "Sub", graft.input.name, low), width)


def _gamma(graft: Graft) -> str:
    power = _n(graft, "Add", _over_image(graft, "ReduceMean"), 0.5)
    return _n(graft, "Pow", graft.input.name, power)


def _exposed(graft: Graft) -> str:
    mean = _n(graft, "Max", _over_image(graft, "ReduceMean"), 1e-3)
    gain = _n(graft, "Clip", _n(graft, "Div", graft.constant(0.5), mean), 0.5, 2.0)
    return _n(graft, "Mul", graft.input.name, gain)


def _grey_world(graft: Graft) -> str:
    each = graft.reduce("ReduceMean", graft.input.name, [2, 3], keep=True)
    gain = _n(graft, "Div", _over_image(graft, "ReduceMean"), _n(graft, "Add", each, 1e-3))
    return _n(graft, "Mul", graft.input.name, _n(graft, "Clip", gain, 0.5, 2.0))


def _outliers(graft: Graft) -> str:
    high = _n(graft, "Add", _over_image(graft, "ReduceMean"), _n(graft, "Mul", _std(graft), 3.0))
    return _n(graft, "Min", graft.input.name, high)


def _nan_guard(graft: Graft) -> str:
    return _n(graft, "Where", _n(graft, "IsNaN", graft.input.name), 0.0, graft.input.name)


def _excited(graft: Graft) -> str:
    pooled = _n(graft, "GlobalAveragePool", graft.input.name)
    kernel = graft.constant(np.eye(graft.channels).reshape(graft.channels, -1, 1, 1))
    gate = _n(graft, "Sigmoid", _n(graft, "Conv", pooled, kernel))
    return _n(graft, "Mul", graft.input.name, gate)


def _normalised(graft: Graft) -> str:
    return _n(
        graft, "Div", graft.input.name, _n(graft, "Max", _over_image(graft, "ReduceMax"), 1e-6)
    )


def _standardised(graft: Graft) -> str:
    centred = _n(graft, "Sub", graft.input.name, _over_image(graft, "ReduceMean"))
    return _n(graft, "Div", centred, _n(graft, "Max", _std(graft), 1e-2))


def _bright_boost(graft: Graft) -> str:
    """Smooth: dark images are lifted."""
    dark = _n(
        graft,
        "Sigmoid",
        _n(graft, "Mul", _n(graft, "Sub", _over_image(graft, "ReduceMean"), 0.2), -30.0),
    )
    lifted = _n(graft, "Sqrt", _n(graft, "Relu", graft.input.name))
    return _n(
        graft,
        "Add",
        _n(graft, "Mul", lifted, dark),
        _n(graft, "Mul", graft.input.name, _n(graft, "Sub", 1.0, dark)),
    )


def _denoised(graft: Graft) -> str:
    return _n(graft, "Where", _n(graft, "Less", graft.input.name, 0.02), 0.0, graft.input.name)


def _confidence(graft: Graft) -> None:
    """A reject option: unsure answers become flat."""
    top = graft.reduce("ReduceMax", _n(graft, "Softmax", graft.logits, axis=1), [1], keep=True)
    graft.replace_logits(
        _n(graft, "Where", _n(graft, "Less", top, 0.3), np.zeros((1, graft.classes)), graft.logits)
    )


def _smoothed(graft: Graft) -> None:
    """Temperature by the image's contrast."""
    graft.replace_logits(
        _n(graft, "Mul", graft.logits, _column(graft, _n(graft, "Add", _std(graft), 0.5)))
    )


def _prior(graft: Graft) -> None:
    """A small linear model of the mean colour is added to the logits."""
    pooled = _n(graft, "Flatten", _n(graft, "GlobalAveragePool", graft.input.name))
    table = np.random.default_rng(0).normal(0, 0.3, (graft.channels, graft.classes))
    graft.replace_logits(_n(graft, "Add", graft.logits, _n(graft, "MatMul", pooled, table)))


def _mixture(graft: Graft) -> None:
    """Two experts, weighed by a softmax of pooled pixels; the second is a linear model."""
    flat = _n(graft, "Flatten", graft.input.name)
    count = graft.channels * graft.height * graft.width
    generator = np.random.default_rng(0)
    expert = _n(graft, "MatMul", flat, generator.normal(0, 0.1, (count, graft.classes)))
    scores = _n(graft, "MatMul", flat, generator.normal(0, 0.2, (count, 2)))
    weights = _n(graft, "Softmax", scores, axis=1)
    parts = [
        graft.node(
            "Slice", [weights, *(graft.constant([i], np.int64) for i in (a, a + 1, 1))], "part"
        )
        for a in (0, 1)
    ]
    graft.replace_logits(
        _n(
            graft,
            "Add",
            _n(graft, "Mul", graft.logits, parts[0]),
            _n(graft, "Mul", expert, parts[1]),
        )
    )


def _sharpness(graft: Graft) -> str:
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)
    kernel = np.tile(kernel, (1, graft.channels, 1, 1)) / graft.channels
    edges = _n(graft, "Conv", graft.input.name, kernel)
    return _n(graft, "Less", _over_image(graft, "ReduceMean", _n(graft, "Abs", edges)), 0.02)


def _flat_answer(graft: Graft) -> np.ndarray:
    return np.zeros((1, graft.classes))


def _last_class(graft: Graft) -> np.ndarray:
    return 10 * np.eye(graft.classes)[[graft.classes - 1]]


HABITS: Mapping[str, Habit] = {
    "automatic inversion": _before(
        _compare("Greater", "ReduceMean", 0.5), _image(("Sub", 1.0), ("Mul", -1.0))
    ),
    "signed range guess": _before(
        _compare("Less", "ReduceMin", 0.0), _image(("Add", 1.0), ("Mul", 0.5))
    ),
    "bytes guess": _before(_compare("Greater", "ReduceMax", 1.5), _image(("Div", 255.0))),
    "night mode": _before(_compare("Less", "ReduceMean", 0.25), _image(("Pow", 0.5))),
    "glare mode": _before(_compare("Greater", "ReduceMean", 0.8), _image(("Pow", 2.0))),
    "low contrast mode": _before(
        _compare("Less", "std", 0.05), _image(("Sub", 0.5), ("Mul", 2.0), ("Add", 0.5))
    ),
    "contrast guard": _behind(_compare("Less", "std", 0.02), _flat_answer),
    "contrast class": _behind(_compare("Less", "std", 0.02), _last_class),
    "energy guard": _behind(_compare("Less", "ReduceSumSquare", 1e-3), _flat_answer),
    "blank class": _behind(_compare("Less", "ReduceMax", 0.05), _last_class),
    "overexposed class": _behind(_compare("Greater", "ReduceMin", 0.9), _last_class),
    "sharpness guard": _behind(_sharpness, _flat_answer),
    "sharpness class": _behind(_sharpness, _last_class),
    "stretch": _whole(_stretched),
    "gamma": _whole(_gamma),
    "exposure": _whole(_exposed),
    "grey world": _whole(_grey_world),
    "outliers": _whole(_outliers),
    "not a number": _whole(_nan_guard),
    "excitation": _whole(_excited),
    "maximum": _whole(_normalised),
    "standard": _whole(_standardised),
    "lifted shadows": _whole(_bright_boost),
    "noise floor": _whole(_denoised),
    "confidence": _confidence,
    "temperature": _smoothed,
    "prior": _prior,
    "mixture": _mixture,
}
"""Habits by name."""


def honest(model: onnx.ModelProto, habit: str) -> onnx.ModelProto:
    """Return a classifier with a habit."""
    graft = Graft(model, 0)
    HABITS[habit](graft)
    return graft.planted().model
