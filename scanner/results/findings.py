"""What comparing and judging make of the measurements."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated, Any

from scanner.results.blocks import Description
from scanner.results.declarations import Contribution, Rule
from scanner.results.differences import Differences
from scanner.results.profiles import Trigger
from scanner.results.records import (
    Failure,
    InputRange,
    ModelIdentity,
    Observation,
    Runtime,
    Severity,
    Skip,
)
from scanner.values import Count, Identifier, Index, Matching, Sha256, Share, brief, frozen

Time = Annotated[str, Matching(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", 20)]
Day = Annotated[str, Matching(r"\d{4}-\d\d-\d\d", 10)]
Accepted = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)?", 129)]
"""A rule, an observation (`rule/code`), or "model" for all of them."""

ClassScores = tuple[tuple[Index, float], ...]
"""How far each class stands out, as pairs (class, score)."""


class Verdict(enum.Enum):
    """What a scan concludes."""

    CLEAN = "clean"
    SUSPICIOUS = "suspicious"
    INCONCLUSIVE = "inconclusive"


@frozen
class Standing:
    """The figure that a person compares, in the unit of the detector.

    Attributes:
        suspect: The suspect's.
        reference: The references', averaged.
        low: The lowest of a reference.
        high: The highest.
        unit: Written behind each, with its space.
    """

    suspect: float
    reference: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""


@frozen
class Lead:
    """The class that stands out from the others of its own model, and by how much."""

    class_id: Index
    distance: float


@frozen
class ClassDifference:
    """One class of the suspect beside the same class of the references.

    Attributes:
        class_id: The class.
        suspect: The suspect's figure; None where its search reached nothing.
        reference: The references', averaged; None where nothing was compared.
        references: The figure of each.
        difference: By how much the suspect is more suspicious: a log-ratio, or a difference.
        above: The same, less the median over classes.
        ahead: How much more suspicious it is than the median class of its own model.
    """

    class_id: Index
    suspect: float | None
    reference: float | None = None
    references: tuple[float, ...] = ()
    difference: float | None = None
    above: float | None = None
    ahead: float | None = None


@frozen
class LayerDifference:
    """One layer of the suspect beside the same layer of the references.

    Attributes:
        layer: Its name.
        operator: What makes it.
        channel: The channel that stands out most within the layer.
        channel_figure: Its own figure: its mean peak, or its Lipschitz constant.
        channel_z: Its robust z-score.
        channel_median: The median figure of the layer's channels; None where it is not kept.
        suspect: The suspect's figure: the mean peak of a layer, or the z-score.
        reference: The references', averaged; None where nothing was compared.
        references: The figure of each.
        difference: By how much the suspect is more suspicious: a log-ratio, or a difference.
    """

    layer: str
    operator: str
    channel: Index
    channel_figure: float
    channel_z: float
    channel_median: float | None = None
    suspect: float
    reference: float | None = None
    references: tuple[float, ...] = ()
    difference: float | None = None


@frozen
class PairedDifference:
    """The mean of paired differences and its interval.

    Attributes:
        mean: Mean of suspect minus reference.
        low: Lower end of the interval.
        high: Upper end.
        confidence: Its nominal coverage over draws of the *images*. Two clean models differ too, so
            an interval that excludes 0 says "different", not "backdoored".
    """

    mean: float
    low: float
    high: float
    confidence: Share


@frozen
class ImagesCompared:
    """S_A of the suspect beside that of the references, averaged image by image.

    Attributes:
        suspect: The suspect's S_A, in image order.
        suspect_max: Its largest entry.
        suspect_mean: Its mean.
        reference: The references' average answer to each image; empty without a reference.
        reference_max: Its largest entry.
        reference_mean: Its mean.
        ratio_max: Suspect over reference; None where the reference is silent.
        ratio_mean: Likewise.
        wins: Images to which the suspect answers more strongly.
        losses: Less strongly.
        ties: Equally.
        difference: The mean paired difference.
    """

    suspect: tuple[float, ...]
    suspect_max: float
    suspect_mean: float
    reference: tuple[float, ...] = ()
    reference_max: float | None = None
    reference_mean: float | None = None
    ratio_max: float | None = None
    ratio_mean: float | None = None
    wins: Count | None = None
    losses: Count | None = None
    ties: Count | None = None
    difference: PairedDifference | None = None


@frozen
class Evidence:
    """What a person can check. A detector fills what its kind of profile has.

    Attributes:
        standing: The figure that a person compares.
        target_class: The class that stands out most against the references; without any, the one
            that leads the others.
        lead: How far one class of the suspect leads its next, references or not; None where that
            cannot be told.
        classes: By class.
        classes_compared: How many classes were compared with the references.
        layer: The layer that stands out most.
        matched: How layers were matched, in words.
        layers: By layer.
        references_compared: How many references have comparable layers.
        images: By noise image.
        trigger: The trigger of the target class.
        figures: Further figures, which only a person reads, such as a paper's own test.
        failures: What could not be measured, where the finding is about that.
        differences: How the graph and the weights differ from those of the reference that differs
            most; of very many differences the gravest.
    """

    standing: Standing | None = None
    target_class: Index | None = None
    lead: Lead | None = None
    classes: tuple[ClassDifference, ...] = ()
    classes_compared: Count = 0
    layer: str | None = None
    matched: str | None = None
    layers: tuple[LayerDifference, ...] = ()
    references_compared: Count = 0
    images: ImagesCompared | None = None
    trigger: Trigger | None = None
    figures: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    differences: Differences | None = None


@frozen
class Comparison:
    """A suspect's measurement set against those of the references.

    Attributes:
        rule: The id of the detector's rule.
        statistic: The quantity to calibrate; larger is more suspicious. None where no reference was
            comparable.
        alone: How far the model stands out by itself: by how much its most suspicious class lies
            above the median class, or the detector's number where that has no classes. None where
            not every class was searched.
        contribution: What the detector contributes.
        sentence: The evidence in words.
        evidence: What a person can check.
        description: What a report draws.
        observations: What is seen only beside other models.
    """

    rule: Identifier
    statistic: float | None
    alone: float | None = None
    contribution: Contribution
    sentence: str = ""
    evidence: Evidence = Evidence()
    description: Description = Description()
    observations: tuple[Observation, ...] = ()

    @property
    def scores(self) -> ClassScores:
        """How far each class stands out from the references; the statistic is the largest.

        Empty where the detector knows no classes, or no reference was comparable.
        """
        rows = self.evidence.classes
        return tuple((row.class_id, row.above) for row in rows if row.above is not None)


@frozen
class Population:
    """What one rule's statistic is for clean models, each compared as the suspect is.

    Attributes:
        rule: The id of the detector's rule.
        values: One statistic per clean model; empty where no population fits.
        classes: For each of these models, what `Comparison.scores` is for the suspect.
        models: Their SHA-256.
        source: Which models, in words.
        reason: Why there are no values.
    """

    rule: Identifier
    values: tuple[float, ...]
    classes: tuple[ClassScores, ...] = ()
    models: tuple[Sha256 | None, ...] = ()
    source: str
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.classes and len(self.classes) != len(self.values):
            raise ValueError("scores of more or fewer models than there are values")
        if self.models and len(self.models) != len(self.values):
            raise ValueError("names of more or fewer models than there are values")


@frozen
class Finding:
    """One detector's judged result.

    Attributes:
        rule: The detector's rule.
        verdict: This detector's own verdict.
        statistic: The calibrated or comparable quantity; larger is more suspicious.
        p_value: Probability of so large a statistic for a clean model; None while uncalibrated.
        size: How many times as far out the statistic lies as that of the furthest clean model; None
            while uncalibrated. A rank alone accuses nobody.
        reason: Why the verdict is what it is, in one sentence.
        parameters: Everything that influenced the numbers.
        contribution: What the detector contributes to the combined verdict.
        evidence: What a person can check.
        description: What a report draws.
        observations: Structural observations behind the verdict.
        left_out: Classes that the time ran out for, of those that were to be searched.
        unsearched: Classes that were not chosen, where a search of all would take too long.
        clean: The statistics of the clean models that calibrate it, from the smallest; none while
            uncalibrated.
    """

    rule: Rule
    verdict: Verdict
    statistic: float | None
    p_value: Share | None
    size: float | None = None
    reason: str
    parameters: Mapping[str, Any]
    contribution: Contribution = Contribution()
    evidence: Evidence = Evidence()
    description: Description = Description()
    observations: tuple[Observation, ...] = ()
    left_out: int = 0
    unsearched: int = 0
    clean: tuple[float, ...] = ()

    def __repr__(self) -> str:
        """Show what a person asks for first."""
        told = brief(self, "verdict", "statistic", "p_value", "size", "reason")
        return told.replace("(", f"({self.rule.id!r}, ", 1)


@frozen
class Run:
    """When and how a result was made, for whoever reads it later.

    Attributes:
        time: When it was made, in UTC, as ISO 8601 writes it.
        alpha: Level of the test.
        version: Of this program.
        arguments: Words of the command line; empty for a scan from Python.
    """

    time: Time
    alpha: Share
    version: str
    arguments: tuple[str, ...] = ()


@frozen
class Suppression:
    """A finding that somebody accepted: it is still shown, and no longer counts.

    Attributes:
        rule: What was accepted.
        reason: Why, in the words of whoever accepted it.
        expires: The last day on which that holds, as in 2030-12-31.
    """

    rule: Accepted
    reason: str
    expires: Day

    def covers(self, rule: str) -> bool:
        """Whether it is about a rule: by name, with its detector, or with the whole model."""
        return self.rule in {"model", rule, rule.split("/", maxsplit=1)[0]}


@frozen
class ScanResult:
    """The answer for one model.

    `findings`, `skips` and `failures` are three lists, all kept: an error never swallows a finding.

    Attributes:
        model: Identity of the suspect; only its path is known where it could not be opened.
        references: Identities of the references.
        score: In [0, 1], larger is more suspicious; None while nothing is calibrated.
        size: How many times as far out the model lies as the furthest clean model, by the combined
            detectors; None while nothing is calibrated.
        findings: One per detector that measured.
        skips: Detectors that did not apply.
        failures: What could not be measured, and why.
        runtime: What ran; None where nothing did.
        verdict: Suspicion outranks doubt, doubt outranks innocence.
        reason: The combined verdict in one sentence.
        target_class: The class that a suspicious verdict is about, where it is about one.
        calibration: The clean models that the verdict rests on, in words; None where there are
            none.
        missed: Where networks of other recipes judged: by kind of backdoor, the share of those that
            stand out no further than this model.
        index: For ranking models where nothing is calibrated: how far the model stands out, in
            units of what clean networks of the shipped recipes reach; larger is more suspicious,
            None where it is unknown.
        warnings: What is wrong with the references or with the images given, in sentences.
        advice: What would make the answer stronger, in sentences, the most useful first.
        input_range: The values that the models were measured on; None where that was not settled.
        run: When and how the result was made.
        suppressions: What somebody accepted.
    """

    model: ModelIdentity
    references: tuple[ModelIdentity, ...]
    score: Share | None
    size: float | None = None
    findings: tuple[Finding, ...]
    skips: tuple[Skip, ...]
    failures: tuple[Failure, ...]
    runtime: Runtime | None
    verdict: Verdict
    reason: str
    target_class: Index | None = None
    calibration: str | None = None
    missed: Mapping[str, Share] = dataclasses.field(default_factory=dict)
    index: float | None = None
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    input_range: InputRange | None = None
    run: Run | None = None
    suppressions: tuple[Suppression, ...] = ()

    def __repr__(self) -> str:
        """Show what a person asks for first; `findings` and the other lists hold the rest."""
        told = brief(self, "score", "size", "verdict", "reason", "target_class", "index")
        return told.replace("(", f"({self.model.path!r}, ", 1)

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from scanner.results.notebook import html  # noqa: PLC0415 - for notebooks alone

        return html(self)

    @property
    def allowed(self) -> bool:
        """Whether everything that the verdict rests on was accepted by somebody.

        That is what the graph shows, where it shows something suspicious, or else the verdict.
        """
        grave = [
            f"{finding.rule.id}/{seen.code}"
            for finding in self.findings
            for seen in finding.observations
            if seen.severity >= Severity.SUSPICIOUS
        ]
        return all(
            any(suppression.covers(rule) for suppression in self.suppressions)
            for rule in grave or ["verdict"]
        )
