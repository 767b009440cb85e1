"""The result as one HTML page, which needs no network and obeys nothing that came from a model.

The page forbids itself everything but its own style, its own script and its pictures (a Content
Security Policy with their hashes). Text is escaped where it is put in (`scanner.report.markup`).
"""

import base64
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from scanner.report import Page, charts, overview, screened
from scanner.report import json as as_json
from scanner.report.escape import file_name
from scanner.report.isolation import lacking
from scanner.report.markup import Child, Markup, tag
from scanner.report.overview import badge, figure, wide, word
from scanner.report.pictures import picture
from scanner.report.totals import is_failed, place
from scanner.results import (
    Array,
    Block,
    Differences,
    Finding,
    Input,
    Observation,
    Run,
    ScanResult,
    ScreenedInput,
    Screening,
    Severity,
    Trigger,
    Verdict,
)

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")
_SHOWN = 100  # observations of a finding
_DRAWN = 40  # models whose findings are drawn; of the others there are words and numbers
_MOST_DATA = 8 * 2**20  # characters of JSON that a page carries
_INDEX = "index.html"
_KEYS: Mapping[str, tuple[str, str | None]] = {
    "classes": ("the suspect, by class", "clean models, from the lowest to the highest"),
    "images": ("images of the suspect", "of the references"),
    "layers": ("layers of the suspect", "of the references"),
    "differences": ("how far changed channels lie from the reference's, relative to these", None),
    "place": ("the suspect", "clean models"),
    "size": ("the suspect's size", "from the middle of the clean models to the furthest"),
    "index": ("the suspect's index", "what clean networks of the shipped recipes reached"),
}
_UNDRAWN = (
    f"Of more than {_DRAWN} models only the foremost are drawn: write a folder, as in "
    "html=report/, for a page of each."
)
_WORDS = {
    Verdict.CLEAN: "Nothing that points to a backdoor was found, and enough was looked at.",
    Verdict.SUSPICIOUS: "It shows what backdoored models show: do not deploy it unexplained.",
    Verdict.INCONCLUSIVE: "What was found does not settle whether this model hides a backdoor.",
}


class HtmlReport:
    """A page for people: the answer first, then what it rests on, then everything else."""

    name = "html"
    suffix = ".html"
    several = True
    shows_failures = True

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:  # noqa: ARG002 - the totals stand first
        """Write the page once all results are there."""
        found = list(results)
        page.write(_document(found, _content(found)))

    def render_input(self, found: ScreenedInput, page: Page) -> None:
        """Write nothing: the verdict comes first."""

    def render_screening(self, screening: Screening, page: Page) -> None:
        """Write the verdict on a model's inputs, then those that stand out, the furthest first."""
        data = as_json.write(as_json.screening_data(screening), indent=None)
        footer = _footer(screening.run, _embedded(data) if len(data) <= _MOST_DATA else None)
        page.write(_whole(screened.title(screening), screened.article(screening), footer))

    def files(self, results: Iterable[ScanResult]) -> Iterator[tuple[str, str]]:
        """Yield name and text of the files of a folder: an index, and a page per model."""
        found = list(results)
        if len(found) == 1:
            yield _INDEX, _document(found, _model(found[0]))
            return
        digits = len(str(len(found) - 1))
        stems = (file_name(Path(result.model.path).stem) for result in found)
        names = [f"{number:0{digits}}-{stem}.html" for number, stem in enumerate(stems)]
        listed = overview.index(found, names.__getitem__)
        yield _INDEX, _document(found, listed, data=False)
        for name, result in zip(names, found, strict=True):
            yield name, _document([result], (_model(result), _back(_INDEX)))


def _document(results: Sequence[ScanResult], content: Child, *, data: bool = True) -> str:
    """Return a whole page.

    Args:
        results: What it is about.
        content: What a reader came for.
        data: Whether the page holds the results as JSON too.
    """
    run = next((result.run for result in results if result.run), None)
    return _whole(_title(results), content, _footer(run, _data(results) if data else Markup()))


def _whole(title: str, content: Child, footer: Markup) -> str:
    body = tag("body", tag("main", content), footer, tag("script", _asset(_SCRIPT)))
    return f"<!DOCTYPE html>\n{tag('html', _about(title), body, lang='en')}\n"


def _about(title: str) -> tuple[Markup, ...]:
    """Return what a browser has to know; it puts this into the page's head by itself."""
    style, script = _asset(_STYLE), _asset(_SCRIPT)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_hash(style)}'; "
        f"script-src 'sha256-{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", style),
    )


