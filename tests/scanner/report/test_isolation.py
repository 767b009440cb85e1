"""Reports say what the isolation of a scan lacked."""

import dataclasses
import io
import json
from typing import Any

from examples import result
from pages import StringPage
from rich.console import Console

from scanner.limits import Confinement
from scanner.report import terminal
from scanner.report.html import HtmlReport
from scanner.report.isolation import lacking
from scanner.report.sarif import SarifReport
from scanner.results import ScanResult
from scanner.values import to_json

HELD = Confinement(
    memory="kernel",
    threads="kernel",
    no_new_privs=True,
    capabilities="none",
    landlock=7,
    seccomp=True,
    namespaces=("user",),
    processes_hidden=True,
)
SEEN = "which other processes exist can be told from /proc"
NO_FILTER = "sockets and new processes are not refused (no seccomp filter)"


def scanned(**fields: Any) -> ScanResult:
    """Return a result of a scan in which some of the isolation did not hold."""
    made = result()
    assert made.runtime is not None
    isolation = to_json(dataclasses.replace(HELD, **fields))
    return dataclasses.replace(made, runtime=dataclasses.replace(made.runtime, isolation=isolation))


def test_what_nothing_stands_in_for_is_kept_apart() -> None:
    assert lacking(scanned().runtime) == ((), ())
    assert lacking(scanned(processes_hidden=False).runtime) == ((), (SEEN,))
    assert lacking(scanned(seccomp=False).runtime) == ((NO_FILTER,), ())
    assert lacking(None) == lacking(result().runtime) == ((), ())


def test_a_saved_result_of_another_version_is_not_guessed_at() -> None:
    made = scanned()
    assert made.runtime is not None
    odd = dataclasses.replace(made.runtime, isolation={"landlock": "seven"})
    assert lacking(odd) == (("not known to this version",), ())


def sarif(*results: ScanResult) -> list[dict[str, Any]]:
    page = StringPage(Console(file=io.StringIO()))
    SarifReport().render(results, page, count=len(results))
    told: list[dict[str, Any]] = json.loads(page.text)["runs"][0]["invocations"][0][
        "toolConfigurationNotifications"
    ]
    return told


def test_sarif_warns_of_the_first_and_notes_the_other() -> None:
    assert sarif(scanned()) == []
    less = scanned(seccomp=False, processes_hidden=False)
    told = sarif(less, less)
    assert [entry["level"] for entry in told] == ["warning", "note"]
    assert NO_FILTER in told[0]["message"]["text"]
    assert SEEN in told[1]["message"]["text"]


def test_a_person_reads_it_too() -> None:
    less = scanned(seccomp=False, processes_hidden=False)
    page = StringPage(Console(file=io.StringIO()))
    HtmlReport().render([less], page, count=1)
    assert f"{NO_FILTER}; {SEEN}" in page.text
    for verbose in (False, True):
        console = Console(file=io.StringIO(), width=300)
        terminal.render([less], console, verbose=verbose)
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert NO_FILTER in text
        assert (SEEN in text) is verbose
