"""What each value of an unfolded graph derives from: pixels or shapes, features or decisions.

An abstract interpretation in one forward sweep (more where loops carry values round), linear in the
number of steps. A *decision* is a value that knows the input only through a test of it: a
comparison, a remainder, an arg-max, a rectified threshold. Its *width* is an upper bound of how
many numbers per sample it still holds: 1 is one decision about the whole input.
"""

import dataclasses
import enum
import functools
import math
import operator
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from scanner.graph.logic import floor_division
from scanner.graph.logic.unfold import INTEGERS, Flow, Step


class Depends(enum.IntFlag):
    """What a value may change with."""

    NOTHING = 0
    SHAPE = 1
    OPTION = 2
    DATA = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """What is known about a value.

    Attributes:
        depends: What it may change with.
        width: Upper bound of the numbers per sample that it carries of the input; infinite where
            unknown.
        weights: Weights on the heaviest way from the input.
        least: Weights on the lightest way: a detour through a network does not hide that a pixel is
            read.
        test: Position of the latest test that it passed through as a decision; -1 for a value that
            is not a decision.
        hard: The test is an operator that jumps, not a rectified threshold.
        pattern: It is a decision times, plus or looked up in unequal constants: it can write
            something.
        shifted: A constant was added to it.
        threshold: A constant was subtracted from it when it was already one number.
        gain: Product of the constants that it was multiplied with.
        steep: It was rectified after a gain that makes the slope a step.
        sweep: It is one slice of a loop over positions.
        ragged: Its shape depends on the input's values.
        counted: It counts how many of many positions pass a test: a number by degrees.
        inputs: The model's inputs whose values it changes with, as bits.
    """

    depends: Depends = Depends.NOTHING
    width: float = 0.0
    weights: float = 0.0
    least: float = 0.0
    test: int = -1
    hard: bool = False
    pattern: bool = False
    shifted: bool = False
    threshold: bool = False
    gain: float = 1.0
    steep: bool = False
    sweep: bool = False
    ragged: bool = False
    counted: bool = False
    inputs: int = 0

    @property
    def data(self) -> bool:
        """Whether it changes with the input's values."""
        return Depends.DATA in self.depends

    @property
    def decision(self) -> bool:
        """Whether it knows the input only through a test."""
        return self.test >= 0


