"""What a person sees, at 80 and at 120 columns, word for word."""

import dataclasses
import io
from collections.abc import Callable

import pytest
from examples import overactivation, result
from rich.console import Console
from rich.text import Text

from scanner.report import terminal
from scanner.results import ScanResult, Skip, Verdict


def drawn(
    results: list[ScanResult], console: Console, *, verbose: bool = False, more: str = ""
) -> str:
    terminal.render(results, console, verbose=verbose, more=more)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("width", [80, 120])
def test_one_model(
    width: int, console: Callable[[int], Console], golden: Callable[[str, str], None]
) -> None:
    golden(f"scan-{width}.txt", drawn([result()], console(width)))


@pytest.mark.parametrize("width", [80, 120])
def test_one_model_in_full(
    width: int, console: Callable[[int], Console], golden: Callable[[str, str], None]
) -> None:
    golden(f"scan-verbose-{width}.txt", drawn([result()], console(width), verbose=True))


@pytest.mark.parametrize("width", [30, 100])
def test_a_trigger_keeps_its_colours_where_the_console_has_any(width: int) -> None:
    text = io.StringIO()
    console = Console(
        width=width, file=text, color_system="truecolor", force_terminal=True, legacy_windows=False
    )
    terminal.render([result()], console, verbose=True)
    assert "\x1b[38;2;255;255;255;48;2;" in text.getvalue()  # the mask, and what lies below it
    assert max(Text.from_ansi(line).cell_len for line in text.getvalue().splitlines()) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_several_models(
    width: int, console: Callable[[int], Console], golden: Callable[[str, str], None]
) -> None:
    golden(f"scan-many-{width}.txt", drawn([result("a.onnx"), result("b.onnx")], console(width)))


def test_a_reason_says_of_which_models_it_is_true(console: Callable[[int], Console]) -> None:
    other = dataclasses.replace(result("c.onnx"), reason="the graph tests its input")
    shown = drawn([result("a.onnx"), result("b.onnx"), other], console(120))
    assert "2 models suspicious: class 7" in shown
    assert "c.onnx suspicious: the graph tests its input." in shown


def test_a_short_report_says_how_to_get_more(console: Callable[[int], Console]) -> None:
    assert "; -v shows each\n" in drawn([result()], console(120), more="-v shows each")
    full = drawn([result()], console(120), verbose=True, more="-v shows each")
    assert "-v shows" not in full


def test_names_to_type_again_are_whole_at_80_columns(console: Callable[[int], Console]) -> None:
    finding = overactivation()
    long = dataclasses.replace(
        finding,
        rule=dataclasses.replace(finding.rule, id="channel_lipschitz"),
        verdict=Verdict.INCONCLUSIVE,
    )
    shown = drawn([dataclasses.replace(result(), findings=(long,))], console(80), verbose=True)
    row = next(line for line in shown.splitlines() if line.startswith("channel_lipschitz"))
    assert row.endswith("inconclusive")


@pytest.mark.parametrize("width", [60, 80])
def test_the_verdicts_of_several_models_are_whole(
    width: int, console: Callable[[int], Console]
) -> None:
    files = (f"registry/a-model-of-a-long-name-{number}.onnx" for number in range(2))
    results = [dataclasses.replace(result(file), verdict=Verdict.INCONCLUSIVE) for file in files]
    assert drawn(results, console(width)).count(" inconclusive ") == 2


def test_an_index_is_shown_where_the_verdict_is_open(console: Callable[[int], Console]) -> None:
    assert "index" not in drawn([result()], console(120))
    doubtful = dataclasses.replace(result(), verdict=Verdict.INCONCLUSIVE)
    assert "index      1.45, uncalibrated" in drawn([doubtful], console(120))


def test_file_names_are_no_markup(console: Callable[[int], Console]) -> None:
    warned = dataclasses.replace(result(), warnings=("the reference 'a[/x].onnx' is odd",))
    assert "'a[/x].onnx'" in drawn([warned], console(120))
    assert "[bold]b.onnx" in drawn([result("a[/x].onnx"), result("[bold]b.onnx")], console(120))


def test_nothing_from_a_model_reaches_the_terminal_as_a_command(
    console: Callable[[int], Console],
) -> None:
    hostile = "\x1b]0;owned\x07[/red]\u202egnp.exe"
    finding = dataclasses.replace(
        overactivation(), parameters={**overactivation().parameters, "layer": hostile}
    )
    text = drawn([dataclasses.replace(result(hostile), findings=(finding,))], console(120))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b]0;owned\\x07[/red]\\u202egnp.exe" in text


def test_a_detector_that_left_classes_out_is_not_skipped(console: Callable[[int], Console]) -> None:
    """It has said something; that it was cut short stands among the reasons."""
    one = result()
    cut = Skip(rule="overactivation", reason="the time ran out before class 3 had a turn")
    shown = drawn([dataclasses.replace(one, skips=(*one.skips, cut))], console(120))
    assert "1 skipped (strip)" in shown
