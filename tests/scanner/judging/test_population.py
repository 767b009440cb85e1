"""Who is compared with whom, and what a baseline file refuses."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from examples import identity, neural_cleanse, overactivation

from scanner.errors import BaselineError, UsageError
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.judging import population
from scanner.judging.population import Baseline, CleanModels, difference
from scanner.results import (
    Array,
    ByClass,
    ByImage,
    ClassRow,
    Contest,
    Contribution,
    Grant,
    Input,
    Measurement,
    ModelIdentity,
    ModelRecord,
    Moves,
    Observation,
    Part,
    Rule,
    Severity,
    Stages,
)
from scanner.values import to_json


class Difference(Detector):
    """A detector without a profile: what is compared is the number less the references' mean."""

    rule: ClassVar[Rule] = Rule(id="difference", name="D", summary="s", source="p")
    needs: ClassVar[Needs] = Needs.GRAPH

    def measure(self, subject: Subject) -> Measurement:
        """Not asked for here."""
        raise NotImplementedError


def number(value: float, name: str | None = None, seed: int = 0) -> ModelRecord:
    model = ModelIdentity(
        path="m",
        sha256=name or str(value),
        producer="",
        opset=17,
        inputs=identity("m").inputs,
        outputs=(),
    )
    measurement = Measurement(rule="difference", statistic=value, parameters={"seed": seed})
    return ModelRecord(
        model=model, measurements=(measurement,), skips=(), failures=(), runtime=None
    )


def compared(
    suspect: ModelRecord,
    references: Sequence[ModelRecord] = (),
    population: Sequence[ModelRecord] = (),
) -> tuple[float | None, tuple[float, ...] | None]:
    models = CleanModels(references=tuple(references), population=tuple(population), source="here")
    pair = models.settled([Difference()], suspect, 0.05).compare(Difference(), suspect)
    assert pair is not None
    comparison, found = pair
    return comparison.statistic, None if found is None else found.values


def test_a_population_stands_before_the_users_references() -> None:
    assert compared(number(9), [number(1)], [number(2), number(3)]) == (8, (1, 2))


def test_a_population_alone_is_compared_crosswise() -> None:
    assert compared(number(9), [], [number(2), number(4)]) == (6, (2 - 6.5, 4 - 5.5))


def test_several_references_calibrate_one_another() -> None:
    assert compared(number(9), [number(2), number(4)]) == (6, (2 - 6.5, 4 - 5.5))


def test_one_reference_calibrates_nothing() -> None:
    assert compared(number(9), [number(2)]) == (7, None)


def test_no_model_is_its_own_judge() -> None:
    population = [number(9, "same"), number(3), number(4)]
    assert compared(number(9, "same"), [number(1)], population) == (8, (2, 3))


@pytest.mark.parametrize("population", [[number(3)], [number(9, "same"), number(3)]])
def test_one_model_of_a_baseline_judges_nothing_beside_references_either(
    population: list[ModelRecord],
) -> None:
    assert compared(number(9, "same"), [number(1)], population) == (8, ())


def test_a_population_of_other_parameters_is_left_out_with_a_reason() -> None:
    models = CleanModels(references=(number(1),), population=(number(2, seed=7),), source="here")
    pair = models.compare(Difference(), number(9))
    assert pair is not None
    assert pair[1] is not None
    assert pair[1].reason == "it was measured with seed 7, not 0"


def test_a_population_of_other_stages_is_left_out_with_a_reason() -> None:
    (own,) = number(9).measurements
    contest = Contest(planned=100, round=25, finalists=1, stages=Stages(images=8))
    staged = dataclasses.replace(own, by_class=ByClass(classes=4, rows=(), contest=contest))
    for one, other in ((own, staged), (staged, own)):
        assert difference(one, [other]) == "its classes were not searched in the same stages"
    assert difference(staged, [staged]) is None


class Combined(Difference):
    """The same, as part of the combined verdict."""

    contribution: ClassVar[Contribution] = Contribution(part=Part.COMBINED)


def warned(reference: ModelRecord, clean: Sequence[ModelRecord]) -> list[str]:
    models = CleanModels(references=(reference,), population=tuple(clean), source="baseline 'b'")
    return list(models.warnings([Combined()], number(0).model))


