"""SARIF 2.1.0 (OASIS, errata 01, 2023): what code scanning and security dashboards read.

One rule per detector, per observation, and for the verdict of all detectors together. What was
found is of kind `fail`; what is clean, undecided or not applicable is there as `pass`, `open` and
`notApplicable` (3.27.9), because a log of failures alone cannot tell a clean model from one that
nobody looked at.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from scanner.report import Page
from scanner.report.escape import printable
from scanner.report.isolation import lacking
from scanner.report.json import write
from scanner.report.screenings import where
from scanner.results import (
    Failure,
    Finding,
    ModelIdentity,
    Observation,
    Rule,
    Run,
    ScanResult,
    ScreenedInput,
    Screening,
    Severity,
    Suppression,
    Verdict,
)
from scanner.values import to_json
from scanner.version import PROGRAM

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_VERDICT = "verdict"  # the rule of the combined verdict
_LONGEST = 2000
_MOST_NODES = 100
_KINDS = {
    Verdict.CLEAN: ("pass", "none"),
    Verdict.SUSPICIOUS: ("fail", "error"),
    Verdict.INCONCLUSIVE: ("open", "none"),
}
_SEVERITIES = {
    Severity.NOTE: ("informational", "none"),
    Severity.WARNING: ("fail", "warning"),
    Severity.SUSPICIOUS: ("fail", "error"),
    Severity.CONFIRMED: ("fail", "error"),
}

Json = dict[str, Any]


class SarifReport:
    """All results as one run in one log."""

    name = "sarif"
    suffix = ".sarif"
    several = True
    shows_failures = True

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:  # noqa: ARG002 - a log is written as a whole
        """Write the log once all results are there."""
        page.write(write(_Log(list(results)).data()))

    def render_input(self, found: ScreenedInput, page: Page) -> None:
        """Write nothing: a log is written as a whole."""

    def render_screening(self, screening: Screening, page: Page) -> None:
        """Write the verdict on all inputs, and a result for each that stands out."""
        page.write(write(_Log([]).screened(screening)))


class _Log:
    """A log under construction: rules and artifacts are listed once, and named by their place."""

    def __init__(self, results: Sequence[ScanResult]) -> None:
        self._results = results
        self._detectors = {f.rule.id: f.rule for result in results for f in result.findings}
        self._rules: dict[str, Json] = {}
        self._artifacts: dict[tuple[str, str | None], Json] = {}

    def data(self) -> Json:
        runs = list(dict.fromkeys(r.run.arguments if r.run else () for r in self._results))
        found = [
            {**entry, "provenance": {"invocationIndex": runs.index(_arguments(result))}}
            for result in self._results
            for entry in self._entries(result)
        ]
        invocations = [
            self._invocation([r for r in self._results if _arguments(r) == arguments])
            for arguments in runs
        ]
        version = next((r.run.version for r in self._results if r.run), None)
        return self._whole(found, invocations, version)

    def screened(self, screening: Screening) -> Json:
        """Return the log of a model's inputs."""
        made = screening.run
        invocation = {"executionSuccessful": True, **(_circumstances([made]) if made else {})}
        found = list(self._inputs(screening))
        return self._whole(found, [invocation], made.version if made else None)

    def _whole(self, found: list[Json], invocations: list[Json], version: str | None) -> Json:
        driver: Json = {"name": PROGRAM, "rules": list(self._rules.values())}
        run = {
            "tool": {"driver": driver | ({"version": version} if version else {})},
            "invocations": invocations,
            "artifacts": list(self._artifacts.values()),
            "results": found,
        }
        return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}

    def _inputs(self, screening: Screening) -> Iterator[Json]:
        """Yield the verdict on all inputs, then each that stands out.

        Of clean inputs some stand out by chance, so only what lies far out fails; the others are
        for review (3.27.9).
        """
        identity = screening.model
        model = self._artifact(identity, "analysisTarget")
        rule = self._rule(_VERDICT, "Verdict", "All inputs together, by rank among clean images")
        facts: Json = {
            "verdict": screening.verdict.value,
            "inputs": screening.inputs,
            "standingOut": screening.standing_out,
            "farOut": screening.far_out,
            "pValue": screening.p_value,
            "alpha": screening.alpha,
            "ranked": screening.ranked,
            "hosts": screening.hosts,
        }
        kind = _KINDS[screening.verdict]
        yield _said(rule, model, identity, kind=kind, message=screening.reason, facts=facts)
        filters = {note.rule.id: note.rule for note in screening.filters}
        for one in screening.found:
            about = filters.get(one.rule)
            summary, source = (about.summary, about.source) if about else ("", "")
            rule = self._rule(
                f"input/{one.rule}", about.name if about else one.rule, summary, source
            )
            kind = ("fail", "error") if one.far_out else ("review", "none")
            message = f"input {one.name} stands out, by {where(one.region)}"
            facts = {
                "input": printable(one.name, _LONGEST),
                "number": one.number,
                "class": one.class_id,
                "pValue": one.p_value,
                "size": one.size,
            }
            entry = _said(rule, model, identity, kind=kind, message=message, facts=facts)
            yield _of_input(entry, one)

    def _entries(self, result: ScanResult) -> Iterator[Json]:
        """Yield SARIF's results for one model: the combined verdict, then each detector's."""
        model = self._artifact(result.model, "analysisTarget")
        for reference in result.references:
            self._artifact(reference, "referencedOnCommandLine")
        summary = "All detectors together, by rank among clean models"
        rule = self._rule(_VERDICT, "Verdict", summary)
        facts = to_json(
            {
                "verdict": result.verdict,
                "score": result.score,
                "size": result.size,
                "index": result.index,
                "targetClass": result.target_class,
                "calibration": result.calibration,
                "alpha": result.run.alpha if result.run else None,
                "warnings": result.warnings,
                "advice": result.advice,
            }
        )
        kind = _KINDS[result.verdict]
        yield _entry(rule, model, result, kind=kind, message=result.reason, facts=facts)
        for finding in result.findings:
            yield from self._finding(finding, model, result)
        for skip in result.skips:
            # A skip names its rule only; another model may have more of it.
            about = self._detectors.get(skip.rule)
            rule = self._detector(about) if about else self._rule(skip.rule, skip.rule, "")
            kind = ("notApplicable", "none")
            yield _entry(rule, model, result, kind=kind, message=skip.reason, facts={})

    def _finding(self, finding: Finding, model: Json, result: ScanResult) -> Iterator[Json]:
        about = finding.rule
        rule = self._detector(about)
        if not finding.observations:
            kind, facts = _KINDS[finding.verdict], _facts(finding)
            yield _entry(rule, model, result, kind=kind, message=finding.reason, facts=facts)
        for seen in finding.observations:
            words = seen.code.replace("-", " ")
            rule = self._rule(f"{about.id}/{seen.code}", seen.code, f"{about.name}: {words}")
            kind = _SEVERITIES[seen.severity]
            facts = {"severity": seen.severity.name.lower(), "details": to_json(seen.details)}
            entry = _entry(rule, model, result, kind=kind, message=seen.sentence, facts=facts)
            yield _at_nodes(entry, seen)

    def _detector(self, about: Rule) -> Json:
        return self._rule(about.id, about.name, about.summary, about.source)

    def _rule(self, name: str, title: str, summary: str, source: str = "") -> Json:
        """List a rule, and return what refers to it."""
        if name not in self._rules:
            rule: Json = {"id": name, "name": printable(title)}
            if summary:
                rule["shortDescription"] = {"text": printable(summary, _LONGEST)}
            if source:
                rule["help"] = {"text": printable(source, _LONGEST)}
            self._rules[name] = rule
        return {"ruleId": name, "ruleIndex": list(self._rules).index(name)}

    def _artifact(self, model: ModelIdentity, role: str) -> Json:
        """List a file, and return what refers to it."""
        key = (model.path, model.sha256)
        if key not in self._artifacts:
            self._artifacts[key] = {
                "location": {"uri": uri(model.path)},
                "roles": [role],
                **({"hashes": {"sha-256": model.sha256}} if model.sha256 else {}),
                "properties": {
                    "producer": printable(model.producer),
                    "opset": model.opset,
                    "architecture": model.architecture,
                },
            }
        elif role not in self._artifacts[key]["roles"]:
            self._artifacts[key]["roles"].append(role)
        return {"uri": uri(model.path), "index": list(self._artifacts).index(key)}

    def _invocation(self, results: Sequence[ScanResult]) -> Json:
        """Describe one command line: when it ran, and what could not be measured."""
        made = [result.run for result in results if result.run]
        failures = [(result, failure) for result in results for failure in result.failures]
        return {
            "executionSuccessful": not failures,
            "toolExecutionNotifications": [self._notification(r, f) for r, f in failures],
            "toolConfigurationNotifications": [*_isolation(results)],
            **(_circumstances(made) if made else {}),
        }

    def _notification(self, result: ScanResult, failure: Failure) -> Json:
        artifact = self._artifact(result.model, "analysisTarget")
        return {
            "level": "error",
            "message": {"text": printable(failure.sentence, _LONGEST)},
            "locations": [{"physicalLocation": {"artifactLocation": artifact}}],
            "descriptor": {"id": str(failure.error["type"])},
            "properties": {"rule": failure.rule},
        }


