"""What a detector takes of memory is known before it begins, and refused if it does not fit."""

import os
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import planting
import pytest
import triggered
from onnx import helper

from scanner.detectors import load
from scanner.detectors.mm_bd import MmBd
from scanner.errors import NoRoomError
from scanner.instruments import room, runtime
from scanner.limits import MIB, Limits
from scanner.modelfile import parser
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

# Each detector has a process of its own: what one freed could hide what the next one takes.
WATCHED = """
import os, sys
from pathlib import Path
from scanner.detectors import load
from scanner.instruments import room
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.sandbox import linux
from scanner.settings import Device, Settings

for detector in load(sys.argv[2:]):
    if (child := os.fork()) == 0:
        linux.return_freed_blocks()  # as in the sandbox
        settings = Settings(device=Device.CPU, threads=1, images=4, input_range=(0.0, 1.0))
        model = open_model(Path(sys.argv[1]))
        expected = room.expected(detector, model)
        subject = Subject(model=model, settings=settings)
        (detector.plan if detector.copies == 7 else detector.measure)(subject)
        print(detector.rule.id, room.highest(), expected, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
RULES = (
    "integrity", "dormant", "neural_cleanse", "mm_bd", "layerwise", "channel_lipschitz", "head",
    "classifier",
)  # fmt: skip


@linux
def test_the_peak_of_each_detector_is_predicted(tmp_path: Path) -> None:
    """Never a tenth too low, and never twice too high."""
    generator = np.random.default_rng(0)
    sizes = [(64, 2000), (2000, 2000), (2000, 4)]
    constants = {
        f"w{i}": generator.normal(0, 0.05, size).astype(np.float32) for i, size in enumerate(sizes)
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w2"], ["logits"]),
    ]
    path = models.save(models.build(nodes, constants), tmp_path / "m.onnx")
    assert path.stat().st_size > 3 * runtime.LARGE
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(path), *RULES],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [rule for rule, *_ in rows] == list(RULES)
    for rule, peak, expected in rows:
        assert 0.9 * int(peak) <= int(expected) <= 2 * int(peak), rule


@linux
def test_what_does_not_fit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    model = open_model(models.save(triggered.classifier(), tmp_path / "m.onnx"))
    needed = room.expected(MmBd(), model)
    assert needed is not None
    room.check(MmBd(), model, Settings(limits=Limits(memory=2 * needed)))
    with pytest.raises(NoRoomError, match=r"MiB of memory here, and 1 MiB are allowed") as caught:
        room.check(MmBd(), model, Settings(limits=Limits(memory=MIB)))
    assert caught.value.remedy == "raise the setting `memory`"


def test_what_cannot_begin_for_another_reason_says_that(tmp_path: Path) -> None:
    model = open_model(models.save(triggered.classifier(), tmp_path / "m.onnx"))
    (searching,) = load(["universal_warp"])
    room.check(searching, model, Settings(limits=Limits(memory=MIB)))


def test_of_a_device_nothing_is_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "resolve_device", lambda _device: Device.CUDA)
    model = open_model(models.save(triggered.classifier(), tmp_path / "m.onnx"))
    room.check(MmBd(), model, Settings(limits=Limits(memory=MIB)))


@linux
def test_copies_of_the_weights_and_one_image_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "held", lambda: 1000 - room._LIBRARIES)
    model = open_model(models.save(triggered.classifier(), tmp_path / "m.onnx"))
    image = room.one_image(model)
    assert room.expected(MmBd(), model) == 1000 + 7 * len(model.data) + image
    (reading,) = load(["channel_lipschitz"])
    assert room.expected(reading, model) == 1000 + int(reading.copies * len(model.data))


def test_weights_that_are_held_outside_are_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(models.save(planting.deep(), tmp_path / "m.onnx", external=True))
    inside, outside = len(model.data), model.size - len(model.data)
    assert outside > 0
    assert room.copied(model, 3) == 3 * (inside + outside)
    monkeypatch.setattr(parser, "HELD", model.size)
    assert room.copied(model, 3) == 3 * inside + outside


@pytest.mark.parametrize(("side", "counted"), [(8, True), ("width", False)])
def test_an_image_takes_what_layers_with_weights_make(
    side: int | str, counted: bool, tmp_path: Path
) -> None:
    kernels = {"w": np.ones((5, 1, 3, 3), np.float32), "v": np.ones((5, 5, 3, 3), np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["logits"], pads=[1, 1, 1, 1]),
    ]
    made = models.build(nodes, kernels, input_shape=("N", 1, 8, side))
    model = open_model(models.save(made, tmp_path / "m.onnx"))
    assert room.one_image(model) == (4 * 2 * 5 * 64 if counted else 0)


@linux
def test_memory_is_counted_in_the_pages_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = room.held()
    sizes = {"SC_PAGE_SIZE": 16 * os.sysconf("SC_PAGE_SIZE")}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    larger = room.held()
    assert usual is not None
    assert larger is not None
    assert larger > 8 * usual


def test_where_the_system_does_not_tell_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(models.save(triggered.classifier(), tmp_path / "m.onnx"))
    monkeypatch.setattr("sys.platform", "win32")
    assert room.held() is None
    assert room.highest() is None
    room.check(MmBd(), model, Settings(limits=Limits(memory=MIB)))


@linux
def test_a_system_that_tells_less_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "VmSize:\t100 kB\nVmData:\t50 kB\n")
    assert room.highest() is None
