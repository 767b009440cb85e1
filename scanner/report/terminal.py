"""The result for a person at a terminal."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scanner.limits import Confinement
from scanner.report.escape import printable
from scanner.report.pictures import picture
from scanner.results import Failure, Finding, ScanResult, Severity, Verdict
from scanner.values import from_json

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
_CLASSES_SHOWN = 10
_REFERENCES_SHOWN = 4
_BINS = 12
_BAR = 24
_LABEL = 9


def render(results: Sequence[ScanResult], console: Console) -> None:
    """Print one result in full, or several as a table with a row a model."""
    if len(results) == 1:
        console.print(_single(results[0]))
    else:
        console.print(_overview(results))


def _single(result: ScanResult) -> RenderableType:
    parts: list[RenderableType] = [_heading(result), "", _summary(result)]
    for finding in result.findings:
        if _is_shown_in_full(finding):
            parts += ["", _finding_heading(finding), _body(finding)]
    if rest := [f for f in result.findings if not _is_shown_in_full(f) and f.statistic != 0]:
        parts += ["", _in_words(rest)]
    if result.skips or result.failures:
        parts.append("")
    parts += [_line(f"skipped {s.rule}", s.reason, "dim") for s in result.skips]
    parts += [_line(f"failed {f.rule}", f.sentence, "red") for f in result.failures]
    return Group(*parts, "", _conclusion(result))


def _is_shown_in_full(finding: Finding) -> bool:
    return bool(
        finding.rule.id in _BODIES or finding.observations or finding.verdict is Verdict.SUSPICIOUS
    )


def _in_words(findings: Sequence[Finding]) -> Table:
    """The evidence of what is not shown in full, a row a detector."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(Text(finding.rule.id, "cyan"), Text(printable(finding.reason, 400), "dim"))
    return table


def _summary(result: ScanResult) -> Table:
    """A row a detector: its statistic beside the references', the p-value, its own verdict."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("detector")
    for name in ("suspect", "references", "p-value"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for finding in result.findings:
        own, others = _figures(finding)
        p = "-" if finding.p_value is None else f"{finding.p_value:.3g}"
        table.add_row(
            finding.rule.id, own, others, p, Text(finding.verdict.value, STYLES[finding.verdict])
        )
    return table


def _figures(finding: Finding) -> tuple[str, str]:
    """The numbers that a person would compare, in their unit."""
    values = finding.values
    for name, unit in (("size", " px"), ("margin", ""), ("mean", ""), ("z", "")):
        own = values.get(f"suspect_{name}")
        if own is not None:
            return f"{own:.4g}{unit}", _reach(values, unit)
    if finding.observations:
        worst = max(o.severity for o in finding.observations)
        return f"{len(finding.observations)} seen ({worst.name.lower()})", "-"
    return ("nothing seen" if finding.statistic == 0 else _figure(finding.statistic)), "-"


def _reach(values: Mapping[str, float | int | None], unit: str) -> str:
    """The references' figures, from the lowest to the highest."""
    low, high = values.get("reference_low"), values.get("reference_high")
    if low is None or high is None:
        return "-"
    return f"{low:.4g}{unit}" if low == high else f"{low:.4g} to {high:.4g}{unit}"


def _heading(result: ScanResult) -> Text:
    text = Text("suspect    ").append(printable(result.model.path), "bold")
    for reference in result.references[:_REFERENCES_SHOWN]:
        text.append("\nreference  ").append(printable(reference.path))
    more = len(result.references) - _REFERENCES_SHOWN
    return text.append(f"\n           and {more} more", "dim") if more > 0 else text


def _finding_heading(finding: Finding) -> Text:
    return Text(finding.rule.name, "bold cyan").append(f"  {finding.rule.summary}", "dim")


def _body(finding: Finding) -> RenderableType:
    body = _BODIES.get(finding.rule.id)
    return body(finding) if body else _sentences(finding)


def _sentences(finding: Finding) -> RenderableType:
    """What was observed, the gravest first; the reason where nothing was."""
    ranked = sorted(finding.observations, key=lambda o: -o.severity)
    lines = [
        _line(o.severity.name.lower(), o.sentence, _SEVERITY_STYLES[o.severity]) for o in ranked
    ]
    return Group(*lines) if lines else Text(printable(finding.reason, 600))


