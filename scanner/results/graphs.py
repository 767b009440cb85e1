"""A network as all of its exports have it: the canonical graph, without exporters' habits."""

from collections.abc import Mapping
from typing import Annotated

from scanner.results.profiles import Array
from scanner.values import LARGEST_NUMBER, Base64, Count, Matching, Most, Within, frozen

DIGEST = 8
"""Bytes of a row's digest."""
COMMUTATIVE = frozenset({"Add", "And", "Equal", "Max", "Mean", "Min", "Mul", "Or", "Sum", "Xor"})
"""Operators that do not care in which order they read."""
GROWN = frozenset(
    f"ai.onnx.ml.{name}" for name in ("SVMClassifier", "SVMRegressor", "TreeEnsemble",
                                      "TreeEnsembleClassifier", "TreeEnsembleRegressor")
)  # fmt: skip
"""Operators of which the training decides how many numbers they hold."""
_MOST_NODES = 2**16
_Number = Annotated[float, Within(-LARGEST_NUMBER, LARGEST_NUMBER)]
Fingerprint = Annotated[str, Matching("[0-9a-f]{16}", 16)]


@frozen
class WeightRows:
    """One tensor of weights as rows, one per output channel.

    Attributes:
        role: What it is to its node, such as "weight" or "bias".
        shape: Its shape, (output channels, ...).
        columns: Numbers in a row.
        largest: The largest absolute value.
        rows: The rows, (rows, width): whole where they are short, else sums of their numbers with
            random signs, whose distances are those of the rows to within a factor of about two. A
            tensor of more rows than are carried is one row.
        digests: Of each row's bytes, `DIGEST` bytes each; empty where rows are whole.
    """

    role: str
    shape: Annotated[tuple[Count, ...], Most(64)]
    columns: Count
    largest: Annotated[float, Within(0, LARGEST_NUMBER)]
    rows: Array
    digests: Base64 = ""


@frozen
class CanonicalNode:
    """One operation of a canonical graph.

    Attributes:
        operator: Its operator; one outside the standard has its domain before it.
        name: By which a person finds it in the file.
        inputs: The values that it reads, constants left out: inputs of the graph have the first
            numbers, and what the nodes make, in their order, the next.
        outputs: How many values it makes.
        attributes: What it was told, defaults filled in, in words; constants of whole numbers too.
        numbers: The same where it is numbers, which another precision rounds.
        weights: Its weights.
    """

    operator: str
    name: str
    inputs: tuple[Count, ...]
    outputs: Count
    attributes: Mapping[str, str]
    numbers: Mapping[str, tuple[_Number, ...]]
    weights: Annotated[tuple[WeightRows, ...], Most(64)] = ()


@frozen
class CanonicalGraph:
    """A network without what exporters do differently.

    Attributes:
        fingerprint: Of operators, attributes, topology, constants and the weights' shapes; not of
            the weights.
        inputs: Shapes of the inputs, the batch left out, in words.
        nodes: Each after those that it reads.
        outputs: Numbers of the values that are outputs.
        habits: What was undone to come here, in words, and how often.
    """

    fingerprint: Fingerprint
    inputs: Annotated[tuple[str, ...], Most(64)]
    nodes: Annotated[tuple[CanonicalNode, ...], Most(_MOST_NODES)]
    outputs: tuple[Count, ...]
    habits: Mapping[str, Count]

    def __post_init__(self) -> None:
        known = len(self.inputs)
        for node in self.nodes:
            if any(value >= known for value in node.inputs):
                raise ValueError("a node that reads what is made after it")
            known += node.outputs
        if any(value >= known for value in self.outputs):
            raise ValueError("an output that nothing makes")
