"""The benchmarks' own arithmetic: figures of quality that are known beforehand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import detection, quality
from benchmarks import population as recipes
from scanner.judging import population
from scanner.values import to_json

FLOATS = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


@given(guilty=FLOATS, innocent=FLOATS)
def test_the_auc_is_the_share_of_pairs_in_order(guilty: list[float], innocent: list[float]) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in guilty for b in innocent]
    assert quality.auc(np.array(guilty), np.array(innocent)) == pytest.approx(np.mean(pairs))


def test_what_is_apart_has_an_auc_of_one_and_every_true_positive() -> None:
    found = quality.quality([[2.0, 3.0], [4.0]], [[0.0], [1.0]], np.random.default_rng(0))
    assert (found["AUC"], found["AUC low"], found["TPR at 1% FPR"]) == (1.0, 1.0, 1.0)
    assert found["clean range"] == "0 to 1"


def test_the_interval_resamples_models() -> None:
    """A thousand values of two models are two models: the interval stays wide."""
    generator = np.random.default_rng(0)
    innocent = [[0.0], [1.0], [2.0], [3.0]]
    found = quality.quality([[-1.0] * 500, [4.0] * 500], innocent, generator)
    assert (found["AUC low"], found["AUC high"]) == (0.0, 1.0)


def test_uniform_p_values_are_near_the_uniform_law() -> None:
    even = quality.uniformity([rank / 25 for rank in range(1, 26)])
    assert even["p <= 0.25"] == pytest.approx(6 / 25)
    assert even["KS distance"] == pytest.approx(1 / 25)
    assert quality.uniformity([0.04] * 10)["KS distance"] == pytest.approx(0.96)


def test_nobody_is_among_his_own_references() -> None:
    path = next(population.SHIPPED.glob("mnist-*.json"))
    records = population.read_baseline(path).records
    member = detection.Member({"attack": "clean"}, records[0])
    assert detection._combined_p(member, records[:20], ()) is None
    assert detection._combined_p(member, records[1:20], ()) is not None
    group = detection.Group(("mnist", "noise"), (member,))
    assert len(group.population) == len(records)
    assert all(len(choice) == 19 for choice in group.choices(19))
    assert detection._over(
        [records[:3], records[1:4]], lambda _, references: float(len(references)), member
    ) == [3.0]


def test_packed_records_are_the_records(tmp_path: Path) -> None:
    record = population.read_baseline(next(population.SHIPPED.glob("mnist-*.json"))).records[0]
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "one.json").write_text(
        json.dumps({"truth": {"attack": "clean"}, "record": to_json(record)})
    )
    packed = tmp_path / "records.jsonl.gz"
    detection.pack([tmp_path / "records"], packed)
    assert detection._members(packed) == detection._members(tmp_path / "records")
    first = packed.read_bytes()
    detection.pack([tmp_path / "records"], packed)
    assert packed.read_bytes() == first


MASKS = "neural_cleanse, noise"


def network(name: str, sizes: list[float | None], **truth: object) -> recipes.Network:
    given = {"sha256": name, "recipe": "r", "attack": "clean", "labels": None, "planted": None}
    return recipes.Network({**given, **truth}, {MASKS: sizes})


def test_a_class_stands_out_by_its_ratio_to_the_reference_less_the_median_class() -> None:
    suspect = network("a", [9.0, 1.0, 19.0, 39.0])
    reference = network("b", [19.0, 19.0, 39.0, 79.0])
    found = recipes._standing(MASKS, suspect, reference)
    assert found is not None
    assert found[0] == pytest.approx(np.log(10) - np.log(2))
    assert found[1] == 1


def test_a_class_that_one_search_did_not_reach_is_no_evidence() -> None:
    suspect, reference = network("a", [9.0, 1.0, 9.0]), network("b", [9.0, None, 9.0])
    assert recipes._standing(MASKS, suspect, reference) == (0.0, 0)
    assert recipes._standing(MASKS, network("c", [None] * 3), reference) is None


def test_the_p_value_over_recipes_leaves_its_own_out() -> None:
    pair = recipes.Pair("r", network("a", []), 2.0, 0)
    assert recipes._p(pair, {"r": [9.0], "s": [1.0, 3.0], "t": [0.0]}) == (1 + 0.5) / 3


def test_the_report_on_the_population_is_the_one_that_is_kept(tmp_path: Path) -> None:
    results = Path(recipes.__file__).parents[1] / "samples/results"
    (kept,) = results.glob("population-report-*.csv")
    (records,) = results.glob("population-*.jsonl.gz")
    recipes.report([records], tmp_path / "report.csv")
    made, expected = (
        list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for path in (tmp_path / "report.csv", kept)
    )
    assert len(made) == len(expected) == 16
    for row, other in zip(made, expected, strict=True):
        assert [row[name] for name in ("split", "statistic", "attacks", "clean", "backdoored")] == [
            other[name] for name in ("split", "statistic", "attacks", "clean", "backdoored")
        ]
        for name in ("AUC", "AUC low", "AUC high", "right target", "false alarms", "found"):
            assert float(row[name]) == pytest.approx(float(other[name]), abs=0.01, nan_ok=True)
