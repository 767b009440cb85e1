"""What a graph answers by besides the image: how often it was asked, and how many images at once.

A scan asks a few thousand times, in batches of a few sizes; a user asks in other ways. So what
depends on that is found in the graph, without a run.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import onnx
from onnx.external_data_helper import uses_external_data

from scanner.graph.audit.mixing import RANDOM
from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.draft import Draft, copied
from scanner.graph.core.facts import Facts
from scanner.graph.core.simplify import fold_constants
from scanner.graph.core.structure import Uses, attribute, label, numbers_of, reads
from scanner.modelfile import skeleton
from scanner.modelfile.model import required_inputs
from scanner.modelfile.nested import subgraphs

_TRAINING = 2  # the input of a Dropout that has it draw
# Inputs that say how large a result is, and nothing of the numbers in it.
_SIZES: Mapping[str, frozenset[int]] = {
    "ConstantOfShape": frozenset({0}), "Expand": frozenset({1}), "OneHot": frozenset({1}),
    "Range": frozenset({0, 1, 2}), "Reshape": frozenset({1}), "Resize": frozenset({1, 2, 3}),
    "Tile": frozenset({1}), "Upsample": frozenset({1}),
}  # fmt: skip
_SAME_NUMBERS = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_ADDS_UP = frozenset({
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
})  # fmt: skip
_TAKES = frozenset({"ArgMax", "Gather", "GatherElements", "GatherND", "Slice", "Split", "TopK"})
_BODIES = frozenset({"If", "Loop", "Scan"})
_ROUNDS = 32
"""Each pad or crop whose sizes are computed hides the shapes behind it for one round of folding."""

_Marks = tuple[bool, ...] | None
"""Which numbers of a list come from the batch's size; None where any may."""
_ALL: _Marks = None


def drawn(proto: onnx.ModelProto) -> str | None:
    """Return the label of a node that draws numbers and that an output depends on, if there is one.

    Before: the model is flat.
    """
    uses = Uses(proto.graph)
    needed = ancestors([value.name for value in proto.graph.output], uses.sources).keys()
    for node in proto.graph.node:
        if needed & set(node.output):
            found = next((n for n in _within(node) if _draws(n, uses)), None)
            if found is not None:
                return label(found)
    return None


