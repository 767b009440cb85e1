"""The values that cross the doors between measuring, judging and showing: frozen, and all JSON.

`scanner.values.to_json` and `from_json` carry each of them across a process boundary or into a file
and back, unchanged. A class is an int everywhere.
"""

from scanner.results.blocks import Block, Cell, Description, Histogram, Series, Table
from scanner.results.declarations import Contribution, Part, Rule, Scale, Wording
from scanner.results.differences import Change, Diff, Differences, Kind, LayerChange, Relation
from scanner.results.findings import (
    ClassDifference,
    ClassScores,
    Comparison,
    Evidence,
    Finding,
    ImagesCompared,
    LayerDifference,
    Lead,
    PairedDifference,
    Population,
    Run,
    ScanResult,
    Standing,
    Suppression,
    Verdict,
)
from scanner.results.graphs import COMMUTATIVE, GROWN, CanonicalGraph, CanonicalNode, WeightRows
from scanner.results.inputs import (
    CleanReadings,
    Discoveries,
    FilterNote,
    FilterScore,
    InputReading,
    Quantity,
    Region,
    ScreenedInput,
    Screening,
)
from scanner.results.plans import PlannedStage, ScanPlan
from scanner.results.profiles import (
    Array,
    ByChannel,
    ByClass,
    ByImage,
    ByLayer,
    ChannelRow,
    ClassRow,
    Contest,
    Grant,
    Input,
    LayerRow,
    Move,
    Moves,
    Stages,
    Trigger,
)
from scanner.results.records import (
    Basis,
    Failure,
    InputRange,
    Likeness,
    Measurement,
    ModelIdentity,
    ModelRecord,
    Observation,
    Runtime,
    Severity,
    Sketch,
    Skip,
    ValueInfo,
)
from scanner.results.repairs import (
    Ending,
    KnownTrigger,
    Outcome,
    Repaired,
    RepairedFile,
    RepairResult,
    RepairStep,
    TriggerProof,
    Way,
)

__all__ = [
    "COMMUTATIVE", "GROWN", "Array", "Basis", "Block", "ByChannel", "ByClass", "ByImage", "ByLayer",
    "CanonicalGraph", "CanonicalNode", "Cell", "Change", "ChannelRow", "ClassDifference",
    "ClassRow", "ClassScores", "CleanReadings", "Comparison", "Contest", "Contribution",
    "Description", "Diff", "Differences", "Discoveries", "Ending", "Evidence", "Failure",
    "FilterNote", "FilterScore", "Finding", "Grant", "Histogram", "ImagesCompared", "Input",
    "InputRange", "InputReading", "Kind", "KnownTrigger", "LayerChange", "LayerDifference",
    "LayerRow", "Lead", "Likeness", "Measurement", "ModelIdentity", "ModelRecord", "Move", "Moves",
    "Observation", "Outcome", "PairedDifference", "Part", "PlannedStage", "Population", "Quantity",
    "Region", "Relation", "RepairResult", "RepairStep", "Repaired", "RepairedFile", "Rule", "Run",
    "Runtime", "Scale", "ScanPlan", "ScanResult", "ScreenedInput", "Screening", "Series",
    "Severity", "Sketch", "Skip", "Stages", "Standing", "Suppression", "Table", "Trigger",
    "TriggerProof", "ValueInfo", "Verdict", "Way", "WeightRows", "Wording",
]  # fmt: skip