def test_a_reference_that_is_unlike_clean_models_or_suspicious_itself_is_doubted() -> None:
    clean = [number(float(value)) for value in range(1, 21)]
    seen = Observation(code="c", severity=Severity.SUSPICIOUS, sentence="a gate was seen")
    (own,) = number(2.5).measurements
    planted = dataclasses.replace(
        number(2.5), measurements=(dataclasses.replace(own, observations=(seen,)),)
    )

    def doubts(reference: ModelRecord, population: Sequence[ModelRecord]) -> list[str]:
        models = CleanModels(references=(reference,), population=tuple(population), source="b")
        return list(models.doubts([Combined()]))

    (far,) = doubts(number(50.0), clean)
    assert far.endswith("beside it no model can be called clean")
    (gate,) = doubts(planted, [])
    assert gate == "the reference 'm' is itself suspicious: a gate was seen"
    assert doubts(number(2.5), clean) == []
    contest = Contest(planned=100, round=25, finalists=1, left_out=(3,))
    searched = dataclasses.replace(own, by_class=ByClass(classes=4, rows=(), contest=contest))
    (short,) = doubts(dataclasses.replace(number(2.5), measurements=(searched,)), clean)
    assert short.startswith("the time ran out before the reference 'm' was searched as the model")


def test_a_baseline_keeps_no_input_that_shows_an_observation() -> None:
    shown = Input(image=Array.packed(bytes(4), (1,)), low=0.0, high=1.0)
    seen = Observation(code="c", severity=Severity.WARNING, sentence="s", input=shown)
    (own,) = number(1.0).measurements
    record = dataclasses.replace(
        number(1.0), measurements=(dataclasses.replace(own, observations=(seen,)),)
    )
    (kept,) = population.without_pictures(record).measurements
    assert kept.observations == (dataclasses.replace(seen, input=None),)


def test_a_reference_that_is_unlike_clean_models_is_named() -> None:
    clean = [number(float(value)) for value in range(1, 21)]
    (warning,) = warned(number(50.0), clean)
    assert warning.startswith(
        "the reference 'm' is itself far from the clean models of the baseline 'b'"
    )
    assert warned(number(20.5), clean) == []
    assert warned(number(50.0), []) == []
    assert warned(number(50.0), clean[:18]) == [], (
        "few models say little of what clean models reach"
    )


def test_a_reference_of_another_architecture_is_named() -> None:
    other = number(1.0)
    other = dataclasses.replace(
        other, model=dataclasses.replace(other.model, architecture="another")
    )
    (warning,) = warned(other, [])
    assert warning.startswith("the reference 'm' has another architecture")


class Other(Difference):
    """A detector that a population may not speak of."""

    rule: ClassVar[Rule] = dataclasses.replace(Difference.rule, id="other")


def both(value: float, name: str, *, fits: bool = True) -> ModelRecord:
    """Return a record of two detectors, the second of another seed where it does not fit."""
    first = number(value, name)
    (measurement,) = first.measurements
    second = dataclasses.replace(measurement, rule="other", parameters={"seed": 0 if fits else 7})
    return dataclasses.replace(first, measurements=(measurement, second))


@pytest.mark.parametrize(("references", "fits", "judges"), [
    (19, False, (19, 19)),  # enough of them to judge alone
    (3, False, (30, 0)),  # the population judges what it can, and nobody the rest
    (19, True, (30, 30)),
])  # fmt: skip
def test_the_same_models_judge_every_detector(
    references: int, fits: bool, judges: tuple[int, int]
) -> None:
    models = CleanModels(
        references=tuple(both(float(i), f"reference {i}") for i in range(references)),
        population=tuple(both(float(i), f"clean {i}", fits=fits) for i in range(30)),
        source="a baseline",
    )
    suspect, detectors = both(9.0, "suspect"), (Difference(), Other())
    settled = models.settled(detectors, suspect, 0.05)
    pairs = [settled.compare(detector, suspect) for detector in detectors]
    nulls = [pair[1] for pair in pairs if pair is not None]
    assert tuple(len(n.values) for n in nulls if n is not None) == judges
    sources = {n.source for n in nulls if n is not None and n.values}
    assert sources == {"the references" if judges == (19, 19) else "a baseline"}


def contested(value: float, name: str, searched: int = 43) -> ModelRecord:
    """Return the record of a contest in which of so many classes one went through to the end."""
    whole = number(value, name)
    figures = (value, *[0.0] * (searched - 1))
    rows = tuple(
        ClassRow(class_id=(3 + t) % 43, figure=f, course=(f,)) for t, f in enumerate(figures)
    )
    contest = Contest(planned=100, round=25, finalists=6, granted=(Grant(class_id=3, steps=100),))
    profile = ByClass(classes=43, rows=rows, contest=contest)
    measurements = tuple(dataclasses.replace(m, by_class=profile) for m in whole.measurements)
    return dataclasses.replace(whole, measurements=measurements)


def test_a_contest_that_dropped_classes_is_judged_without_the_references() -> None:
    clean = [contested(2, "a"), contested(4, "b")]
    assert compared(contested(9, "s"), [contested(1, "r", searched=1)], clean) == (
        6,
        (0, 0),
    )


