"""Several models on one HTML page: the totals, filters that need no script, and a row each.

The worst stand first. Where a model's own part is, whoever draws the page says.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from scanner.judging import ranks
from scanner.report import charts
from scanner.report.markup import Markup, tag
from scanner.report.totals import chances, is_failed, place, totals, why
from scanner.results import ScanResult, Verdict

_ORDER = (Verdict.SUSPICIOUS, Verdict.INCONCLUSIVE, Verdict.CLEAN)
Address = Callable[[int], str]  # of a model's own part, by the model's number


def order(results: Sequence[ScanResult]) -> list[int]:
    """Return the numbers of the models, those first that a person should look at first."""

    def rank(number: int) -> tuple[int, float, float]:
        result = results[number]
        size = result.size if result.size is not None else result.index
        place = len(_ORDER) if is_failed(result) else _ORDER.index(result.verdict)
        return place, -(result.score or 0.0), -(size or 0.0)

    return sorted(range(len(results)), key=rank)


def index(results: Sequence[ScanResult], address: Address) -> Iterator[Markup]:
    """Yield the totals, filters that need no script, and a row per model, the worst first."""
    yield tag("h1", "Backdoor scan")
    yield tag("p", tag("strong", f"{totals(results)}."))
    yield from (tag("p", f"{sentence}.", class_="dim") for sentence in chances(results))
    yield tag("fieldset", tag("legend", "Show"), map(_filter, ("all", *_kinds(results))))
    columns = ("model", "verdict", "p-value", "size", "class", "why")
    heads = [tag("th", name, scope="col", data_sorts="") for name in columns]
    numbers = order(results)
    rows = [_row(results[number], address(number)) for number in numbers]
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows))
    yield wide(table, "Models")
    yield from _tiles(results, numbers, address)


def _tiles(
    results: Sequence[ScanResult], numbers: Sequence[int], address: Address
) -> Iterator[Markup]:
    """Yield a small chart per model, all on one scale: how far each class of it stands out."""
    drawn = {number: sizes for number in numbers if (sizes := _by_class(results[number]))}
    if not drawn:
        return
    yield tag("h2", "Every class of every model")
    words = (
        "A bar for each class: how far it stands out by the detector that says most of it, where "
        "1, the line, is the furthest clean model of that detector. Bars end at 4."
    )
    missing = len(results) - len(drawn)
    left = f" {missing} of {len(results)} models have no such figures." if missing else ""
    yield tag("p", words + left, class_="dim")
    tiles = (_tile(results[n], sizes, address(n)) for n, sizes in drawn.items())
    yield tag("ul", tiles, class_="tiles")


def _by_class(result: ScanResult) -> dict[int, float]:
    """Return how far each class stands out, in units of the furthest clean model."""
    found: dict[int, float] = {}
    for finding in result.findings:
        if finding.contribution.combined and finding.clean:
            for row in finding.evidence.classes:
                if row.above is not None:
                    own = ranks.size(row.above, finding.clean)
                    found[row.class_id] = max(own, found.get(row.class_id, own))
    return found


def _tile(result: ScanResult, sizes: Mapping[int, float], address: str) -> Markup:
    foremost = max(sizes, key=lambda class_id: sizes[class_id])
    words = f"class {foremost} stands out most, by {sizes[foremost]:.2g}"
    name = tag("a", result.model.path, href=address, class_="name")
    return tag("li", charts.tile(sizes, words), name, badge(result), data_verdict=word(result))


def _kinds(results: Sequence[ScanResult]) -> list[str]:
    found = {word(result) for result in results}
    return [kind for kind in (*(v.value for v in _ORDER), "failed") if kind in found]


def _filter(kind: str) -> Markup:
    checked = "" if kind == "all" else None
    box = tag("input", type="radio", name="show", id=f"only-{kind}", checked=checked)
    return tag("label", box, f" {kind}")


def _row(result: ScanResult, address: str) -> Markup:
    p, size = place(result)
    cells = [
        tag("td", tag("a", result.model.path, href=address), data_key=result.model.path),
        tag("td", badge(result), data_key=word(result)),
        *(
            tag("td", figure(value), class_="number", data_key=_key(value))
            for value in (p, size, result.target_class)
        ),
        tag("td", why(result), class_="text", data_key=why(result)),
    ]
    return tag("tr", cells, data_verdict=word(result))


def _key(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def word(result: ScanResult) -> str:
    """Return a result's verdict in a word, "failed" where the model could not be measured."""
    return "failed" if is_failed(result) else result.verdict.value


def badge(result: ScanResult) -> Markup:
    """Return that word as a mark in the verdict's colour."""
    allowed = ", allowed" if result.allowed else ""
    return tag("span", f"{word(result)}{allowed}", class_=f"verdict {word(result)}")


def wide(table: Markup, words: str) -> Markup:
    """Let a table that is wider than the page be scrolled, with the keyboard too."""
    return tag("div", table, class_="wide", tabindex="0", role="region", aria_label=words)


def figure(value: float | None) -> str:
    """Return a number for a table's cell."""
    return "-" if value is None else f"{value:.3g}"
