"""What the two sides of the sandbox say to one another: the requests, the answers, the endpoints.

The functions behind the endpoints are in `scanner.examine`, which only the child imports.
"""

from collections.abc import Mapping

from scanner.judging.population import Baseline
from scanner.limits import Confinement, Limits
from scanner.results import (
    Array,
    CanonicalGraph,
    CleanReadings,
    Comparison,
    Input,
    InputReading,
    ModelIdentity,
    ModelRecord,
    Population,
    Repaired,
    Rule,
    ScanPlan,
    Trigger,
)
from scanner.sandbox.endpoint import Endpoint
from scanner.settings import Settings
from scanner.values import Base64, Count, Identifier, frozen

# The rule of the detector that checks the others' graphs against the file. It does so even where it
# was not asked for, but is then reported only if it finds something.
NOT_THE_FILE = "not-the-file"
MODEL_RULE = "model"  # of a failure that concerns a whole file
IMAGES_RULE = "images"  # of one that concerns the user's images


@frozen
class Source:
    """A model file: what the user calls it, and its absolute path."""

    name: str
    path: str


@frozen
class Job:
    """One scan, or one half of it.

    A suspect is measured by a child that opens nothing else, and its references by another, which
    gets the suspect's record only: what takes over the first cannot touch the second.

    Attributes:
        model: The suspect.
        measured: Its record, where another child measured it; its file is then not opened.
        compared: Whether its record will be compared with others although none is named here.
        alone: Whether it is judged with no clean model that the user names.
        beside: Identities of the references, where another child measures them.
        references: Clean models that this child measures.
        records: The references' records if they were measured before, else empty.
        among: How many references there are, where other children measure others of them.
        baseline: Clean models of the suspect's recipe that the user named; None where there are
            none.
        settings: How to measure.
    """

    model: Source
    measured: ModelRecord | None = None
    compared: bool = False
    alone: bool = False
    beside: tuple[ModelIdentity, ...] = ()
    references: tuple[Source, ...] = ()
    records: tuple[ModelRecord, ...] = ()
    among: int = 0
    baseline: Baseline | None = None
    settings: Settings


@frozen
class Preparation:
    """What a child says before it opens the first model, while it can still be believed.

    Attributes:
        rules: Rules of the detectors that will run, in the order of the report.
        isolation: What the process has given up.
    """

    rules: tuple[Rule, ...]
    isolation: Confinement


@frozen
class Opening:
    """Models to open, and what they may ask of this machine."""

    sources: tuple[Source, ...]
    limits: Limits


@frozen
class SecondOpinion:
    """The suspect beside the shipped baseline that fits it, where the user's own judged it.

    Attributes:
        source: Which models those are, in words.
        comparisons: One per detector that measured the suspect.
        populations: What these clean models show, one per rule.
    """

    source: str
    comparisons: tuple[Comparison, ...]
    populations: tuple[Population, ...]


@frozen
class Examination:
    """What was measured in one scan, not yet judged.

    Attributes:
        suspect: Everything measured on the suspect; if it could not be opened, one failure.
        references: The references' records, to be handed back with the next job.
        comparisons: One per detector that measured the suspect.
        populations: What clean models show, one per rule that is or might have been calibrated.
        rules: Rules of the detectors that ran, in the order of the report.
        warnings: What is wrong with the references, in sentences.
        doubts: Why nothing can be called clean beside these references, in sentences.
        second: What a shipped baseline says, where one fits that did not judge.
    """

    suspect: ModelRecord
    references: tuple[ModelRecord, ...]
    comparisons: tuple[Comparison, ...]
    populations: tuple[Population, ...]
    rules: tuple[Rule, ...]
    warnings: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    second: SecondOpinion | None = None


@frozen
class Task:
    """One model to look at, and what a scan of it would be told.

    Attributes:
        model: The model.
        settings: How it would be measured.
        alone: As in `Job`.
    """

    model: Source
    settings: Settings
    alone: bool = False


