"""An option is written once, and what is typed becomes the setting it fills."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from scanner.cli import options, populations, scanning
from scanner.cli.options import CalibrateOptions, MeasureOptions, ScanOptions
from scanner.detectors import FAMILY
from scanner.errors import UsageError
from scanner.limits import Limits
from scanner.settings import Budget, Device, Noise, Settings


def test_without_options_the_settings_are_the_defaults() -> None:
    assert options.settings(ScanOptions()) == Settings()
    assert options.settings(CalibrateOptions(output=Path("b.json"))) == Settings()


def test_every_option_fills_its_setting(tmp_path: Path) -> None:
    (tmp_path / "c.npz").touch()
    typed: dict[str, Any] = {
        "detector": ["head"],
        "layer": "a",
        "logits": "b",
        "noise": Noise.GAUSSIAN,
        "images": 7,
        "images_npz": tmp_path / "c.npz",
        "input_range": (-1.0, 1.0),
        "input_shape": "3,8,8",
        "seed": 5,
        "budget": Budget.STANDARD,
        "device": Device.CPU,
        "threads": 2,
        "timeout": 9.0,
        "alpha": 0.1,
        "classes": "0,2",
        "memory_limit": "1GiB",
        "max_file_size": "2kB",
        "max_nodes": 3,
        "max_depth": 4,
        "max_trips": 5,
        "max_parts": 6,
        "max_interface": 7,
        "require_isolation": True,
        "lenient": True,
    }
    expected = Settings(
        detectors=("head",),
        layer="a",
        logits="b",
        noise=Noise.GAUSSIAN,
        images=7,
        images_file=str(tmp_path / "c.npz"),
        input_range=(-1.0, 1.0),
        input_shape=(3, 8, 8),
        seed=5,
        budget=Budget.STANDARD,
        device=Device.CPU,
        threads=2,
        timeout=9.0,
        alpha=0.1,
        classes=(0, 2),
        limits=Limits(
            memory=2**30,
            file_size=2000,
            nodes=3,
            depth=4,
            trips=5,
            parts=6,
            interface=7,
            lenient=True,
        ),
        require_isolation=True,
    )
    assert options.settings(ScanOptions(**typed)) == expected
    folder = options.settings(ScanOptions(images_dir=tmp_path)).images_folder
    assert folder == str(tmp_path)


@pytest.mark.parametrize("kind", [ScanOptions, CalibrateOptions])
def test_what_an_option_fills_exists(kind: type) -> None:
    for _, flag, fills in options.filling(kind):
        assert flag.startswith("--")
        if fills.of is not options.Call:
            assert fills.name in {field.name for field in dataclasses.fields(fills.of)}


@pytest.mark.parametrize("command", [scanning.scan, populations.calibrate])
def test_a_command_has_a_parameter_per_option_in_the_order_of_the_panels(command: Any) -> None:
    parameters = inspect.signature(command).parameters
    shared = {field.name for field in dataclasses.fields(MeasureOptions)}
    assert {"models"} | shared <= parameters.keys()
    panels = [options._panel(parameter.annotation) for parameter in parameters.values()]
    assert panels == sorted(panels)
    assert panels.count(-1) == 1


@pytest.mark.parametrize(
    ("typed", "count"),
    [("512MiB", 512 * 2**20), ("1.5GB", 1_500_000_000), ("2000000", 2_000_000), ("3 k", 3000)],
)
def test_sizes(typed: str, count: int) -> None:
    assert options.size("--memory-limit", typed) == count


@pytest.mark.parametrize("typed", ["", "0", "big", "-1", "1XB", "0.1"])
def test_what_is_not_a_size_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=r"--memory-limit .* is not a valid size; write it as in"):
        options.size("--memory-limit", typed)


@pytest.mark.parametrize("typed", ["", "3,", "cat", "-1", "1.5"])
def test_what_is_not_a_list_of_numbers_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=r"--classes .* is not a list of numbers"):
        options.numbers("0,3,7", lowest=0)("--classes", typed)


def test_folders_stand_for_their_models(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx", "c.txt"):
        (tmp_path / name).touch()
    inside = [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    assert options.files("--reference", ["x.onnx", str(tmp_path)]) == ["x.onnx", *inside]


def test_the_names_of_the_detectors_complete() -> None:
    assert set(options.detector_names()) == set(FAMILY)
    assert options.detector_names("over") == ["overactivation"]


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        (["m.onnx", "--input-range", "auto"], ["m.onnx"]),
        (["--input-range=auto", "m.onnx"], ["m.onnx"]),
        (["--input-range", "-1", "1", "auto"], ["--input-range", "-1", "1", "auto"]),
        (["m.onnx", "--input-range"], ["m.onnx", "--input-range"]),
    ],
)
def test_an_automatic_input_range_is_the_default(typed: list[str], left: list[str]) -> None:
    assert options.without_auto(typed) == left
