"""What the user's side of a scan and the child's side say to one another."""

from scanner.results import Comparison, ModelRecord, Nulls, Rule
from scanner.settings import Settings
from scanner.values import frozen


@frozen
class Source:
    """A model file: what the user calls it, and where it is, as an absolute path."""

    name: str
    path: str


@frozen
class Job:
    """What the child is asked to do.

    Attributes:
        model: The suspect.
        references: Clean models.
        records: The references' records where they were measured before, else empty.
        population: Records of clean models of the suspect's recipe, from a baseline that the user
            named; else empty.
        source: Which models those are, in words.
        settings: How to measure.
    """

    model: Source
    references: tuple[Source, ...]
    records: tuple[ModelRecord, ...]
    population: tuple[ModelRecord, ...]
    source: str
    settings: Settings


@frozen
class Examination:
    """What the child answers.

    Attributes:
        suspect: All that was measured on the suspect; where it could not be opened, one failure.
        references: The references' records, to be handed back with the next job.
        comparisons: One a detector that measured the suspect.
        nulls: What clean models show, one a rule that is or might have been calibrated.
        rules: Of the detectors that ran, in the order of the report.
        warnings: What is wrong with the references, in sentences.
        doubts: Why nothing can be called clean beside these references, in sentences.
    """

    suspect: ModelRecord
    references: tuple[ModelRecord, ...]
    comparisons: tuple[Comparison, ...]
    nulls: tuple[Nulls, ...]
    rules: tuple[Rule, ...]
    warnings: tuple[str, ...]
    doubts: tuple[str, ...] = ()