@frozen
class Trial:
    """Measured models to set beside clean ones.

    Attributes:
        records: The suspects' records.
        references: Those of the models that the user called clean.
        baseline: Clean models that the user named besides; None where there are none.
        settings: What was asked for.
    """

    records: tuple[ModelRecord, ...]
    references: tuple[ModelRecord, ...]
    baseline: Baseline | None
    settings: Settings


@frozen
class Drawing:
    """A model and its canonical graph."""

    model: ModelIdentity
    graph: CanonicalGraph


@frozen
class Watch:
    """A model whose inputs are to be screened, and clean images to set them beside.

    Attributes:
        model: The model.
        least: How many clean images an input must be ranked among at least.
        triggers: Those that a scan of the model found.
        settings: How to run the model; the clean images are its `images_file` or `images_folder`.
    """

    model: Source
    least: Count
    triggers: tuple[Trigger, ...] = ()
    settings: Settings


@frozen
class Part:
    """Some of the inputs that a file or a folder holds.

    Attributes:
        watch: The model.
        path: Absolute path of a folder, an array or a picture.
        start: How many inputs come before them.
        most: How many there are at most.
    """

    watch: Watch
    path: str
    start: Count
    most: Count


@frozen
class Handed:
    """Inputs that the caller hands over.

    Attributes:
        watch: The model.
        images: They, (n, *shape).
        bytes_of_range: Whether their numbers are bytes, 0..255, that stand for the input's range.
    """

    watch: Watch
    images: Array
    bytes_of_range: bool = False


@frozen
class Shown:
    """One of the inputs that were read last, to be looked at.

    Attributes:
        watch: The model.
        place: Its place among those of the last `Part` or `Handed`.
    """

    watch: Watch
    place: Count


@frozen
class Prospect:
    """Whether a detector could measure a model.

    Attributes:
        rule: The id of the detector's rule.
        obstacle: Why it would be skipped, in words; None where nothing speaks against it.
    """

    rule: Identifier
    obstacle: str | None = None


@frozen
class Check:
    """A model that could be opened, and what a scan would ask of it."""

    model: ModelIdentity
    detectors: tuple[Prospect, ...]


@frozen
class Layer:
    """One activation of a model, which a scan can be told to measure.

    Attributes:
        value: Name of the value that holds its output.
        operator: What it is, in the field's words ("Relu", "SiLU", "GELU").
        node: Name of the node that computes it; may be empty.
        position: Index of that node in the graph.
        quantisation: Names of scale and zero point if the value is quantised, else empty.
        shape: Its shape, an open dimension as a string; None if it cannot be inferred.
    """

    value: str
    operator: str
    node: str
    position: int
    quantisation: tuple[str, ...]
    shape: tuple[int | str, ...] | None


@frozen
class LayerList:
    """A model and its activations, in graph order."""

    model: ModelIdentity
    layers: tuple[Layer, ...]


@frozen
class RepairOrder:
    """A model to repair.

    Attributes:
        model: The model.
        settings: How it was scanned; the images that it is repaired on are named here.
        targets: Classes whose triggers are to be found and removed; empty where only the graph is.
        structural: Whether the graph's own findings are to be cut out.
        keep: Least share of held-back images whose class must stay, of the original.
        output: Absolute path of the file to write; empty where none is.
        data: Name of the file beside it that takes tensors which the model keeps outside.
        references: Clean models, whose files are not to be overwritten.
        triggered: Absolute path of an .npz of images that bear a known trigger; empty without.
    """

    model: Source
    settings: Settings
    targets: tuple[int, ...] = ()
    structural: bool = False
    keep: float = 0.98
    output: str = ""
    data: str = ".data"
    references: tuple[Source, ...] = ()
    triggered: str = ""


@frozen
class Piece:
    """A part of a file that a child has made, to be handed over.

    Attributes:
        suffix: Of the file.
        start: Place of its first byte.
        size: Bytes.
    """

    suffix: str
    start: int
    size: int


@frozen
class PieceBytes:
    """The bytes of a piece."""

    data: Base64


