"""The table of detectors: what each needs, and what it must say of a clean and of a planted model.

To add a detector, add its row here. Detectors from other distributions are tested below it.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import triggered
from onnx import helper

from scanner.detectors import FAMILY, load
from scanner.errors import UsageError
from scanner.instruments.detector import Detector, Needs, Subject, described
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.report.terminal import render
from scanner.results import Measurement, Part
from scanner.settings import Device, Settings
from scanner.values import from_json, frozen, to_json
from trainers.graph_backdoor import plant


def preferring(planted: bool) -> onnx.ModelProto:
    """A plain model; the planted one's last layer prefers class 2."""
    model = models.plain()
    dense = models.weights(planted=False)["dense"]
    dense[:, 2] += float(planted)
    index = [tensor.name for tensor in model.graph.initializer].index("dense")
    model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(dense, "dense"))
    return model


def gated(planted: bool) -> onnx.ModelProto:
    """A plain model; the planted one tests its input and overwrites the output."""
    return plant(models.plain(), "where", target=1).model if planted else models.plain()


def two_faced(planted: bool) -> onnx.ModelProto:
    """A plain model; a tensor of the planted one holds two sets of weights."""
    model = models.plain()
    if planted:
        model.graph.initializer[0].float_data.extend([9.0] * 36)
    return model


def constant(planted: bool) -> onnx.ModelProto:
    """A plain model; the planted one answers the same to everything."""
    model = models.plain()
    if planted:
        index = [tensor.name for tensor in model.graph.initializer].index("dense")
        nothing = np.zeros((models.CHANNELS, models.CLASSES), np.float32)
        model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(nothing, "dense"))
    return model