def _within(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield node
    for body in subgraphs(node):
        yield from itertools.chain.from_iterable(map(_within, body.node))


def _draws(node: onnx.NodeProto, uses: Uses) -> bool:
    if node.op_type in RANDOM:
        return True
    training = node.input[_TRAINING] if len(node.input) > _TRAINING else ""
    if node.op_type != "Dropout" or not training:
        return False
    known = uses.constants.get(training)
    return known is None or any(known.raw_data) or any(known.int32_data)


def asks_for_batch_size(proto: onnx.ModelProto, shape: Sequence[int] = ()) -> str | None:
    """Return the label of a node by which answers depend on the batch's size, if there is one.

    That is a node that computes with the size itself, together with what comes from the image; to
    give a result its shape is no such use, and neither is another size of the image's.

    Before: the model is flat.

    Args:
        proto: The model.
        shape: Of an image, for sizes that the file leaves open; the batch's is none of them.
    """
    images = [value.name for value in required_inputs(proto.graph)]
    # What the file claims of its inner values is left out: it might call the batch's size fixed.
    light = copied(skeleton.without_weights(proto))
    if len(images) == 1:
        _fix_image(light, images[0], shape)
    known = fold_constants(light, [value.name for value in proto.graph.output], _ROUNDS)
    if all(isinstance((known.shapes.get(name) or ("",))[0], int) for name in images):
        return None  # the file fixes the batch
    return _Trace(known, Uses(light.graph), images).first(light.graph.node)


def _fix_image(model: Draft, name: str, shape: Sequence[int]) -> None:
    """Give an input's open sizes, but for the batch's, those of an image."""
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim[1:]
        if value.name == name and len(sizes) == len(shape):
            for size, known in zip(sizes, shape, strict=True):
                if size.dim_value < 1:
                    size.dim_value = known


class _Trace:
    """The way of the batch's size through a graph."""

    def __init__(self, known: Facts, uses: Uses, images: Sequence[str]) -> None:
        self._known, self._uses = known, uses
        self._images = set(images)  # what depends on the image
        self._marks: dict[str, _Marks] = {}  # numbers that depend on the batch's size
        self._sized: set[str] = set()  # constants of a size that does: added up, they tell it
        self._counting: set[str] = set()  # of these, what counts up to it: the last one tells it

    def first(self, nodes: Sequence[onnx.NodeProto]) -> str | None:
        for node in nodes:
            if node.op_type in ("Shape", "Size"):
                self._measure(node)
                continue
            read = reads(node)
            if read & self._images:
                self._images.update(node.output)
            sizes = _SIZES.get(node.op_type, frozenset())
            places = [i for i, name in enumerate(node.input) if name in self._marks]
            numbers = [node.input[i] for i in places if i not in sizes]
            inner = (read & self._marks.keys()) - set(node.input)
            from_image = bool(read & self._images)
            if (numbers or inner) and (from_image or node.op_type in _BODIES):
                return label(node)
            if from_image and self._adds_up_the_batch(node):
                return label(node)
            self._pass_on(node, numbers, sized=len(numbers) < len(places))
        return None

    def _measure(self, node: onnx.NodeProto) -> None:
        """Mark what a Shape or Size says of the batch."""
        source = node.input[0] if node.input else ""
        if source not in self._images | self._sized:
            return
        shape = self._known.shapes.get(source)
        marks = _ALL
        if shape is not None and node.op_type == "Shape":
            start, end = (attribute(node, key, None) for key in ("start", "end"))
            marks = tuple(isinstance(size, str) for size in shape[start:end])
        elif shape is not None and not any(isinstance(size, str) for size in shape):
            return
        if node.output and (marks is None or any(marks)):
            self._marks[node.output[0]] = marks

    def _adds_up_the_batch(self, node: onnx.NodeProto) -> bool:
        """Whether a node adds up what comes from the image over an axis of an open size.

        Ones added up are the batch's size. Its mean and its largest number do not tell it, and
        honest networks that were exported for one image take them.
        """
        if node.op_type not in _ADDS_UP or not node.input:
            return False
        shape = self._known.shapes.get(node.input[0])
        if shape is not None and not any(isinstance(size, str) for size in shape):
            return False
        axes = attribute(node, "axes")
        if axes is None and len(node.input) > 1 and node.input[1]:
            axes = self._numbers(node.input[1])
        if not axes:
            return not attribute(node, "noop_with_empty_axes", 0)
        return shape is None or any(isinstance(shape[axis % len(shape)], str) for axis in axes)

    def _adds_up(self, node: onnx.NodeProto) -> bool:
        """Whether a node may add up a constant over an axis of the batch's size."""
        if node.op_type != "CumSum":
            return node.op_type.startswith("Reduce") or node.op_type == "MatMul"
        shape, axes = self._known.shapes.get(node.input[0]), self._numbers(node.input[1])
        return not shape or not axes or isinstance(shape[axes[0] % len(shape)], str)

    def _pass_on(self, node: onnx.NodeProto, numbers: Sequence[str], *, sized: bool) -> None:
        """Mark a node's results."""
        if set(node.output) & self._images:
            return
        constant = self._sized & set(node.input)
        if constant and (
            self._adds_up(node) or (node.op_type in _TAKES and node.input[0] in self._counting)
        ):
            self._marks.update(dict.fromkeys(node.output, _ALL))
        elif constant or sized:
            self._sized.update(node.output)
            passes = node.op_type in _SAME_NUMBERS and node.input[0] in self._counting
            if passes or node.op_type in ("NonZero", "Range"):
                self._counting.update(node.output)
        if numbers:
            marks = self._result(node)
            if marks is None or any(marks):
                self._marks.update(dict.fromkeys(node.output, marks))

    def _result(self, node: onnx.NodeProto) -> _Marks:
        """Return the marks of a result: of the numbers that it is made of, or of all."""
        every = [self._of(name) for name in node.input if name]
        if node.op_type in _SAME_NUMBERS:
            return every[0]
        if node.op_type == "Concat" and all(marks is not None for marks in every):
            return tuple(itertools.chain.from_iterable(marks or () for marks in every))
        return self._picked(node) if node.op_type in ("Gather", "Slice") else _ALL

    def _of(self, name: str) -> _Marks:
        if name in self._marks:
            return self._marks[name]
        count = self._known.elements(name)
        return _ALL if count is None else (False,) * count

    def _numbers(self, name: str) -> list[int] | None:
        """Return the numbers of an initialiser or of a Constant node; None of others."""
        tensor = self._uses.constants.get(name)
        if tensor is None or uses_external_data(tensor):
            return None
        return [int(number) for number in numbers_of(tensor).reshape(-1)]

    def _picked(self, node: onnx.NodeProto) -> _Marks:
        """Return the marks of what a Gather or Slice takes of a list."""
        marks = self._of(node.input[0])
        rest = [self._numbers(name) if name else None for name in node.input[1:]]
        lists = [numbers for numbers in rest if numbers is not None]
        if marks is None or not rest or len(lists) < len(rest):
            return _ALL
        if node.op_type == "Gather":
            return tuple(marks[i] for i in lists[0] if -len(marks) <= i < len(marks)) or (False,)
        if len(lists) < 2:  # noqa: PLR2004 - starts and ends
            return _ALL
        if not all(lists[:2]):
            return marks  # a Slice along no axis
        step = lists[3][0] if len(lists) > 3 else 1  # noqa: PLR2004 - starts, ends, axes, steps
        return marks[lists[0][0] : lists[1][0] : step] or (False,)
