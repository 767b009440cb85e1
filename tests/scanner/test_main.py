"""The child is told early what to import: a hint, which the options confirm later."""

import pytest

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
