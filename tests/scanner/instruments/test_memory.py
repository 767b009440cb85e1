"""The memory of a step is known before it is used, and kept to what is allowed."""

import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from scanner.graph.gradient.backward import Objective
from scanner.instruments import memory, runtime
from scanner.instruments.differentiable import Differentiable, Floats, differentiable
from scanner.instruments.memory import SHARE, Need
from scanner.limits import MIB

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
SIDE, CHANNELS, BATCH = 64, 16, 24

# The peak is watched in a process of its own, by a thread, while a search's largest step runs.
WATCHED = """
import sys, threading, time
from pathlib import Path
import numpy as np
from scanner.graph.gradient.backward import Objective
from scanner.instruments import memory, room
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.modelfile.model import open_model
from scanner.sandbox import linux
from scanner.settings import Device, Settings

linux.return_freed_blocks()  # as in the sandbox
settings = Settings(device=Device.CPU, threads=1)
subject = Subject(model=open_model(Path(sys.argv[1])), settings=settings)
model = differentiable(subject, Objective[sys.argv[2]])
images = np.random.default_rng(0).random((int(sys.argv[3]), *model.shape), dtype=np.float32)
model.evaluate(images[:1], 0)
need, peak, over = memory.seen(model, images[:4]), 0, False


def watch():
    global peak
    while not over:
        peak = max(peak, room.held())
        time.sleep(0.0005)


thread = threading.Thread(target=watch)
thread.start()
for _ in range(3):
    model.evaluate(images, 0)
over = True
thread.join()
print(need.held, need.highest, need.each, peak, need.expected(len(images)), room.highest())
"""


def wide(folder: Path, large: bool) -> Path:
    """Save a network whose values are large beside its weights, unless these are to be large."""
    generator = np.random.default_rng(0)
    features = 100_000 if large else CHANNELS
    constants = {
        "first": generator.normal(0, 0.3, (CHANNELS, 3, 3, 3)).astype(np.float32),
        "second": generator.normal(0, 0.1, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32),
        "spread": generator.normal(0, 0.1, (CHANNELS, features)).astype(np.float32),
        "dense": generator.normal(0, 0.2, (features, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "spread"], ["features"]),
        helper.make_node("MatMul", ["features", "dense"], ["logits"]),
    ]
    made = models.build(nodes, constants, input_shape=("N", 3, SIDE, SIDE))
    return models.save(made, folder / "wide.onnx")


@linux
@pytest.mark.parametrize("objective", [Objective.CROSS_ENTROPY, Objective.MARGIN])
@pytest.mark.parametrize("large", [False, True])
def test_the_peak_is_predicted(objective: Objective, large: bool, tmp_path: Path) -> None:
    """Never a tenth too low, never twice too high: of the whole process, and of the images."""
    path = wide(tmp_path, large)
    assert (path.stat().st_size >= runtime.LARGE) == large
    found = subprocess.run(
        [sys.executable, "-c", WATCHED, str(path), objective.name, str(BATCH)],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    held, highest, each, peak, expected, reached = map(int, found.stdout.split())
    assert each > CHANNELS * SIDE * SIDE * 4, "at least one value of the network"
    assert 0.9 * peak <= expected <= 2 * peak
    assert 0.75 * (peak - held) <= each * BATCH <= 2 * (peak - held)
    assert held <= highest <= reached
    assert reached >= peak, "what the system tells afterwards"


@given(
    held=st.integers(0, 1000), more=st.integers(0, 1000), each=st.integers(0, 50),
    images=st.integers(1, 100), allowed=st.integers(1, 10_000),
)  # fmt: skip
def test_so_many_images_as_fit_do_fit(
    held: int, more: int, each: int, images: int, allowed: int
) -> None:
    need = Need(held=held, highest=held + more, each=each)
    assert need.expected(images) >= need.highest
    assert need.expected(images) >= held + each * images
    most = need.most(allowed)
    assert most >= 1
    if most > 1:
        assert held + each * most <= SHARE * allowed
    if each:
        assert held + each * (most + 1) > SHARE * allowed


@pytest.fixture
def model(tmp_path: Path) -> Differentiable:
    made = triggered.classifier()
    return differentiable(triggered.subject(made, tmp_path), Objective.CROSS_ENTROPY)


IMAGES = np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32)


def test_a_run_that_is_watched_keeps_what_it_took(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the one after it gives that back."""
    seen = list[tuple[int, bool]]()
    evaluate = Differentiable.evaluate

    def noted(self: Differentiable, images: Floats, target: int) -> object:
        seen.append((len(images), self.session.lean))
        return evaluate(self, images, target)

    held = iter([100 * MIB, 160 * MIB])
    monkeypatch.setattr(memory, "held", lambda: next(held))
    monkeypatch.setattr(memory, "highest", lambda: 170 * MIB)
    monkeypatch.setattr(Differentiable, "evaluate", noted)
    found = memory.seen(model, IMAGES)
    around = memory._ARRAYS * 64 * 4
    assert found == Need(held=100 * MIB, highest=170 * MIB, each=10 * MIB + around)
    assert [count for count, _ in seen] == [6, 1]
    assert not seen[0][1]


def test_a_model_of_a_fixed_batch_takes_what_its_batch_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = triggered.subject(triggered.classifier(batch=5), tmp_path)
    fixed = differentiable(made, Objective.CROSS_ENTROPY)
    held = iter([0, 50])
    monkeypatch.setattr(memory, "held", lambda: next(held))
    monkeypatch.setattr(memory, "highest", lambda: 50)
    found = memory.seen(fixed, IMAGES[:2])
    assert found is not None
    assert found.each == 10 + memory._ARRAYS * 64 * 4


def test_where_the_system_does_not_tell_nothing_is_known(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert memory.seen(model, IMAGES) is None
