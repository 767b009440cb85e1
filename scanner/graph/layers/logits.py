"""Where a classifier's logits are: its output, or the input of a final Softmax or ArgMax.

Gradients are taken of logits, never of probabilities: a saturated softmax has none left.
"""

import dataclasses

import onnx

from scanner.errors import NoLogitsError, ValueNotFoundError
from scanner.graph.core.facts import FLOATING
from scanner.graph.core.shapes import ValueType, value_types
from scanner.graph.core.structure import Uses, attribute
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.model import standard_opset

_SQUASHING = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Hardmax"})
_PICKING = frozenset({"ArgMax", "TopK"})
_PASSING = frozenset(
    {"Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten", "Reshape", "Dropout", "ZipMap"}
)
_SOFTMAX_BY_AXIS = 13  # before this operator set, Softmax took all axes from 1 on together
_LOOKED_FOR = (
    "an output of scores, (N, classes), or a final Softmax, LogSoftmax, Sigmoid, ArgMax or TopK "
    "over them"
)
_PICK = (
    "name the value that holds the logits with the setting `logits` (the function `layers` lists "
    "the names)"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Logits:
    """The class scores of a model.

    Attributes:
        value: Name of the value.
        cut: Operators behind it that were left out, from the output backwards; empty where it is an
            output itself.
        classes: Their number, or None where the file leaves it open.
        single: Dimensions of the value, where it is one score for each image that decides between
            two classes (`scanner.graph.layers.two_scores`); else None.
    """

    value: str
    cut: tuple[str, ...] = ()
    classes: int | None = None
    single: int | None = None


def find_logits(proto: onnx.ModelProto, output: str | None = None) -> Logits:
    """Return the class scores, cutting off what squashes them or picks the largest.

    Args:
        proto: The model, flat (`scanner.graph.core.flatten.flatten`).
        output: Name of a value that the user says holds the scores; it is taken as it is.

    Raises:
        NoLogitsError: There are none, or more than one output might hold them.
        ValueNotFoundError: There is no value of the name asked for.
    """
    uses, types, version = Uses(proto.graph), value_types(proto), standard_opset(proto) or 1
    if output is not None:
        known = {v.name for v in proto.graph.output} | set(uses.producer_position)
        if output not in known:
            raise ValueNotFoundError(output, sorted(known))
        return _logits(output, (), types, decides=True)
    found = {
        logits.value: logits
        for v in proto.graph.output
        if (logits := _behind(v.name, uses, types, version))
    }
    if len(found) == 1:
        return next(iter(found.values()))
    return _best(list(found.values()), proto)


def _behind(name: str, uses: Uses, types: dict[str, ValueType], version: int) -> Logits | None:
    """Walk back from an output over what squashes or picks scores."""
    cut: list[str] = []
    passed: list[str] = []
    value = name
    while (node := uses.producer(value)) is not None and _passes(node):
        passed.append(node.op_type)
        # A map of names to scores is no tensor: the scores are what it is made of.
        squashes = node.op_type not in _PASSING and _over_classes(node, types, version)
        if squashes or node.op_type == "ZipMap":
            cut, passed, name = cut + passed, [], node.input[0]
        value = node.input[0]
    is_score = types.get(name) is None or types[name].dtype in FLOATING
    return _logits(name, tuple(cut), types, decides="Sigmoid" in cut) if is_score else None


def _logits(
    name: str, cut: tuple[str, ...], types: dict[str, ValueType], *, decides: bool
) -> Logits:
    """Describe scores; `decides` says whether a single one decides between two classes."""
    shape = types[name].shape if name in types else ()
    if decides and shape and all(size == 1 for size in shape[1:]):
        return Logits(value=name, cut=cut, classes=2, single=len(shape))
    return Logits(value=name, cut=cut, classes=_classes(name, types))


def _passes(node: onnx.NodeProto) -> bool:
    """Return whether a node is looked through; a namesake from another domain may be anything."""
    if node.op_type == "ZipMap":
        return node.domain == "ai.onnx.ml"
    known = node.op_type in _SQUASHING | _PICKING | _PASSING
    return known and node.domain in STANDARD_DOMAINS


def _over_classes(node: onnx.NodeProto, types: dict[str, ValueType], version: int) -> bool:
    """Return whether a node works along the class axis, the one behind the batch."""
    kind = types.get(node.input[0])
    if kind is None or node.op_type == "Sigmoid":
        return True
    flattens = version < _SOFTMAX_BY_AXIS and node.op_type in _SQUASHING
    axis = attribute(node, "axis", 0 if node.op_type == "ArgMax" else 1 if flattens else -1)
    rank = len(kind.shape)
    trailing = {int(size) if isinstance(size, int) else 0 for size in kind.shape[2:]}
    return trailing <= {1} and (axis % rank if rank else 0) == 1


def _classes(name: str, types: dict[str, ValueType]) -> int | None:
    """Return the size of the class axis of (N, classes) or (N, classes, 1, ...)."""
    kind = types.get(name)
    if kind is None or len(kind.shape) < 2 or not isinstance(kind.shape[1], int):  # noqa: PLR2004 - (N, classes)
        return None
    return kind.shape[1]


def _best(found: list[Logits], proto: onnx.ModelProto) -> Logits:
    """Return the only candidate with two classes or more, or say why there is none."""
    several = [logits for logits in found if (logits.classes or 0) > 1]
    if len(several) == 1:
        return several[0]
    names = ", ".join(repr(v.name) for v in proto.graph.output)
    if not found:
        raise NoLogitsError(
            f"no logits among the outputs {names}: looked for {_LOOKED_FOR}", remedy=_PICK
        )
    values = ", ".join(repr(logits.value) for logits in found)
    raise NoLogitsError(f"several values may be the logits ({values})", remedy=_PICK)
