"""One detector's skip or failure removes nothing that others found."""

import sys
from pathlib import Path
from typing import ClassVar

import models
import numpy as np
import planting
import pytest
import triggered

from scanner.detectors import load
from scanner.detectors.classifier import Classifier
from scanner.errors import DeviceError, NoLayerError, NoTimeError, WorkerTimeoutError
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.witness import Witness
from scanner.limits import Limits
from scanner.measuring import Shares, asked, in_turn, measure, threaded
from scanner.modelfile import held, parser
from scanner.modelfile.model import open_model
from scanner.results import Measurement, ModelRecord, Rule
from scanner.sandbox import deadline
from scanner.sandbox.endpoint import Step
from scanner.settings import Settings


class Scripted(Detector):
    """A detector that measures, or raises what it was told to."""

    needs: ClassVar[Needs] = Needs.GRAPH
    error: ClassVar[BaseException | None] = None

    def measure(self, subject: Subject) -> Measurement:
        """Return a number, or raise."""
        del subject
        if self.error is not None:
            raise self.error
        return Measurement(rule=self.rule.id, statistic=1.0, parameters={"provider": "CUDA"})


def scripted(name: str, error: BaseException | None = None, needs: Needs = Needs.GRAPH) -> Detector:
    rule = Rule(id=name, name=name, summary="s", source="p")
    made: Detector = type(name, (Scripted,), {"rule": rule, "error": error, "needs": needs})()
    return made


def measured(
    folder: Path, *detectors: Detector, named: tuple[str, ...] = (), unsuitable: str | None = None
) -> ModelRecord:
    model = open_model(models.save(models.plain(), folder / "m.onnx"))
    share = Shares(lambda _step: None, len(detectors))
    return measure(model, Settings(detectors=named), detectors, share, unsuitable=unsuitable)


def test_skips_failures_and_findings_are_three_lists(tmp_path: Path) -> None:
    record = measured(
        tmp_path,
        scripted("absent", NoLayerError("no layer", remedy="none")),
        scripted("late", WorkerTimeoutError("late", remedy="wait")),
        scripted("greedy", MemoryError()),
        scripted("buggy", ZeroDivisionError()),
        scripted("steady"),
    )
    assert [skip.rule for skip in record.skips] == ["absent"]
    assert [failure.rule for failure in record.failures] == ["late", "greedy", "buggy"]
    assert [measurement.rule for measurement in record.measurements] == ["steady"]
    assert record.runtime is not None
    assert record.runtime.provider == "CUDA"


@pytest.mark.parametrize(
    ("alone", "images", "named", "expected"),
    [
        (True, None, (), ["steady", "lonely"]),
        (False, None, (), ["steady"]),
        (True, "images.npz", (), ["steady"]),
        (False, "images.npz", ("lonely",), ["steady", "lonely"]),
    ],
)
def test_what_tells_more_only_of_a_model_alone_is_asked_there_or_by_name(
    alone: bool, images: str | None, named: tuple[str, ...], expected: list[str]
) -> None:
    lonely = scripted("lonely")
    type(lonely).alone = True
    settings = Settings(detectors=named, images_file=images)
    found = asked((scripted("steady"), lonely), settings, alone=alone)
    assert [detector.rule.id for detector in found] == expected


def test_who_asks_by_name_is_told_why_it_failed(tmp_path: Path) -> None:
    record = measured(
        tmp_path, scripted("absent", NoLayerError("no layer", remedy="none")), named=("absent",)
    )
    assert record.skips == ()
    assert [failure.rule for failure in record.failures] == ["absent"]


def test_a_model_that_is_merely_large_is_skipped_whoever_asks(tmp_path: Path) -> None:
    large = scripted("slow", NoTimeError("too large", remedy="wait"))
    record = measured(tmp_path, large, named=("slow",))
    assert record.failures == ()
    (skip,) = record.skips
    assert (skip.rule, skip.forbids_clean) == ("slow", True)


def test_threads_are_settled_for_one_model(tmp_path: Path) -> None:
    model = open_model(models.save(models.plain(), tmp_path / "m.onnx"))
    assert threaded(Settings(), model).threads == 1, "a small one"
    assert threaded(Settings(threads=3), model).threads == 3


