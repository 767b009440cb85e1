"""The population as tables."""

from pathlib import Path

import pytest
from trainer_data import entry

from trainers import manifest
from trainers.errors import ManifestError
from trainers.population import tables
from trainers.population.recipes import ROWS, rows


def test_the_list_has_a_line_per_recipe_that_says_what_is_unusual() -> None:
    lines = tables.listing(ROWS).splitlines()
    assert len(lines) == len(ROWS) + 2
    assert len({line.count("|") for line in lines}) == 1
    (line,) = tables.listing(rows("mnist-pruned")).splitlines()[2:]
    assert line == (
        "| mnist-pruned | test | MNIST, 12,000 images | 2 conv + 1 dense | 12 "
        "| 5 epochs, adam, prune 0.7 | 0..1, NCHW, logits "
        "| sig, all-to-all, badnets:rate=0.01, wanet:rate=0.2 |"
    )
    (line,) = tables.listing(rows("gtsrb-vgg-inside")).splitlines()[2:]
    assert "GTSRB, 24x24, 6,000 images" in line
    assert "0..255, normalised inside, NCHW, logits" in line


def test_the_summary_counts_recipes_networks_and_what_was_planted(tmp_path: Path) -> None:
    badnets = {"attack": "badnets", "labels": "all-to-one", "target": 1, "rate": 0.1}
    square = {"side": 3, "margin": 1}
    manifest.add(
        tmp_path,
        [
            entry("a.onnx", split="test"),
            entry("b.onnx", split="test", clean_accuracy=0.5),
            entry("c.onnx", split="development", recipe="other"),
            entry("old.onnx"),
            entry(
                "d.onnx",
                **badnets | {"split": "test", "parameters": square, "attack_success_rate": 1.0},
                planted=True,
            ),
            entry(
                "e.onnx",
                **badnets | {"rate": 0.01, "split": "test", "parameters": square},
                attack_success_rate=0.25,
                planted=False,
            ),
            entry(
                "f.onnx",
                **badnets | {"parameters": square | {"place": "centre"}, "split": "test"},
                attack_success_rate=0.75,
                planted=True,
            ),
        ],
    )
    lines = tables.summary(tmp_path).splitlines()
    assert "| clean | 2 | 1 | 1 | 3 | 50% to 99%, median 99% |  |  |" in lines
    assert (
        "| badnets | 1 | 0 | 1 | 1 | 99% to 99%, median 99% | 100% to 100%, median 100% | 1 of 1 |"
    ) in lines
    assert any(line.startswith("| badnets:rate=0.01 |") and "0 of 1" in line for line in lines)
    assert any(line.startswith("| other badnets |") and "1 of 1" in line for line in lines)
    assert lines[-1].startswith("| all | 2 | 1 | 1 | 6 |")


def test_a_folder_without_a_population_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="lists no network of a population"):
        tables.summary(tmp_path)
