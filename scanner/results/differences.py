"""What two networks have in common, and what one of them has alone."""

import enum
from typing import Annotated

from scanner.results.graphs import Fingerprint
from scanner.results.records import ModelIdentity
from scanner.values import LARGEST_NUMBER, Count, Index, Most, Within, frozen

_Apart = Annotated[float, Within(0, LARGEST_NUMBER)]


class Relation(enum.Enum):
    """How the weights of two networks of one graph are related, the closest first."""

    EQUAL = "equal"
    ROUNDED = "rounded"
    SCALED = "scaled"
    EDITED = "edited"
    REPLACED = "replaced"
    FINE_TUNED = "fine-tuned"
    UNRELATED = "unrelated"


class Kind(enum.Enum):
    """What kind of thing differs."""

    ADDED = "added"
    REMOVED = "removed"
    REROUTED = "rerouted"
    ATTRIBUTE = "attribute"
    CONSTANT = "constant"
    SHAPE = "shape"
    OUTPUT = "output"


@frozen
class Change:
    """One difference between two graphs.

    Attributes:
        kind: What differs.
        node: Name of the node, in the suspect if it is there.
        operator: Its operator.
        suspect: What the suspect has there, in words; empty where it has nothing.
        reference: What the reference has there.
        explained: Which habit of exporters explains it, in words; empty where none does.
    """

    kind: Kind
    node: str
    operator: str
    suspect: str = ""
    reference: str = ""
    explained: str = ""


@frozen
class LayerChange:
    """The weights of one node beside those of its partner.

    Attributes:
        node: Name of the node in the suspect.
        operator: Its operator.
        role: Which of its weights.
        rows: How many rows they have: output channels.
        changed: How many differ in any bit.
        apart: The median distance of a changed row, relative to the reference's.
        relation: How they are related.
        standing_out: The rows that changed while their neighbours did not, or much more than these.
    """

    node: str
    operator: str
    role: str
    rows: Count
    changed: Count
    apart: _Apart
    relation: Relation
    standing_out: Annotated[tuple[Index, ...], Most(1024)] = ()


@frozen
class Differences:
    """A suspect beside a reference.

    Attributes:
        obstacle: Why they cannot be compared, in words; empty where they can.
        suspect: The fingerprint of the suspect's canonical graph.
        reference: That of the reference's.
        nodes: How many nodes the reference's canonical graph has.
        matched: How many of these the suspect has.
        changes: What differs in the graphs.
        weights: How the weights are related; None where they cannot be compared.
        layers: What differs in the weights.
        habits: What was undone in either, in words.
    """

    obstacle: str = ""
    suspect: Fingerprint
    reference: Fingerprint
    nodes: Count
    matched: Count
    changes: Annotated[tuple[Change, ...], Most(2**18)] = ()
    weights: Relation | None = None
    layers: Annotated[tuple[LayerChange, ...], Most(2**18)] = ()
    habits: tuple[str, ...] = ()

    @property
    def unexplained(self) -> tuple[Change, ...]:
        """What differs in the graphs, and no habit of exporters explains it."""
        return tuple(change for change in self.changes if not change.explained)

    @property
    def standing_out(self) -> tuple[LayerChange, ...]:
        """Layers of which some channels changed, and the rest of the network did not, or little."""
        return tuple(layer for layer in self.layers if layer.standing_out)

    @property
    def grave(self) -> bool:
        """Whether the suspect has what it should not have."""
        return not self.obstacle and bool(self.unexplained or self.standing_out)


@frozen
class Diff:
    """Two files, and how their networks differ."""

    suspect: ModelIdentity
    reference: ModelIdentity
    differences: Differences