def _isolation(results: Sequence[ScanResult]) -> Iterator[Json]:
    """Yield what the isolation of these scans lacked, each once."""
    lacked = [lacking(result.runtime) for result in results]
    for place, level in enumerate(("warning", "note")):
        for words in dict.fromkeys(itertools.chain.from_iterable(both[place] for both in lacked)):
            text = f"the isolation lacked something: {words}"
            yield {
                "level": level,
                "message": {"text": printable(text, _LONGEST)},
                "descriptor": {"id": "isolation"},
            }


def _circumstances(runs: Sequence[Run]) -> Json:
    return {
        "startTimeUtc": min(run.time for run in runs),
        "arguments": [printable(word, _LONGEST) for word in runs[0].arguments],
        "properties": {"alpha": runs[0].alpha},
    }


def _arguments(result: ScanResult) -> tuple[str, ...]:
    return result.run.arguments if result.run else ()


def _entry(  # noqa: PLR0913 - the parts of a SARIF result
    rule: Json,
    model: Json,
    result: ScanResult,
    *,
    kind: tuple[str, str],
    message: str,
    facts: Json,
) -> Json:
    """Return a SARIF result of a scan."""
    accepted = [s for s in result.suppressions if s.covers(rule["ruleId"])]
    return {
        **_said(rule, model, result.model, kind=kind, message=message, facts=facts),
        **({"suppressions": list(map(_suppression, accepted))} if accepted else {}),
    }


