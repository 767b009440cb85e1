"""The result for a person at a terminal."""

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scanner.report.escape import LONGEST, printable
from scanner.report.isolation import lacking
from scanner.report.pictures import Picture, picture
from scanner.report.totals import chances, is_failed, place, totals
from scanner.results import (
    Block,
    Cell,
    Failure,
    Finding,
    Histogram,
    ScanResult,
    Severity,
    Standing,
    Trigger,
    Verdict,
)
from scanner.results import Table as BlockTable

STYLES = {
    Verdict.CLEAN: "bold green",
    Verdict.SUSPICIOUS: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
}
_SEVERITY_STYLES = {
    Severity.NOTE: "dim",
    Severity.WARNING: "yellow",
    Severity.SUSPICIOUS: "bold red",
    Severity.CONFIRMED: "bold red",
}
_REFERENCES_SHOWN = 4
_SHOWN = 100  # observations of one finding, skips, failures: JSON has them all
_BAR = 24
_LABEL = 9
_FEW = 3  # warnings, or failures, where not all is shown
_SENTENCE = 600  # most characters of one
_WIDEST = 32  # columns of a picture
_COLOURS = frozenset({"256", "truecolor"})  # of a console, where pictures keep their colours
_SERIES_STYLES = ("red", "green", "cyan", "magenta")


def render(
    results: Sequence[ScanResult],
    console: Console,
    *,
    verbose: bool = False,
    fdr: float | None = None,
    more: str = "",
) -> None:
    """Print the answer for one model, or several as a table with a row per model.

    A verbose report shows every detector in full below the answer, and every model before the
    table; another says in the words `more` how to get one.
    """
    for result in results if verbose or len(results) == 1 else ():
        console.print(_answer(result, verbose=verbose, more=more))
        if verbose:
            console.print(_details(result, console))
        if len(results) > 1:
            console.print()
    if len(results) > 1:
        console.print(_overview(results, fdr))


def _answer(result: ScanResult, *, verbose: bool, more: str) -> RenderableType:
    """The verdict, why, what it rests on and what to do next: in ten lines, unless verbose."""
    verdict = (result.verdict.value, STYLES[result.verdict])
    title = Text.assemble(verdict, "  ", (printable(result.model.path), "bold"))
    table = Table.grid(padding=(0, 2, 0, 2))
    table.add_column(min_width=_LABEL)
    table.add_column(overflow="fold")
    table.add_row("because", _text(result.reason, _SENTENCE).append("."))
    most = _SHOWN if verbose else _FEW
    for warning in result.warnings[:most]:
        table.add_row(Text("warning", "yellow"), _text(warning, _SENTENCE).append("."))
    failed = _by_cause((f.rule, f.sentence) for f in result.failures)
    for rules, sentence in failed[:most]:
        table.add_row(
            Text("failed", "red"), _text(rules, 400).append(": ").append(_text(sentence, _SENTENCE))
        )
    left = max(0, len(result.warnings) - most) + max(0, len(failed) - most)
    if left:
        table.add_row("", Text(f"and {left} more warnings or failures", "dim"))
    for label, sentence in _grounds(result, verbose=verbose, more=more):
        table.add_row(Text(label, "dim"), _text(sentence, 400, "dim"))
    return Group(title, table)


def _details(result: ScanResult, console: Console) -> RenderableType:
    """A row per detector, and in full those that have something to show."""
    parts: list[RenderableType] = ["", _files(result), "", _summary(result)]
    for finding in result.findings:
        if not (finding.statistic or finding.observations or finding.description.blocks):
            continue
        parts += ["", _finding_heading(finding), _body(finding, console)]
    skipped = _by_cause((s.rule, s.reason) for s in result.skips)
    if skipped:
        parts.append("")
    parts += [_line(f"skipped {rules}", reason, "dim") for rules, reason in skipped[:_SHOWN]]
    return Group(*parts)


