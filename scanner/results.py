"""The values that cross the doors between measuring, judging and showing; all frozen, all JSON.

`to_json` and `from_json` carry every one of them across a process boundary or into a file and back,
unchanged.
"""

import base64
import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

from scanner.errors import ScannerError
from scanner.values import frozen


class Verdict(enum.Enum):
    """What a scan concludes."""

    CLEAN = "clean"
    SUSPICIOUS = "suspicious"
    INCONCLUSIVE = "inconclusive"


class Severity(enum.IntEnum):
    """How much one structural observation weighs; only `SUSPICIOUS` and above changes a verdict."""

    NOTE = 1
    WARNING = 2
    SUSPICIOUS = 3
    CONFIRMED = 4


@frozen
class Rule:
    """A detector's identity.

    Attributes:
        id: Stable, never reused.
        name: The field's standard name of the method.
        summary: One sentence: what a large statistic means.
        reference: The publication it implements.
    """

    id: str
    name: str
    summary: str
    reference: str


@frozen
class Observation:
    """One thing seen in a file or graph that a person can look up.

    Attributes:
        code: Stable identifier of the kind of observation, such as `two-value-fields`.
        severity: Its weight.
        sentence: What was seen and why it matters, in words.
        nodes: Names of the graph nodes or tensors concerned, in the order a reader should follow
            them.
        details: Further JSON-serialisable facts.
    """

    code: str
    severity: Severity
    sentence: str
    nodes: tuple[str, ...] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def packed(raw: bytes, shape: Sequence[int]) -> dict[str, Any]:
    """Return a float32 array, as little-endian bytes in C order, in the form in which results carry arrays."""
    return {"shape": list(shape), "data": base64.b64encode(raw).decode()}


@frozen
class Measurement:
    """What one detector read off one model.

    Attributes:
        rule: The id of the detector's rule.
        statistic: One number; larger is more suspicious.
        parameters: Everything that influenced the numbers: seed, image count, layer, dtype,
            provider.
        series: The whole profile by name: per image, class, layer or channel. What only a person
            looks at is under `pictures`, and no baseline keeps it.
        observations: Structural findings, for detectors that need no comparison.
    """

    rule: str
    statistic: float | None
    parameters: Mapping[str, Any]
    series: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    observations: tuple[Observation, ...] = ()


@frozen
class Comparison:
    """A suspect's measurement set against those of the references.

    Attributes:
        rule: The id of the detector's rule.
        statistic: The quantity to calibrate; larger is more suspicious. None where no reference was
            comparable.
        values: Named figures for the report.
        evidence: What a person can check: class, layer, node, images.
        sentence: The evidence in words.
        classes: By class, how far the suspect stands out from the references; `statistic` is the
            largest. Empty where the detector knows no classes, or no reference was comparable.
        structural: Judged by the observations alone, whatever other models show.
    """

    rule: str
    statistic: float | None
    values: Mapping[str, float | int | None]
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sentence: str = ""
    classes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    structural: bool = False


@frozen
class Nulls:
    """What one rule's statistic is for clean models, each compared as the suspect is.

    Attributes:
        rule: The id of the detector's rule.
        values: One statistic a clean model; empty where no population fits.
        classes: For each of these models, what `Comparison.classes` is for the suspect.
        models: Their SHA-256.
        source: Which models, in words.
        reason: Why there are no values.
    """

    rule: str
    values: tuple[float, ...]
    classes: tuple[Mapping[str, float], ...] = ()
    models: tuple[str | None, ...] = ()
    source: str
    reason: str | None = None


@frozen
class Finding:
    """One detector's judged result.

    Attributes:
        rule: The detector's rule.
        verdict: This detector's own verdict.
        statistic: The calibrated or comparable quantity; larger is more suspicious.
        p_value: Probability of so large a statistic for a clean model; None while uncalibrated.
        reason: Why the verdict is what it is, in one sentence.
        values: Named figures.
        parameters: Everything that influenced them.
        evidence: What a person can check.
        observations: Structural observations behind the verdict.
    """

    rule: Rule
    verdict: Verdict
    statistic: float | None
    p_value: float | None
    reason: str
    values: Mapping[str, float | int | None]
    parameters: Mapping[str, Any]
    evidence: Mapping[str, Any]
    observations: tuple[Observation, ...] = ()


@frozen
class Skip:
    """A detector that did not apply; a skip is not a pass."""

    rule: str
    reason: str


@frozen
class Failure:
    """A detector, or a whole model where `rule` is "model", that could not be measured."""

    rule: str
    error: Mapping[str, Any]

    @property
    def sentence(self) -> str:
        """The error in one sentence, problem and remedy."""
        return str(ScannerError.from_dict(dict(self.error)))


@frozen
class ValueInfo:
    """A graph input or output: its name, dtype and shape; an unknown or symbolic dimension is a string."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@frozen
class ModelIdentity:
    """Which file was measured.

    Attributes:
        path: As the user named it.
        sha256: Of the file's bytes (external data is not part of it); None where it could not be
            read.
        producer: What the file says wrote it.
        opset: Version of the standard operator set, or None without one.
        inputs: Required graph inputs.
        outputs: Graph outputs.
        architecture: A fingerprint of input size and weight shapes, the same for every export of
            one network.
    """

    path: str
    sha256: str | None
    producer: str
    opset: int | None
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    architecture: str = ""


@frozen
class Runtime:
    """What ran.

    Attributes:
        provider: The execution provider that really ran.
        threads: ONNX Runtime's.
        versions: By package.
        seconds: Of wall-clock time.
        isolation: What the process that read the model had given up
            (`scanner.sandbox.confinement.Confinement`).
    """

    provider: str
    threads: int
    versions: Mapping[str, str]
    seconds: float
    isolation: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@frozen
class ModelRecord:
    """All that was measured on one model; a baseline is a file of these."""

    model: ModelIdentity
    measurements: tuple[Measurement, ...]
    skips: tuple[Skip, ...]
    failures: tuple[Failure, ...]
    runtime: Runtime | None

    def measurement(self, rule: str) -> Measurement | None:
        """Return the measurement of a rule, or None where it was skipped or failed."""
        return next((m for m in self.measurements if m.rule == rule), None)


@frozen
class ScanResult:
    """The answer for one model.

    `findings`, `skips` and `failures` are three lists, all kept: an error never swallows a finding.

    Attributes:
        model: Identity of the suspect; only its path is known where it could not be opened.
        references: Identities of the references.
        score: In [0, 1], larger is more suspicious; None while nothing is calibrated.
        findings: One a detector that measured.
        skips: Detectors that did not apply.
        failures: What could not be measured, and why.
        runtime: What ran; None where nothing did.
        verdict: Suspicion outranks doubt, doubt outranks innocence.
        reason: The combined verdict in one sentence.
        target_class: The class that a suspicious verdict is about, where it is about one.
        calibration: The clean models that the verdict rests on, in words; None where there are
            none.
        index: For ranking models where nothing is calibrated: how far the model stands out, in
            units of what clean networks of the shipped recipes reach; larger is more suspicious,
            None where it is unknown.
        warnings: What is wrong with the references, in sentences.
        advice: What would make the answer stronger, in sentences, the most useful first.
    """

    model: ModelIdentity
    references: tuple[ModelIdentity, ...]
    score: float | None
    findings: tuple[Finding, ...]
    skips: tuple[Skip, ...]
    failures: tuple[Failure, ...]
    runtime: Runtime | None
    verdict: Verdict
    reason: str
    target_class: int | None = None
    calibration: str | None = None
    index: float | None = None
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
