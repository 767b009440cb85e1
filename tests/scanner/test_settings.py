"""Settings: what a budget allows, and how long a scan may take."""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import UsageError
from scanner.limits import GIB, Limits
from scanner.settings import EFFORTS, Budget, Device, Noise, Settings
from scanner.values import from_json, to_json


@pytest.mark.parametrize("budget", list(Budget))
def test_every_budget_has_an_effort(budget: Budget) -> None:
    assert Settings(budget=budget).effort == EFFORTS[budget]


def test_a_larger_budget_allows_no_less() -> None:
    efforts = [EFFORTS[budget] for budget in (Budget.QUICK, Budget.STANDARD, Budget.THOROUGH)]
    for less, more in itertools.pairwise(efforts):
        assert less.images <= more.images
        assert less.steps < more.steps
        assert less.restarts <= more.restarts
        assert less.seconds < more.seconds


@pytest.mark.parametrize(
    ("budget", "models", "seconds"),
    [
        (Budget.QUICK, 1, 600),  # ten minutes at least
        (Budget.QUICK, 3, 1440),
        (Budget.STANDARD, 1, 2400),
        (Budget.THOROUGH, 2, 28_800),
    ],
)
def test_the_deadline_grows_with_the_work(budget: Budget, models: int, seconds: float) -> None:
    assert Settings(budget=budget).deadline(models) == seconds


@given(timeout=st.floats(0.1, 1e6), models=st.integers(1, 100), budget=st.sampled_from(Budget))
def test_a_timeout_that_was_given_is_the_deadline(
    timeout: float, models: int, budget: Budget
) -> None:
    assert Settings(timeout=timeout, budget=budget).deadline(models) == timeout


@given(
    noise=st.sampled_from(Noise),
    device=st.sampled_from(Device),
    budget=st.sampled_from(Budget),
    classes=st.lists(st.integers(0, 99), max_size=4).map(tuple),
    input_range=st.none() | st.tuples(st.floats(-9, 0), st.floats(1, 9)),
)
def test_settings_survive_json(
    noise: Noise,
    device: Device,
    budget: Budget,
    classes: tuple[int, ...],
    input_range: tuple[float, float] | None,
) -> None:
    settings = Settings(
        noise=noise, device=device, budget=budget, classes=classes, input_range=input_range
    )
    assert from_json(Settings, json.loads(json.dumps(to_json(settings)))) == settings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("images", 0, "give at least 1"),
        ("seed", -1, "give at least 0"),
        ("threads", -1, "give at least 0"),
        ("alpha", 0, "between 0 and 1"),
        ("alpha", 1.5, "between 0 and 1"),
        ("miss", -0.1, "between 0 and 0.5"),
        ("miss", 0.6, "between 0 and 0.5"),
        ("detectors", "head", r"as in \('head',\)"),
        ("classes", 3, "a sequence is wanted"),
        ("timeout", math.nan, "`timeout` is nan"),
        ("timeout", math.inf, "at most 1e[+]09"),
        ("timeout", 0, "more than 0"),
        ("input_range", (-math.inf, math.inf), "no finite number"),
        ("input_range", (0, math.nan), "no finite number"),
        ("seed", 10**20, "`seed` holds a number of more than 62 bits"),
        ("images", 1_000_001, "give at most 1,000,000"),
        ("classes", (1, 2**63), "`classes` holds"),
        ("input_shape", (1, 2**63), "`input_shape` holds"),
        ("limits", Limits(memory=2**63), "`memory` holds"),
        ("limits", Limits(nodes=10**20), "`nodes` holds"),
        ("threads", 65, "give at most 64, or raise the setting `memory`"),
        ("budget", "enough", "give one of 'quick', 'standard', 'thorough'"),
        ("input_range", (1.0, 0.0), "in this order"),
        ("input_range", (1.0,), "in this order"),
    ],
)
def test_a_value_that_means_nothing_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Settings(**{name: value})


@pytest.mark.parametrize(("memory", "threads"), [(1, 8), (8, 64), (16, 128)])
def test_more_memory_allows_more_threads(memory: int, threads: int) -> None:
    limits = Limits(memory=memory * GIB)
    assert Settings(limits=limits, threads=threads).most_threads == threads
    with pytest.raises(UsageError, match=f"give at most {threads}"):
        Settings(limits=limits, threads=threads + 1)


@pytest.mark.parametrize(
    ("given_by", "expected"),
    [({}, False), ({"images_file": "a.npz"}, True), ({"images_folder": "a"}, True)],
)
def test_images_are_a_file_or_a_folder(given_by: dict[str, str], expected: bool) -> None:
    assert Settings(**given_by).has_images == expected  # type: ignore[arg-type]


def test_words_are_taken_for_members() -> None:
    assert Settings(budget="thorough", device="cpu") == Settings(  # type: ignore[arg-type]
        budget=Budget.THOROUGH, device=Device.CPU
    )


def test_a_repr_shows_what_was_chosen() -> None:
    assert repr(Settings()) == "Settings()"
    assert repr(Settings(images=7, layer="a")) == "Settings(images=7, layer='a')"


def test_images_lie_where_they_did_when_they_were_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = Settings(images_file="images.npz")
    assert named.images_file == str(tmp_path / "images.npz")
    monkeypatch.chdir(tmp_path.parent)
    assert dataclasses.replace(named, seed=1).images_file == named.images_file
    assert Settings(images_folder=str(tmp_path)).images_folder == str(tmp_path)
