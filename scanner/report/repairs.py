"""A repair as a page: how it ended, what was measured before and after, and each step."""

import textwrap
from collections.abc import Iterator

from scanner.judging.arithmetic import change_interval, share_interval
from scanner.report.escape import printable
from scanner.report.markdown import plain
from scanner.results import Repaired, RepairResult, RepairStep, TriggerProof

_LONGEST = 2000
_COLUMNS = ("measured", "before", "after")


def text(result: RepairResult, width: int) -> str:
    """Return the page for a terminal of so many columns."""
    return "\n".join(_wrapped(printable(line, _LONGEST), width) for line in _lines(result)) + "\n"


def markdown(result: RepairResult) -> str:
    """Return the page for a comment on a pull request."""
    return "\n".join(_page(result)) + "\n"


def _wrapped(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _lines(result: RepairResult) -> Iterator[str]:
    yield f"{result.model.path}: {result.ending.value}"
    yield f"  {result.reason}."
    if result.output:
        yield f"  written to {result.output}"
    yield ""
    rows = list(_rows(result))
    widths = [max(len(row[column]) for row in (_COLUMNS, *rows)) for column in range(3)]
    for row in (_COLUMNS, *rows):
        yield "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
    repaired = result.repaired
    if repaired is None:
        return
    yield ""
    for number, step in enumerate(repaired.steps, start=1):
        yield f"  {number}. {step.way.value}: {step.outcome.value}{_figures(step)}"
        yield f"     {step.sentence}"
    yield ""
    yield f"  {_measured(repaired)}."
    yield from (f"  Weaker than it could be: {sentence}." for sentence in repaired.warnings)


def _rows(result: RepairResult) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, before and after."""
    after = result.after
    yield "verdict of a scan", result.before.verdict.value, after.verdict.value if after else "-"
    repaired = result.repaired
    if repaired is None:
        return
    if repaired.structural_before:
        before, left = repaired.structural_before, repaired.structural_after
        yield "structural findings", str(before), str(left)
    for proof in repaired.proofs:
        yield from _trigger(proof)
    if repaired.known is not None:
        known = repaired.known
        name = f"known trigger turns, of {known.images:,}"
        yield name, f"{known.before:.1%}", f"{known.after:.1%}"
    if repaired.changed:
        yield "held-back images of the same class", "-", f"{repaired.agreement:.1%}"
    if repaired.accuracy_before is not None and repaired.accuracy_after is not None:
        right = f"{repaired.accuracy_before:.1%}", f"{repaired.accuracy_after:.1%}"
        yield "accuracy on held-back images", *right
    if repaired.lost is not None and repaired.gained is not None:
        ends = change_interval(repaired.lost, repaired.gained, repaired.held_back)
        low, high = (round(100 * end) for end in ends)
        yield "  95% interval of the change", "-", f"{low:+} to {high:+} points"
    if result.differences is not None:
        found = result.differences
        changed = len(found.changes), len(found.layers)
        yield "nodes, layers not in the original", "-", "{}, {}".format(*changed)


def _trigger(proof: TriggerProof) -> Iterator[tuple[str, str, str]]:
    name = f"class {proof.class_id}"
    yield f"trigger of {name} turns", f"{proof.before:.1%}", f"{proof.after:.1%}"
    yield f"smallest trigger of {name}", _pixels(proof.size_before), _pixels(proof.size_after)


def _pixels(size: float | None) -> str:
    return "none found" if size is None else f"{size:.1f} px"


def _measured(repaired: Repaired) -> str:
    _, most = share_interval(0, repaired.held_back)
    return (
        f"Learnt from {repaired.images}, measured on {repaired.held_back} others, of which 0% "
        f"means at most {most:.0%} (95% interval): {repaired.source}"
    )


def _figures(step: RepairStep) -> str:
    told = [
        f"{name} {value:.1%}"
        for name, value in (("triggers succeed", step.success), ("same class", step.agreement))
        if value is not None
    ]
    return f" ({', '.join(told)})" if told else ""


def _page(result: RepairResult) -> Iterator[str]:
    yield f"### Repair: {plain(result.ending.value)}"
    yield ""
    yield f"{plain(result.model.path)}: {plain(result.reason)}."
    yield ""
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---|--:|--:|"
    yield from (f"| {' | '.join(map(plain, row))} |" for row in _rows(result))
    if result.repaired is None:
        return
    yield ""
    for step in result.repaired.steps:
        yield (
            f"* {plain(step.way.value)}: **{plain(step.outcome.value)}**"
            f"{plain(_figures(step))}. {plain(step.sentence)}"
        )
    yield f"* {plain(_measured(result.repaired))}."
    yield from (f"* warning: {plain(sentence)}" for sentence in result.repaired.warnings)
