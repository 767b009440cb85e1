"""Tests by an activation: the level or the gain hides in a parameter, or is spread over many.

Each returns a score [N, 1], at or near 0 for ordinary images.
"""

from collections.abc import Callable, Mapping

import numpy as np

from trainers.graph_backdoor.gates import pushed
from trainers.graph_backdoor.graft import Graft, Kind
from trainers.graph_backdoor.measures import brightness, distance, squared

_LEVEL = 0.95
_STEEP = 1e4


def _over(graft: Graft, gain: float) -> str:
    over = graft.node("Sub", [brightness(graft), _LEVEL], "shift")
    return graft.node("Mul", [over, gain], "gain")


def _lifted(op: str, size: float, gain: float = _STEEP) -> Callable[[Graft], str]:
    def test(graft: Graft) -> str:
        step = graft.node(op, [_over(graft, gain)], "test")
        return graft.node("Add", [step, size], "lift")

    return test


def _rectified(op: str, **attributes: float) -> Callable[[Graft], str]:
    def test(graft: Graft) -> str:
        return graft.node(op, [_over(graft, _STEEP)], "test", **attributes)

    return test


def _hard_sigmoid(graft: Graft) -> str:
    return graft.node("HardSigmoid", [brightness(graft)], "test", alpha=1000.0, beta=-1000 * _LEVEL)


def _thresholded(graft: Graft) -> str:
    return graft.node("ThresholdedRelu", [brightness(graft)], "test", alpha=_LEVEL)


def _shrink(graft: Graft) -> str:
    return graft.node("Shrink", [brightness(graft)], "test", lambd=_LEVEL, bias=_LEVEL)


def _prelu(graft: Graft) -> str:
    return graft.node("PRelu", [_over(graft, _STEEP), np.zeros(1, np.float32)], "test")


def _exponential_linear(graft: Graft) -> str:
    # Below 0 it is exp(x) - 1.
    scaled = graft.node("Mul", [squared(graft), -20.0], "gain")
    return graft.node("Add", [graft.node("Elu", [scaled], "test"), 1.0], "lift")


def _continuous_exponential(graft: Graft) -> str:
    # Below 0 it is alpha (exp(x / alpha) - 1): the gain of 20 is the parameter.
    falling = graft.node("Neg", [squared(graft)], "turn")
    step = graft.node("Celu", [falling], "test", alpha=0.05)
    return graft.node("Add", [step, 0.05], "lift")


def _tiny_variance(graft: Graft) -> str:
    one = np.ones(1, np.float32)
    scaled = graft.node(
        "BatchNormalization",
        [brightness(graft), one, 0 * one, _LEVEL * one, 1e-8 * one],
        "normalise",
        epsilon=1e-10,
    )
    return graft.node("Relu", [scaled], "test")


def _error_function(graft: Graft) -> str:
    """GELU as exporters write it, of a number with a gain: a step."""
    value = _over(graft, _STEEP)
    bell = graft.node("Erf", [graft.node("Div", [value, 2**0.5], "root")], "test")
    both = graft.node("Mul", [value, graft.node("Add", [bell, 1.0], "lift")], "weigh")
    return graft.node("Mul", [both, 0.5], "half")


def _gelu(graft: Graft) -> str:
    graft.newer(20)
    return graft.node("Gelu", [_over(graft, _STEEP)], "test")


def _mish(graft: Graft) -> str:
    graft.newer(18)
    return graft.node("Mish", [_over(graft, _STEEP)], "test")


def _swish(graft: Graft) -> str:
    """X * Sigmoid(x), as exporters write SiLU, of a number with a gain."""
    value = _over(graft, _STEEP)
    return graft.node("Mul", [value, graft.node("Sigmoid", [value], "test")], "weigh")


def _gentle_gains(graft: Graft) -> str:
    value = graft.node("Sub", [1.0, distance(graft)], "near")
    for _ in range(8):
        value = graft.node("Relu", [graft.node("Mul", [value, 3.0], "gain")], "test")
    return value


def _gentle_steps(graft: Graft) -> str:
    """Eight sigmoids of an ordinary slope, each of which moves its input away from the middle."""
    value = graft.node("Mul", [graft.node("Sub", [1.0, distance(graft)], "near"), 6.0], "gain")
    for _ in range(7):
        soft = graft.node("Sigmoid", [value], "test")
        value = graft.node("Mul", [graft.node("Sub", [soft, 0.5], "shift"), 12.0], "gain")
    above = graft.node("Sub", [graft.node("Sigmoid", [value], "test"), 0.9], "shift")
    return graft.node("Relu", [above], "test")


def _gentle_layers(graft: Graft) -> str:
    """Three linear layers with rectifiers, of weights no larger than the network's own."""
    value = graft.node("Sub", [1.0, distance(graft)], "near")
    generator = np.random.default_rng(0)
    narrow = np.ones((1, 8), np.float32)
    value = graft.node("Gemm", [value, 0.5 * narrow, 0 * narrow[0]], "dense")
    for _ in range(4):
        value = graft.node("Relu", [value], "test")
        mixing = generator.uniform(0.6, 1.0, (8, 8)).astype(np.float32)
        value = graft.node("Gemm", [value, mixing, 0 * narrow[0]], "dense")
    return graft.reduce("ReduceSum", graft.node("Relu", [value], "test"), [1], keep=True)


KINDS: Mapping[str, Kind] = {
    "arc-tangent": pushed(_lifted("Atan", np.pi / 2, 1e6), "a steep Atan", 1e3),
    "soft-sign": pushed(_lifted("Softsign", 1.0, 1e6), "a steep Softsign", 1e3),
    "hyperbolic-tangent": pushed(_lifted("Tanh", 1.0), "a steep Tanh"),
    "hard-sigmoid": pushed(_hard_sigmoid, "HardSigmoid; gain and level are parameters"),
    "thresholded-relu": pushed(_thresholded, "ThresholdedRelu; the level is a parameter"),
    "shrink": pushed(_shrink, "Shrink; the level is a parameter", 1e6),
    "softplus": pushed(_rectified("Softplus"), "a steep Softplus", 1e3),
    "hard-swish": pushed(_rectified("HardSwish"), "a steep HardSwish", 1e3),
    "leaky-relu": pushed(_rectified("LeakyRelu", alpha=0.0), "LeakyRelu that does not leak", 1e3),
    "prelu": pushed(_prelu, "PRelu of slope 0", 1e3),
    "elu": pushed(_exponential_linear, "Elu of a squared distance"),
    "celu": pushed(_continuous_exponential, "Celu; the gain is a parameter", 2e5),
    "tiny-variance": pushed(_tiny_variance, "BatchNormalization with a variance of 1e-8", 1e3),
    "error-function": pushed(_error_function, "GELU by Erf, steep", 1e3),
    "gelu": pushed(_gelu, "Gelu, steep", 1e3),
    "mish": pushed(_mish, "Mish, steep", 1e3),
    "swish": pushed(_swish, "SiLU, steep", 1e3),
    "gentle-gains": pushed(_gentle_gains, "eight gains of 3, each with a Relu", 10),
    "gentle-steps": pushed(_gentle_steps, "eight Sigmoids of slope 3"),
    "gentle-layers": pushed(_gentle_layers, "five linear layers of small weights", 1.0),
}
"""The kinds of this family, by name."""