COMPARISONS = frozenset(
    {"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "IsNaN", "IsInf"}
)
TESTS = COMPARISONS | {
    "Mod", "Sign", "ArgMax", "ArgMin", "Hardmax", "TopK", "NonZero", "ai.onnx.ml.Binarizer",
    "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Unique", "NonMaxSuppression",
}  # fmt: skip
_ROUNDINGS = frozenset({"Floor", "Ceil", "Round", "Trunc"})
_RECTIFIERS = frozenset({
    "Relu", "Clip", "Max", "Min", "HardSigmoid", "Sigmoid", "Tanh", "Softplus", "ThresholdedRelu",
    "Erf", "Exp", "LeakyRelu", "Elu", "Softmax", "PRelu", "Celu", "Selu", "Shrink", "Atan",
    "Softsign", "Gelu", "Mish", "Swish", "HardSwish", "Reciprocal", "Pow", "Sqrt", "Log", "Sinh",
    "Cosh", "Abs", "Sin", "Cos", "LogSoftmax", "ReduceLogSumExp", "ReduceLogSum", "QuantizeLinear",
})  # fmt: skip
WEIGHTED = frozenset({
    "Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "ConvInteger",
    "MatMulInteger", "QLinearConv", "QLinearMatMul", "Einsum", "DeformConv",
    "com.microsoft.FusedConv", "com.microsoft.NhwcFusedConv", "com.microsoft.FusedGemm",
    "com.microsoft.FusedMatMul", "com.microsoft.MatMulNBits", "com.microsoft.Attention",
    "com.microsoft.MatMulIntegerToFloat", "com.microsoft.DynamicQuantizeMatMul",
    "com.microsoft.DynamicQuantizeLSTM", "com.microsoft.QAttention", "com.microsoft.QGemm",
    "com.microsoft.nchwc.Conv",
})  # fmt: skip
_ADDING = frozenset({"ReduceSum", "ReduceMean"})
_CLAMPS = frozenset({"Relu", "Clip", "Max", "Min", "LeakyRelu", "PRelu"})
_SHAPES = frozenset({"Shape", "Size"})
_RAGGED = frozenset({"NonZero", "NonMaxSuppression", "Compress", "Unique"})
_PATTERNED = frozenset(
    {"Mul", "Add", "Sub", "Div", "MatMul", "Gemm", "Where", "Gather", "OneHot", "Conv", "Pow", "If"}
)
_SHAPED_BY = frozenset({
    "Slice", "Expand", "Reshape", "Tile", "Pad", "Resize", "TopK", "Loop", "Stack", "Split",
    "OneHot", "Squeeze", "Unsqueeze", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
})  # fmt: skip
_MADE_BY_SIZES = frozenset({"ConstantOfShape", "Range"})
_ENDLESS = (1 << 31) - 1
"""A slice ends there where it ends nowhere."""
NARROW = 16
"""A decision with fewer numbers than the input by this factor is about the input as a whole."""
_SLOPE = 50.0
"""A gain from which a rectified line is a step: exported hard sigmoids have a gain of 1/6."""
WRITTEN = 64
"""So few numbers were written rather than trained."""
_FLOOR = 1e-3
"""Smaller added constants guard a division or a square root."""


class Analysis:
    """The facts of every value of a flow.

    Attributes:
        floors: Results of floor divisions, whose corrections are arithmetic and no decisions.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        shapes = [flow.shapes.get(name, ()) for name in flow.inputs]
        # Where a first axis has the name of a length (atoms, edges, tokens in a row), its rows are
        # positions, not samples.
        self.lengths = {
            d
            for shape in shapes
            for d in (shape[1:] if len(shape) > 1 else shape)
            if isinstance(d, str)
        }
        self.batch = {shape[0] for shape in shapes if len(shape) > 1} - self.lengths
        self.floors: set[str] = set()
        self.facts: dict[str, Fact] = {name: self._source(name) for name in flow.inputs}
        self.facts.update({name: Fact(Depends.SHAPE) for name in flow.iterations})
        carried = [step.outputs[0] for step in flow.steps if step.op == "Carry"]
        # Values may be handed from one carried value to the next, one in each turn of a loop.
        for _ in range(len(carried) + 1):
            before = [self._kind(name) for name in carried]
            for position, step in enumerate(flow.steps):
                self._visit(position, step)
            if before == [self._kind(name) for name in carried]:
                break

    def fact(self, value: str) -> Fact:
        """Return what is known about a value; about a constant, nothing."""
        return self.facts.get(value, _CONSTANT)

    def _kind(self, value: str) -> tuple[Depends, bool, bool]:
        fact = self.fact(value)
        return fact.depends, fact.decision, fact.pattern

    @functools.cached_property
    def trained_on(self) -> int:
        """The inputs that trained weights read untested and unmixed, as bits: data, not masks."""
        found = 0
        for step in self.flow.steps:
            if self.flow.live.isdisjoint(step.outputs):
                continue
            looked_up = step.op == "Gather" and self.constant(step.inputs[0])
            if not (looked_up or step.op in WEIGHTED) or not any(
                self.flow.effect(n) > WRITTEN for n in step.inputs if self.constant(n)
            ):
                continue
            for fact in map(self.fact, filter(None, step.inputs)):
                if fact.data and not fact.decision and fact.inputs.bit_count() == 1:
                    found |= fact.inputs
        return found

    def constant(self, value: str) -> bool:
        """Whether a value is fixed by the file."""
        return bool(value) and not self.fact(value).depends

    def extent(self, value: str, *, ragged: bool = False) -> float:
        """Return how many numbers per sample a value has room for; infinite for an open shape."""
        shape = self.flow.shapes.get(value)
        return math.inf if shape is None else self._count(list(shape), ragged=ragged)

    def _count(self, dims: list[int | str], *, ragged: bool = False) -> float:
        open_rows = (
            bool(dims) and isinstance(dims[0], str) and not ragged and dims[0] not in self.lengths
        )
        if dims and (open_rows or dims[0] in self.batch):
            dims = dims[1:]
        return (
            math.inf
            if any(isinstance(d, str) for d in dims)
            else float(math.prod(int(d) for d in dims))
        )

    def _source(self, name: str) -> Fact:
        """Return what is known about an input.

        One number beside other inputs is an option, such as a sampling rate or a cache switch, and
        not data.
        """
        shape = self.flow.shapes.get(name)
        width = self.extent(name) if shape is not None and not _open_vector(shape) else math.inf
        alone = len(self.flow.inputs) == 1
        bit = 1 << self.flow.inputs.index(name)
        return Fact(Depends.OPTION if width <= 1 and not alone else Depends.DATA, width, inputs=bit)

    def _visit(self, position: int, step: Step) -> None:
        quotient = floor_division.quotient(step, self.flow)
        if quotient is not None:
            self.floors.add(step.outputs[0])
            self.facts[step.outputs[0]] = self.fact(quotient)
            return
        read = [self.fact(name) for name in step.inputs if name]
        joined = _join(read)
        for output in filter(None, step.outputs):
            self.facts[output] = self._transfer(position, step, read, joined, output)

    def _transfer(
        self, position: int, step: Step, read: Sequence[Fact], joined: Fact, output: str
    ) -> Fact:
        if step.op in _SHAPES:
            return self._measured(position, joined)
        if not joined.data or self.flow.zeroes(step):
            kept = joined.depends & ~Depends.DATA
            return Fact(kept | (Depends.SHAPE if joined.data or step.op == "Carry" else kept))
        shaping = self._shaping(step, read)
        ragged = joined.ragged or step.op in _RAGGED or any(f.data for f in shaping)
        fact = dataclasses.replace(
            joined, ragged=ragged, width=self._width(step, read, joined, output, ragged=ragged)
        )
        if step.op == "Carry":
            return dataclasses.replace(fact, sweep=False, gain=1.0)
        if self._sweeps(step):
            fact = dataclasses.replace(fact, sweep=True)
        if self._is_test(step, fact):
            return self._tested(position, step, fact, output)
        if step.op in WEIGHTED:
            fact = self._weighted(step, fact)
        if joined.decision and all(f.decision for f in read if f.data):
            trained = fact.weights - joined.weights > WRITTEN
            keeps = step.op not in WEIGHTED or not trained or min(fact.width, joined.width) <= 1
            if keeps:
                if not joined.hard:
                    further = self._softened(position, step, fact)
                    fact = dataclasses.replace(
                        fact, gain=further.gain, steep=further.steep, shifted=further.shifted
                    )
                return dataclasses.replace(
                    fact,
                    pattern=fact.pattern or self._writes(step),
                    counted=fact.counted or self._counts(step, joined, fact),
                )
        return self._softened(
            position, step, dataclasses.replace(fact, test=-1, hard=False, pattern=False)
        )

    def _shaping(self, step: Step, read: Sequence[Fact]) -> Sequence[Fact]:
        """Return those of the facts that a step reads which decide the shape of what it makes."""
        if step.op in _MADE_BY_SIZES:
            return read
        if step.op == "If":
            shapes = {self.flow.shapes.get(name) for name in step.inputs[1:]}
            return read[:1] if len(shapes) > 1 or None in shapes else ()
        return read[1:] if step.op in _SHAPED_BY else ()

    def _measured(self, position: int, joined: Fact) -> Fact:
        """Return what is known about a shape: it is not data, unless it counts values."""
        if not (joined.ragged and joined.data):
            return Fact(joined.depends & ~Depends.DATA | Depends.SHAPE)
        return Fact(
            joined.depends,
            1.0,
            joined.weights,
            joined.least,
            position,
            hard=True,
            ragged=True,
            inputs=joined.inputs,
        )

    def _width(
        self, step: Step, read: Sequence[Fact], joined: Fact, output: str, *, ragged: bool
    ) -> float:
        total = sum(f.width for f in read if f.data) if step.op == "Concat" else joined.width
        if step.op == "Slice":
            return min(self._sliced(step, output), total)
        if step.op == "Reshape" and self._merges(step, output):
            # The rows are positions from here on.
            self.lengths.update(d for d in self.flow.shapes[output] if isinstance(d, str))
            return min(self.extent(step.inputs[0]), total)
        return min(self.extent(output, ragged=ragged), total)

    def _merges(self, step: Step, output: str) -> bool:
        """Whether a reshaping lays the positions of all samples in one row."""
        before, after = (self.flow.shapes.get(n) or () for n in (step.inputs[0], output))
        return len(before) > 1 and len(after) == 1 and isinstance(after[0], str)

    def _sliced(self, step: Step, output: str) -> float:
        """Return the extent of a slice, which may be fixed although the sliced axes are open."""
        shape = list(self.flow.shapes.get(output, ()))
        arrays = [self.flow.array(name) for name in step.inputs[1:]]
        if len(arrays) < 3 or any(a is None or a.dtype.kind != "i" for a in arrays):  # noqa: PLR2004
            # Without fixed starts, ends and axes nothing more is known.
            return self.extent(output)
        starts, ends, axes, *steps = (a.reshape(-1).tolist() for a in arrays if a is not None)
        for start, end, axis, stride in zip(
            starts, ends, axes, steps[0] if steps else [1] * len(axes), strict=True
        ):
            endless = max(abs(start), abs(end)) >= _ENDLESS
            if -len(shape) <= axis < len(shape) and (start < 0) == (end < 0) and not endless:
                # A slice may run backwards.
                many = max(0, end - start if stride > 0 else start - end)
                shape[axis] = many if isinstance(shape[axis], str) else shape[axis]
        return self._count(shape) if shape else math.inf

    def _sweeps(self, step: Step) -> bool:
        """Whether a step takes another slice of a value in each iteration of a loop."""
        if step.op not in ("Gather", "Slice"):
            return step.op == "Sweep"
        return self.flow.looped and any(
            self.fact(n).depends == Depends.SHAPE for n in step.inputs[1:] if n
        )

    def _is_test(self, step: Step, fact: Fact) -> bool:
        """Whether a step tests what it reads.

        Rounding, dividing integers and casting to them test a single number; of a whole image
        they are quantisation.
        """
        integers = self.flow.elem_types.get(step.outputs[0]) in INTEGERS
        if step.op in _ROUNDINGS or (step.op == "Div" and integers and not fact.decision):
            return self.extent(step.outputs[0]) <= 1
        if step.op != "Cast":
            return step.op in TESTS
        target = step.attribute("to")
        if target == onnx.TensorProto.BOOL:
            return not fact.decision
        source = self.flow.elem_types.get(step.inputs[0], onnx.TensorProto.FLOAT)
        return (
            target in INTEGERS
            and source not in INTEGERS
            and not fact.decision
            and self.extent(step.outputs[0]) <= 1
        )

    def _tested(self, position: int, step: Step, fact: Fact, output: str) -> Fact:
        tested = dataclasses.replace(
            fact, test=position, hard=True, pattern=False, gain=1.0, steep=False, counted=False
        )
        if step.op not in COMPARISONS or not any(self._counts_up(name) for name in step.inputs):
            return tested
        # Positions compared with a length are a mask as long as the sequence; with a number, a
        # one-hot.
        return dataclasses.replace(tested, width=self.extent(output), pattern=step.op == "Equal")

    def _counts_up(self, name: str) -> bool:
        """Whether a value is positions: made from shapes, or a constant 0, 1, 2 and so on."""
        if self.fact(name).depends == Depends.SHAPE:
            return True
        array = self.flow.array(name) if self.constant(name) else None
        return (
            array is not None
            and array.size > 1
            and bool((array.reshape(-1) == np.arange(array.size)).all())
        )

    def _weighted(self, step: Step, fact: Fact) -> Fact:
        constants = [name for name in step.inputs if self.constant(name)]
        weights = sum(self.flow.effect(name) for name in constants)
        matrix = next(
            (a for n in constants if (a := self.flow.array(n)) is not None and a.ndim > 1), None
        )
        gain = 1.0
        if matrix is not None and matrix.size and matrix.dtype.kind == "f":
            rows = (
                matrix
                if step.op not in ("Gemm", "MatMul") or step.attribute("transB")
                else matrix.swapaxes(0, -1)
            )
            gain = float(
                np.sqrt(
                    np.max(np.sum(np.square(rows.reshape(len(rows), -1), dtype=np.float64), axis=1))
                )
            )
        # What was written goes on with the test before it; a trained layer starts anew.
        gain *= fact.gain if weights <= WRITTEN else 1.0
        biased = len(step.inputs) > 2 and bool(step.inputs[2])  # noqa: PLR2004 - the third input is the bias
        return dataclasses.replace(
            fact,
            weights=fact.weights + weights,
            least=fact.least + weights,
            gain=gain,
            shifted=fact.shifted or biased,
        )

    def _counts(self, step: Step, before: Fact, after: Fact) -> bool:
        """Whether a step adds up decisions for as many positions as the input has, or nearly."""
        widest = max((self.fact(name).width for name in self.flow.inputs), default=0.0)
        many = before.width * NARROW > widest or not math.isfinite(before.width)
        return step.op in _ADDING and many and after.width < before.width

    def _writes(self, step: Step) -> bool:
        """Whether a step gives a decision unequal constants to write."""
        if step.op not in _PATTERNED or (step.op == "Gather" and not self.constant(step.inputs[0])):
            return False
        arrays = [self.flow.array(name) for name in step.inputs if self.constant(name)]
        return any(
            a is None or (a.size > 1 and bool((a != a.reshape(-1)[0]).any())) for a in arrays
        )

    def _softened(self, position: int, step: Step, fact: Fact) -> Fact:
        """Follow arithmetic that can test without a testing operator: shift, gain, rectify."""
        low, high = self._constant_bounds(step)
        if step.op in ("Add", "Sub") and max(abs(low), abs(high)) > _FLOOR:
            narrow = fact.width <= 1
            return dataclasses.replace(fact, shifted=True, threshold=fact.threshold or narrow)
        if step.op in ("Mul", "Div") and (low or high):
            factor = max(abs(low), abs(high)) if step.op == "Mul" else 1 / max(abs(low), abs(high))
            return dataclasses.replace(fact, gain=fact.gain * factor)
        if step.op in _NORMALISERS:
            return self._normalised(step, fact)
        if step.op in _RECTIFIERS:
            return self._rectified(position, step, fact)
        if fact.steep and fact.width <= 1:
            return dataclasses.replace(fact, test=position, hard=False)
        return fact

    def _rectified(self, position: int, step: Step, fact: Fact) -> Fact:
        gain, level = _own_test(step)
        if step.op == "Clip" and len(step.inputs) > 1 and self.constant(step.inputs[1]):
            level = self._constant_bounds(step)[0]
        shifted = fact.shifted or abs(level) > _FLOOR
        fact = dataclasses.replace(
            fact,
            gain=fact.gain * gain,
            shifted=shifted,
            steep=fact.steep or (shifted and fact.gain * gain >= _SLOPE),
        )
        # A distance from written numbers needs no threshold of its own where it is squashed: it is
        # near or far.
        near = shifted and step.op not in _CLAMPS
        if fact.width <= 1 and (fact.threshold or abs(level) > _FLOOR or near or fact.steep):
            return dataclasses.replace(fact, test=position, hard=False)
        return fact

    def _normalised(self, step: Step, fact: Fact) -> Fact:
        """Follow a normalisation; one by a batch is, in use, a gain and a shift of each channel."""
        arrays = [self.flow.array(name) for name in step.inputs[1:5]]
        numbers = [
            np.asarray(a, np.float64) for a in arrays if a is not None and a.dtype.kind == "f"
        ]
        epsilon = step.attribute("epsilon", 1e-5)
        if len(numbers) < 4 or not isinstance(epsilon, float):  # noqa: PLR2004 - scale, shift, mean, variance
            return dataclasses.replace(fact, gain=1.0, steep=False)
        scale, shift, mean, variance = numbers
        slopes = np.abs(scale) / np.sqrt(np.maximum(variance + epsilon, 1e-30))
        moved = float(np.abs(np.concatenate([shift, mean])).max(initial=0.0)) > _FLOOR
        gain = fact.gain * float(slopes.max(initial=0.0)) if scale.size == 1 else 1.0
        return dataclasses.replace(
            fact,
            gain=gain,
            steep=False,
            shifted=fact.shifted or moved,
            threshold=fact.threshold or (moved and fact.width <= 1),
        )

    def _constant_bounds(self, step: Step) -> tuple[float, float]:
        arrays = [self.flow.array(name) for name in step.inputs if self.constant(name)]
        numbers = [a for a in arrays if a is not None and a.size and a.dtype.kind in "fiu"]
        if not numbers:
            return 0.0, 0.0
        return float(min(a.min() for a in numbers)), float(max(a.max() for a in numbers))


def _own_test(step: Step) -> tuple[float, float]:
    """Return the gain and the level that a rectifier has in its attributes, beside its usual form.

    Raises nothing: an attribute that is no number is none.
    """
    names = _LEVELS.get(step.op)
    if names is None:
        return 1.0, 0.0
    (gain_name, usual), level_name = names
    gain = step.attribute(gain_name, usual) if gain_name else 1.0
    level = step.attribute(level_name, None)
    numbers = [
        float(number) if isinstance(number, int | float) else default
        for number, default in ((gain, usual), (level, 0.0))
    ]
    return max(1.0, abs(numbers[0]) / usual), numbers[1]


_LEVELS: Mapping[str, tuple[tuple[str, float], str]] = {
    "HardSigmoid": (("alpha", 0.2), "beta"),
    "ThresholdedRelu": (("", 1.0), "alpha"),
    "Shrink": (("", 1.0), "lambd"),
    "Clip": (("", 1.0), "min"),
    "Elu": (("alpha", 1.0), ""),
    "Selu": (("gamma", 1.0507), ""),
}
"""Where rectifiers keep their gain, with its usual size, and their level."""
_CONSTANT = Fact()
_NORMALISERS = frozenset(
    {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"}
)
MASK_TYPES = INTEGERS | {onnx.TensorProto.BOOL}
"""What masks come in."""


def _open_vector(shape: Sequence[int | str]) -> bool:
    """Whether a shape is one open dimension: a signal, or a batch of single numbers."""
    return len(shape) == 1 and isinstance(shape[0], str)


def _join(read: Sequence[Fact]) -> Fact:
    """Return what is known about a value that depends on all of these."""
    relevant = [f for f in read if f.data]
    depends = Depends.NOTHING
    for fact in read:
        depends |= fact.depends
    if not relevant:
        return Fact(depends)
    if len(relevant) == 1:
        return dataclasses.replace(relevant[0], depends=depends)
    tests = [f for f in relevant if f.decision]
    return Fact(
        depends=depends,
        width=max(f.width for f in relevant),
        weights=max(f.weights for f in relevant),
        least=min(f.least for f in relevant),
        test=max((f.test for f in tests), default=-1),
        hard=any(f.hard for f in tests),
        pattern=any(f.pattern for f in tests),
        shifted=any(f.shifted for f in relevant),
        threshold=any(f.threshold for f in relevant),
        gain=max(f.gain for f in relevant),
        steep=any(f.steep for f in relevant),
        sweep=any(f.sweep for f in relevant),
        ragged=any(f.ragged for f in relevant),
        counted=all(f.counted for f in tests) if tests else False,
        inputs=functools.reduce(operator.or_, (f.inputs for f in relevant)),
    )