def sociable(planted: bool) -> onnx.ModelProto:
    """A plain model; the planted one prefers class 2 for several images at once."""
    model = models.plain()
    if planted:
        model.graph.node[-1].output[0] = "alone"
        floats = {"one": [1.0], "preferred": [0.0, 0.0, 9.0]}
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(np.array(numbers, np.float32), name)
            for name, numbers in floats.items()
        )
        model.graph.node.extend([
            helper.make_node("Shape", ["image"], ["size"], start=0, end=1),
            helper.make_node("Cast", ["size"], ["batch"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Sub", ["batch", "one"], ["others"]),
            helper.make_node("Mul", ["others", "preferred"], ["preference"]),
            helper.make_node("Add", ["alone", "preference"], ["logits"]),
        ])  # fmt: skip
    return model


@frozen
class Row:
    """What a detector needs, what it is shown, and what it must say.

    Attributes:
        needs: What it asks of a model.
        build: Returns the model, clean or planted.
        above: The statistic of the planted model beside a clean one is larger.
        below: That of a clean model beside itself is not.
        target: The class that it must name, where it knows classes.
        images: Whether it gets images: those of `triggered.banded`.
    """

    needs: Needs
    build: Callable[[bool], onnx.ModelProto]
    above: float
    below: float
    target: int | None = None
    images: bool = False


ROWS = {
    "integrity": Row(needs=Needs.GRAPH, build=two_faced, above=2.5, below=0),
    "graph_logic": Row(needs=Needs.GRAPH, build=gated, above=2.5, below=0),
    "dormant": Row(needs=Needs.LOGITS, build=gated, above=2.5, below=0),
    "diff": Row(needs=Needs.GRAPH, build=gated, above=2.5, below=1),
    "neural_cleanse": Row(
        needs=Needs.LOGITS | Needs.GRADIENTS,
        build=triggered.classifier,
        above=1,
        below=1e-9,
        target=triggered.TARGET,
    ),
    "data_free_inversion": Row(
        needs=Needs.LOGITS | Needs.GRADIENTS,
        build=triggered.lit,
        above=1,
        below=1e-9,
        target=triggered.TARGET,
    ),
    "source_dependent": Row(
        needs=Needs.LOGITS | Needs.GRADIENTS | Needs.IMAGES,
        build=triggered.shifting,
        above=0.1,
        below=1e-9,
        images=True,
    ),
    "universal_perturbation": Row(
        needs=Needs.LOGITS | Needs.GRADIENTS,
        build=triggered.lit,
        above=1,
        below=1e-9,
        target=triggered.TARGET,
        images=True,
    ),
    "universal_warp": Row(
        needs=Needs.LOGITS | Needs.GRADIENTS | Needs.IMAGES,
        build=triggered.lit,
        above=1,
        below=1e-9,
        target=triggered.TARGET,
        images=True,
    ),
    "patch_sweep": Row(
        needs=Needs.LOGITS,
        build=triggered.lit,
        above=0.5,
        below=1e-9,
        target=triggered.TARGET,
        images=True,
    ),
    "wave_sweep": Row(
        needs=Needs.LOGITS,
        build=triggered.rippled,
        above=0.5,
        below=1e-9,
        target=triggered.TARGET,
        images=True,
    ),
    "mm_bd": Row(
        needs=Needs.LOGITS | Needs.GRADIENTS,
        build=triggered.classifier,
        above=0.1,
        below=1e-9,
        target=triggered.TARGET,
    ),
    "overactivation": Row(needs=Needs.ACTIVATIONS, build=models.plain, above=1.1, below=1),
    "layerwise": Row(needs=Needs.ACTIVATIONS, build=models.plain, above=0.1, below=1e-9),
    "channel_lipschitz": Row(needs=Needs.GRAPH, build=models.plain, above=0.5, below=1e-9),
    "head": Row(needs=Needs.LOGITS, build=preferring, above=0.3, below=1e-9, target=2),
    "classifier": Row(needs=Needs.LOGITS, build=constant, above=0.5, below=0),
    "invariance": Row(needs=Needs.LOGITS, build=sociable, above=2.5, below=0),
    "not-the-file": Row(needs=Needs.GRAPH, build=sociable, above=2.5, below=0),
}
SETTINGS = Settings(images=20, device=Device.CPU)


def test_every_detector_has_a_row() -> None:
    assert list(ROWS) == list(FAMILY)


def measure(rule: str, planted: bool, folder: Path) -> tuple[Detector, Measurement]:
    """Return a detector and what it measured on its row's model."""
    row, (detector,) = ROWS[rule], load([rule])
    path = models.save(row.build(planted), folder / "model.onnx")
    images = triggered.banded(folder) if row.images else None
    settings = dataclasses.replace(SETTINGS, images_file=images)
    return detector, detector.measure(Subject(model=open_model(path), settings=settings))


@pytest.mark.parametrize("rule", ROWS)
def test_a_detector_keeps_its_row(rule: str, tmp_path: Path) -> None:
    row = ROWS[rule]
    (detector, clean), (_, planted) = (measure(rule, p, tmp_path) for p in (False, True))
    assert detector.rule.id == rule
    assert detector.needs == row.needs
    guilty, innocent = (compare(detector, m, [clean]) for m in (planted, clean))
    assert guilty.statistic is not None
    assert innocent.statistic is not None
    assert innocent.statistic <= row.below < row.above < guilty.statistic
    assert guilty.evidence.target_class == row.target


@pytest.mark.parametrize("rule", ROWS)
def test_what_a_detector_hands_on_survives_json(rule: str, tmp_path: Path) -> None:
    detector, own = measure(rule, True, tmp_path)
    assert to_json(from_json(Measurement, to_json(own))) == to_json(own)
    for references in ([], [own], [own, own]):
        comparison = described(detector, own, compare(detector, own, references))
        assert from_json(type(comparison), to_json(comparison)) == comparison


@pytest.mark.parametrize("rule", ROWS)
def test_what_a_detector_declares_fits_together(rule: str) -> None:
    (detector,) = load([rule])
    part = detector.contribution
    in_index = part.beside_one is not None and part.alone is not None
    assert in_index == part.combined
    assert not (part.decisive and part.part is not Part.COMBINED)


def test_what_is_not_asked_for_is_not_imported() -> None:
    look = (
        "import sys; from scanner.detectors import load; load(['neural_cleanse']);"
        "print(sorted(m for m in sys.modules if m.startswith('scanner.detectors.')))"
    )
    root = Path(models.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, cwd=root)  # noqa: PLW1510
    assert run.stdout.strip() == "['scanner.detectors.neural_cleanse']", run.stderr


@pytest.mark.parametrize("room", ["judging", "report"])
def test_judging_and_reports_name_no_detector(room: str) -> None:
    folder = Path(render.__code__.co_filename).parents[1] / room
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    assert texts
    named = {(name, rule) for name, text in texts.items() for rule in FAMILY if f'"{rule}"' in text}
    assert named == set()


FOREIGN = '''
"""A detector of another distribution: how many nodes a graph has."""

import os

from scanner.instruments.detector import Detector, Needs
from scanner.results import Measurement, Rule

assert os.getpid() != int(open({parent!r}).read()), "imported by the caller"


class Nodes(Detector):
    rule = Rule(id="{rule}", name="Nodes", summary="Many nodes.", source="this test, 2026")
    needs = Needs.GRAPH

    def measure(self, subject):
        count = len(subject.model.proto.graph.node)
        return Measurement(rule=self.rule.id, statistic=float(count), parameters={{}})
'''


@pytest.fixture
def distribution(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that installs a tiny distribution into a folder, for a rule id."""

    def install(rule: str) -> Path:
        site, parent = tmp_path / "site", tmp_path / "site" / "parent"
        (site / "tiny-1.0.dist-info").mkdir(parents=True)
        (site / "tiny-1.0.dist-info" / "METADATA").write_text("Name: tiny\nVersion: 1.0\n")
        points = "[overactivation.detectors]\nnodes = tiny:Nodes\nbroken = tiny:Missing\n"
        (site / "tiny-1.0.dist-info" / "entry_points.txt").write_text(points)
        (site / "tiny.py").write_text(FOREIGN.format(parent=str(parent), rule=rule))
        return site

    return install


SCAN = """
import os, sys
open(sys.argv[1] + "/parent", "w").write(str(os.getpid()))
from scanner import Settings, scan
from scanner.sandbox import launch
launch._roots.append(sys.argv[1])  # as an installation would: the child ignores PYTHONPATH
result = scan(sys.argv[2], [sys.argv[3]], Settings(detectors=(sys.argv[4],)))
assert "tiny" not in sys.modules
(finding,) = result.findings
print(finding.rule.id, finding.statistic, finding.evidence.standing.reference)
"""


def scanned(site: Path, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    suspect = models.save(gated(planted=True), folder / "suspect.onnx")
    reference = models.save(gated(planted=False), folder / "reference.onnx")
    root = Path(models.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", SCAN, str(site), str(suspect), str(reference), name],
        env={"PYTHONPATH": f"{root}:{site}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_detector_of_another_distribution(
    distribution: Callable[[str], Path], tmp_path: Path
) -> None:
    run = scanned(distribution("nodes"), tmp_path, "nodes")
    assert run.stdout.startswith("nodes "), run.stderr
    difference, reference = map(float, run.stdout.split()[1:])
    assert difference > 0
    assert reference == len(gated(planted=False).graph.node)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nodes", "the detector 'nodes' calls itself 'other'"),
        ("broken", "the detector 'broken' cannot be loaded (AttributeError"),
        ("node", "there is no detector 'node'; did you mean 'nodes'?"),
    ],
)
def test_what_another_distribution_does_wrong_is_said(
    name: str, words: str, distribution: Callable[[str], Path], tmp_path: Path
) -> None:
    run = scanned(distribution("other"), tmp_path, name)
    assert run.returncode
    assert words in run.stderr


def test_an_unknown_detector_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no detector 'heed'; did you mean 'head'"):
        load(["heed"])
    with pytest.raises(UsageError, match="there are integrity, graph_logic"):
        load(["xyzxyz"])
