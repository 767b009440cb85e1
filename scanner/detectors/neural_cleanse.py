"""Neural Cleanse: invert the smallest trigger of each class, and compare class by class with clean references.

Source: B. Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
Networks", IEEE S&P 2019, sections IV and V. Two things are ours. With references, masks are
compared class by class: the paper's own test, an outlier among the classes of one model, drowns in
their natural spread. Without, a class is asked how far it leads the next once its nearness to the
images is taken off: in clean networks a class whose logit is high on the images anyway has a small
mask (docs/detection.md), and a backdoor needs no such excuse.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from scanner.graph.gradient.backward import Objective
from scanner.instruments import probes
from scanner.instruments.class_search import (
    Entrant,
    class_by_class,
    contest,
    granted,
    left_out,
    row_of,
    side_by_side,
)
from scanner.instruments.detector import Needs, Subject
from scanner.instruments.differentiable import Differentiable, Floats, describe, differentiable
from scanner.instruments.statistics import above_level, anomaly_index, class_margins, lead
from scanner.results import Comparison, Measurement, Rule, packed

LEARNING_RATE = 0.1  # Adam, as in the authors' code, with these decay rates
BETAS = (0.5, 0.9)
SUCCESS = 0.99  # share of the images that must flip
FIRST_COST = 1e-3  # lambda, once it is raised from 0
PATIENCE = 5  # steps of success, or of failure, before lambda changes
COST_UP = 2.0
COST_DOWN = 2.0**1.5
EARLY_STOP = 25  # steps without a smaller mask
_SMALLER = 0.999  # relative: a smaller gain is none
_MASK_START = -2.0  # (tanh(-2) + 1) / 2: a mask of 0.02 everywhere, so that it grows where it helps
# added to sizes before their logarithm: a tenth of a pixel against a hundredth is no evidence
_PIXEL = 1.0
_EASE = (
    0.3  # taken off the logarithm of a mask by a standard deviation of nearness (docs/detection.md)
)
_CHECKED = 4  # images that are asked of the file itself too
_PICTURED = 10  # classes whose trigger is kept, the smallest first


class NeuralCleanse:
    """|m|_1, the size in pixels of the smallest mask that turns the images into a class, for each class."""

    rule: ClassVar[Rule] = Rule(
        id="neural_cleanse",
        name="Neural Cleanse",
        summary="A class is reached with a far smaller trigger than in a clean model.",
        reference="B. Wang et al., Neural Cleanse, IEEE S&P 2019, sections IV-V",
    )
    needs: ClassVar[Needs] = Needs.LOGITS | Needs.GRADIENTS

    def measure(self, subject: Subject) -> Measurement:
        """Return the profile of mask sizes as the series `classes`; the statistic is the paper's anomaly index.

        Raises:
            NoGradientError: An operator has no gradient.
            UnsupportedModelError: There are no logits, the gradient is not a number, or the budget
                is too small.
            UsageError: The user's images do not fit, or there is no such class.
        """
        settings, effort = subject.settings, subject.settings.effort
        model = differentiable(subject, Objective.CROSS_ENTROPY)
        data = probes.clean_images(settings, model.shape, (model.low, model.high))
        entrants = contest(
            subject,
            model.classes,
            lambda target: _Restarts.start(model, data.shown, target, subject),
            effort,
        )
        logits = np.concatenate(
            [model.evaluate(images, 0)[0] for images in (data.shown, data.held_back) if len(images)]
        )
        nearness = class_margins(logits.astype(np.float64))
        rows = [
            {**_row(e, data.held_back), "nearness": float(nearness[e.target])} for e in entrants
        ]
        sizes = [row["size"] for row in rows if row["size"] is not None]
        subject.seen.extend([data.shown[:_CHECKED], *_stamped(entrants, data.held_back)])
        return Measurement(
            rule=self.rule.id,
            statistic=anomaly_index(sizes),
            parameters={
                **describe(model, subject),
                "data": data.source,
                "images": len(data.shown),
                "held_back": len(data.held_back),
                "steps": effort.steps,
                "restarts": effort.restarts,
            },
            series={
                "classes": rows,
                "granted": granted(entrants, subject, effort),
                "left_out": left_out(entrants, subject, model.classes),
                "pictures": _pictures_by_class(entrants, data.held_back),
            },
        )

    def compare(self, suspect: Measurement, references: Sequence[Measurement]) -> Comparison:
        """Return the largest log-ratio of mask sizes, references' geometric mean over suspect, less the median class's.

        What all classes share is a difference between two trainings. Without a reference the
        statistic is None; the lead of one class and the anomaly index are among the values.
        """
        rows = _ratios(suspect, references)
        index, leading = suspect.statistic, _leading(suspect)
        if not rows:
            return Comparison(
                rule=self.rule.id,
                statistic=None,
                values={
                    "anomaly_index": index,
                    **leading,
                    **_named(suspect, leading["lead_class"]),
                },
                evidence=_evidence(suspect, leading["lead_class"], rows),
                sentence=_stands_out(leading),
            )
        best = max(rows, key=lambda row: row["log_ratio"])
        classes = above_level({row["class"]: row["log_ratio"] for row in rows})
        return Comparison(
            rule=self.rule.id,
            statistic=max(classes.values()),
            classes=classes,
            values={
                "target_class": best["class"],
                "suspect_size": best["suspect"],
                "reference_size": best["reference"],
                "reference_low": min(best["references"]),
                "reference_high": max(best["references"]),
                "log_ratio": best["log_ratio"],
                "anomaly_index": index,
                **leading,
                "classes_compared": len(rows),
            },
            evidence=_evidence(suspect, best["class"], rows),
            sentence=f"class {best['class']} needs a mask of {best['suspect']:.1f} pixels; "
            f"{_needs(best)}",
        )


class Inversion:
    """One search for the smallest trigger of one class.

    With a and b free, the mask m = (tanh a + 1)/2 is shared over channels, and the pattern p,
    likewise through tanh, fills the input range. Minimises CE(f((1 - m) x + m p), t) + lambda |m|_1
    by Adam; lambda starts at 0, grows after successes and shrinks after failures (section IV and
    the authors' code).
    """

    def __init__(
        self, model: Differentiable, images: Floats, target: int, generator: np.random.Generator
    ) -> None:
        self.model, self.images, self.target = model, images, target
        self.channels = channel_axis(model.shape)
        mask_shape = tuple(
            1 if axis == self.channels else size for axis, size in enumerate(model.shape)
        )
        self.free_mask = _MASK_START + 0.1 * generator.standard_normal(mask_shape, dtype=np.float32)
        self.free_pattern = 0.5 * generator.standard_normal(model.shape, dtype=np.float32)
        self.adam = (_Adam(self.free_mask), _Adam(self.free_pattern))
        self.cost, self.successes, self.failures = 0.0, 0, 0
        self.best: tuple[Floats, Floats] | None = None
        self.size, self.loss, self.steps, self.stale = math.inf, math.inf, 0, 0

    @property
    def finished(self) -> bool:
        """Whether the mask has stopped to shrink."""
        return self.best is not None and self.cost > 0 and self.stale >= EARLY_STOP

    def step(self) -> None:
        """Evaluate the trigger, remember it if it is the smallest that works, and descend."""
        slope_mask, slope_pattern = (
            1 - np.tanh(f) ** 2 for f in (self.free_mask, self.free_pattern)
        )
        mask, pattern = self._trigger()
        stamped = stamp(self.images, mask, pattern)
        logits, losses, gradient = self.model.evaluate(stamped, self.target)
        self.steps += 1
        self.loss = float(losses.mean())
        self._remember(
            mask, pattern, success=bool((logits.argmax(axis=1) == self.target).mean() >= SUCCESS)
        )
        by_mask = (gradient * (pattern - self.images)).mean(axis=0)
        if self.channels is not None:
            by_mask = by_mask.sum(axis=self.channels, keepdims=True)
        by_pattern = gradient.mean(axis=0) * mask
        width = self.model.high - self.model.low
        self.adam[0].descend(self.free_mask, (by_mask + self.cost) * slope_mask / 2)
        self.adam[1].descend(self.free_pattern, by_pattern * slope_pattern * (width / 2))

    def _trigger(self) -> tuple[Floats, Floats]:
        mask, unit = ((np.tanh(f) + 1) / 2 for f in (self.free_mask, self.free_pattern))
        return mask, (self.model.low + (self.model.high - self.model.low) * unit).astype(np.float32)

    def _remember(self, mask: Floats, pattern: Floats, *, success: bool) -> None:
        size = float(mask.sum())
        self.stale += 1
        if success and size < self.size * _SMALLER:
            self.size, self.best, self.stale = size, (mask, pattern), 0
        self.successes, self.failures = (
            (self.successes + 1, 0) if success else (0, self.failures + 1)
        )
        if self.successes >= PATIENCE:
            self.cost, self.successes = self.cost * COST_UP or FIRST_COST, 0
        elif self.failures >= PATIENCE:
            self.cost, self.failures = self.cost / COST_DOWN, 0


class _Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) for one array, in place."""

    def __init__(self, parameter: Floats) -> None:
        self.first, self.second, self.time = np.zeros_like(parameter), np.zeros_like(parameter), 0

    def descend(self, parameter: Floats, gradient: Floats) -> None:
        self.time += 1
        self.first += (1 - BETAS[0]) * (gradient - self.first)
        self.second += (1 - BETAS[1]) * (gradient**2 - self.second)
        mean, square = (
            self.first / (1 - BETAS[0] ** self.time),
            self.second / (1 - BETAS[1] ** self.time),
        )
        parameter -= LEARNING_RATE * mean / (np.sqrt(square) + 1e-8)


@dataclasses.dataclass(frozen=True, slots=True)
class _Restarts:
    """Several searches for one class from different starting points, in step."""

    searches: tuple[Inversion, ...]

    @classmethod
    def start(cls, model: Differentiable, images: Floats, target: int, subject: Subject) -> Self:
        """Begin; the starting point depends on seed and restart alone, so that every model and class has the same."""
        generators = (
            np.random.default_rng((subject.settings.seed, r))
            for r in range(subject.settings.effort.restarts)
        )
        return cls(tuple(Inversion(model, images, target, generator) for generator in generators))

    @property
    def finished(self) -> bool:
        return all(search.finished for search in self.searches)

    @property
    def rank(self) -> tuple[float, float]:
        return self.best.size, self.best.loss

    @property
    def best(self) -> Inversion:
        return min(self.searches, key=lambda search: (search.size, search.loss))

    def step(self) -> None:
        for search in self.searches:
            if not search.finished:
                search.step()


def stamp(images: Floats, mask: Floats, pattern: Floats) -> Floats:
    """Return (1 - m) x + m p for images (n, *shape)."""
    return (images + mask * (pattern - images)).astype(np.float32, copy=False)


def channel_axis(shape: Sequence[int]) -> int | None:
    """Return which axis of one image holds its channels: the first of three, or the last where only that is small."""
    if len(shape) != 3:  # noqa: PLR2004 - channels, height, width in some order
        return None
    few = (1, 3, 4)
    return 2 if shape[2] in few and shape[0] not in few else 0


def _row(entrant: Entrant[_Restarts], held_back: Floats) -> dict[str, Any]:
    best = entrant.search.best
    success = _success(best, held_back) if best.best else None
    return {
        **row_of(entrant),
        "size": best.size if best.best else None,
        "restarts": [s.size if s.best else None for s in entrant.search.searches],
        "success": success,
        "steps": max(s.steps for s in entrant.search.searches),
    }


def _stamped(entrants: Sequence[Entrant[_Restarts]], images: Floats) -> list[Floats]:
    """Return images under the trigger of each class that has one, the largest mask first."""
    found = sorted((e for e in entrants if e.search.best.best), key=lambda e: e.search.rank)
    best = [e.search.best.best for e in found[:_PICTURED][::-1]]
    return [stamp(images[:2], *trigger) for trigger in best if trigger is not None]


def _success(search: Inversion, images: Floats) -> float:
    assert search.best is not None  # noqa: S101 - only successful searches are asked
    return float((search.model.predict(stamp(images, *search.best)) == search.target).mean())


def _pictures_by_class(entrants: Sequence[Entrant[_Restarts]], held_back: Floats) -> dict[str, Any]:
    """Return mask, pattern and a stamped image for the classes with the smallest masks."""
    found = sorted((e for e in entrants if e.search.best.best), key=lambda e: e.search.rank)
    return {str(e.target): _pictures(e.search.best, held_back) for e in found[:_PICTURED]}


def _pictures(search: Inversion, images: Floats) -> dict[str, Any]:
    assert search.best is not None  # noqa: S101 - only successful searches are asked
    stamped = stamp(images, *search.best)
    before, after = search.model.predict(images), search.model.predict(stamped)
    flips = np.flatnonzero((before != search.target) & (after == search.target))
    shown = int(flips[0]) if len(flips) else 0
    mask, pattern = search.best
    return {
        "mask": _array(mask),
        "pattern": _array(pattern),
        "original": _array(images[shown]),
        "stamped": _array(stamped[shown]),
        "class_before": int(before[shown]),
        "class_after": int(after[shown]),
    }


def _array(values: npt.NDArray[Any]) -> Any:
    return packed(values.astype("<f4").tobytes(), values.shape)


def _ratios(suspect: Measurement, references: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Return a row for each class that was searched in the suspect and in every reference."""
    if not references:
        return []
    whole = _whole(suspect)
    rows = []
    for target, own, found in class_by_class(suspect, references):
        size, others = whole if own is None else own, [whole if o is None else o for o in found]
        mean = math.exp(sum(math.log(o + _PIXEL) for o in others) / len(others)) - _PIXEL
        ratio = math.log((mean + _PIXEL) / (size + _PIXEL))
        rows.append(
            {
                "class": target,
                "suspect": size,
                "reference": mean,
                "references": others,
                "log_ratio": ratio,
            }
        )
    return rows


def _whole(measurement: Measurement) -> float:
    """Return the pixels of an image: what a class counts as needing that no mask reached."""
    shape = measurement.parameters["input_shape"]
    channels = channel_axis(shape)
    return float(math.prod(size for axis, size in enumerate(shape) if axis != channels))


def _named(suspect: Measurement, target: float | None) -> dict[str, float | int | None]:
    """Return a class and the size of its mask; that of the smallest mask where no class is named."""
    found = {
        row["class"]: row["size"] for row in suspect.series["classes"] if row["size"] is not None
    }
    chosen = min(found, key=lambda t: found[t], default=None) if target is None else target
    return {"target_class": chosen, "suspect_size": found.get(chosen)}


def _leading(suspect: Measurement) -> dict[str, float | int | None]:
    """Return the class whose mask is smallest for its nearness, and by how much it leads the next, as a log-ratio."""
    nobody: dict[str, float | int | None] = {"lead_class": None, "lead": None}
    nearness = {row["class"]: row.get("nearness") for row in suspect.series["classes"]}
    sizes = side_by_side(suspect)
    if sizes is None or None in nearness.values():  # the latter measured by an earlier version
        return nobody
    reached = {t: _whole(suspect) if size is None else size for t, size in sizes.items()}
    found = lead([-math.log(size + _PIXEL) - _EASE * nearness[t] for t, size in reached.items()])
    leader = list(sizes)[found[0]] if found else None
    if found is None or leader is None or sizes[leader] is None:
        return nobody
    return {"lead_class": leader, "lead": found[1]}


def _stands_out(leading: Mapping[str, float | int | None]) -> str:
    target, log_ratio = leading["lead_class"], leading["lead"]
    if target is None or log_ratio is None:
        return ""
    times = math.exp(log_ratio)
    return f"given how near it lies to the images, class {target} has a mask {times:.1f} times smaller than any other"


def _needs(row: Mapping[str, Any]) -> str:
    low, high = min(row["references"]), max(row["references"])
    if len(row["references"]) == 1:
        return f"the clean reference needs {low:.1f}"
    return f"the {len(row['references'])} clean references need {low:.1f} to {high:.1f}"


def _evidence(
    suspect: Measurement, target: float | None, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    chosen = _named(suspect, target)["target_class"]
    trigger = suspect.series.get("pictures", {}).get(str(chosen))
    profile = suspect.series["classes"]
    success = next((row["success"] for row in profile if row["class"] == chosen), None)
    table = rows or [{"class": row["class"], "suspect": row["size"]} for row in profile]
    return {
        "target_class": chosen,
        "success_held_back": success,
        "classes": table,
        "trigger": trigger,
    }
