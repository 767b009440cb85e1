"""JUnit XML, which continuous integration shows as a list of tests.

A model is a suite, and a test is one detector on it. Suspicious is a failure, what could not be
measured is an error, and what is inconclusive, does not apply or was allowed is skipped, with the
reason: a skip is not a pass.
"""

from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import quoteattr

from scanner.report import Page
from scanner.report.escape import printable
from scanner.results import ScanResult, Verdict
from scanner.version import PROGRAM

_LONGEST = 2000

Case = tuple[str, str, str]  # name, outcome (an element of JUnit's, or "" for a pass), message


class JunitReport:
    """A suite per model."""

    name = "junit"
    suffix = ".xml"
    several = True
    shows_failures = True

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:  # noqa: ARG002 - the totals stand first
        """Write the suites once all results are there."""
        known = [(result, list(_cases(result))) for result in results]
        page.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        totals = _totals([case for _, cases in known for case in cases])
        page.write(f'<testsuites name="{PROGRAM}"{totals}>\n')
        for result, cases in known:
            page.write("".join(_suite(result, cases)))
        page.write("</testsuites>\n")


def _suite(result: ScanResult, cases: Sequence[Case]) -> Iterator[str]:
    name = _attribute(result.model.path)
    seconds = f' time="{result.runtime.seconds:.3f}"' if result.runtime else ""
    # JUnit's time stamps have no zone; they are in UTC.
    began = f' timestamp="{result.run.time.removesuffix("Z")}"' if result.run else ""
    yield f"  <testsuite name={name}{_totals(cases)}{seconds}{began}>\n"
    yield "    <properties>\n"
    for label, value in _properties(result):
        yield f'      <property name="{label}" value={_attribute(value)}/>\n'
    yield "    </properties>\n"
    for case, outcome, message in cases:
        start = f"    <testcase classname={name} name={_attribute(case)}"
        told = f"message={_attribute(message)}"
        yield f"{start}><{outcome} {told}/></testcase>\n" if outcome else f"{start}/>\n"
    yield "  </testsuite>\n"


def _properties(result: ScanResult) -> Iterator[tuple[str, str]]:
    if result.model.sha256 is not None:
        yield "sha256", result.model.sha256
    yield "verdict", result.verdict.value
    if result.run:
        yield "alpha", f"{result.run.alpha:g}"
        yield "version", result.run.version
        yield "arguments", " ".join(result.run.arguments)


def _cases(result: ScanResult) -> Iterator[Case]:
    yield _case(result, "verdict", result.verdict, result.reason)
    for finding in result.findings:
        yield _case(result, finding.rule.id, finding.verdict, finding.reason)
    for skip in result.skips:
        yield skip.rule, "skipped", f"not applicable: {skip.reason}"
    for failure in result.failures:
        yield failure.rule, "error", failure.sentence


def _case(result: ScanResult, rule: str, verdict: Verdict, reason: str) -> Case:
    allowed = next((s for s in result.suppressions if s.covers(rule)), None)
    if verdict is Verdict.CLEAN:
        return rule, "", ""
    if allowed is not None:
        told = f"allowed until {allowed.expires} ({allowed.reason}): {reason}"
        return rule, "skipped", told
    return rule, "failure" if verdict is Verdict.SUSPICIOUS else "skipped", reason


def _totals(cases: Sequence[Case]) -> str:
    outcomes = [outcome for _, outcome, _ in cases]
    counts = {
        "tests": len(cases),
        "failures": outcomes.count("failure"),
        "errors": outcomes.count("error"),
        "skipped": outcomes.count("skipped"),
    }
    return "".join(f' {name}="{count}"' for name, count in counts.items())


def _attribute(text: str) -> str:
    """Return a quoted attribute; a character that XML does not know is written as an escape."""
    return quoteattr(printable(text, _LONGEST))