def test_no_machine_has_more_threads_than_the_memory_has_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime waits for ever for a thread that it cannot start."""
    monkeypatch.setattr("scanner.instruments.runtime.threads", lambda asked, _: asked or 200)
    model = open_model(models.save(models.plain(), tmp_path / "m.onnx"))
    assert threaded(Settings(), model).threads == 64
    assert threaded(Settings(limits=Limits(memory=2**30)), model).threads == 8


def test_what_needs_images_is_skipped_where_none_can_be_shown(tmp_path: Path) -> None:
    asks = scripted("asks", needs=Needs.LOGITS)
    record = measured(tmp_path, asks, scripted("reads"), unsuitable="no image fits")
    assert [(skip.rule, skip.reason) for skip in record.skips] == [("asks", "no image fits")]
    assert [measurement.rule for measurement in record.measurements] == ["reads"]


def test_a_device_that_is_not_there_ends_the_request(tmp_path: Path) -> None:
    with pytest.raises(DeviceError):
        measured(
            tmp_path, scripted("cuda", DeviceError("no device", remedy="none")), scripted("steady")
        )


def test_progress_is_one_count_over_all() -> None:
    told: list[Step] = []
    share = Shares(told.append, 2)
    share.begin("first")
    share.within(1, 2, 7)
    share.finish()
    share.within(1, 4)
    share.finish()
    assert [(step.done, step.total) for step in told] == [
        *((0, 2000), (500, 2000), (1000, 2000), (1250, 2000), (2000, 2000))
    ]
    assert [(step.rule, step.class_id) for step in told[:3]] == [
        *(("first", None), ("first", 7), (None, None))
    ]


def with_images(
    folder: Path, shape: tuple[int, ...], *detectors: Detector, scanned: ModelRecord | None = None
) -> ModelRecord:
    """Measure a model of 8 x 8 pixels, beside images of noise."""
    np.savez(folder / "given.npz", images=np.random.default_rng(0).random((9, *shape)))
    model = open_model(models.save(models.plain(), folder / "m.onnx"))
    settings = Settings(images_file=str(folder / "given.npz"))
    share = Shares(lambda _step: None, len(detectors))
    return measure(model, settings, detectors, share, scanned=scanned)


def test_images_that_do_not_fit_are_a_failure_though_no_detector_wants_any(tmp_path: Path) -> None:
    record = with_images(tmp_path, (3, 5, 5), scripted("steady"))
    (failure,) = record.failures
    assert failure.rule == "images"
    assert "the model takes images of (1, 8, 8)" in failure.sentence
    assert [measurement.rule for measurement in record.measurements] == ["steady"]


def test_what_a_detector_says_of_the_images_is_not_said_twice(tmp_path: Path) -> None:
    (failure,) = with_images(tmp_path, (3, 5, 5), Classifier()).failures
    assert failure.rule == "classifier"


def test_noise_instead_of_images_is_doubted_once(tmp_path: Path) -> None:
    record = with_images(tmp_path, (1, 8, 8), scripted("steady"))
    assert "given.npz' holds noise" in record.images_doubt
    assert record.failures == ()
    beside = with_images(tmp_path, (1, 8, 8), scripted("steady"), scanned=record)
    assert beside.images_doubt == "", "references are shown what the suspect was"


def test_a_search_leaves_time_to_each_search_that_follows(tmp_path: Path) -> None:
    left = list[float]()

    class Timed(Scripted):
        """A detector that notes the share of the time that it is to leave."""

        def measure(self, subject: Subject) -> Measurement:
            """Note it."""
            left.append(subject.rest)
            return super().measure(subject)

    def timed(name: str, needs: Needs) -> Detector:
        rule = Rule(id=name, name=name, summary="s", source="p")
        made: Detector = type(name, (Timed,), {"rule": rule, "needs": needs})()
        return made

    search = Needs.LOGITS | Needs.GRADIENTS
    measured(
        tmp_path,
        timed("first", search),
        timed("on_images", search | Needs.IMAGES),
        timed("second", search),
        timed("last", Needs.LOGITS),
    )
    assert left == [0.45, 0.35, 0.35, 0.25], "the last of them is measured first"


def test_what_costs_little_is_measured_first_and_listed_as_ever() -> None:
    order = [detector.rule.id for detector in in_turn(load())]
    reading = ["integrity", "graph_logic", "diff", "channel_lipschitz"]
    showing = ["dormant", "overactivation", "layerwise", "head"]
    searching = [
        *("neural_cleanse", "data_free_inversion", "source_dependent", "universal_perturbation"),
        *("universal_warp", "patch_sweep", "wave_sweep", "mm_bd"),
    ]
    assert order == [*reading, *showing, *searching, "classifier", "invariance", "not-the-file"]


def test_the_order_of_the_report_is_not_that_of_measuring(tmp_path: Path) -> None:
    turns = list[str]()
    kinds = {
        "late": Needs.GRADIENTS,
        "buggy": Needs.GRADIENTS,
        "absent": Needs.GRADIENTS,
        "shown": Needs.LOGITS,
        "missing": Needs.GRAPH,
        "wrong": Needs.GRAPH,
        "read": Needs.GRAPH,
    }
    errors = {
        "buggy": ZeroDivisionError(),
        "absent": NoLayerError("no layer", remedy="none"),
        "missing": NoLayerError("no layer", remedy="none"),
        "wrong": ZeroDivisionError(),
    }
    detectors = [scripted(name, errors.get(name), needs) for name, needs in kinds.items()]
    model = open_model(models.save(models.plain(), tmp_path / "m.onnx"))
    share = Shares(lambda step: turns.append(step.rule or ""), len(detectors))
    record = measure(model, Settings(), detectors, share)
    begun = [*dict.fromkeys(filter(None, turns))]
    assert begun == ["missing", "wrong", "read", "shown", "late", "buggy", "absent"]
    assert [m.rule for m in record.measurements] == ["late", "shown", "read"]
    assert [skip.rule for skip in record.skips] == ["absent", "missing"]
    assert [failure.rule for failure in record.failures] == ["buggy", "wrong"]


def test_what_is_checked_last_is_checked_in_the_order_of_the_report(tmp_path: Path) -> None:
    checked = list[str]()

    class Leaving(Scripted):
        """A detector that leaves a witness, or reads those that were left."""

        def measure(self, subject: Subject) -> Measurement:
            """Leave one under its own name."""
            if self.after_searches:
                checked.extend(witness.name for witness in subject.witnesses)
            else:
                subject.witnesses.append(
                    Witness(name=self.rule.id, values=(), answer=dict, provider="CPU")
                )
            return super().measure(subject)

    def leaving(name: str, needs: Needs, *, last: bool = False) -> Detector:
        rule = Rule(id=name, name=name, summary="s", source="p")
        members = {"rule": rule, "needs": needs, "after_searches": last}
        made: Detector = type(name, (Leaving,), members)()
        return made

    measured(
        tmp_path,
        leaving("last", Needs.GRAPH, last=True),
        leaving("first", Needs.GRADIENTS),
        leaving("second", Needs.GRAPH),
    )
    assert checked == ["first", "second"]


def test_a_time_that_is_over_in_a_search_leaves_what_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short: what is read, and what is shown noise, comes before the first search."""

    def endless(*_: object) -> None:
        deadline.expire()
        deadline.check()

    monkeypatch.setattr("scanner.instruments.inversion.search", endless)
    model = open_model(models.save(triggered.classifier(), tmp_path / "m.onnx"))
    rules = ["neural_cleanse", "mm_bd", "channel_lipschitz", "head"]
    settings = Settings(input_range=(0.0, 1.0), images=8)
    try:
        record = measure(model, settings, load(rules), Shares(lambda _step: None, len(rules)))
    finally:
        deadline.renew()
    assert [failure.rule for failure in record.failures][:2] == ["neural_cleanse", "mm_bd"]
    assert [m.rule for m in record.measurements] == rules[2:]


