"""MM-BD: how far each class's logit can be driven above all others, and which class stands out.

Source: H. Wang, Z. Xiang, D. J. Miller, G. Kesidis, "MM-BD: Post-Training Detection of Backdoor
Attacks with Arbitrary Backdoor Pattern Types Using a Maximum Margin Statistic", IEEE S&P 2024. The
comparison with references, class by class, is ours: a class may lead by far in clean models too.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from scanner.graph.gradient.backward import Objective
from scanner.instruments import stages
from scanner.instruments.class_search import Climb, Entrant, contest, outcome
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.differentiable import Differentiable, Floats, describe, differentiable
from scanner.instruments.statistics import fit_gamma, gamma_survival
from scanner.results import (
    ByClass,
    ClassRow,
    Contribution,
    Measurement,
    Observation,
    Part,
    PlannedStage,
    Rule,
    Scale,
    Severity,
    Wording,
)
from scanner.settings import Budget, Effort

if TYPE_CHECKING:
    from scanner.instruments import device_search

# Images are starting points here. The paper takes up to 300 steps; the seconds are a quarter of the
# budget's.
EFFORTS = {
    Budget.QUICK: Effort(images=8, steps=60, restarts=1, seconds=15),
    Budget.STANDARD: Effort(images=16, steps=150, restarts=1, seconds=75),
    Budget.THOROUGH: Effort(images=30, steps=300, restarts=1, seconds=450),
}
FIRST_RATE, LAST_RATE = 0.1, 0.01  # of the width of the input range, per step
LEAST = 1  # starting points in a search in stages
_LISTED = 10  # classes that a sentence lists
_CHECKED = 10  # classes whose best input is also put to the file itself


class MmBd(Detector):
    """r_t: the largest z_t - max(z_k, k != t) that an ascent over valid inputs finds, by class."""

    rule: ClassVar[Rule] = Rule(
        id="mm_bd",
        name="MM-BD",
        summary="A class's logit can lead all others by far more than in a clean model.",
        source="H. Wang et al., MM-BD, IEEE S&P 2024",
    )
    needs: ClassVar[Needs] = Needs.LOGITS | Needs.GRADIENTS
    copies: ClassVar[float] = 7
    contribution: ClassVar[Contribution] = Contribution(
        part=Part.COMBINED, beside_one=0.49, alone=0.36
    )
    scale: ClassVar[Scale] = Scale(added=1.0)
    wording: ClassVar[Wording] = Wording(
        one="class {target} can lead by {suspect:.1f} logits; that of the clean reference by "
        "{low:.1f}",
        many="class {target} can lead by {suspect:.1f} logits; those of the {count} clean "
        "references by {low:.1f} to {high:.1f}",
        alone="class {target} can lead by {suspect:.1f} logits",
        leading="class {target} can lead by {suspect:.1f} logits, {times:.1f} times as far as any "
        "other",
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return the largest margin of each class; the statistic is the largest of them.

        `paper_p` is the paper's own test, which knows no clean model.

        Raises:
            NoGradientError: An operator has no gradient.
            UnsupportedModelError: There are no logits, the gradient is not a number, or the budget
                is too small.
            UsageError: There is no such class.
        """
        model, images, demand = _prepared(subject)
        search = stages.arranged(subject, model, images, demand)
        model, effort = search.model, search.effort
        if search.stages is not None:
            images = images[: search.stages.images]

        def on_host(target: int) -> Ascent:
            return Ascent(model, images, target, effort.steps)

        device = _on_device(subject, model, images, effort.steps, on_host)
        start: Callable[[int], Climb] = device.start if device else on_host
        entrants = contest(
            subject,
            model.classes,
            start,
            effort,
            stages=search.stages,
            at_once=search.at_once,
        )
        subject.seen.extend([e.search.images[:1] for e in entrants[:_CHECKED]])
        margins = [e.search.margin for e in entrants]
        rows = tuple(
            ClassRow(
                class_id=e.target,
                figure=e.search.margin,
                course=tuple(e.course),
                finished=e.search.finished,
                steps=e.search.steps,
            )
            for e in entrants
        )
        return Measurement(
            rule=self.rule.id,
            statistic=max(margins),
            parameters={
                **describe(model, subject),
                "starts": len(images),
                "steps": effort.steps,
                **stages.parameters(search.stages),
                **(device.parameters if device else {}),
            },
            figures={"paper_p": paper_p(margins)},
            observations=tuple(_unreached(entrants, effort, len(images))),
            by_class=ByClass(
                classes=model.classes,
                rows=rows,
                contest=outcome(entrants, subject, model.classes, effort, stages=search.stages),
            ),
        )

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the stages of the search.

        Raises:
            ScannerError: As for `measure`.
        """
        model, images, demand = _prepared(subject)
        return stages.planned(self.rule.id, subject, model, images, demand)


def _prepared(subject: Subject) -> tuple[Differentiable, Floats, stages.Demand]:
    """Return a subject differentiated, starting points, and what the budget allows."""
    settings, budget = subject.settings, EFFORTS[subject.settings.budget]
    model = differentiable(subject, Objective.MARGIN)
    starts = np.random.default_rng(settings.seed).random(
        (budget.images, *model.shape), dtype=np.float32
    )
    images = (model.low + (model.high - model.low) * starts).astype(np.float32)
    return model, images, stages.demanded(subject, model, budget.images, budget, LEAST)


class Ascent(Climb):
    """The search for the largest margin of one class, from several starting points at once.

    Projected steps of steepest ascent in the maximum norm, x <- clip(x + rate * width *
    sign(gradient)): margins of rectifier networks are piecewise linear, and their maxima over a box
    lie in its corners (A. Madry et al., ICLR 2018, section 2.1). The rate falls geometrically. The
    paper takes plain gradient steps, whose length hangs on the scale of the logits.
    """

    steps = 0
    margin = -math.inf
    images = np.zeros(0, np.float32)

    def __init__(self, model: Differentiable, images: Floats, target: int, planned: int) -> None:
        self.model, self.images, self.target = model, images, target
        self._decay = decay(planned)

    def step(self) -> None:
        """Evaluate, remember the largest margin, and ascend."""
        _, margins, gradient = self.model.evaluate(self.images, self.target)
        self.margin = max(self.margin, float(margins.max()))
        width = FIRST_RATE * self._decay**self.steps * (self.model.high - self.model.low)
        self.images = np.clip(
            self.images + np.float32(width) * np.sign(gradient), self.model.low, self.model.high
        )
        self.steps += 1


def _on_device(
    subject: Subject,
    model: Differentiable,
    images: Floats,
    planned: int,
    on_host: Callable[[int], Ascent],
) -> "device_search.Ascents | None":
    """Return what runs ascents on the device; None where they run in the loop above."""
    if not model.on_device:
        return None
    from scanner.instruments import device_search  # noqa: PLC0415 - most machines have no device

    return device_search.ascents(subject, model, images, (FIRST_RATE, decay(planned)), on_host)


def decay(planned: int) -> float:
    """Return by what the rate is multiplied at each of so many steps."""
    return math.pow(LAST_RATE / FIRST_RATE, 1 / max(1, planned - 1))


def _unreached(
    entrants: Sequence[Entrant[Climb]], effort: Effort, starts: int
) -> Iterator[Observation]:
    """Yield the classes that no ascent reached, though it ran to its end."""
    missed = [e.target for e in entrants if e.search.margin <= 0 and e.granted >= effort.steps]
    if missed:
        named = ", ".join(map(str, missed[:_LISTED])) + (", ..." if len(missed) > _LISTED else "")
        yield Observation(
            code="unreached",
            severity=Severity.NOTE,
            sentence=f"no input was found that the model puts into {len(missed)} of its classes "
            f"({named}), from {starts} start{'s' if starts != 1 else ''} in "
            f"{effort.steps} steps each",
            details={"classes": missed},
        )


def paper_p(margins: Sequence[float]) -> float | None:
    """Return the paper's p-value of the largest of C margins, 1 - F(r)^C.

    F is a gamma law fitted to the other margins. Uncalibrated: it takes the classes of a clean
    model for draws from one law, and they are not.
    None where the others are too few (below two), not positive or all equal. The law starts at 0; a
    free start is unstable on so few points.
    """
    *others, largest = sorted(margins)
    law = fit_gamma(others) if len(others) > 1 and others[0] > 0 else None
    if law is None:
        return None
    above = gamma_survival(largest, *law)
    return -math.expm1(len(margins) * math.log1p(-above)) if above < 1 else 1.0
