"""The child is told early what to import: a hint, which the options confirm later."""

import subprocess
import sys

import pytest
from command import said, scan

from scanner.__main__ import preload
from scanner.detectors import FAMILY


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["m.onnx", "-d", "overactivation"], {"overactivation"}),
        (["m.onnx", "--detector", "head", "-d", "integrity"], {"head", "integrity"}),
        (["m.onnx", "-d", "../head"], set()),
        (["m.onnx", "-d"], set(FAMILY) - {"not-the-file"}),
        (["m.onnx"], set(FAMILY) - {"not-the-file"}),
    ],
)
def test_the_detectors_that_are_named_are_loaded_early(words: list[str], named: set[str]) -> None:
    first, *modules = preload(words)
    assert first == "scanner.examine"
    loaded = {module.removeprefix("scanner.detectors.") for module in modules}
    assert loaded & FAMILY.keys() == named


def test_the_command_that_runs_no_detector_loads_none() -> None:
    assert preload(["inputs", "m.onnx", "images/"]) == ("scanner.examine_inputs",)


def test_a_name_that_is_too_long_is_wrong_usage() -> None:
    run = scan("a" * 300 + ".onnx")
    assert (run.returncode, run.stdout) == (2, "")
    assert "cannot be read (File name too long)" in said(run)


def test_ctrl_c_while_the_command_line_loads_leaves_no_trace() -> None:
    code = """if True:
        import signal, sys
        from scanner import __main__
        from scanner.cli import exits
        def now():
            return signal.getsignal(signal.SIGINT)
        def ending(run, ending=exits.ending):
            print(now() is signal.SIG_DFL)
            return ending(lambda: print(now() is signal.default_int_handler) or 0)
        exits.ending = ending
        signal.signal(signal.SIGINT, signal.default_int_handler)
        __main__.main()
    """
    run = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["True", "True"]