def _by_cause(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each cause once, with all the detectors that it stopped."""
    rules: dict[str, list[str]] = {}
    for rule, cause in pairs:
        rules.setdefault(cause, []).append(rule)
    return [(", ".join(stopped), cause) for cause, stopped in rules.items()]


def _summary(result: ScanResult) -> Table:
    """A row per detector: its statistic and the references', p-value, size, its own verdict."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("detector", no_wrap=True)  # whole, to be typed again
    table.add_column("suspect", justify="right", min_width=12)
    table.add_column("references", justify="right", min_width=10)
    for name in ("p-value", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for finding in result.findings:
        own, others = _figures(finding)
        p = "-" if finding.p_value is None else f"{finding.p_value:.3g}"
        far = "-" if finding.size is None else f"{round(finding.size, 3) + 0.0:.2g}"  # no "-0"
        word = Text(finding.verdict.value, STYLES[finding.verdict])
        table.add_row(_text(finding.rule.id), _text(own), _text(others), p, far, word)
    return table


def _figures(finding: Finding) -> tuple[str, str]:
    """The numbers that a person would compare, in their unit."""
    standing = finding.evidence.standing
    if standing is not None:
        return f"{standing.suspect:.4g}{standing.unit}", _reach(standing)
    if finding.observations:
        worst = max(o.severity for o in finding.observations)
        return f"{len(finding.observations)} seen ({worst.name.lower()})", "-"
    return ("nothing seen" if finding.statistic == 0 else _figure(finding.statistic)), "-"


def _reach(standing: Standing) -> str:
    """The references' figures, from the lowest to the highest."""
    low, high, unit = standing.low, standing.high, standing.unit
    if low is None or high is None:
        return "-"
    return f"{low:.4g}{unit}" if low == high else f"{low:.4g} to {high:.4g}{unit}"


def _files(result: ScanResult) -> Text:
    text = Text("suspect    ").append(printable(result.model.path))
    for reference in result.references[:_REFERENCES_SHOWN]:
        text.append("\nreference  ").append(printable(reference.path))
    more = len(result.references) - _REFERENCES_SHOWN
    return text.append(f"\n           and {more} more", "dim") if more > 0 else text


def _finding_heading(finding: Finding) -> Text:
    """What a detector says, and what it would have said: a summary alone reads like a finding."""
    heading = _text(finding.rule.name, style="bold cyan").append(": ")
    heading.append(finding.verdict.value, STYLES[finding.verdict])
    sought = _text(f"looks for: {finding.rule.summary}", 400, "dim")
    return heading.append("\n").append_text(sought)


def _sentences(finding: Finding) -> RenderableType:
    """What was observed, the most severe first; the reason where nothing was."""
    ranked = sorted(finding.observations, key=lambda o: -o.severity)
    lines = [
        _line(o.severity.name.lower(), o.sentence, _SEVERITY_STYLES[o.severity])
        for o in ranked[:_SHOWN]
    ]
    lines += [Text(f"and {len(ranked) - _SHOWN} more", "dim")] if len(ranked) > _SHOWN else []
    return Group(*lines) if lines else _text(finding.reason, _SENTENCE)


def _grounds(result: ScanResult, *, verbose: bool, more: str) -> Iterator[tuple[str, str]]:
    """Yield what the verdict rests on, what the detectors say, and what to do next."""
    if result.verdict is Verdict.INCONCLUSIVE and result.index is not None and not result.missed:
        reach = "clean networks of the shipped recipes reached 1 at most"
        yield "index", f"{result.index:.2f}, uncalibrated: {reach}"
    for number, allowed in enumerate(result.suppressions):
        label = "" if number else "allowed"
        yield label, f"{allowed.rule}, until {allowed.expires}: {allowed.reason}"
    if result.calibration:
        yield "rests on", result.calibration
    yield "detectors", _tally(result) + (f"; {more}" if more and not verbose else "")
    if verbose and result.input_range is not None:
        found = result.input_range
        yield "input", f"{found.low:.4g}..{found.high:.4g}: {found.sentence}"
    for number, sentence in enumerate(result.advice if verbose else result.advice[:1]):
        yield "" if number else "next", sentence
    if result.runtime is not None:
        runtime = result.runtime
        threads = f"{runtime.threads} thread{'s' if runtime.threads != 1 else ''}"
        version = f"ONNX Runtime {runtime.versions.get('onnxruntime', '?')}"
        yield "ran on", f"{runtime.provider}, {threads}, {version}, {runtime.seconds:.2f} s"
        missing, lesser = lacking(runtime)
        if said := (*missing, *(lesser if verbose else ())):
            yield "isolation", "; ".join(said)


def _tally(result: ScanResult) -> str:
    """Count what the detectors say; those that are not clean, or did not run, are named."""
    said = []
    for verdict in (Verdict.SUSPICIOUS, Verdict.INCONCLUSIVE):
        named = [f.rule.id for f in result.findings if f.verdict is verdict]
        said += [f"{len(named)} {verdict.value} ({', '.join(named)})"] if named else []
    clean = sum(finding.verdict is Verdict.CLEAN for finding in result.findings)
    said += [f"{clean} clean"] if clean else []
    answered = {finding.rule.id for finding in result.findings}
    # One that left something out for want of time is named for what it says.
    skipped = [skip.rule for skip in result.skips if skip.rule not in answered]
    said += [f"{len(skipped)} skipped ({', '.join(skipped)})"] if skipped else []
    return ", ".join(said) or "none ran"


def _line(label: str, sentence: str, style: str) -> Text:
    return _text(label, 400, style).append(": ").append_text(_text(sentence, _SENTENCE, "default"))


def _text(shown: str, longest: int = LONGEST, style: str = "") -> Text:
    """Return words, whosesoever, as text that a terminal does not obey and rich does not parse."""
    return Text(printable(shown, longest), style)


def _body(finding: Finding, console: Console) -> RenderableType:
    """What the detector describes, and the trigger; else what was observed, in sentences."""
    blocks = finding.description.blocks
    parts = [_block(block) for block in blocks]
    if finding.evidence.trigger and blocks:
        parts += _trigger(finding.evidence.trigger, console)
    return Group(*parts) if parts else _sentences(finding)


def _block(block: Block) -> RenderableType:
    if block.table is not None:
        return _table(block.table)
    if block.histogram is not None:
        return Padding(_histogram(block.histogram), (1, 0, 0, 0))
    text = _text(block.line, 400)
    if block.strong:
        text.highlight_words([printable(block.strong, 400)], "bold")
    return text


def _table(block: BlockTable) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for number, name in enumerate(block.columns):
        table.add_column(_text(name), justify="left" if number < block.left else "right")
    for number, row in enumerate(block.rows):
        cells = map(_text, row)
        table.add_row(*cells, style="bold" if number == block.emphasised else "")
    if block.caption:
        table.caption = _text(block.caption)
    return table


def _trigger(trigger: Trigger, console: Console) -> list[RenderableType]:
    """The mask, and an image with the trigger, as wide as the terminal allows."""
    widest = max(8, min(_WIDEST, (console.width - 7) // 2))
    pictures = (picture(trigger.mask), picture(trigger.stamped, trigger.low, trigger.high))
    in_colour = console.color_system in _COLOURS and not console.options.ascii_only
    draw = _in_colour if in_colour else _in_shades
    table = Table(box=box.SQUARE, padding=0, header_style="dim", show_lines=False)
    table.add_column(f"mask of class {trigger.class_id}")
    table.add_column("an image, stamped")
    table.add_row(*(draw(each, widest) for each in pictures))
    flips = f"the stamped image turns from class {trigger.class_before} to {trigger.class_after}"
    success = trigger.success
    held = "" if success is None else f"; so do {success:.0%} of the images held back"
    return [table, Text(flips + held)]


def _in_colour(shown: Picture, widest: int) -> Text:
    """Draw a picture in its colours: two pixels a character, one above the other."""
    lines = [
        Text.assemble(*(("▀", f"{_rgb(upper)} on {_rgb(lower)}") for upper, lower in line))
        for line in shown.cells(widest)
    ]
    return Text("\n").join(lines)


def _rgb(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _in_shades(shown: Picture, widest: int) -> Text:
    return Text("\n".join(shown.blocks(widest)))


def _histogram(block: Histogram) -> Table:
    """Draw the series over common bins, a row per bin."""
    most = max((count for series in block.series for count in series.counts), default=0)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(_text(f"{block.quantity} from"), justify="right", style="dim")
    for series, style in zip(block.series, _SERIES_STYLES, strict=False):
        table.add_column(_text(series.name), width=_BAR, style=style)
    for index, edge in enumerate(block.edges):
        bars = (_bar(series.counts[index], most) for series in block.series)
        table.add_row(_figure(edge), *bars)
    return table


def _bar(count: int, most: int) -> str:
    return f"{'█' * max(1, round(count / most * (_BAR - 5)))} {count}" if count else ""


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _overview(results: Sequence[ScanResult], fdr: float | None) -> RenderableType:
    """A row per model, with the columns that the findings put there, and the totals."""
    cells = [{c.heading: c.text for c in _cells(result)} for result in results]
    headings = list(dict.fromkeys(heading for row in cells for heading in row))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for name in ("p-value", "size", "index", "class", *headings):
        table.add_column(_text(name), justify="right")
    for result, own in zip(results, cells, strict=True):
        verdict = Text(result.verdict.value, STYLES[result.verdict])
        if is_failed(result):
            verdict = Text("failed", "bold red")
        elif result.allowed:
            verdict = Text(f"{result.verdict.value}, allowed", "dim")
        p, size = place(result)
        numbers = (_short(p), _short(size), _short(result.index), _suspected(result))
        further = (_text(own.get(heading, "-")) for heading in headings)
        table.add_row(_text(result.model.path), verdict, *numbers, *further)
    said = (Text(f"{sentence}.") for sentence in (totals(results), *chances(results, fdr)))
    return Group(table, "", *_notes(results), "", *said)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _cells(result: ScanResult) -> Iterator[Cell]:
    for finding in result.findings:
        yield from finding.description.cells


def _suspected(result: ScanResult) -> str:
    """The class that a suspicious verdict is about."""
    return "-" if result.target_class is None else str(result.target_class)


def _among(paths: Sequence[str]) -> str:
    return printable(paths[0]) if len(paths) == 1 else f"{len(paths)} models"


def _notes(results: Sequence[ScanResult]) -> list[Text]:
    """Say each reason once, and of which models it is true, and each failure."""
    models: dict[tuple[Verdict, str], list[str]] = {}
    for result in results:
        if not is_failed(result):
            models.setdefault((result.verdict, result.reason), []).append(result.model.path)
    failures: list[tuple[ScanResult, Failure]] = [(r, f) for r in results for f in r.failures]
    notes = [
        Text(f"{_among(paths)} {verdict.value}: {printable(reason, _SENTENCE)}.")
        for (verdict, reason), paths in models.items()
    ]
    return notes + [
        _line(f"{printable(r.model.path)} failed {f.rule}", f.sentence, "red") for r, f in failures
    ]
