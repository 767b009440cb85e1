"""From a comparison to a verdict: what the references allow to be said, and no more."""

from collections.abc import Iterable, Sequence

from scanner.results import Comparison, Finding, Measurement, Rule, Severity, Skip, Verdict

_UNCALIBRATED = (
    "{given} cannot calibrate this statistic: two clean trainings of one network already differ by up to B/C = 1.5, "
    "so a difference is not yet evidence"
)


def judge(rule: Rule, measurement: Measurement, comparison: Comparison, references: int) -> Finding:
    """Return a detector's finding.

    Structural observations judge themselves, by severity. A statistic is judged only against a calibrated population;
    without one the verdict is inconclusive, and says why.
    """
    verdict, reason = _verdict(measurement, references)
    return Finding(
        rule=rule,
        verdict=verdict,
        statistic=comparison.statistic if references else measurement.statistic,
        p_value=None,
        reason=reason,
        values=comparison.values,
        parameters=measurement.parameters,
        evidence=comparison.evidence,
        observations=measurement.observations,
    )


def combine(findings: Sequence[Finding], skips: Sequence[Skip], failures: Iterable[object]) -> tuple[Verdict, str]:
    """Return the combined verdict and its sentence: suspicion outranks doubt, doubt outranks innocence."""
    suspicious = [f for f in findings if f.verdict is Verdict.SUSPICIOUS]
    if suspicious:
        return Verdict.SUSPICIOUS, f"{suspicious[0].rule.name}: {suspicious[0].reason}"
    if any(failures):
        return Verdict.INCONCLUSIVE, "not everything could be measured"
    doubtful = [f for f in findings if f.verdict is Verdict.INCONCLUSIVE]
    if doubtful:
        return Verdict.INCONCLUSIVE, doubtful[0].reason
    if not findings:
        return Verdict.INCONCLUSIVE, skips[0].reason if skips else "nothing was measured"
    return Verdict.CLEAN, "every detector finds what clean models show"


def _verdict(measurement: Measurement, references: int) -> tuple[Verdict, str]:
    worst = max(measurement.observations, key=lambda o: o.severity, default=None)
    if worst is not None and worst.severity >= Severity.SUSPICIOUS:
        return Verdict.SUSPICIOUS, worst.sentence
    if references == 0:
        return Verdict.INCONCLUSIVE, "there is no reference to compare with; name a clean model with --reference"
    given = "one clean reference" if references == 1 else f"{references} clean references"
    return Verdict.INCONCLUSIVE, _UNCALIBRATED.format(given=given)