def _asset(path: Path) -> Markup:
    return Markup(path.read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(results: Sequence[ScanResult]) -> str:
    if len(results) == 1:
        return f"{word(results[0])}: {results[0].model.path}"
    return f"Backdoor scan of {len(results)} models"


def _content(results: Sequence[ScanResult]) -> Iterator[Markup]:
    """Yield one model, or an index of several and then each."""
    if len(results) == 1:
        yield _model(results[0])
        return
    yield from overview.index(results, lambda number: f"#m{number}")
    order = overview.order(results)
    drawn = set(order[:_DRAWN])
    for number in order:
        yield _model(results[number], number, drawn=number in drawn)


def _back(address: str) -> Markup:
    return tag("p", tag("a", "Back to all models", href=address))


def _model(result: ScanResult, number: int | None = None, *, drawn: bool = True) -> Markup:
    """One model: the answer, what was found, everything else folded.

    Args:
        result: Of it.
        number: Among several; None where it is alone.
        drawn: Whether its findings are drawn.
    """
    telling = [finding for finding in result.findings if _tells(finding)] if drawn else []
    rest = [finding for finding in result.findings if _drawn(finding) and not _tells(finding)]
    alone = number is None
    name = tag("span", result.model.path, class_="name")
    return tag(
        "article",
        tag("h1" if alone else "h2", "Backdoor scan of ", name),
        _answer(result),
        tag("h2", "What was found") if telling else None,
        map(_card, telling),
        tag("h2", "Everything else"),
        tag("details", tag("summary", "All detectors"), _summary(result.findings)),
        (tag("details", tag("summary", _headline(f)), _card(f)) for f in rest) if drawn else None,
        tag("details", tag("summary", "What ran, and on what"), _facts(result)),
        None if drawn else tag("p", _UNDRAWN, class_="dim"),
        None if alone else _back("#"),
        class_="model alone" if alone else "model",
        id=None if alone else f"m{number}",
    )


def _answer(result: ScanResult) -> Markup:
    """The verdict, its p and size, what it rests on, and what to do next."""
    lines: list[Child] = [tag("p", badge(result))]
    if not is_failed(result):
        lines.append(tag("p", _WORDS[result.verdict]))
    lines.append(tag("p", tag("strong", f"{result.reason}.")))
    lines += [tag("p", tag("strong", "Warning: "), f"{warning}.") for warning in result.warnings]
    lines.append(
        tag("dl", [(tag("dt", name), tag("dd", words)) for name, words in _grounds(result)])
    )
    lines += _placed(result)
    if result.advice:
        lines.append(tag("h2", "What to do next", class_="small"))
        lines.append(tag("ul", [tag("li", f"{sentence}.") for sentence in result.advice]))
    return tag("section", lines, class_=f"answer {word(result)}", aria_label="The answer")


def _placed(result: ScanResult) -> Iterator[Markup]:
    """Yield where the model lies on the scale of clean models: by its size, or else its index."""
    p, size = place(result)
    if p is not None and size is not None:
        words = f"The model lies {size:.3g} times as far out as the furthest clean model"
        yield _figured(charts.reach(size, f"{words}, p = {p:.3g}"), *_KEYS["size"])
    elif result.index is not None and result.score is None:
        words = f"The model's index is {result.index:.3g}; clean networks reached 1 at most"
        yield _figured(charts.reach(result.index, words), *_KEYS["index"])


def _grounds(result: ScanResult) -> Iterator[tuple[str, str]]:
    """Yield what the verdict rests on."""
    p, size = place(result)
    if p is not None:
        yield "p-value", f"{p:.3g}" + ("" if size is None else f", size {size:.2g}")
    if result.missed:
        shares = ", ".join(f"{attack} {share:.0%}" for attack, share in result.missed.items())
        yield "would be missed", f"of backdoored networks, by attack: {shares}"
    if result.index is not None and result.score is None:
        yield (
            "index",
            f"{result.index:.2f}; clean networks of the shipped recipes reached 1 at most",
        )
    if result.calibration:
        yield "rests on", result.calibration
    for reference in result.references:
        yield "reference", reference.path
    for allowed in result.suppressions:
        yield "allowed", f"{allowed.rule}, until {allowed.expires}: {allowed.reason}"


def _tells(finding: Finding) -> bool:
    """Whether a finding belongs to what was found: it is not clean, or makes the verdict."""
    return _drawn(finding) and (
        finding.verdict is Verdict.SUSPICIOUS
        or finding.contribution.combined
        or any(o.severity >= Severity.WARNING for o in finding.observations)
    )


def _drawn(finding: Finding) -> bool:
    """Whether there is more to a finding than that nothing was seen."""
    evidence = finding.evidence
    return bool(
        finding.observations
        or finding.description.blocks
        or evidence.classes
        or evidence.layers
        or evidence.trigger
        or evidence.differences
        or finding.statistic
    )


def _headline(finding: Finding) -> list[Child]:
    words = tag("span", finding.verdict.value, class_=f"verdict {finding.verdict.value}")
    return [finding.rule.name, ": ", words]


def _card(finding: Finding) -> Markup:
    """One finding: in words, then drawn."""
    observations = sorted(finding.observations, key=lambda o: -o.severity)[:_SHOWN]
    return tag(
        "section",
        tag("h3", _headline(finding)),
        tag("p", f"Looks for: {finding.rule.summary}", class_="dim"),
        None if observations else tag("p", f"{finding.reason}."),
        map(_observation, observations),
        _pictures(finding.evidence.trigger) if finding.evidence.trigger else None,
        _drawings(finding),
        _changes(finding.evidence.differences, f"{finding.rule.name}, differences"),
        [
            _block(block, f"{finding.rule.name}, table {number}")
            for number, block in enumerate(finding.description.blocks)
            if block.histogram is None
        ],
        class_="card",
        aria_label=finding.rule.name,
    )


def _drawings(finding: Finding) -> Iterator[Markup]:
    for name, chart in charts.of(finding):
        yield _figured(chart, *_KEYS[name])


def _changes(found: Differences | None, words: str) -> Iterator[Markup]:
    """Yield what a graph has that the reference's has not, or otherwise."""
    if found is None or not found.changes:
        return
    columns = ("what", "node", "operator", "suspect", "reference", "explained by")
    heads = [tag("th", name, scope="col") for name in columns]
    rows = [
        tag(
            "tr",
            [
                tag("td", cell)
                for cell in (
                    change.kind.value,
                    change.node,
                    change.operator,
                    change.suspect,
                    change.reference,
                    change.explained,
                )
            ],
        )
        for change in found.changes[:_SHOWN]
    ]
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows))
    summary = tag("summary", "What differs in the graph")
    yield tag("details", summary, wide(table, words), open="" if found.unexplained else None)


