"""A model that cannot be analysed is a finding of its own: named by its cause, never clean.

A file built to hang, crash or starve its reader would otherwise look like an accident. See
docs/threat-model.md.
"""

from collections.abc import Iterable, Iterator

from scanner.results import Evidence, Failure, Finding, Rule, Verdict

_REFERENCE = "docs/threat-model.md"
_TIMEOUT = Rule(
    id="unanalysable-timeout",
    name="Time-out",
    summary="The model did not end within the time allowed.",
    source=_REFERENCE,
)
_CRASH = Rule(
    id="unanalysable-crash",
    name="Crash",
    summary="The process that read or ran the model died.",
    source=_REFERENCE,
)
_LIMIT = Rule(
    id="unanalysable-limit",
    name="Limit",
    summary="The model needed more memory or processor time than it was allowed.",
    source=_REFERENCE,
)
_REFUSAL = Rule(
    id="unanalysable-refusal",
    name="Refusal",
    summary="A guard refused the file before it ran: it reaches out of its folder, or past a "
    "limit.",
    source=_REFERENCE,
)
_RULES = {
    "WorkerTimeoutError": _TIMEOUT,
    "WorkerCrashedError": _CRASH,
    "WorkerLimitError": _LIMIT,
    "UnsafeModelError": _REFUSAL,
}
IDS = tuple(rule.id for rule in _RULES.values())
"""The ids of these rules."""


def explains(failure: Failure) -> bool:
    """Whether a failure is one of these findings, not a wrong request or an invalid file."""
    return failure.error["type"] in _RULES


def findings(failures: Iterable[Failure]) -> Iterator[Finding]:
    """Yield a finding for each cause among a suspect's failures."""
    by_rule: dict[str, list[Failure]] = {}
    for failure in filter(explains, failures):
        by_rule.setdefault(failure.error["type"], []).append(failure)
    for kind, own in by_rule.items():
        yield Finding(
            rule=_RULES[kind],
            verdict=Verdict.INCONCLUSIVE,
            statistic=None,
            p_value=None,
            reason=own[0].sentence.removesuffix("."),
            parameters={},
            evidence=Evidence(failures=tuple(own)),
        )