def test_references_that_repeat_the_suspects_search_do_not_judge() -> None:
    """Searched for the suspect's favourites only, they would let it stand out."""
    assert compared(contested(9, "s"), [contested(v, str(v), searched=1) for v in (2, 4)]) == (
        6,
        (),
    )
    assert compared(contested(9, "s"), [contested(v, str(v)) for v in (2, 4)]) == (
        6,
        (0, 0),
    )


@pytest.mark.parametrize("with_references", [True, False])
def test_a_clean_suspect_ranks_uniformly(with_references: bool) -> None:
    generator = np.random.default_rng(0)
    ranks = []
    for _ in range(1000):
        values = generator.standard_normal(11)
        references = [number(float(generator.standard_normal()), "ref")] if with_references else []
        own, nulls = compared(number(values[0]), references, [number(v) for v in values[1:]])
        assert own is not None
        assert nulls is not None
        ranks.append(sum(null >= own for null in nulls))
    counts = np.bincount(ranks, minlength=11)
    assert counts.min() > 1000 / 11 - 4 * np.sqrt(1000 / 11)
    assert counts.max() < 1000 / 11 + 4 * np.sqrt(1000 / 11)


def record() -> ModelRecord:
    finding = overactivation()
    assert finding.evidence.images is not None
    maxima = ByImage(maxima=finding.evidence.images.suspect)
    trigger = neural_cleanse().evidence.trigger
    assert trigger is not None
    row = ClassRow(class_id=7, figure=1 / 3, course=(None, 1 / 3), finished=False)
    moves = Moves(figures=((None, 0.5), (0.1, None)))
    searched = ByClass(classes=10, rows=(row,), triggers=(trigger,), moves=moves)
    measurements = (
        Measurement(
            rule="overactivation", statistic=1.0, parameters=finding.parameters, by_image=maxima
        ),
        Measurement(rule="neural_cleanse", statistic=None, parameters={}, by_class=searched),
    )
    return ModelRecord(
        model=identity("a.onnx"), measurements=measurements, skips=(), failures=(), runtime=None
    )


@pytest.fixture
def baseline() -> Baseline:
    return Baseline(
        name="n", provenance="made here", records=(population.without_pictures(record()),)
    )


def profile(baseline: Baseline) -> ByClass:
    found = baseline.records[0].measurements[1].by_class
    assert found is not None
    return found


def test_a_baseline_survives_its_file(baseline: Baseline, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    population.write_baseline(baseline, str(path))
    assert population.read_baseline(path) == baseline
    assert "triggers" not in path.read_text()
    assert "moves" not in path.read_text(), "they have images of the maker's"
    assert 0.3333333 in [r.figure for r in profile(baseline).rows], "seven digits"


def test_a_baseline_that_cannot_be_written_is_one_sentence(
    baseline: Baseline, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"cannot be written \(.*\); name another"):
        population.write_baseline(baseline, tmp_path)


DAMAGE: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda text: text[:-100], "it is not valid JSON"),
    "edited": (lambda text: text.replace('"name": "n"', '"name": "m"'), "was edited or damaged"),
    "another schema": (
        lambda text: text.replace('"schema": 2', '"schema": 1'),
        "and schema 2 is needed",
    ),
    "not a number": (
        lambda text: text.replace('"statistic": 1.0', '"statistic": NaN'),
        "it is not valid JSON",
    ),
    "no baseline at all": (lambda _: "[]", "and schema 2 is needed"),
    "a result": (lambda _: '{"schema": 2, "verdict": "clean"}', "is no baseline; name a file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_baseline_is_refused(kind: str, baseline: Baseline, tmp_path: Path) -> None:
    change, message = DAMAGE[kind]
    path = tmp_path / "b.json"
    path.write_text(change(population.render(baseline)))
    with pytest.raises(BaselineError, match=message):
        population.read_baseline(path)


def test_a_missing_baseline_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"check the path, or .* the function `calibrate`"):
        population.read_baseline(tmp_path / "none.json")


def test_a_baseline_speaks_only_of_its_architecture(baseline: Baseline) -> None:
    known = baseline.records[0].model
    assert population.mismatch(baseline.records, known) is None
    assert (
        population.mismatch(baseline.records, dataclasses.replace(known, architecture="other"))
        is not None
    )


def test_other_parameters_are_named(baseline: Baseline) -> None:
    own = baseline.records[0].measurements[0]
    assert population.difference(own, [own]) is None
    other = dataclasses.replace(own, parameters={**own.parameters, "seed": 5})
    assert population.difference(other, [own]) == "it was measured with seed 0, not 5"
    elsewhere = dataclasses.replace(own, parameters={**own.parameters, "provider": "CUDA"})
    assert population.difference(elsewhere, [own]) is None