def _figured(chart: Markup, own: str, clean: str | None) -> Markup:
    other = None if clean is None else tag("span", clean, class_="key clean")
    keys = (tag("span", own, class_="key own"), " ", other)
    return tag("figure", chart, tag("figcaption", keys))


def _observation(observation: Observation) -> Iterator[Markup]:
    """Yield one observation: in words, the way through the graph, the input that shows it."""
    severity = tag("span", f"{observation.severity.name.lower()}: ", class_="severity")
    yield tag("p", severity, f"{observation.sentence}.")
    if len(observation.nodes) > 1:
        drawing = charts.way(observation)
        names = [tag("li", tag("code", node)) for node in observation.nodes[:_SHOWN]]
        # Who accuses a graph shows it; what is only worth a look waits to be asked for.
        unfolded = "" if observation.severity >= Severity.SUSPICIOUS else None
        summary = tag("summary", "The nodes" if drawing is None else "From input to output")
        yield tag("details", summary, drawing or tag("ul", names), open=unfolded)
    if observation.input is not None:
        yield from _shown(observation.input)


def _shown(shown: Input) -> Iterator[Markup]:
    """Yield an input that shows something: the image before and after, and what is answered."""
    low, high = shown.low, shown.high
    after = "An input that shows it" if shown.original is None else "The same, changed"
    yield tag(
        "div",
        None
        if shown.original is None
        else _image(shown.original, low, high, _answered("An image", shown.class_before)),
        _image(shown.image, low, high, _answered(after, shown.class_after)),
        class_="pictures",
    )
    if shown.class_without not in {None, shown.class_after}:
        without = f"Without what is described above, its class would be {shown.class_without}."
        yield tag("p", without)
    if shown.success is not None:
        share = f"{shown.success:.0%}"
        yield tag(
            "p",
            f"The same change turns {share} of the other images on which it was tried into class "
            f"{shown.class_after}.",
        )


def _answered(words: str, class_id: int | None) -> str:
    return words if class_id is None else f"{words}: class {class_id}"