def _conclusion(result: ScanResult) -> Table:
    """The verdict and what it rests on, a row each; what hangs over the edge stays in its column."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=_LABEL)
    table.add_column(overflow="fold")
    verdict = Text(result.verdict.value, STYLES[result.verdict])
    table.add_row("verdict", verdict.append(f": {printable(result.reason, 400)}.", "default"))
    for warning in result.warnings:
        table.add_row(Text("warning", "yellow"), Text(f"{printable(warning, 600)}."))
    for label, sentence in _grounds(result):
        table.add_row(Text(label, "dim"), Text(printable(sentence, 400), "dim"))
    return table


def _grounds(result: ScanResult) -> Iterator[tuple[str, str]]:
    """Yield what the verdict rests on, what would make it stronger, and what ran."""
    if result.verdict is Verdict.INCONCLUSIVE and result.index is not None:
        reach = "clean networks of the shipped recipes reached 1 at most"
        yield "index", f"{result.index:.2f}, uncalibrated: {reach}"
    if result.calibration:
        yield "rests on", result.calibration
    for number, sentence in enumerate(result.advice):
        yield "" if number else "stronger", sentence
    if result.runtime is not None:
        runtime = result.runtime
        threads = f"{runtime.threads} thread{'s' if runtime.threads != 1 else ''}"
        version = f"ONNX Runtime {runtime.versions.get('onnxruntime', '?')}"
        yield "ran on", f"{runtime.provider}, {threads}, {version}, {runtime.seconds:.2f} s"
        if runtime.isolation and (missing := from_json(Confinement, runtime.isolation).missing()):
            yield "isolation", "; ".join(missing)


def _line(label: str, sentence: str, style: str) -> Text:
    return Text(f"{label}: ", style).append(printable(sentence, 600), "default")


def _neural_cleanse(finding: Finding) -> RenderableType:
    """Mask sizes class by class, and the smallest trigger drawn."""
    how, evidence = finding.parameters, finding.evidence
    searched = f"{how['images']} images: {printable(str(how['data']))}; budget {how['budget']}, seed {how['seed']}"
    parts: list[RenderableType] = [
        Text(searched),
        _mask_sizes(evidence["classes"], evidence["target_class"]),
    ]
    if trigger := evidence.get("trigger"):
        parts.append(_trigger(evidence, trigger, how["input_range"]))
    return Group(*parts)


def _mask_sizes(rows: Sequence[Mapping[str, Any]], target: int) -> Table:
    """The classes with the largest ratios, or with the smallest masks where there is no reference."""
    compared = bool(rows) and "log_ratio" in rows[0]
    ranked = sorted(
        rows, key=lambda r: -r["log_ratio"] if compared else r["suspect"] or float("inf")
    )
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for name in ("class", "mask (px)", *(("references", "times smaller") if compared else ())):
        table.add_column(name, justify="right")
    for row in ranked[:_CLASSES_SHOWN]:
        style = "bold" if row["class"] == target else ""
        cells = [str(row["class"]), _pixels(row["suspect"])]
        cells += (
            [_range(row["references"]), f"{math.exp(row['log_ratio']):.2f}"] if compared else []
        )
        table.add_row(*cells, style=style)
    if len(ranked) > _CLASSES_SHOWN:
        table.caption = f"{len(ranked) - _CLASSES_SHOWN} more classes: --format json"
    return table


def _trigger(
    evidence: Mapping[str, Any], trigger: Mapping[str, Any], limits: Sequence[float]
) -> RenderableType:
    mask, stamped = picture(trigger["mask"]), picture(trigger["stamped"], *limits)
    table = Table(box=box.SQUARE, padding=0, header_style="dim", show_lines=False)
    table.add_column(f"mask of class {evidence['target_class']}")
    table.add_column("an image, stamped")
    for one, other in zip(mask.blocks(), stamped.blocks(), strict=False):
        table.add_row(one, other)
    flips = (
        f"the stamped image turns from class {trigger['class_before']} to {trigger['class_after']}"
    )
    success = evidence["success_held_back"]
    held = "" if success is None else f"; so do {success:.0%} of the images held back"
    return Group(table, Text(flips + held))


def _pixels(size: float | None) -> str:
    return "not found" if size is None else f"{size:.1f}"


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return _pixels(low) if low == high else f"{low:.1f} to {high:.1f}"


def _overactivation(finding: Finding) -> RenderableType:
    """The paper's Table 2.2 for one pair, and what it lacks: the paired difference, and the two sets drawn."""
    values, how = finding.values, finding.parameters
    layer = (
        Text("layer ")
        .append(printable(str(how["layer"])), "bold")
        .append(f" ({printable(str(how['operator']))})")
    )
    noise = (
        f"{how['images']} {how['noise']} noise images in {how['input_range']}, seed {how['seed']}"
    )
    parts: list[RenderableType] = [layer, Text(noise), _table_2_2(values)]
    if "wins" in values:
        parts += [_difference(values), Padding(_histogram(finding.evidence), (1, 0, 0, 0))]
    return Group(*parts)