NAMES: dict[str, object] = {"layer": "StatefulPartitionedCall/conv/Relu:0", "logits": "Identity:0",
                           "cut": ["Softmax"],
                           "dtype": "float16"}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_another_export_of_one_network_fits_its_baseline(name: str, baseline: Baseline) -> None:
    own = baseline.records[0].measurements[0]
    known = dataclasses.replace(own, parameters={**own.parameters, "dtype": "float32"})
    other = dataclasses.replace(known, parameters={**known.parameters, name: NAMES[name]})
    assert population.difference(other, [known]) is None


def test_a_layer_that_was_asked_for_is_another_measurement(baseline: Baseline) -> None:
    own = baseline.records[0].measurements[0]
    asked = dataclasses.replace(own, parameters={**own.parameters, "asked_layer": "deep"})
    assert (
        population.difference(asked, [own]) == "it was measured with asked_layer None, not 'deep'"
    )


def test_every_shipped_baseline_can_be_read() -> None:
    for path in population.SHIPPED.glob("*.json"):
        shipped = population.read_baseline(path)
        assert len(shipped.records) >= 19, "fewer clean models cannot reach p = 0.05"
        assert {r.model.architecture for r in shipped.records} == {path.stem.rpartition("-")[2]}
        assert json.loads(path.read_text())["provenance"]


@pytest.mark.parametrize("rules", [(), ("head",)], ids=["all rules", "one rule"])
def test_a_baseline_of_another_form_is_refused_though_its_checksum_fits(
    rules: tuple[str, ...], tmp_path: Path
) -> None:
    body = json.dumps({"records": ["x"]}, sort_keys=True)
    path = tmp_path / "b.json"
    path.write_text(
        json.dumps({"schema": 2, "checksum": population._checksum(body), "records": ["x"]})
    )
    with pytest.raises(BaselineError, match="written by another version"):
        population.read_baseline(path, rules)


def saved(baseline: Baseline, path: Path) -> Path:
    path.write_text(population.render(baseline), encoding="utf-8")
    return path


def test_a_pinned_baseline_is_that_file_or_refused(baseline: Baseline, tmp_path: Path) -> None:
    path = saved(baseline, tmp_path / "b.json")
    pin = hashlib.sha256(path.read_bytes()).hexdigest()
    assert population.read_baseline(path, sha256=pin.upper()) == baseline
    # Whoever edits a baseline can write a checksum that fits.
    saved(dataclasses.replace(baseline, provenance="made elsewhere"), path)
    assert population.read_baseline(path).provenance == "made elsewhere"
    with pytest.raises(BaselineError, match="not the one that was pinned"):
        population.read_baseline(path, sha256=pin)


def of_other_sizes(record: ModelRecord) -> ModelRecord:
    model = dataclasses.replace(record.model, sha256="0" * 64, architecture="other")
    return dataclasses.replace(record, model=model)


def of_other_classes(record: ModelRecord) -> ModelRecord:
    measurements = tuple(
        dataclasses.replace(m, by_class=dataclasses.replace(m.by_class, classes=99))
        if m.by_class
        else m
        for m in record.measurements
    )
    model = dataclasses.replace(record.model, sha256="0" * 64)
    return dataclasses.replace(record, model=model, measurements=measurements)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda record: record, "one model counts twice"),
        (of_other_sizes, "its models have different architectures"),
        (of_other_classes, "has not measured all of its models alike"),
    ],
    ids=["twice", "architecture", "classes"],
)
def test_a_baseline_that_contradicts_itself_is_named(
    other: Callable[[ModelRecord], ModelRecord], said: str, baseline: Baseline, tmp_path: Path
) -> None:
    (known,) = baseline.records
    twofold = dataclasses.replace(baseline, records=(known, other(known)))
    with pytest.raises(BaselineError, match=f"contradicts itself: .*{said}"):
        population.read_baseline(saved(twofold, tmp_path / "b.json"))


def test_a_field_that_no_baseline_holds_is_named(baseline: Baseline, tmp_path: Path) -> None:
    data = to_json(baseline)
    data["records"][0]["measurements"][0]["statistic"] = "high"
    body = json.dumps(data, sort_keys=True)
    path = tmp_path / "b.json"
    path.write_text(population._head(population._checksum(body)) + body[1:] + "\n")
    with pytest.raises(BaselineError, match=r"at records\[0\]\.measurements\[0\]\.statistic"):
        population.read_baseline(path)
