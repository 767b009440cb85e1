"""The search for a smallest trigger, step by step, on a classifier whose trigger is known."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import triggered

from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.graph.gradient.backward import Objective
from scanner.instruments import inversion
from scanner.instruments.differentiable import differentiable
from scanner.instruments.inversion import ON_IMAGES, ON_NOISE, SUCCESS, Inversion, Plan
from scanner.settings import Settings

TARGET = triggered.TARGET


def test_early_stop_ends_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "EARLY_STOP", 3)
    found = triggered.measure(
        NeuralCleanse(), triggered.classifier(planted=True), tmp_path, triggered.QUICK
    )
    assert found.by_class is not None
    assert any(row.finished and row.steps < 100 for row in found.by_class.rows)


def searched(folder: Path, plan: Plan, images: npt.NDArray[np.float32], steps: int) -> Inversion:
    subject = triggered.subject(triggered.classifier(planted=True), folder)
    model = differentiable(subject, Objective.CROSS_ENTROPY)
    search = Inversion(model, images, TARGET, np.random.default_rng(0), plan)
    for _ in range(steps):
        search.step()
    return search


IMAGES = np.random.default_rng(1).random((20, 1, 8, 8), dtype=np.float32)


def test_on_noise_it_is_the_authors_loop_and_nothing_else(tmp_path: Path) -> None:
    """Section IV and the authors' code, once more and on its own: every image in every step."""
    search = searched(tmp_path, ON_NOISE, IMAGES, 60)
    generator = np.random.default_rng(0)
    a = -2 + 0.1 * generator.standard_normal((1, 8, 8), dtype=np.float32)
    b = 0.5 * generator.standard_normal((1, 8, 8), dtype=np.float32)
    moments = [[np.zeros_like(x), np.zeros_like(x)] for x in (a, b)]
    cost, successes, failures, smallest = 0.0, 0, 0, math.inf
    for time in range(1, 61):
        mask, pattern = ((np.tanh(x) + 1) / 2 for x in (a, b))
        stamped = IMAGES + mask * (pattern - IMAGES)
        logits, _, gradient = search.model.evaluate(stamped, TARGET)
        success = (logits.argmax(axis=1) == TARGET).mean() >= SUCCESS
        smallest = min(smallest, float(mask.sum())) if success else smallest
        successes, failures = (successes + 1, 0) if success else (0, failures + 1)
        if successes == 5:
            cost, successes = 2 * cost or 1e-3, 0
        elif failures == 5:
            cost, failures = cost / 2**1.5, 0
        by_mask = (gradient * (pattern - IMAGES)).mean(axis=0) + cost
        by_pattern = gradient.mean(axis=0) * mask
        slopes = (by_mask * (1 - np.tanh(a) ** 2) / 2, by_pattern * (1 - np.tanh(b) ** 2) / 2)
        for x, g, m in zip((a, b), slopes, moments, strict=True):
            m[0] = 0.5 * m[0] + 0.5 * g
            m[1] = 0.9 * m[1] + 0.1 * g**2
            x[...] -= 0.1 * m[0] / (1 - 0.5**time) / (np.sqrt(m[1] / (1 - 0.9**time)) + 1e-8)
    assert search.price.cost == pytest.approx(cost)
    assert search.size == pytest.approx(smallest, rel=2e-3)  # a gain of 0.1 % is none
    np.testing.assert_allclose(search.trigger.free_mask, a, atol=2e-2)


def test_batches_are_drawn_anew_and_by_the_seed(tmp_path: Path) -> None:
    plan = Plan(batch=8)
    first, second = (searched(tmp_path, plan, IMAGES, 30) for _ in range(2))
    np.testing.assert_array_equal(first.trigger.mask, second.trigger.mask)
    one, other = first._draw(), first._draw()
    assert len(one) == len(other) == 8
    assert not np.array_equal(one, other)
    known = {image.tobytes() for image in IMAGES}
    assert len({image.tobytes() for image in one} & known) == 8
    whole = searched(tmp_path, Plan(batch=20), IMAGES, 30)
    np.testing.assert_array_equal(
        whole.trigger.mask, searched(tmp_path, ON_NOISE, IMAGES, 30).trigger.mask
    )


def test_a_plan_stretches_the_budget() -> None:
    quick = Settings().effort
    assert ON_NOISE.effort(quick) == quick
    longer = ON_IMAGES.effort(quick)
    assert (longer.steps, longer.seconds) == (250, 150.0)
    assert ON_NOISE.parameters == {}