def _pictures(trigger: Trigger) -> Iterator[Markup]:
    low, high = trigger.low, trigger.high
    yield tag(
        "div",
        _image(trigger.mask, 0.0, 1.0, f"The mask of class {trigger.class_id}"),
        _image(trigger.pattern, low, high, "The pattern"),
        _image(trigger.original, low, high, f"An image: class {trigger.class_before}"),
        _image(trigger.stamped, low, high, f"The same, stamped: class {trigger.class_after}"),
        class_="pictures",
    )
    if trigger.success is not None:
        share = f"{trigger.success:.0%}"
        yield tag("p", f"The trigger turns {share} of the images held back into the class.")


def _image(data: Array, low: float, high: float, words: str) -> Markup:
    encoded = base64.b64encode(picture(data, low, high).png()).decode()
    image = tag("img", src=Markup(f"data:image/png;base64,{encoded}"), alt=words)
    return tag("figure", image, tag("figcaption", words))


def _block(block: Block, words: str) -> Markup | None:
    if block.table is None:
        return tag("p", block.line) if block.line else None
    columns, left = block.table.columns, block.table.left
    heads = [
        tag("th", name, scope="col", class_=_aligned(n, left)) for n, name in enumerate(columns)
    ]
    rows = [
        tag(
            "tr",
            [tag("td", cell, class_=_aligned(n, left)) for n, cell in enumerate(row)],
            class_="strong" if number == block.table.emphasised else None,
        )
        for number, row in enumerate(block.table.rows)
    ]
    caption = tag("caption", block.table.caption) if block.table.caption else None
    table = tag("table", caption, tag("thead", tag("tr", heads)), tag("tbody", rows))
    return tag("details", tag("summary", "The numbers"), wide(table, words))


def _aligned(column: int, left: int) -> str | None:
    return "number" if column >= left else None


def _summary(findings: Sequence[Finding]) -> Markup:
    heads = [tag("th", n, scope="col") for n in ("detector", "verdict", "p-value", "size", "why")]
    rows = [
        tag(
            "tr",
            tag("td", finding.rule.name),
            tag(
                "td", tag("span", finding.verdict.value, class_=f"verdict {finding.verdict.value}")
            ),
            tag("td", figure(finding.p_value), class_="number"),
            tag("td", figure(finding.size), class_="number"),
            tag("td", finding.reason, class_="text"),
        )
        for finding in findings
    ]
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows))
    return wide(table, "All detectors")


def _facts(result: ScanResult) -> Markup:
    facts: list[tuple[str, str]] = [("model", result.model.path)]
    if result.model.sha256:
        facts.append(("SHA-256", result.model.sha256))
    facts += [("skipped", f"{skip.rule}: {skip.reason}") for skip in result.skips]
    facts += [("failed", f"{failure.rule}: {failure.sentence}") for failure in result.failures]
    if result.input_range is not None:
        found = result.input_range
        facts.append(("input", f"{found.low:.4g}..{found.high:.4g}: {found.sentence}"))
    if result.runtime is not None:
        runtime = result.runtime
        versions = ", ".join(f"{name} {version}" for name, version in runtime.versions.items())
        threads = f"{runtime.threads} thread{'s' if runtime.threads != 1 else ''}"
        facts.append(
            ("ran on", f"{runtime.provider}, {threads}, {runtime.seconds:.2f} s; {versions}")
        )
    if said := [*itertools.chain(*lacking(result.runtime))]:
        facts.append(("isolation", "; ".join(said)))
    if result.run is not None:
        facts.append(("scanned", f"{result.run.time}, alpha {result.run.alpha:g}"))
        facts.append(("command", " ".join(result.run.arguments)))
    return tag("dl", [(tag("dt", name), tag("dd", words)) for name, words in facts])


def _footer(run: Run | None, data: Markup | None) -> Markup:
    made = "" if run is None else f", version {run.version}, {run.time}"
    without = " It is too large to hold the numbers: write JSON as well." if data is None else ""
    return tag("footer", tag("p", f"Made by overactivation{made}.{without}", class_="dim"), data)


def _data(results: Sequence[ScanResult]) -> Markup | None:
    """Return the results as JSON Lines, which nothing runs; None where that is too much."""
    lines, size = [], 0
    for result in results:
        lines.append(as_json.render(result, indent=None))
        size += len(lines[-1])
        if size > _MOST_DATA:
            return None
    return _embedded("".join(lines))


def _embedded(lines: str) -> Markup:
    # JSON may write any character as an escape; '<' would end the element.
    data = Markup(lines.replace("<", "\\u003c"))
    return tag("script", data, type="application/jsonl", id="results")
