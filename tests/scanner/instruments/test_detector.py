"""What a detector need not say itself."""

from pathlib import Path
from typing import ClassVar

import models

from scanner.instruments.detector import Detector, Needs, Subject, described
from scanner.modelfile.model import open_model
from scanner.results import (
    Block,
    Comparison,
    Contribution,
    Description,
    Measurement,
    Part,
    Rule,
    Scale,
    Wording,
)
from scanner.settings import Settings


class Inputs(Detector):
    """Counts a model's inputs."""

    rule: ClassVar[Rule] = Rule(id="inputs", name="Inputs", summary="s", source="2024")
    needs: ClassVar[Needs] = Needs.GRAPH

    def measure(self, subject: Subject) -> Measurement:
        """Return their number."""
        count = len(subject.model.identity.inputs)
        subject.progress(count, count)
        return Measurement(rule=self.rule.id, statistic=float(count), parameters={})


class Talkative(Inputs):
    """Says what it measured."""

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return one line."""
        return Description(blocks=(Block(line=f"{comparison.rule}: {measurement.statistic}"),))


MEASURED = Measurement(rule="inputs", statistic=1.0, parameters={})
COMPARED = Comparison(rule="inputs", statistic=0.5, contribution=Contribution(), sentence="one")


def test_by_default_a_detector_is_shown_and_decides_nothing() -> None:
    detector = Inputs()
    assert detector.contribution.part is Part.SHOWN
    assert not detector.contribution.combined
    assert (detector.scale, detector.wording) == (Scale(), Wording())


def test_a_subject_needs_no_one_who_watches(tmp_path: Path) -> None:
    model = open_model(models.save(models.plain(), tmp_path / "model.onnx"))
    subject = Subject(model=model, settings=Settings())
    assert Inputs().measure(subject) == MEASURED
    assert (subject.suspect, subject.follows) == (None, True)


def test_a_description_is_added_and_nothing_else_changed() -> None:
    told = described(Talkative(), MEASURED, COMPARED)
    assert [block.line for block in told.description.blocks] == ["inputs: 1.0"]
    assert (told.statistic, told.sentence) == (COMPARED.statistic, COMPARED.sentence)
    assert described(Inputs(), MEASURED, told) == COMPARED