@frozen
class DetectorDescription:
    """A detector that a scan can run.

    Attributes:
        rule: Its identity.
        needs: What it asks of the model and the user, such as "gradients".
    """

    rule: Rule
    needs: tuple[str, ...]


@frozen
class SharedPackage:
    """An import name that another distribution has installed as well.

    Attributes:
        name: The top-level package.
        distributions: The other distributions that own it.
    """

    name: str
    distributions: tuple[str, ...]


@frozen
class Diagnosis:
    """What an installation can do.

    Attributes:
        versions: Versions of the packages that influence a number.
        runtimes: Versions of the ONNX Runtime distributions installed; there must be only one.
        cuda_devices: The CUDA devices that are usable.
        cuda: What of CUDA is installed, in words.
        cuda_obstacle: Why no CUDA device is usable, in words; None where one is.
        telemetry: Whether ONNX Runtime may report home.
        isolation: What the process that reads models gives up.
        shared_packages: Import names of this program that other distributions own too; each of
            them overwrites or hides files of the other.
    """

    versions: Mapping[str, str]
    runtimes: Mapping[str, str]
    cuda_devices: tuple[str, ...]
    cuda: str
    cuda_obstacle: str | None
    telemetry: bool
    isolation: Confinement
    shared_packages: tuple[SharedPackage, ...]


PREPARE: Endpoint[Settings, Preparation] = Endpoint(
    function="scanner.examine:prepare", request=Settings, answer=Preparation
)
IDENTIFY: Endpoint[Opening, tuple[ModelIdentity, ...]] = Endpoint(
    function="scanner.examine:identify", request=Opening, answer=tuple[ModelIdentity, ...]
)
EXAMINE: Endpoint[Job, Examination] = Endpoint(
    function="scanner.examine:examine", request=Job, answer=Examination
)
COMPARE: Endpoint[Trial, tuple[Examination, ...]] = Endpoint(
    function="scanner.examine:compare", request=Trial, answer=tuple[Examination, ...]
)
CHECK: Endpoint[Task, Check] = Endpoint(
    function="scanner.examine:check", request=Task, answer=Check
)
PLAN: Endpoint[Task, ScanPlan] = Endpoint(
    function="scanner.examine:plan", request=Task, answer=ScanPlan
)
DRAW: Endpoint[Task, Drawing] = Endpoint(
    function="scanner.examine:draw", request=Task, answer=Drawing
)
LAYERS: Endpoint[Source, LayerList] = Endpoint(
    function="scanner.examine:layers", request=Source, answer=LayerList
)
RULES: Endpoint[None, tuple[DetectorDescription, ...]] = Endpoint(
    function="scanner.examine:rules",
    request=type(None),
    answer=tuple[DetectorDescription, ...],
)
DIAGNOSE: Endpoint[None, Diagnosis] = Endpoint(
    function="scanner.examine:diagnose", request=type(None), answer=Diagnosis
)
REPAIR: Endpoint[RepairOrder, Repaired] = Endpoint(
    function="scanner.examine:repair", request=RepairOrder, answer=Repaired
)
HAND_OVER: Endpoint[Piece, PieceBytes] = Endpoint(
    function="scanner.examine:hand_over", request=Piece, answer=PieceBytes
)
READ_CLEAN: Endpoint[Watch, CleanReadings] = Endpoint(
    function="scanner.examine_inputs:read_clean", request=Watch, answer=CleanReadings
)
READ_PART: Endpoint[Part, tuple[InputReading, ...]] = Endpoint(
    function="scanner.examine_inputs:read_part", request=Part, answer=tuple[InputReading, ...]
)
READ_HANDED: Endpoint[Handed, tuple[InputReading, ...]] = Endpoint(
    function="scanner.examine_inputs:read_handed",
    request=Handed,
    answer=tuple[InputReading, ...],
)
SHOW_INPUT: Endpoint[Shown, Input] = Endpoint(
    function="scanner.examine_inputs:show_input", request=Shown, answer=Input
)
