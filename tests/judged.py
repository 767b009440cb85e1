"""What judging is given, built by hand: comparisons, and populations of clean models."""

import numpy as np

from scanner.detectors import load
from scanner.results import ClassDifference, Comparison, Evidence, Lead, Population

PARTS = {d.rule.id: d.contribution for d in load()}
COMBINED = {rule: part for rule, part in PARTS.items() if part.combined}


def compared(
    rule: str, statistic: float | None, lead: float | None = None, target: int = 3
) -> Comparison:
    """What a detector says: how far one class stands out, and another does not."""
    part = PARTS[rule]
    rows = (
        ClassDifference(class_id=target, suspect=1.0, above=statistic),
        ClassDifference(class_id=8, suspect=1.0, above=-1.0),
        ClassDifference(class_id=9, suspect=1.0, above=-1.0),
    )
    evidence = Evidence(
        target_class=target,
        lead=None if lead is None else Lead(class_id=target, distance=lead),
        classes=rows if statistic is not None and part.combined else (),
    )
    return Comparison(
        rule=rule,
        statistic=statistic,
        contribution=part,
        evidence=evidence,
        sentence="class 3 is easy to reach",
    )


def clean(count: int, rule: str = "neural_cleanse") -> Population:
    values = np.linspace(0, 1, count).tolist()
    return Population(
        rule=rule,
        values=tuple(values),
        classes=tuple(((3, v),) for v in values),
        models=tuple(map(str, range(count))),
        source="test",
    )