def _said(  # noqa: PLR0913 - the parts of a SARIF result
    rule: Json,
    model: Json,
    identity: ModelIdentity,
    *,
    kind: tuple[str, str],
    message: str,
    facts: Json,
) -> Json:
    """Return a SARIF result about a model."""
    return {
        **rule,
        "kind": kind[0],
        "level": kind[1],
        "message": {"text": printable(message, _LONGEST)},
        "locations": [{"physicalLocation": {"artifactLocation": model}}],
        "partialFingerprints": {"modelAndRule/v1": f"{identity.sha256}/{rule['ruleId']}"},
        "properties": facts,
    }


def _of_input(entry: Json, one: ScreenedInput) -> Json:
    """Name the input that a result is about, so that each has a fingerprint of its own."""
    (place,) = entry["locations"]
    named = {"fullyQualifiedName": printable(one.name, _LONGEST), "kind": "input"}
    fingerprint = entry["partialFingerprints"]["modelAndRule/v1"]
    return entry | {
        "locations": [place | {"logicalLocations": [named]}],
        "partialFingerprints": {"modelAndRule/v1": f"{fingerprint}/{printable(one.name)}"},
    }


def _suppression(suppression: Suppression) -> Json:
    return {
        "kind": "external",
        "status": "accepted",
        "justification": printable(suppression.reason, _LONGEST),
        "properties": {"expires": suppression.expires},
    }


def _at_nodes(entry: Json, seen: Observation) -> Json:
    """Name the nodes of the graph that an observation is about."""
    if not seen.nodes:
        return entry
    (place,) = entry["locations"]
    nodes = [{"fullyQualifiedName": printable(n), "kind": "node"} for n in seen.nodes]
    fingerprint = entry["partialFingerprints"]["modelAndRule/v1"]
    return entry | {
        "locations": [place | {"logicalLocations": nodes[:_MOST_NODES]}],
        "partialFingerprints": {"modelAndRule/v1": f"{fingerprint}/{printable(seen.nodes[0])}"},
    }


def _facts(finding: Finding) -> Json:
    """Return what a program reads of a finding; pictures stay in the JSON result."""
    evidence = finding.evidence
    facts: Json = to_json(
        {
            "verdict": finding.verdict,
            "statistic": finding.statistic,
            "pValue": finding.p_value,
            "size": finding.size,
            "targetClass": evidence.target_class,
            "layer": evidence.layer and printable(evidence.layer),
            "standing": evidence.standing,
            "figures": evidence.figures,
            "parameters": finding.parameters,
        }
    )
    return facts


def uri(path: str) -> str:
    """Return a file's name as a URI reference; an absolute one has the scheme `file`."""
    named = PurePath(path)
    quoted = quote(os.fsencode(named.as_posix()))
    if named.is_absolute():
        return f"file://{quoted}" if quoted.startswith("/") else f"file:///{quoted}"
    # A colon in the first part would read as a scheme.
    return f"./{quoted}" if ":" in path.split("/", maxsplit=1)[0] else quoted
