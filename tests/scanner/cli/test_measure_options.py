"""What measures is asked for by options, each of which fills a setting."""

from pathlib import Path
from typing import Any

import pytest
from command import said, scan

from scanner.cli.options import CalibrateOptions, MeasureOptions, ScanOptions, settings
from scanner.errors import UsageError
from scanner.limits import Limits
from scanner.settings import Budget, Device, Noise, Settings


def test_without_options_the_settings_are_the_defaults() -> None:
    assert settings(ScanOptions()) == Settings()
    assert settings(CalibrateOptions(baseline_file=Path("b.json"))) == Settings()


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
    assert settings(ScanOptions(**typed)) == expected
    assert settings(ScanOptions(unconfined=True)) == Settings(unconfined=True)
    folder = settings(ScanOptions(images_dir=tmp_path)).images_folder
    assert folder == str(tmp_path)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            {"images_npz": Path("a.npz"), "images_dir": Path()},
            r"--images-npz and --images-dir exclude one another",
        ),
        ({"images_npz": Path("none.npz")}, r"there is no file 'none.npz'"),
        ({"images_npz": Path(__file__, "none.npz")}, r"there is no file '.*none.npz'"),
        ({"images_npz": Path("a" * 300)}, r"'a+' cannot be read \(File name too long\); check the"),
        ({"images_dir": Path("nowhere")}, r"there is no folder 'nowhere'"),
        ({"images_dir": Path(__file__)}, r"there is no folder"),
        ({"images_dir": Path("a" * 300)}, r"'a+' cannot be read \(File name too long\); check the"),
    ],
)
def test_images_that_are_not_there_are_refused(typed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        settings(MeasureOptions(**typed))


@pytest.mark.parametrize(
    ("option", "word", "choices"),
    [("--noise", "pink", "'low-frequency'"), ("--budget", "endless", "'quick'")],
)
def test_a_word_that_an_option_does_not_take(option: str, word: str, choices: str) -> None:
    run = scan("model.onnx", option, word)
    assert run.returncode == 2
    told = said(run)
    assert f"'{word}' is not one of" in told
    assert choices in told
    assert "Value error" not in told
