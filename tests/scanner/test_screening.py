"""Inputs screened through the sandbox: files, arrays handed over, and a server's threads."""

import concurrent.futures
import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import models
import numpy as np
import pytest
import scenes
from examples import result

from scanner.errors import ScannerError, UsageError
from scanner.results import Verdict
from scanner.screening import MOST_FOUND, InputFilter, Tally, screen_inputs, triggers_of
from scanner.settings import Device, Settings

QUICK = Settings(device=Device.CPU)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs")
    models.save(scenes.model(), path / "model.onnx")
    np.savez(path / "clean.npz", images=scenes.clean(150))
    mixed = np.concatenate([scenes.clean(30, seed=3), scenes.stamped(10)])
    np.savez(path / "mixed.npz", images=mixed)
    np.savez(path / "good.npz", images=scenes.clean(40, seed=3))
    return path


@pytest.fixture(scope="module")
def screener(folder: Path) -> Iterator[InputFilter]:
    with InputFilter(
        folder / "model.onnx", folder / "clean.npz", inputs=folder / "mixed.npz", settings=QUICK
    ) as made:
        yield made


def test_stamped_inputs_stand_out_and_the_set_is_suspicious(folder: Path) -> None:
    whole = screen_inputs(
        folder / "model.onnx", folder / "mixed.npz", folder / "clean.npz", settings=QUICK, fdr=0.1
    )
    assert whole.verdict is Verdict.SUSPICIOUS
    assert {str(number) for number in range(30, 40)} <= {found.name for found in whole.found}
    assert whole.inputs == 40
    assert (whole.ranked, whole.hosts) == (99, 51)
    assert whole.discoveries is not None
    assert whole.discoveries.count >= 10
    assert whole.runtime is not None
    assert whole.runtime.isolation


def test_clean_inputs_are_clean(folder: Path) -> None:
    whole = screen_inputs(
        folder / "model.onnx", folder / "good.npz", folder / "clean.npz", settings=QUICK
    )
    assert whole.verdict is Verdict.CLEAN


def test_pictures_of_some_that_stand_out(screener: InputFilter) -> None:
    found = [one for one in screener.stream(pictures=3) if one.picture is not None]
    assert len(found) == 3
    assert all(one.stands_out for one in found)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_arrays_handed_over_are_read_as_files_are(kind: type, screener: InputFilter) -> None:
    images = scenes.stamped(3)
    given = np.rint(255 * images).astype(kind) if kind is np.uint8 else images.astype(kind)
    found = screener.check(given)
    assert [one.number for one in found] == [0, 1, 2]
    assert all(one.stands_out for one in found)


def test_a_server_may_ask_from_several_threads(screener: InputFilter) -> None:
    images = scenes.stamped(8)
    alone = [screener.check(image[None])[0] for image in images]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: screener.check(image[None])[0], images))
    assert together == alone


@pytest.mark.parametrize(
    "images", [None, [1.0, 2.0], np.zeros(8, np.float32), np.zeros((0, 1, 8, 8), np.float32), "x"]
)
def test_what_is_no_array_of_inputs(images: object, screener: InputFilter) -> None:
    with pytest.raises(UsageError):
        screener.check(images)


def test_an_array_of_another_shape(screener: InputFilter) -> None:
    with pytest.raises(UsageError, match="what was handed over"):
        screener.check(np.zeros((2, 1, 9, 9), np.float32))


def test_a_found_trigger_is_looked_for(folder: Path) -> None:
    with InputFilter(
        folder / "model.onnx", folder / "clean.npz", triggers=[scenes.corner()], settings=QUICK
    ) as screener:
        found = screener.check(scenes.stamped(2))
    assert all("inverted" in {score.rule for score in one.scores} for one in found)


def test_triggers_of_a_result() -> None:
    assert [trigger.class_id for trigger in triggers_of(result())]


@pytest.mark.parametrize("name", ["nothing.npz", "no-such-folder"])
def test_files_that_are_not_there(name: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=name):
        InputFilter(folder / "model.onnx", folder / name)
    with pytest.raises(UsageError, match=name):
        InputFilter(folder / "model.onnx", folder / "clean.npz", inputs=folder / name)


def test_a_name_that_is_too_long(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read \(File name too long\); name the clean"):
        InputFilter(folder / "model.onnx", "a" * 300)
    with pytest.raises(UsageError, match=r"cannot be read \(File name too long\); name the inputs"):
        InputFilter(folder / "model.onnx", folder / "clean.npz", inputs="a" * 300)


def test_a_model_that_cannot_be_opened(folder: Path) -> None:
    with pytest.raises(ScannerError):
        InputFilter(folder / "nothing.onnx", folder / "clean.npz", settings=QUICK)


def test_a_tally_keeps_the_furthest_only() -> None:
    tally = Tally(scenes.readings([[0.1]] * 10, [[0.1]] * 99))
    for number in range(MOST_FOUND + 5):
        tally.add(dataclasses.replace(scenes.screened(number), size=float(number)))
    whole = tally.summary()
    assert whole.standing_out == MOST_FOUND + 5
    assert [found.number for found in whole.found[:2]] == [MOST_FOUND + 4, MOST_FOUND + 3]
    assert len(whole.found) == MOST_FOUND


def test_the_callers_process_loads_no_model_library(folder: Path) -> None:
    code = (
        "import sys\n"
        "from scanner import screen_inputs\n"
        f"paths = [r'{folder}/' + name for name in ('model.onnx', 'mixed.npz', 'clean.npz')]\n"
        "assert screen_inputs(*paths).found\n"
        "print({'numpy', 'onnx', 'onnxruntime'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout == "set()\n"
