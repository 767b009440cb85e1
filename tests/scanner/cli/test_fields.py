"""An option is one field, from which come parameter, panel, environment variable and setting."""

import dataclasses
import inspect
from typing import Any

import pytest

from scanner.cli import fields, populations, scanning
from scanner.cli.options import CalibrateOptions, MeasureOptions, ScanOptions


@pytest.mark.parametrize("kind", [ScanOptions, CalibrateOptions])
def test_what_an_option_fills_exists(kind: type) -> None:
    for _, flag, fills in fields.filling(kind):
        assert flag.startswith("--")
        if fills.of is not fields.Call:
            assert fills.name in {field.name for field in dataclasses.fields(fills.of)}


@pytest.mark.parametrize("command", [scanning.scan, populations.calibrate])
def test_a_command_has_a_parameter_per_option_in_the_order_of_the_panels(command: Any) -> None:
    parameters = inspect.signature(command).parameters
    shared = {field.name for field in dataclasses.fields(MeasureOptions)}
    assert {"models"} | shared <= parameters.keys()
    panels = [fields._panel(parameter.annotation) for parameter in parameters.values()]
    assert panels == sorted(panels)
    assert panels.count(-1) == 1
