"""Who gets how many steps: few classes, many, too little time, a reference that follows."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
import onnx
import pytest
import triggered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanner import conclusion
from scanner.errors import NoTimeError, UnsupportedModelError, UsageError
from scanner.examine import examine
from scanner.instruments.class_search import Entrant, contest, outcome
from scanner.instruments.detector import Subject
from scanner.instruments.pace import Pace
from scanner.judging.by_class import class_by_class
from scanner.protocol import Examination, Job, Source
from scanner.results import ByClass, ClassRow, Failure, Measurement
from scanner.sandbox import deadline
from scanner.settings import Effort, Settings

EFFORT = Effort(images=1, steps=100, restarts=1, seconds=1000)


@dataclasses.dataclass
class Fake:
    """A search whose result after n steps is 1000 - n (class + 1), done after `ends` steps."""

    target: int
    ends: int = 1000
    steps: int = 0

    @property
    def finished(self) -> bool:
        """As the protocol says."""
        return self.steps >= self.ends

    @property
    def rank(self) -> tuple[float]:
        """As the protocol says."""
        return (1000.0 - self.steps * (self.target + 1),)

    @property
    def figure(self) -> float | None:
        """As the protocol says."""
        return self.rank[0]

    def step(self) -> None:
        """As the protocol says."""
        self.steps += 1


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return triggered.subject(triggered.classifier(), tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A clock that moves by one second whenever it is read."""
    seconds = itertools.count()
    monkeypatch.setattr("time.process_time", lambda: next(seconds))
    return seconds


def steps(entrants: list[Entrant[Fake]]) -> dict[int, int]:
    assert all(e.granted == e.search.steps or e.search.finished for e in entrants)
    return {e.target: e.granted for e in entrants}


def measured(entrants: list[Entrant[Fake]], subject: Subject, classes: int = 43) -> Measurement:
    return Measurement(
        rule="fake",
        statistic=0.0,
        parameters={},
        by_class=profile(entrants, subject, classes),
    )


def profile(entrants: list[Entrant[Fake]], subject: Subject, classes: int = 43) -> ByClass:
    rows = tuple(
        ClassRow(
            class_id=e.target,
            figure=e.search.figure,
            course=tuple(e.course),
            finished=e.search.finished,
        )
        for e in entrants
    )
    contest = outcome(entrants, subject, classes, EFFORT)
    return ByClass(classes=classes, rows=rows, contest=contest)


def compared(
    suspect: list[Entrant[Fake]], reference: list[Entrant[Fake]], subject: Subject
) -> dict[int, tuple[float | None, list[float | None]]]:
    pairs = class_by_class(profile(suspect, subject), [profile(reference, subject)])
    return {target: (own, others) for target, own, others in pairs}


@pytest.mark.parametrize("classes", [2, 12])
def test_few_classes_all_run_to_the_end(classes: int, subject: Subject) -> None:
    assert steps(contest(subject, classes, Fake, EFFORT)) == dict.fromkeys(range(classes), 100)