@pytest.mark.parametrize("over", [False, True])
def test_a_search_that_would_not_begin_in_time_is_not_begun(over: bool, tmp_path: Path) -> None:
    search, shown = scripted("search", needs=Needs.GRADIENTS), scripted("shown", needs=Needs.LOGITS)
    deadline.renew(1e-9)
    if over:
        deadline.expire()
    try:
        record = measured(tmp_path, search, shown, named=("search", "shown"))
    finally:
        deadline.renew()
    assert [m.rule for m in record.measurements] == ([] if over else ["shown"])
    assert [failure.rule for failure in record.failures] == (["shown"] if over else [])
    (skip,) = record.skips
    assert (skip.rule, skip.forbids_clean) == ("search", True)
    assert skip.reason.endswith("too short to begin a search; raise the setting `timeout`")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_what_does_not_fit_into_memory_is_skipped_before_it_is_begun(tmp_path: Path) -> None:
    model = open_model(models.save(models.plain(), tmp_path / "m.onnx"))
    settings = Settings(limits=Limits(memory=2**20), detectors=("steady",))
    record = measure(model, settings, [scripted("steady")], Shares(lambda _step: None, 1))
    assert (record.measurements, record.failures) == ((), ())
    (skip,) = record.skips
    assert (skip.rule, skip.forbids_clean) == ("steady", True)
    assert skip.reason.endswith("1 MiB are allowed; raise the setting `memory`")


def test_a_model_too_large_for_a_message_is_measured_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.save(planting.deep(), tmp_path / "m.onnx", external=True)

    def record() -> ModelRecord:
        detectors = load()
        share = Shares(lambda _step: None, len(detectors))
        settings = Settings(input_range=(0.0, 1.0))
        return measure(open_model(path), settings, detectors, share)

    usual = record()
    monkeypatch.setattr(parser, "HELD", open_model(path).size)
    monkeypatch.setattr(held, "LEAST", 64)
    found = record()
    assert len(found.measurements) > 10
    assert [m.rule for m in found.measurements] == [m.rule for m in usual.measurements]
    for one, other in zip(found.measurements, usual.measurements, strict=True):
        assert (one.statistic or 0) == pytest.approx(other.statistic or 0, rel=1e-4), one.rule
        assert one.observations == other.observations
    assert (found.skips, found.failures) == (usual.skips, usual.failures)
