"""Markdown for a comment on a pull request: a table of the models, and each one folded below."""

from collections.abc import Iterable, Iterator, Sequence

from scanner.report import Page, screenings
from scanner.report.escape import printable
from scanner.report.totals import place, totals, why
from scanner.results import Finding, ScanResult, ScreenedInput, Screening, Verdict

_LONGEST = 600
_MOST_INPUTS = 100
_MARKS = {Verdict.CLEAN: "✅", Verdict.SUSPICIOUS: "❌", Verdict.INCONCLUSIVE: "❔"}
_MARKUP = frozenset("\\`*_[]#|~&<>$")


class MarkdownReport:
    """GitHub's dialect, which GitLab reads as well."""

    name = "markdown"
    suffix = ".md"
    several = True
    shows_failures = True

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:  # noqa: ARG002 - the totals stand first
        """Write the page once all results are there."""
        page.write("\n".join(_page(list(results))) + "\n")

    def render_input(self, found: ScreenedInput, page: Page) -> None:
        """Write nothing: the verdict comes first."""

    def render_screening(self, screening: Screening, page: Page) -> None:
        """Write the verdict, then the inputs that stand out, the furthest first."""
        page.write("\n".join(_inputs(screening)) + "\n")


def _inputs(screening: Screening) -> Iterator[str]:
    mark = _MARKS[screening.verdict]
    yield f"### Inputs of {plain(screening.model.path)}"
    yield ""
    yield f"{mark} {plain(screenings.verdict_line(screening))}."
    yield ""
    if screening.found:
        yield f"| {' | '.join(screenings.COLUMNS)} |"
        yield "|---|--:|--:|--:|---|---|"
        for found in screening.found[:_MOST_INPUTS]:
            yield f"| {' | '.join(map(plain, screenings.cells(found)))} |"
        if (left := screening.standing_out - _MOST_INPUTS) > 0:
            yield ""
            yield f"... and {left:,} more"
        yield ""
    yield from map(plain, screenings.facts(screening))


def _page(results: Sequence[ScanResult]) -> Iterator[str]:
    yield f"### Backdoor scan: {plain(totals(results))}"
    yield ""
    yield "| model | verdict | p-value | size | class | why |"
    yield "|---|---|--:|--:|--:|---|"
    for result in results:
        p, size = place(result)
        target = "-" if result.target_class is None else str(result.target_class)
        cells = (plain(result.model.path), _verdict(result.verdict), _figure(p))
        rest = (_figure(size), target, plain(why(result)))
        yield f"| {' | '.join((*cells, *rest))} |"
    for result in results:
        yield from _details(result)
    if run := next((r.run for r in results if r.run), None):
        yield ""
        yield f"<sub>overactivation {plain(run.version)}, alpha {run.alpha:g}, {run.time}</sub>"


def _details(result: ScanResult) -> Iterator[str]:
    yield ""
    name = plain(result.model.path)
    yield f"<details><summary>{name}</summary>"
    yield ""
    if result.findings:
        yield "| detector | verdict | p-value | size | what it found |"
        yield "|---|---|--:|--:|---|"
        yield from map(_row, result.findings)
        yield ""
    yield from (f"* skipped {plain(s.rule)}: {plain(s.reason)}" for s in result.skips)
    yield from (f"* failed {plain(f.rule)}: {plain(f.sentence)}" for f in result.failures)
    yield from (
        f"* allowed {plain(s.rule)} until {plain(s.expires)}: {plain(s.reason)}"
        for s in result.suppressions
    )
    yield from (f"* warning: {plain(sentence)}" for sentence in result.warnings)
    if result.calibration:
        yield f"* rests on {plain(result.calibration)}"
    yield from (f"* stronger: {plain(sentence)}" for sentence in result.advice)
    if result.model.sha256:
        yield f"* SHA-256 `{plain(result.model.sha256)}`"
    yield ""
    yield "</details>"


def _row(finding: Finding) -> str:
    cells = (plain(finding.rule.id), _verdict(finding.verdict), _figure(finding.p_value))
    return f"| {' | '.join((*cells, _figure(finding.size), plain(finding.reason)))} |"


def _verdict(verdict: Verdict) -> str:
    return f"{_MARKS[verdict]} {verdict.value}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def plain(text: str) -> str:
    """Return text that Markdown shows as it is: no markup, no link, nobody mentioned."""
    shown = "".join(f"\\{c}" if c in _MARKUP else c for c in printable(text, _LONGEST))
    # An empty comment keeps '@name' from notifying anybody; '://' and 'www.' would become links.
    return shown.replace("@", "@<!-- -->").replace("://", "\\://").replace("www.", "www\\.")
