"""What was measured on one model."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated, Any

from scanner.errors import ErrorData, ScannerError
from scanner.results.graphs import CanonicalGraph
from scanner.results.profiles import Array, ByChannel, ByClass, ByImage, ByLayer, Input
from scanner.values import (
    LARGEST_NUMBER,
    Base64,
    Count,
    Identifier,
    Most,
    Sha256,
    Within,
    frozen,
)


class Severity(enum.IntEnum):
    """How much one structural observation weighs; `SUSPICIOUS` and above changes a verdict."""

    NOTE = 1
    WARNING = 2
    SUSPICIOUS = 3
    CONFIRMED = 4


@frozen
class Observation:
    """One thing seen in a file or graph that a person can look up.

    Attributes:
        code: Stable identifier of the kind of observation, such as `two-value-fields`.
        severity: Its weight.
        sentence: What was seen and why it matters, in words.
        nodes: Names of the graph nodes or tensors concerned, in the order a reader should follow
            them.
        details: Further JSON-serialisable facts, for programs and people.
        excerpt: The part of the graph that it is about, as a small ONNX file in base64; empty
            without one.
        input: An input that shows it, where it is about one.
    """

    code: Identifier
    severity: Severity
    sentence: str
    nodes: tuple[str, ...] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    excerpt: Base64 = ""
    input: Input | None = None


@frozen
class Measurement:
    """What one detector read off one model: at most one kind of profile, and one number.

    Attributes:
        rule: The id of the detector's rule.
        statistic: One number; larger is more suspicious.
        parameters: Everything that influenced the numbers: seed, image count, layer, dtype,
            provider. They are compared as a whole, to tell whether two models were measured alike.
        figures: Further figures, which only a person reads, such as a paper's own test.
        observations: Structural findings, for detectors that need no comparison.
        by_class: The profile by class.
        by_layer: The profile by activation.
        by_channel: The profile by convolution and dense layer.
        by_image: The profile by noise image.
        by_node: The canonical graph.
    """

    rule: Identifier
    statistic: float | None
    parameters: Mapping[str, Any]
    figures: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    observations: tuple[Observation, ...] = ()
    by_class: ByClass | None = None
    by_layer: ByLayer | None = None
    by_channel: ByChannel | None = None
    by_image: ByImage | None = None
    by_node: CanonicalGraph | None = None


class Basis(enum.Enum):
    """What an input range was taken from, the most certain first."""

    GIVEN = "given"
    TYPE = "type"
    IMAGES = "images"
    GRAPH = "graph"
    WEIGHTS = "weights"
    ASSUMED = "assumed"


@frozen
class InputRange:
    """The values that a model was measured on.

    Attributes:
        low: The lowest.
        high: The highest.
        basis: What says so.
        sentence: What was found and why, in words.
        other: Another range that fits nearly as well, as (low, high); None where none does.
        agreement: Share of images that the model puts into the same class in both ranges; None
            where there is no other. The choice matters where it is small.
    """

    low: float
    high: float
    basis: Basis
    sentence: str
    other: tuple[float, float] | None = None
    agreement: float | None = None


@frozen
class Sketch:
    """The weights of one layer, or a projection of them that keeps the angles between layers.

    Attributes:
        shape: Of the weights.
        values: Of the projection, in order.
    """

    shape: tuple[Count, ...]
    values: Array


@frozen
class Likeness:
    """What tells whether two models are relatives, or strangers: no more of them is needed.

    Attributes:
        layers: The linear layers, in graph order.
        answers: The logits on images that the seed and the input range fix, (images, classes),
            without each image's and each class's mean, with deviation 1 per class; None where the
            model gives none.
    """

    layers: Annotated[tuple[Sketch, ...], Most(4096)] = ()
    answers: Array | None = None


@frozen
class Skip:
    """A detector that did not apply; a skip is not a pass.

    Attributes:
        rule: Its id.
        reason: Why, in a sentence.
        forbids_clean: Whether what it could not look behind might decide the answer.
    """

    rule: Identifier
    reason: str
    forbids_clean: bool = False


@frozen
class Failure:
    """A detector, or a whole model where `rule` is "model", that could not be measured."""

    rule: Identifier
    error: ErrorData

    @property
    def sentence(self) -> str:
        """The error in one sentence, problem and remedy."""
        return str(ScannerError.from_dict(self.error))


@frozen
class ValueInfo:
    """A graph input or output; an unknown or symbolic dimension of its shape is a string."""

    name: str
    dtype: str
    shape: Annotated[tuple[int | str, ...], Most(64)]


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
    sha256: Sha256 | None
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
        isolation: What the process that read the model had given up (`scanner.limits.Confinement`).
    """

    provider: str
    threads: Count
    versions: Mapping[str, str]
    seconds: Annotated[float, Within(0, LARGEST_NUMBER)]
    isolation: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@frozen
class ModelRecord:
    """All that was measured on one model; a baseline is a file of these.

    Attributes:
        model: Which file.
        measurements: One per detector that measured.
        skips: Detectors that did not apply.
        failures: What could not be measured; of the rule `images` where the user's images do not
            fit the model.
        runtime: What ran; None where nothing did.
        input_range: The model's own; None where that was not settled.
        likeness: What tells relatives and strangers; None where it was not asked for.
        images_doubt: Why the user's images are no images that it could have been trained on, in
            words; empty where they may be.
        on_noise: What its classes mean (`scanner.instruments.kinship.on_noise`); None where no
            baseline could judge it.
    """

    model: ModelIdentity
    measurements: Annotated[tuple[Measurement, ...], Most(256)]
    skips: Annotated[tuple[Skip, ...], Most(1024)]
    failures: Annotated[tuple[Failure, ...], Most(1024)]
    runtime: Runtime | None
    input_range: InputRange | None = None
    likeness: Likeness | None = None
    images_doubt: str = ""
    on_noise: Array | None = None

    def __repr__(self) -> str:
        """Show the model, and how much is known of it."""
        counts = ("measurements", "skips", "failures")
        told = ", ".join(f"{len(getattr(self, name))} {name}" for name in counts)
        return f"<ModelRecord of {self.model.path!r}: {told}>"

    def measurement(self, rule: str) -> Measurement | None:
        """Return the measurement of a rule, or None where it was skipped or failed."""
        return next((m for m in self.measurements if m.rule == rule), None)
