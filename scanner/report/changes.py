"""What changed between two results: of one model scanned twice, or of two versions of it."""

from collections.abc import Iterator

from scanner.report.totals import place
from scanner.results import Finding, ScanResult
from scanner.values import frozen

_NOTHING = "-"


@frozen
class Turn:
    """One thing that two results say differently.

    Attributes:
        what: What it is about.
        before: What the first says.
        after: What the second says.
    """

    what: str
    before: str
    after: str


def changes(before: ScanResult, after: ScanResult) -> tuple[Turn, ...]:
    """Return what changed, the answer first; times and the order of things are no changes."""
    told = (dict(_told(before)), dict(_told(after)))
    return tuple(
        Turn(what=what, before=old, after=new)
        for what in dict.fromkeys((*told[0], *told[1]))
        if (old := told[0].get(what, _NOTHING)) != (new := told[1].get(what, _NOTHING))
    )


def _told(result: ScanResult) -> Iterator[tuple[str, str]]:
    """Yield what a result says, each with the name of what it is about."""
    yield "verdict", result.verdict.value
    yield "reason", result.reason
    p, size = place(result)
    yield "p-value", _figure(p)
    yield "size", _figure(size)
    yield "index", _figure(result.index)
    yield "class", _NOTHING if result.target_class is None else str(result.target_class)
    yield "SHA-256 of the model", result.model.sha256 or _NOTHING
    yield "references", ", ".join(each.sha256 or each.path for each in result.references)
    yield "rests on", result.calibration or _NOTHING
    for finding in result.findings:
        yield from _of(finding)
    for skip in result.skips:
        yield f"{skip.rule}: skipped", skip.reason
    for failure in result.failures:
        yield f"{failure.rule}: failed", failure.sentence
    for number, warning in enumerate(result.warnings, 1):
        yield f"warning {number}", warning
    if result.input_range is not None:
        yield "input range", f"{result.input_range.low:.4g}..{result.input_range.high:.4g}"
    if result.run is not None:
        yield "alpha", f"{result.run.alpha:g}"
        yield "version", result.run.version
    for name, version in result.runtime.versions.items() if result.runtime else ():
        yield f"version of {name}", version


def _of(finding: Finding) -> Iterator[tuple[str, str]]:
    rule = finding.rule.id
    yield f"{rule}: verdict", finding.verdict.value
    yield f"{rule}: statistic", _figure(finding.statistic)
    yield f"{rule}: p-value", _figure(finding.p_value)
    yield f"{rule}: size", _figure(finding.size)
    seen: dict[str, int] = {}
    for observation in finding.observations:
        seen[observation.code] = seen.get(observation.code, 0) + 1
        number = "" if seen[observation.code] == 1 else f" {seen[observation.code]}"
        severity = observation.severity.name.lower()
        yield f"{rule}: {observation.code}{number}", f"{severity}: {observation.sentence}"


def _figure(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.4g}"