def _table_2_2(values: Mapping[str, float | int | None]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("")
    for name in ("suspect", "reference", "B/C"):
        table.add_column(name, justify="right")
    for row in ("max", "mean"):
        cells = (_figure(values.get(f"{kind}_{row}")) for kind in ("suspect", "reference", "ratio"))
        table.add_row(f"{row}(S_A)", *cells)
    return table


def _difference(values: Mapping[str, Any]) -> Text:
    ties = f", {values['ties']} ties" if values["ties"] else ""
    text = (
        Text("suspect > reference  ")
        .append(f"{values['wins']}:{values['losses']}", "bold")
        .append(f"{ties}\n")
    )
    text.append(f"paired difference    {values['difference_mean']:+.4f}")
    share = f"{values['difference_confidence']:.0%}"
    return text.append(f"  ({share} interval over images: {_interval(values)})", "dim")


def _interval(values: Mapping[str, Any]) -> str:
    return f"{values['difference_low']:+.4f} to {values['difference_high']:+.4f}"


def _histogram(evidence: Mapping[str, Any]) -> Table:
    """Draw S_A of both models over common bins, a row a bin."""
    suspect, reference = evidence["suspect"], evidence["reference"]
    low, high = min(*suspect, *reference), max(*suspect, *reference)
    width = (high - low) / _BINS or 1.0
    counts = [_counts(values, low, width) for values in (suspect, reference)]
    most = max(*counts[0], *counts[1])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("a_i from", justify="right", style="dim")
    table.add_column("suspect", width=_BAR, style="red")
    table.add_column("reference", width=_BAR, style="green")
    for index in range(_BINS):
        bars = (_bar(count[index], most) for count in counts)
        table.add_row(_figure(low + index * width), *bars)
    return table


def _counts(values: Sequence[float], low: float, width: float) -> list[int]:
    counts = [0] * _BINS
    for value in values:
        counts[min(int((value - low) / width), _BINS - 1)] += 1
    return counts


def _bar(count: int, most: int) -> str:
    return f"{'█' * max(1, round(count / most * (_BAR - 5)))} {count}" if count else ""


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _overview(results: Sequence[ScanResult]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("verdict")
    for name in ("score", "index", "class", "B/C mean", "wins:losses"):
        table.add_column(name, justify="right")
    for result in results:
        values = next((f.values for f in result.findings if f.rule.id == "overactivation"), {})
        wins = f"{values['wins']}:{values['losses']}" if "wins" in values else "-"
        verdict = Text(result.verdict.value, STYLES[result.verdict])
        numbers = (
            _figure(result.score),
            _figure(result.index),
            _suspected(result),
            _figure(values.get("ratio_mean")),
        )
        table.add_row(Text(printable(result.model.path)), verdict, *numbers, wins)
    return Group(table, "", *_notes(results))


def _suspected(result: ScanResult) -> str:
    """The class that a suspicious verdict is about."""
    return "-" if result.target_class is None else str(result.target_class)


def _notes(results: Sequence[ScanResult]) -> list[Text]:
    """Say each reason once, and each failure."""
    reasons = dict.fromkeys(f"{r.verdict.value}: {printable(r.reason, 400)}." for r in results)
    failures: list[tuple[ScanResult, Failure]] = [(r, f) for r in results for f in r.failures]
    notes = [Text(reason) for reason in reasons]
    return notes + [
        _line(f"{printable(r.model.path)} failed {f.rule}", f.sentence, "red") for r, f in failures
    ]


_BODIES = {"overactivation": _overactivation, "neural_cleanse": _neural_cleanse}
