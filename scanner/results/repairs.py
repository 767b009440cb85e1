"""What a repair changed, and what was measured before and after."""

import enum
from typing import Annotated

from scanner.results.differences import Differences
from scanner.results.findings import ScanResult
from scanner.results.records import ModelIdentity
from scanner.values import Count, Index, Most, Sha256, Share, Within, frozen

LARGEST_PART = 2**40
Bytes = Annotated[int, Within(0, LARGEST_PART)]


class Way(enum.Enum):
    """How a model is repaired."""

    CUT = "cut"
    PRUNE_LIPSCHITZ = "prune by weights"
    PRUNE_WOKEN = "prune what the trigger wakes"
    PRUNE_DORMANT = "prune what sleeps"
    NORMALISE = "normalise anew"
    UNLEARN = "unlearn"


class Outcome(enum.Enum):
    """What became of one step."""

    KEPT = "kept"
    REVERTED = "reverted"
    NOTHING = "nothing to change"


@frozen
class RepairStep:
    """One thing that was tried.

    Attributes:
        way: What.
        outcome: What became of it.
        sentence: What it changed and why, or why not.
        changed: Names of the nodes and tensors that it changed.
        success: Share of held-back images that the inverted triggers turn after it; None where
            there is no trigger.
        agreement: Share of held-back images whose class is as before it all; None where it was not
            asked.
    """

    way: Way
    outcome: Outcome
    sentence: str
    changed: Annotated[tuple[str, ...], Most(4096)] = ()
    success: Share | None = None
    agreement: Share | None = None


@frozen
class TriggerProof:
    """What a class's inverted trigger does before and after.

    Attributes:
        class_id: The class.
        before: Share of held-back images of other classes that the trigger turns to it.
        after: The same images and trigger, after the repair.
        size_before: Pixels of the smallest trigger that was found before; None where it works on
            too few images to count.
        size_after: Pixels of the smallest that a new search found afterwards; None where it found
            none.
    """

    class_id: Index
    before: Share
    after: Share
    size_before: float | None = None
    size_after: float | None = None


@frozen
class KnownTrigger:
    """What a trigger that the user knows does before and after.

    Attributes:
        images: Images that bear it.
        before: Share of them that get the class that it asks for.
        after: The same of the repaired model.
    """

    images: Count
    before: Share
    after: Share


@frozen
class RepairedFile:
    """One file of a repaired model.

    Attributes:
        suffix: Of its name, behind that of the model file; empty for the model file itself.
        size: Bytes.
        sha256: Of them.
    """

    suffix: str
    size: Bytes
    sha256: Sha256


@frozen
class Repaired:
    """What a child did to a model, and what it measured.

    Attributes:
        steps: What was tried, in order.
        proofs: By class, what the inverted triggers do.
        known: What the trigger does that the user knows; None where none is given.
        agreement: Share of the held-back images whose class is as before.
        accuracy_before: Share of the held-back images that the model got right; None where nobody
            labelled them.
        accuracy_after: The same of the repaired model.
        lost: Held-back images that the model got right and the repaired one gets wrong; None where
            nobody labelled them.
        gained: Those the other way round.
        images: How many images the repair learnt from.
        held_back: How many others it was measured on.
        source: Where they come from, in words.
        structural_before: Structural findings, suspicious and graver.
        structural_after: The same of the repaired graph.
        warnings: What makes this weaker than it could be, in sentences.
        parts: The files to write; none where nothing was changed.
    """

    steps: Annotated[tuple[RepairStep, ...], Most(256)]
    proofs: Annotated[tuple[TriggerProof, ...], Most(64)]
    agreement: Share
    accuracy_before: Share | None = None
    accuracy_after: Share | None = None
    lost: Count | None = None
    gained: Count | None = None
    known: KnownTrigger | None = None
    images: Count
    held_back: Count
    source: str
    structural_before: Count
    structural_after: Count
    warnings: Annotated[tuple[str, ...], Most(64)] = ()
    parts: Annotated[tuple[RepairedFile, ...], Most(2)] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return any(step.outcome is Outcome.KEPT for step in self.steps)


class Ending(enum.Enum):
    """How a repair ended."""

    UNTOUCHED = "nothing to repair"
    REPAIRED = "repaired"
    FAILED = "not repaired"
    UNKNOWN = "not known"


@frozen
class RepairResult:
    """A repair and its proof.

    Attributes:
        model: The model as it was.
        ending: How it ended.
        reason: Why, in one sentence.
        before: The scan of the model as it was.
        after: The scan of the repaired file; None where nothing was written.
        repaired: What was done; None where nothing was tried.
        output: The file that was written; empty where none was.
        differences: What `diff` says of the repaired file beside the model as it was.
    """

    model: ModelIdentity
    ending: Ending
    reason: str
    before: ScanResult
    after: ScanResult | None = None
    repaired: Repaired | None = None
    output: str = ""
    differences: Differences | None = None
