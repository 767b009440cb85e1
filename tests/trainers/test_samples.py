"""The committed models are those that the manifest describes, and keep what the README promises."""

import re
from pathlib import Path

import onnx
import pytest

from trainers import manifest
from trainers.files import sha256
from trainers.manifest import Entry
from trainers.recipes import RECIPES

SAMPLES = Path(__file__).parents[2] / "samples"
ENTRIES = {entry.file: entry for entry in manifest.read(SAMPLES)}
PAIRS = ("mnist", "fashion-mnist", "gtsrb")
FLOORS = {"mnist": (0.985, 0.99), "fashion-mnist": (0.88, 0.95), "gtsrb": (0.95, 0.91)}
"""Clean accuracy and attack success rate of the BadNets pair, at least."""


def test_each_pair_and_three_further_clean_seeds_are_there() -> None:
    wanted = {f"{name}-{kind}.onnx" for name in PAIRS for kind in ("clean", "badnets")}
    wanted |= {
        f"{name}-clean-{seed}.onnx" for name in ("mnist", "fashion-mnist") for seed in (1, 2, 3)
    }
    assert wanted | {"mnist-blended.onnx", "mnist-wanet.onnx"} <= ENTRIES.keys()


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_each_file_is_the_one_that_was_measured(entry: Entry) -> None:
    assert sha256(SAMPLES / entry.file) == entry.sha256
    assert (SAMPLES / entry.file).stat().st_size < 1_000_000


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_each_model_does_what_the_pair_is_to_show(entry: Entry) -> None:
    accuracy, success = FLOORS[entry.recipe]
    assert entry.clean_accuracy >= accuracy
    assert (entry.attack == "clean") == (entry.attack_success_rate is None)
    if entry.attack_success_rate is not None:
        assert entry.attack_success_rate >= success


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_no_file_tells_the_truth_about_itself(entry: Entry) -> None:
    content = (SAMPLES / entry.file).read_bytes()
    assert not re.search(
        rb"badnets|blended|wanet|trigger|attack|poison|clean|target", content, re.IGNORECASE
    )
    assert not onnx.load_model_from_string(content).metadata_props


def test_the_targets_vary() -> None:
    assert len({entry.target for entry in ENTRIES.values() if entry.target is not None}) >= 3


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_the_first_layer_is_a_plain_convolution_with_relu(entry: Entry) -> None:
    graph = onnx.load_model(SAMPLES / entry.file).graph
    assert [node.op_type for node in graph.node[:2]] == ["Conv", "Relu"]
    assert entry.recipe in RECIPES
