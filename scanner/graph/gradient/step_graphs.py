"""One step of a search as an ONNX graph: a search's state goes in, its next state comes out.

The network, its gradient and the arithmetic of the search are one graph, so that nothing has to
leave the device between two steps (`scanner.instruments.resident`). What a loop in Python decides
by its own hand, a price that rises or a search that is over, is decided by Where. Whoever reads the
state after several steps finds what the loop would have left: a search that is over, or whose
gradient is not a number, changes no more.

The arithmetic is that of the loops that it stands for, operation by operation; the two differ by
rounding (tests/scanner/instruments/test_device_search.py).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from scanner.graph.core.facts import Facts
from scanner.graph.core.structure import reads
from scanner.graph.gradient.backward import GradientModel
from scanner.graph.gradient.tape import Tape, Value
from scanner.values import frozen

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
BOUNDLESS = float(np.finfo(np.float32).max)
"""The size of a trigger that was not found: infinity, for comparisons that know none."""

# What the state says of itself in single numbers, in the order of the vector that holds them.
INVERSION = ("steps", "cost", "successes", "failures", "size", "stale", "loss", "broken")
ASCENT = ("steps", "margin", "broken")


@frozen
class Place:
    """A tensor that goes in, and, if it is a part of the state, comes out.

    Attributes:
        read: Name of the graph's input.
        shape: Of the tensor.
        dtype: NumPy's name of its type.
        written: Name of the output that holds it after the step; None for what stays as it is.
    """

    read: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    written: str | None = None


@frozen
class StepGraph:
    """One step of a search.

    Attributes:
        proto: The model.
        places: Its inputs by the name that the search knows them by.
    """

    proto: onnx.ModelProto
    places: Mapping[str, Place]


@frozen
class Classified:
    """A network's gradient graph, and what it takes.

    Attributes:
        gradient: The graph; it is used up.
        image: Name of its image input.
        shape: Of one image.
        classes: Number of logits.
        low: Lowest value of a valid input.
        high: Highest value.
    """

    gradient: GradientModel
    image: str
    shape: tuple[int, ...]
    classes: int
    low: float
    high: float


@frozen
class Descent:
    """How a search for a trigger descends: what the loop on the host calls by the same names.

    Attributes:
        channels: Axis of an image over which a mask is shared; None where there is none.
        learning_rate: Of Adam.
        betas: Its decay rates.
        tiny: Its epsilon.
        hits: So many images of a step must flip for a success.
        first_cost: lambda, the price of a mask's pixel, once it is raised from 0.
        patience: Steps of success, or of failure, before lambda changes.
        cost_up: By which it is multiplied after successes.
        cost_down: By which it is divided after failures.
        smaller: Times the smallest mask so far that another must be smaller than.
        early_stop: Steps without a smaller mask after which a search is over.
    """

    channels: int | None
    learning_rate: float
    betas: tuple[float, float]
    tiny: float
    hits: int
    first_cost: float
    patience: int
    cost_up: float
    cost_down: float
    smaller: float
    early_stop: int


def inversion(
    network: Classified, descent: Descent, *, images: int, batch: int, block: int
) -> StepGraph:
    """Return one step of a search for the smallest trigger of a class.

    The state: the free mask `a` and the free pattern `b` with their moments, the smallest trigger
    that worked, and the numbers of `INVERSION`. What stays: the images, the class, and, where a
    step takes a part of the images, which ones it takes.

    Args:
        network: The classifier, differentiated by its cross-entropy.
        descent: How the search descends.
        images: How many there are.
        batch: How many a step takes.
        block: For so many steps it is laid down at once which ones.
    """
    drawing = _Drawing(network, batch)
    channels = descent.channels
    mask_shape = (1, *(1 if i == channels else n for i, n in enumerate(network.shape)))
    shape = (1, *network.shape)
    shapes = {"a": mask_shape, "a1": mask_shape, "a2": mask_shape, "mask": mask_shape} | {
        "b": shape, "b1": shape, "b2": shape, "pattern": shape
    }  # fmt: skip
    was = {name: drawing.state(name, size) for name, size in shapes.items()}
    all_images = drawing.given("images", (images, *network.shape))
    numbers = drawing.numbers(INVERSION)
    x = all_images
    if batch < images:
        draws = drawing.given("draws", (block, batch), INT64)
        steps = numbers["steps"]
        row = steps - (steps / float(block)).op("Floor") * float(block)
        x = all_images.op("Gather", draws.op("Gather", row.cast(INT64), axis=0).reshape([-1]))

    wave, other = was["a"].op("Tanh"), was["b"].op("Tanh")
    mask, width = (wave + 1.0) / 2.0, network.high - network.low
    pattern = (other + 1.0) / 2.0 * width + network.low
    seen = drawing.evaluated(x + mask * (pattern - x))

    over = _over(numbers, descent.early_stop)
    works = seen.hits >= float(descent.hits)
    size = _total(mask)
    better = works & (size < numbers["size"] * descent.smaller)
    now = _priced(numbers, works, descent)
    now["steps"] = numbers["steps"] + 1.0
    now["size"] = size.where(better, numbers["size"])
    now["stale"] = (numbers["stale"] * 0.0).where(better, numbers["stale"] + 1.0)
    now["loss"] = seen.loss
    now["broken"] = (numbers["broken"] + 1.0).where(seen.broken, numbers["broken"])
    drawing.note({name: numbers[name].where(over, now[name]) for name in INVERSION})
    kept = better & over.op("Not")
    drawing.next("mask", mask.where(kept, was["mask"]))
    drawing.next("pattern", pattern.where(kept, was["pattern"]))

    by_mask = (seen.gradient * (pattern - x)).mean([0])
    by_mask = by_mask if channels is None else by_mask.sum([1 + channels])
    by_pattern = seen.gradient.mean([0]) * mask
    slope = (1.0 - wave * wave) / 2.0
    _adam(drawing, descent, was, "a", (by_mask + now["cost"]) * slope, now["steps"])
    slope = (1.0 - other * other) * (width / 2)
    _adam(drawing, descent, was, "b", by_pattern * slope, now["steps"])
    return drawing.done()


def ascent(network: Classified, *, starts: int, first_rate: float, decay: float) -> StepGraph:
    """Return one step of the ascent to the largest margin of a class.

    The state: the images `x`, and the numbers of `ASCENT`. What stays: the class.

    Args:
        network: The classifier, differentiated by its margin.
        starts: How many images ascend at a time.
        first_rate: Length of the first step, in widths of the input range.
        decay: By which the length is multiplied at each step.
    """
    drawing = _Drawing(network, starts)
    x = drawing.state("x", (starts, *network.shape))
    numbers = drawing.numbers(ASCENT)
    seen = drawing.evaluated(x)
    width = x.wrap(decay) ** numbers["steps"] * (first_rate * (network.high - network.low))
    up = (x + width * seen.gradient.op("Sign")).op("Clip", network.low, network.high)
    highest = seen.objective.op("ReduceMax", [0], keepdims=1)
    over = numbers["broken"] > 0.0
    now = {
        "steps": numbers["steps"] + 1.0,
        "margin": numbers["margin"].op("Max", highest),
        "broken": (numbers["broken"] + 1.0).where(seen.broken, numbers["broken"]),
    }
    drawing.note({name: numbers[name].where(over, now[name]) for name in ASCENT})
    drawing.next("x", up)
    return drawing.done()


@frozen
class _Seen:
    """What a network says of the images of one step.

    Attributes:
        objective: Of each image, (n,).
        gradient: Of each image's objective, (n, *shape).
        loss: The mean objective, (1,).
        hits: How many images are of the class, (1,).
        broken: Whether something of it is not a finite number, (1,).
    """

    objective: Value
    gradient: Value
    loss: Value
    hits: Value
    broken: Value


class _Drawing:
    """A step graph that is being drawn: before the network, the network, and after it."""

    def __init__(self, network: Classified, batch: int) -> None:
        self._network, self._batch = network, batch
        self._proto = network.gradient.proto
        graph = self._proto.graph
        self._inner = list(graph.node)
        taken = {name for node in self._inner for name in (node.name, *node.output, *reads(node))}
        taken |= {value.name for value in (*graph.input, *graph.output)}
        taken |= {tensor.name for tensor in graph.initializer}
        self._tape = Tape(Facts(shapes={}, elem_types={}, tensors={}), taken)
        self._before = 0
        self._places: dict[str, Place] = {}
        self._written: dict[str, Value] = {}
        self._kinds = {value.name: value.type.tensor_type for value in graph.input}
        self._target = self.given("target", (1, 1), INT64)

    def given(self, name: str, shape: tuple[int, ...], kind: int = FLOAT) -> Value:
        """Return an input that stays as it is."""
        read = self._tape.fresh(f"step/{name}")
        dtype = helper.tensor_dtype_to_np_dtype(kind).name
        self._places[name] = Place(read=read, shape=shape, dtype=dtype)
        return Value(self._tape, read, kind)

    def state(self, name: str, shape: tuple[int, ...]) -> Value:
        """Return a part of the state, as it goes in."""
        found = self.given(name, shape)
        written = self._tape.fresh(f"next/{name}")
        self._places[name] = dataclasses.replace(self._places[name], written=written)
        return found

    def next(self, name: str, value: Value) -> None:
        """Let a part of the state come out as a value."""
        self._written[name] = value

    def numbers(self, names: Sequence[str]) -> dict[str, Value]:
        """Return the state's single numbers, each of shape (1,)."""
        held = self.state("numbers", (len(names),))
        sizes = held.wrap([1] * len(names))
        parts = self._tape.emit("Split", [held.name, sizes.name], len(names), axis=0)
        return {
            name: Value(self._tape, part, FLOAT) for name, part in zip(names, parts, strict=True)
        }

    def note(self, numbers: Mapping[str, Value]) -> None:
        """Let the single numbers come out."""
        first, *others = numbers.values()
        self.next("numbers", first.op("Concat", *others, axis=0))

    def evaluated(self, images: Value) -> _Seen:
        """Put images through the network: what is drawn from here on comes after it."""
        gradient, classes = self._network.gradient, self._network.classes
        weights = self._kinds[gradient.weights]
        rows = [self._batch, classes] + [1] * (len(weights.shape.dim) - 2)
        numbered = np.arange(classes, dtype=np.int64).reshape(1, classes)
        one_hot = self._target.equals(numbered).cast(weights.elem_type)
        one_hot = one_hot.reshape([1, *rows[1:]]).op("Expand", rows)
        image = self._network.image
        self._feed(images.cast(self._kinds[image].elem_type), image)
        self._feed(one_hot, gradient.weights)
        self._before = len(self._tape.nodes)
        kind = weights.elem_type
        logits = Value(self._tape, gradient.value, kind).op("Flatten", axis=1)
        objective = Value(self._tape, gradient.objective, kind).reshape([self._batch])
        slope = Value(self._tape, gradient.gradients[image], self._kinds[image].elem_type)
        objective, slope = objective.cast(FLOAT), slope.cast(FLOAT)
        answers = logits.op("ArgMax", axis=1, keepdims=1, dtype=INT64)
        # 0 times a number is 0, unless it is infinite or none.
        zero = _total(slope * 0.0) + _total(objective * 0.0)
        return _Seen(
            objective=objective,
            gradient=slope,
            loss=objective.op("ReduceMean", [0], keepdims=1),
            hits=_total(answers.equals(self._target).cast(FLOAT)),
            broken=zero.equals(0.0).op("Not"),
        )

    def _feed(self, value: Value, name: str) -> None:
        """Let a value be an input of the network."""
        self._tape.nodes.append(helper.make_node("Identity", [value.name], [name]))

    def done(self) -> StepGraph:
        """Return the graph."""
        for name, value in self._written.items():
            written = str(self._places[name].written)
            self._tape.nodes.append(helper.make_node("Identity", [value.name], [written]))
        graph, places = self._proto.graph, self._places
        before, after = self._tape.nodes[: self._before], self._tape.nodes[self._before :]
        fed = {self._network.image, self._network.gradient.weights}
        others = [value for value in graph.input if value.name not in fed]
        for field in (graph.node, graph.input, graph.output, graph.value_info):
            del field[:]
        graph.node.extend([*before, *self._inner, *after])
        graph.initializer.extend(self._tape.tensors)
        graph.input.extend([*(_info(place.read, place) for place in places.values()), *others])
        graph.output.extend(
            _info(place.written, place) for place in places.values() if place.written
        )
        return StepGraph(proto=self._proto, places=places)