def test_many_classes_are_halved_and_the_best_go_on(subject: Subject) -> None:
    entrants = contest(subject, 43, Fake, EFFORT)
    # 43 after one round, 21 after two, 10 after three, 6 after four; higher classes are better.
    expected = {t: 25 if t < 22 else 50 if t < 33 else 75 if t < 37 else 100 for t in range(43)}
    assert steps(entrants) == expected
    assert [len(e.course) for e in entrants] == [count // 25 for count in expected.values()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=st.integers(13, 200), limit=st.integers(1, 130))
def test_rounds_add_up(subject: Subject, classes: int, limit: int) -> None:
    entrants = contest(subject, classes, Fake, dataclasses.replace(EFFORT, steps=limit))
    granted_steps = steps(entrants).values()
    assert len(entrants) == classes
    assert min(granted_steps) == min(25, limit)
    assert max(granted_steps) == limit
    assert sum(count == limit for count in granted_steps) >= min(6, classes)


def test_a_finished_search_gets_no_more(subject: Subject) -> None:
    entrants = contest(
        subject, 3, lambda target: Fake(target, ends=30 if target == 1 else 1000), EFFORT
    )
    assert steps(entrants) == {0: 100, 1: 50, 2: 100}
    assert [e.search.steps for e in entrants] == [100, 30, 100]


@pytest.mark.parametrize("classes", [4, 43])
def test_several_at_a_time_find_the_same(classes: int, subject: Subject) -> None:
    counted = list[int]()
    watched = dataclasses.replace(subject, progress=lambda done, *_: counted.append(done))
    together = contest(watched, classes, Fake, EFFORT, at_once=3)
    alone = contest(subject, classes, Fake, EFFORT)
    assert [(e.target, e.course) for e in together] == [(e.target, e.course) for e in alone]
    assert counted == sorted(counted)


def test_an_error_of_one_of_several_is_the_contests(subject: Subject) -> None:
    class Broken(Fake):
        """A search that fails."""

        def step(self) -> None:
            """Fail."""
            raise UnsupportedModelError("no number", remedy="none")

    with pytest.raises(UnsupportedModelError, match="no number"):
        contest(subject, 4, Broken, EFFORT, at_once=2)


def test_progress_counts_to_the_total(subject: Subject) -> None:
    calls: list[tuple[int | None, ...]] = []
    contest(
        dataclasses.replace(subject, progress=lambda *step: calls.append(step)),
        3,
        Fake,
        EFFORT,
    )
    assert len(calls) == 12
    assert calls[-1] == (300, 300, 2)
    assert [target for _, _, target in calls] == [0, 1, 2] * 4


def test_too_little_time_leaves_classes_out(subject: Subject, clock: Iterator[int]) -> None:
    entrants = contest(subject, 4, Fake, dataclasses.replace(EFFORT, seconds=60))
    assert steps(entrants) == {0: 25, 1: 25}
    assert outcome(entrants, subject, 4, EFFORT).left_out == (2, 3)
    assert next(clock) < 80


def test_a_round_once_begun_is_ended_unless_it_is_the_first(
    subject: Subject, clock: Iterator[int]
) -> None:
    chosen = dataclasses.replace(
        subject, settings=dataclasses.replace(subject.settings, classes=(0,))
    )
    entrants = contest(chosen, 4, Fake, dataclasses.replace(EFFORT, seconds=40))
    assert steps(entrants) == {0: 50}
    assert next(clock) > 41


@pytest.mark.usefixtures("clock")
def test_time_for_no_class_at_all(subject: Subject) -> None:
    with pytest.raises(
        UnsupportedModelError, match="10 seconds are too short for 25 gradient steps of one class"
    ):
        contest(subject, 4, Fake, dataclasses.replace(EFFORT, seconds=10))


def test_a_scan_that_is_over_does_not_blame_the_budget(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "nearly_over", lambda _: True)
    with pytest.raises(NoTimeError, match="raise the setting `timeout`") as raised:
        contest(subject, 4, Fake, EFFORT)
    assert "seconds" not in str(raised.value)


@pytest.mark.usefixtures("clock")
def test_a_reference_follows_whatever_the_time(subject: Subject) -> None:
    suspect = contest(subject, 43, Fake, dataclasses.replace(EFFORT, seconds=2000))
    follower = dataclasses.replace(subject, suspect=measured(suspect, subject))
    reference = contest(
        follower, 43, lambda t: Fake(42 - t), dataclasses.replace(EFFORT, seconds=1)
    )
    least = sorted(steps(suspect).values())[-6]
    finalists = {target: count for target, count in steps(suspect).items() if count >= least}
    assert 6 <= len(finalists) < 43
    assert steps(reference) == finalists
    assert outcome(reference, follower, 43, EFFORT).left_out == ()
    followed, chosen = (
        outcome(entrants, who, 43, EFFORT).granted
        for entrants, who in ((reference, follower), (suspect, subject))
    )
    assert followed == chosen
    # The favourites of the suspect, which are the reference's last, are compared where both are.
    rows = compared(suspect, reference, subject)
    assert rows.keys() == finalists.keys()
    assert rows[42] == (1000.0 - finalists[42] * 43, [1000.0 - finalists[42] * 1])


def test_a_reference_that_the_time_cut_short_says_so(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect = contest(subject, 3, Fake, EFFORT)
    follower = dataclasses.replace(subject, suspect=measured(suspect, subject))
    begun = list[Fake]()

    def start(target: int) -> Fake:
        begun.append(Fake(target, ends=25 if target == 0 else 1000))
        return begun[-1]

    monkeypatch.setattr(
        deadline, "nearly_over", lambda _: bool(begun) and sum(f.steps for f in begun) >= 50
    )
    reference = contest(follower, 3, start, EFFORT)
    assert steps(reference) == {0: 25, 1: 25}
    found = outcome(reference, follower, 3, EFFORT)
    # What came to its own end is what it would be with more time.
    assert {grant.class_id: grant.steps for grant in found.granted} == {0: 100, 1: 25}
    assert found.left_out == (1, 2)


def test_among_many_references_each_chooses_for_itself(subject: Subject) -> None:
    suspect = contest(subject, 43, Fake, EFFORT)
    free = dataclasses.replace(subject, suspect=measured(suspect, subject), follows=False)
    reference = contest(free, 43, lambda t: Fake(42 - t), EFFORT)
    assert steps(reference) == {42 - t: count for t, count in steps(suspect).items()}
    assert outcome(reference, free, 50, EFFORT).left_out == tuple(range(43, 50))
    # Class 42 went through to the end in the suspect, and was dropped after a round in the
    # reference.
    rows = compared(suspect, reference, subject)
    assert rows.keys() == set(range(43))
    assert rows[42] == (1000.0 - 100 * 43, [1000.0 - 25 * 1])


def test_a_contest_that_the_time_cut_short_is_compared_at_equal_steps(subject: Subject) -> None:
    suspect, short = (
        contest(subject, 43, Fake, dataclasses.replace(EFFORT, steps=n)) for n in (100, 50)
    )
    assert compared(suspect, short, subject)[42] == (1000.0 - 50 * 43, [1000.0 - 50 * 43])


def test_where_the_suspect_finished_a_reference_may_too(subject: Subject) -> None:
    suspect = contest(subject, 2, lambda target: Fake(target, ends=30), EFFORT)
    follower = dataclasses.replace(subject, suspect=measured(suspect, subject))
    assert steps(contest(follower, 2, Fake, EFFORT)) == {0: 100, 1: 100}


def test_chosen_classes_once_and_in_order(subject: Subject) -> None:
    chosen = dataclasses.replace(
        subject, settings=dataclasses.replace(subject.settings, classes=(3, 1, 3))
    )
    assert [e.target for e in contest(chosen, 4, Fake, EFFORT)] == [1, 3]


@pytest.mark.parametrize("target", [-1, 4])
def test_no_such_class(target: int, subject: Subject) -> None:
    chosen = dataclasses.replace(
        subject, settings=dataclasses.replace(subject.settings, classes=(0, target))
    )
    with pytest.raises(UsageError, match=f"no class {target}; the model has the classes 0 to 3"):
        contest(chosen, 4, Fake, EFFORT)


def test_models_are_compared_after_as_many_rounds(subject: Subject) -> None:
    long, short = (
        contest(subject, 2, Fake, dataclasses.replace(EFFORT, steps=n)) for n in (100, 50)
    )
    rows = list(
        class_by_class(profile(long, subject), [profile(short, subject), profile(long, subject)])
    )
    assert rows == [(0, 950.0, [950.0, 950.0]), (1, 900.0, [900.0, 900.0])]


def test_a_finished_search_stands_still(subject: Subject) -> None:
    ended = profile(
        contest(subject, 1, lambda target: Fake(target, ends=30), EFFORT), subject, classes=1
    )
    full = profile(contest(subject, 1, Fake, EFFORT), subject, classes=1)
    assert list(class_by_class(ended, [full])) == [(0, 970.0, [900.0])]
    assert list(class_by_class(ended, [ended])) == [(0, 970.0, [970.0])]


def examined(
    folder: Path, suspect: onnx.ModelProto, *references: onnx.ModelProto, **settings: Any
) -> Examination:
    """Examine a model beside references, with the one detector that searches triggers or others."""
    graphs = {"suspect": suspect, **{f"reference-{i}": r for i, r in enumerate(references)}}
    paths = [str(models.save(model, folder / f"{name}.onnx")) for name, model in graphs.items()]
    source, *others = (Source(name=Path(path).name, path=path) for path in paths)
    chosen = dataclasses.replace(triggered.QUICK, **{"detectors": ("neural_cleanse",), **settings})
    job = Job(
        model=source,
        references=tuple(others),
        records=(),
        settings=chosen,
    )
    return examine(job, lambda _: None)


def test_a_scan_names_the_classes_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 44 for the first round of a class, of the 75 that a full search may take.
    seconds = itertools.count(step=1.75)
    monkeypatch.setattr("time.process_time", lambda: next(seconds))
    # What a few steps promised, so that nothing was made smaller.
    monkeypatch.setattr("scanner.instruments.pace.measured", lambda *_: Pace(seconds=0.0))
    found = examined(tmp_path, triggered.classifier(), triggered.classifier(seed=1), threads=1)
    (skip,) = found.suspect.skips
    assert skip.rule == "neural_cleanse"
    assert skip.reason.startswith(
        "the time ran out before classes 1, 2, 3 had a turn; raise the setting `budget`"
    )
    assert [record.skips for record in found.references] == [()]
    assert found.comparisons[0].evidence.classes_compared == 1
    judged = conclusion.judged(found, Settings(), 0.0)
    assert judged.index is None, "half a search ranks nothing"
    assert judged.reason == skip.reason


def test_an_index_needs_the_decisive_search(tmp_path: Path) -> None:
    """Where it failed, what is left is the least that is known: HEAD alone ranks nothing."""
    found = examined(tmp_path, triggered.classifier(), detectors=("neural_cleanse", "head"))
    assert conclusion.judged(found, Settings(), 0.0).index is not None
    failed = dataclasses.replace(
        found.suspect,
        measurements=tuple(m for m in found.suspect.measurements if m.rule == "head"),
        failures=(Failure(rule="neural_cleanse", error=UsageError("e", remedy="r").to_dict()),),
    )
    alone = tuple(c for c in found.comparisons if c.rule == "head")
    without = dataclasses.replace(found, suspect=failed, comparisons=alone)
    assert conclusion.judged(without, Settings(), 0.0).index is None


@pytest.mark.parametrize(("alpha", "repeats"), [(0.05, True), (0.5, False)])
def test_references_that_are_enough_to_judge_choose_for_themselves(
    alpha: float, repeats: bool, tmp_path: Path
) -> None:
    chosen = triggered.classifier(classes=14), triggered.classifier(classes=14, seed=1)
    found = examined(tmp_path, *chosen, alpha=alpha)
    (reference,) = found.references
    profiles = [r.measurements[0].by_class for r in (found.suspect, reference)]
    searched = [len(p.rows) for p in profiles if p is not None]
    assert searched[0] == 14
    assert (searched[1] < 14) == repeats


def test_a_reference_of_other_classes_fails_alone(tmp_path: Path) -> None:
    references = triggered.classifier(classes=5), triggered.classifier()
    found = examined(tmp_path, triggered.classifier(planted=True), *references)
    assert not found.suspect.failures
    odd, same = found.references
    assert "'reference-0.onnx' has 5 classes, and the scanned model 4" in odd.failures[0].sentence
    assert not same.failures
    assert found.comparisons[0].evidence.target_class == triggered.TARGET
