"""MM-BD: how far each class's logit can be driven above all others, and which class stands out.

Source: H. Wang, Z. Xiang, D. J. Miller, G. Kesidis, "MM-BD: Post-Training Detection of Backdoor
Attacks with Arbitrary Backdoor Pattern Types Using a Maximum Margin Statistic", IEEE S&P 2024. The
comparison with references, class by class,
is ours: a class may lead by far in clean models too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from scanner.graph.gradient.backward import Objective
from scanner.instruments.class_search import (
    class_by_class,
    contest,
    granted,
    left_out,
    row_of,
    side_by_side,
)
from scanner.instruments.detector import Needs, Subject
from scanner.instruments.differentiable import Differentiable, Floats, describe, differentiable
from scanner.instruments.statistics import above_level, fit_gamma, gamma_survival, lead
from scanner.results import Comparison, Measurement, Rule
from scanner.settings import Budget, Effort

# Images are starting points here. The paper takes up to 300 steps; the seconds are a quarter of the
# budget's.
EFFORTS = {
    Budget.QUICK: Effort(images=8, steps=60, restarts=1, seconds=15),
    Budget.STANDARD: Effort(images=16, steps=150, restarts=1, seconds=75),
    Budget.THOROUGH: Effort(images=30, steps=300, restarts=1, seconds=450),
}
FIRST_RATE, LAST_RATE = 0.1, 0.01  # of the width of the input range a step
# added to margins before their logarithm: a tenth of a logit against a hundredth is no evidence
_CHECKED = 10  # classes whose best input is asked of the file itself too
_LOGIT = 1.0


class MmBd:
    """r_t, the largest z_t - max(z_k, k != t) over valid inputs that an ascent finds, for each class t."""

    rule: ClassVar[Rule] = Rule(
        id="mm_bd",
        name="MM-BD",
        summary="A class's logit can lead all others by far more than in a clean model.",
        reference="H. Wang et al., MM-BD, IEEE S&P 2024",
    )
    needs: ClassVar[Needs] = Needs.LOGITS | Needs.GRADIENTS

    def measure(self, subject: Subject) -> Measurement:
        """Return the largest margins as the series `classes`; the statistic is the largest of them.

        Raises:
            NoGradientError: An operator has no gradient.
            UnsupportedModelError: There are no logits, the gradient is not a number, or the budget
                is too small.
            UsageError: There is no such class.
        """
        settings, effort = subject.settings, EFFORTS[subject.settings.budget]
        model = differentiable(subject, Objective.MARGIN)
        starts = np.random.default_rng(settings.seed).random(
            (effort.images, *model.shape), dtype=np.float32
        )
        images = (model.low + (model.high - model.low) * starts).astype(np.float32)
        entrants = contest(
            subject,
            model.classes,
            lambda target: Ascent(model, images, target, effort.steps),
            effort,
        )
        subject.seen.extend([e.search.images[:1] for e in entrants[:_CHECKED]])
        rows = [{**row_of(e), "margin": e.search.margin, "steps": e.search.steps} for e in entrants]
        return Measurement(
            rule=self.rule.id,
            statistic=max(row["margin"] for row in rows),
            parameters={**describe(model, subject), "starts": effort.images, "steps": effort.steps},
            series={
                "classes": rows,
                "granted": granted(entrants, subject, effort),
                "left_out": left_out(entrants, subject, model.classes),
            },
        )

    def compare(self, suspect: Measurement, references: Sequence[Measurement]) -> Comparison:
        """Return the largest log-ratio of margins, suspect over references' geometric mean, less the median class's.

        What all classes share is a difference between two trainings. Without a reference the
        statistic is None; `lead` is then the log-ratio of the two largest margins. `paper_p` is the
        paper's own test, which knows no clean model.
        """
        rows = _ratios(suspect, references)
        own = {row["class"]: row["margin"] for row in suspect.series["classes"]}
        found = _lead(suspect)
        values = {"lead": found[1] if found else None, "paper_p": paper_p(list(own.values()))}
        if not rows:
            target = max(own, key=lambda t: own[t])
            sentence = f"class {target} can lead by {own[target]:.1f} logits"
            return Comparison(
                rule=self.rule.id,
                statistic=None,
                values={"target_class": target, "suspect_margin": own[target], **values},
                evidence=_evidence(suspect, rows),
                sentence=f"{sentence}, {math.exp(found[1]):.1f} times as far as any other"
                if found
                else sentence,
            )
        best = max(rows, key=lambda row: row["log_ratio"])
        classes = above_level({row["class"]: row["log_ratio"] for row in rows})
        return Comparison(
            rule=self.rule.id,
            statistic=max(classes.values()),
            classes=classes,
            values={
                "target_class": best["class"],
                "suspect_margin": best["suspect"],
                "reference_margin": best["reference"],
                "reference_low": min(best["references"]),
                "reference_high": max(best["references"]),
                "log_ratio": best["log_ratio"],
                **values,
                "classes_compared": len(rows),
            },
            evidence=_evidence(suspect, rows),
            sentence=f"class {best['class']} can lead by {best['suspect']:.1f} logits; "
            f"{_leads(best)}",
        )


class Ascent:
    """The search for the largest margin of one class, from several starting points at once.

    Projected steps of steepest ascent in the maximum norm, x <- clip(x + rate * width *
    sign(gradient)): margins of rectifier networks are piecewise linear, and their maxima over a box
    lie in its corners (A. Madry et al., ICLR 2018, section 2.1). The rate falls geometrically. The
    paper takes plain gradient steps, whose length hangs on the scale of the logits.
    """

    def __init__(self, model: Differentiable, images: Floats, target: int, planned: int) -> None:
        self.model, self.images, self.target = model, images, target
        self.margin, self.steps = -math.inf, 0
        self._decay = (LAST_RATE / FIRST_RATE) ** (1 / max(1, planned - 1))

    @property
    def finished(self) -> bool:
        """Never: further steps may always gain."""
        return False

    @property
    def rank(self) -> tuple[float]:
        """Return the negative margin: the class that leads by most is the most promising."""
        return (-self.margin,)

    def step(self) -> None:
        """Evaluate, remember the largest margin, and ascend."""
        _, margins, gradient = self.model.evaluate(self.images, self.target)
        self.margin = max(self.margin, float(margins.max()))
        width = FIRST_RATE * self._decay**self.steps * (self.model.high - self.model.low)
        self.images = np.clip(
            self.images + np.float32(width) * np.sign(gradient), self.model.low, self.model.high
        )
        self.steps += 1


def paper_p(margins: Sequence[float]) -> float | None:
    """Return the paper's p-value, 1 - F(r)^C, of the largest of C margins under a gamma law F fitted to the others.

    Uncalibrated: it takes the classes of a clean model for draws from one law, and they are not.
    None where the others are too few (below two), not positive or all equal. The law starts at 0; a
    free start is unstable on so few points.
    """
    *others, largest = sorted(margins)
    law = fit_gamma(others) if len(others) > 1 and others[0] > 0 else None
    if law is None:
        return None
    above = gamma_survival(largest, *law)
    return -math.expm1(len(margins) * math.log1p(-above)) if above < 1 else 1.0


def _ratios(suspect: Measurement, references: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Return a row for each class that was searched in the suspect and in every reference."""
    if not references:
        return []
    rows = []
    for target, own, found in class_by_class(suspect, references):
        margins = [-result for result in (own, *found) if result is not None]
        if len(margins) <= len(references):
            continue
        margin, *others = margins
        mean = math.exp(sum(map(_logarithm, others)) / len(others)) - _LOGIT
        ratio = _logarithm(margin) - _logarithm(mean)
        rows.append(
            {
                "class": target,
                "suspect": margin,
                "reference": mean,
                "references": others,
                "log_ratio": ratio,
            }
        )
    return rows


def _lead(suspect: Measurement) -> tuple[int, float] | None:
    """Return the log-ratio of the two largest margins, each after as many steps, and the position of the largest."""
    found = side_by_side(suspect)
    if found is None or None in found.values():
        return None
    return lead([_logarithm(-result) for result in found.values() if result is not None])


def _logarithm(margin: float) -> float:
    """Return log(margin + 1 logit); a class that never leads counts as one that leads by nothing."""
    return math.log(max(margin, 0.0) + _LOGIT)


def _leads(row: Mapping[str, Any]) -> str:
    low, high = min(row["references"]), max(row["references"])
    if len(row["references"]) == 1:
        return f"that of the clean reference by {low:.1f}"
    return f"those of the {len(row['references'])} clean references by {low:.1f} to {high:.1f}"


def _evidence(suspect: Measurement, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "classes": rows
        or [{"class": row["class"], "suspect": row["margin"]} for row in suspect.series["classes"]]
    }
