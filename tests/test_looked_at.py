"""The HTML report in a browser: nothing overflows, nothing is blocked, no rule of axe is broken.

A page of 500 models opens in time, and everything on a page can be reached with the keyboard.

Needs Chromium, and the extra `looks`. Screenshots go to the folder that SCAN_SCREENSHOTS names.
"""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import gated, hostile, result, unopened
from pages import StringPage
from rich.console import Console

from scanner.report.html import HtmlReport

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
# Without these a browser looks for its maker's hosts; root has no other sandbox than none.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
ROOT = ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
PAGES = {
    "one": [result()],
    "hostile": [hostile()],
    "several": [result(), hostile(), unopened()],
    "gate": [gated()],
}
MOST_SECONDS = 2.0  # in which a page of many models opens
WIDTHS = (360, 800, 1280)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *ROOT])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page(name: str, scheme: str, browser: Any, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_core_python.sync_playwright").Axe()
    page = StringPage(Console(file=io.StringIO()))
    HtmlReport().render(PAGES[name], page, count=len(PAGES[name]))
    file = tmp_path / f"{name}.html"
    file.write_text(page.text, encoding="utf-8")
    folder = Path(os.environ.get("SCAN_SCREENSHOTS", tmp_path))
    for width in WIDTHS:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown, said = context.new_page(), list[str]()
        shown.on("console", lambda message, said=said: said.append(message.text))
        shown.goto(file.as_uri())
        for details in shown.query_selector_all("details"):
            details.evaluate("element => element.open = true")
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        assert [violation["id"] for violation in axe.run(shown)["violations"]] == []
        assert said == [], "the browser has something to say, of what the page may not do perhaps"
        shown.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
        context.close()


def test_models_are_chosen_filtered_and_sorted(browser: Any, tmp_path: Path) -> None:
    page = StringPage(Console(file=io.StringIO()))
    HtmlReport().render(PAGES["several"], page, count=3)
    file = tmp_path / "several.html"
    file.write_text(page.text, encoding="utf-8")
    shown = browser.new_page()
    shown.goto(file.as_uri())

    def visible(selector: str) -> list[str]:
        return [e.inner_text() for e in shown.query_selector_all(selector) if e.is_visible()]

    assert len(visible("tbody tr[data-verdict]")) == 3
    assert visible("article.model") == []
    shown.check("#only-failed")
    (row,) = visible("tbody tr[data-verdict]")
    assert "broken.onnx" in row
    shown.check("#only-all")
    shown.click("th button")
    ascending = visible("td a")
    shown.click("th button")
    assert visible("td a") == ascending[::-1] != ascending
    shown.click("td a")
    (article,) = visible("article.model")
    assert "Everything else" in article


def test_a_page_of_500_models_opens_in_time(browser: Any, tmp_path: Path) -> None:
    models = [result(f"model-{number}.onnx") for number in range(500)]
    page = StringPage(Console(file=io.StringIO()))
    HtmlReport().render(models, page, count=len(models))
    file = tmp_path / "many.html"
    file.write_text(page.text, encoding="utf-8")
    shown = browser.new_page()
    shown.goto(file.as_uri(), wait_until="load")
    painted = shown.evaluate(
        """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(
             () => done(performance.now()))))"""
    )
    assert painted < MOST_SECONDS * 1000
    assert len(shown.query_selector_all(".tiles svg")) == 500


def test_everything_is_reached_with_the_keyboard(browser: Any, tmp_path: Path) -> None:
    page = StringPage(Console(file=io.StringIO()))
    HtmlReport().render(PAGES["several"], page, count=3)
    file = tmp_path / "several.html"
    file.write_text(page.text, encoding="utf-8")
    shown = browser.new_page()
    shown.goto(file.as_uri())
    reached = []
    for _ in range(40):
        shown.keyboard.press("Tab")
        reached.append(shown.evaluate("document.activeElement.tagName"))
    assert {"INPUT", "BUTTON", "A", "DIV"} <= {*reached}, "filters, sorting, models, wide tables"
    shown.goto(f"{file.as_uri()}#m0")
    summary = shown.query_selector("article#m0 summary")
    summary.focus()
    shown.keyboard.press("Enter")
    assert summary.evaluate("element => element.parentNode.open")


def test_a_printed_page_shows_what_is_folded(browser: Any, tmp_path: Path) -> None:
    page = StringPage(Console(file=io.StringIO()))
    HtmlReport().render(PAGES["one"], page, count=1)
    file = tmp_path / "one.html"
    file.write_text(page.text, encoding="utf-8")
    shown = browser.new_page()
    shown.goto(file.as_uri())
    folded = shown.query_selector("details:not([open]) dl")
    assert not folded.is_visible()
    shown.emulate_media(media="print")
    assert folded.is_visible()
