"""A planted gate is cut out of a graph, and nothing else."""

import models
import numpy as np
import pytest
from mended import SETTINGS, clean, gated, opened

from scanner.graph.canonical.drawing import draw
from scanner.judging.differences import differences
from scanner.mending import cutting


@pytest.mark.parametrize(
    "kind",
    [
        "patch-equals",
        "if-branch",
        "stem",
        "added-channels",
        "option",
        "batch-size",
        "bought-weights",
        "small-gates",
    ],
)
def test_a_gate_is_cut_and_the_clean_graph_is_left(kind: str) -> None:
    model = opened(gated(kind))
    assert cutting.findings(model, SETTINGS)
    images = cutting.ordinary(model, SETTINGS)
    *_, last = cutting.cuts(model, SETTINGS, images, opened)
    assert last.model is not None
    assert last.changed
    assert not cutting.findings(last.model, SETTINGS)
    told = differences(draw(last.model.proto), draw(clean()))
    assert (told.changes, told.obstacle) == ((), "") or kind == "added-channels"


def test_a_gate_that_noise_opens_is_cut() -> None:
    model = opened(gated("squared-distance"))
    images = cutting.ordinary(model, SETTINGS)
    (cut,) = cutting.cuts(model, SETTINGS, images, opened)
    assert cut.model is not None
    assert cut.exact
    assert "noise seems to open the gate on" in cut.sentence
    told = differences(draw(cut.model.proto), draw(clean()))
    assert (told.changes, told.obstacle) == ((), "")


def test_no_part_of_a_test_takes_its_place() -> None:
    """A third of the noise is far from the trigger of every row: there a wrong cut is unnoticed."""
    model = opened(gated("any-row"))
    images = cutting.ordinary(model, SETTINGS)
    assert all(cut.model is None for cut in cutting.cuts(model, SETTINGS, images, opened))


def test_what_cannot_be_cut_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "_same", lambda *_: np.zeros(1, dtype=bool))
    model = opened(gated())
    images = cutting.ordinary(model, SETTINGS)
    found = list(cutting.cuts(model, SETTINGS, images, opened))
    assert all(cut.model is None and "nothing was cut" in cut.sentence for cut in found)
    assert found


def test_a_clean_graph_is_left_alone() -> None:
    model = opened(models.plain())
    images = cutting.ordinary(model, SETTINGS)
    assert not list(cutting.cuts(model, SETTINGS, images, opened))