def _info(name: str, place: Place) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(place.dtype))
    return helper.make_tensor_value_info(name, kind, place.shape)


def _total(value: Value) -> Value:
    """Return the sum of all elements, (1,)."""
    return value.reshape([-1]).sum([0])


def _over(numbers: Mapping[str, Value], early_stop: int) -> Value:
    """Return whether a search is over: its mask has stopped shrinking, or it cannot go on."""
    found = (numbers["size"] < BOUNDLESS) & (numbers["cost"] > 0.0)
    ended = found & (numbers["stale"] >= float(early_stop))
    return ended.op("Or", numbers["broken"] > 0.0)


def _priced(numbers: Mapping[str, Value], works: Value, descent: Descent) -> dict[str, Value]:
    """Return lambda after a step, and for how long steps have worked or failed."""
    none, cost = numbers["cost"] * 0.0, numbers["cost"]
    successes = (numbers["successes"] + 1.0).where(works, none)
    failures = none.where(works, numbers["failures"] + 1.0)
    up, down = successes >= float(descent.patience), failures >= float(descent.patience)
    dearer = (cost * descent.cost_up).where(cost > 0.0, descent.first_cost)
    return {
        "cost": dearer.where(up, (cost / descent.cost_down).where(down, cost)),
        "successes": none.where(up, successes),
        "failures": none.where(down, failures),
    }


def _adam(  # noqa: PLR0913, PLR0917 - what Adam takes
    drawing: _Drawing,
    descent: Descent,
    was: Mapping[str, Value],
    name: str,
    gradient: Value,
    time: Value,
) -> None:
    """Take one step of Adam (Kingma and Ba 2015, algorithm 1) down a gradient."""
    one, two = descent.betas
    first = was[f"{name}1"] + (gradient - was[f"{name}1"]) * (1 - one)
    second = was[f"{name}2"] + (gradient * gradient - was[f"{name}2"]) * (1 - two)
    mean = first / (1.0 - time.wrap(one) ** time)
    square = second / (1.0 - time.wrap(two) ** time)
    drawing.next(f"{name}1", first)
    drawing.next(f"{name}2", second)
    length = mean * descent.learning_rate / (square.op("Sqrt") + descent.tiny)
    drawing.next(name, was[name] - length)
