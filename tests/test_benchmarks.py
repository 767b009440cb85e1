"""The benchmarks' own arithmetic: figures of quality that are known beforehand."""

import csv
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnxruntime
import pytest
import trainer_data
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from benchmarks import (
    detection,
    device,
    families,
    half_side,
    latents,
    leads,
    one_class,
    quality,
    staged,
    sweeps,
)
from benchmarks import population as recipes
from scanner.judging import population
from scanner.judging import recipes as judging
from scanner.results import Move, Moves, Skip
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
    detection.pack([tmp_path / "records", packed], packed)
    assert packed.read_bytes() == first


def test_a_network_that_was_measured_again_is_packed_once(tmp_path: Path) -> None:
    record = population.read_baseline(next(population.SHIPPED.glob("mnist-*.json"))).records[0]
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.json").write_text(
            json.dumps({"truth": {"attack": name}, "record": to_json(record)})
        )
    packed = tmp_path / "records.jsonl.gz"
    detection.pack([tmp_path / "first", tmp_path / "again"], packed)
    assert [member.truth["attack"] for member in detection._members(packed)] == ["again"]


def test_each_network_of_a_zoo_is_measured_once_as_a_scan_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.save(models.plain(), tmp_path / "one.onnx")
    rows = [
        {"file": "one.onnx", "sha256": "ab" * 32, "epochs": 5, "attack": "clean"},
        {"file": "another epoch's.onnx", "sha256": "cd" * 32, "epochs": 9, "attack": "clean"},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"models": rows}))
    for _ in range(2):
        detection.measure(tmp_path, tmp_path / "records")
    assert capsys.readouterr().err == "one.onnx\n"
    (member,) = detection._members(tmp_path / "records")
    assert member.clean
    # Detectors that need images are left out, with a reason, and end nothing.
    assert "source_dependent" in {skip.rule for skip in member.record.skips}
    assert member.record.measurement("neural_cleanse") is not None


MASKS = "neural_cleanse, noise"


def network(
    name: str, sizes: Sequence[float | None], recipe: str = "r", attack: str = "clean"
) -> recipes.Network:
    truth = {
        "sha256": name,
        "recipe": recipe,
        "dataset": recipe,
        "attack": attack,
        "labels": None if attack == "clean" else "all-to-one",
        "planted": attack != "clean",
    }
    return recipes.Network(truth, {MASKS: sizes})


def test_a_class_stands_out_by_its_ratio_to_the_reference_less_the_median_class() -> None:
    suspect = network("a", [9.0, 1.0, 19.0, 39.0])
    reference = network("b", [19.0, 19.0, 39.0, 79.0])
    found = recipes._beside(suspect, [reference], MASKS)
    assert found is not None
    assert found.statistic == pytest.approx(np.log(10) - np.log(2))
    assert found.evidence.target_class == 1


def test_a_condition_by_hand() -> None:
    """Of three recipes the one that reaches furthest sets no unit."""
    alone, pair = (recipes.Way(False, count, (MASKS,), 12, leads=()) for count in range(2))
    even, lead = [9.0, 9.0, 9.0, 9.0], [99.0, 99.0, 9.0, 99.0]
    clean = [
        network(f"{recipe}{seed}", sizes, recipe)
        for recipe, sizes in (("a", even), ("b", lead), ("c", [999.0, 999.0, 9.0, 999.0]))
        for seed in range(2)
    ]
    guilty = network("d", [99.0, 0.0, 99.0, 99.0], "a", "badnets")
    found = recipes.condition(alone, recipes._draws(alone, [*clean, guilty]))
    ten, hundred = np.log(10), np.log(100)
    assert found.units == {"neural_cleanse": pytest.approx(ten)}
    reached = {recipe.name: recipe.reached for recipe in found.recipes}
    assert reached == {"a": (0.0, 0.0), "b": (1.0, 1.0), "c": pytest.approx((2.0, 2.0))}
    (patch,) = found.attacks
    assert patch.name == "patch"
    assert patch.reached == pytest.approx((hundred / ten,))
    beside = recipes.condition(pair, recipes._draws(pair, clean))
    assert all(recipe.reached == (0.0, 0.0) for recipe in beside.recipes)


RESULTS = Path(recipes.__file__).parents[1] / "samples/results"


FIRST, LATER, ACCURATE, MANY, UNEQUAL = (
    RESULTS / f"{name}-amd-epyc-1.32.0.jsonl.gz"
    for name in (
        "population",
        "later-recipes",
        "accurate-recipes",
        "many-classes",
        "unequal-classes",
    )
)
SHIPPED = [FIRST, LATER, ACCURATE, MANY]


def judged_by_the_first(records: list[Path], table: Path) -> None:
    recipes.later(records, among=[FIRST], csv_file=table)


def judged_by_those_that_ship(records: list[Path], table: Path) -> None:
    recipes.later(records, among=SHIPPED, csv_file=table)


@pytest.mark.parametrize(
    ("made_by", "measured", "table"),
    [
        (recipes.report, SHIPPED, "population-report"),
        (recipes.statistics, [FIRST], "population-statistics"),
        (judged_by_the_first, [LATER], "later-recipes-report"),
        (judged_by_the_first, [ACCURATE], "accurate-recipes-report"),
        (judged_by_those_that_ship, [UNEQUAL], "unequal-classes-report"),
    ],
)
def test_the_tables_of_the_population_are_those_that_are_kept(
    made_by: Callable[[list[Path], Path], None], measured: list[Path], table: str, tmp_path: Path
) -> None:
    (kept,) = RESULTS.glob(f"{table}-*.csv")
    made_by(measured, tmp_path / "made.csv")
    made, expected = (
        list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for path in (tmp_path / "made.csv", kept)
    )
    assert len(made) == len(expected) > 0
    for row, other in zip(made, expected, strict=True):
        for name in other:
            try:
                value = float(other[name])
            except ValueError:
                assert row[name] == other[name]
            else:
                assert float(row[name]) == pytest.approx(value, abs=0.01, nan_ok=True)


def test_the_recipes_that_ship_are_those_that_were_measured(tmp_path: Path) -> None:
    recipes.ship(SHIPPED, tmp_path / "recipes.json")
    assert (tmp_path / "recipes.json").read_bytes() == judging.SHIPPED.read_bytes()


def test_the_counts_of_verdicts_are_made_again_from_the_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One data set's rows of the committed table, which the README and its page add up."""
    results = Path(__file__).parent.parent / "samples" / "results"
    made = tmp_path / "sizes.csv"
    detection.sizes([results / "records-gtsrb-amd-epyc-1.32.0.jsonl.gz"], made)
    capsys.readouterr()
    committed = (results / "sizes-amd-epyc-1.32.0.csv").read_text("utf-8").splitlines()
    rows = made.read_text("utf-8").splitlines()
    assert len(rows) == 3
    assert rows == [committed[0], *(line for line in committed if "gtsrb" in line)]


def test_what_is_measured_anew_takes_the_place_of_what_was() -> None:
    (first, *_) = detection._members(RESULTS / "records-cifar10-small-amd-epyc-1.32.0.jsonl.gz")
    known = first.record
    head = known.measurement("head")
    assert head is not None
    anew = dataclasses.replace(head, statistic=-1.0)
    skip = Skip(rule="overactivation", reason="it was asked for no more")
    record = dataclasses.replace(known, measurements=(anew,), skips=(skip,))
    renewed = detection._renewed(known, record)
    rules = [m.rule for m in known.measurements if m.rule != "overactivation"]
    assert [m.rule for m in renewed.measurements] == rules, "in the order of the report"
    assert renewed.measurement("head") == anew
    assert renewed.skips == (*known.skips, skip)
    assert all(renewed.measurement(r) == known.measurement(r) for r in rules if r != "head")


@pytest.mark.parametrize(
    ("named", "shipped", "table"),
    [
        ("records", False, "strangers"),
        ("images", False, "strangers-images"),
        ("images", True, "baselines-images"),
    ],
)
def test_what_is_said_of_networks_is_made_again_from_the_records(
    named: str, shipped: bool, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "words.csv"
    records = RESULTS / f"{named}-cifar10-small-amd-epyc-1.32.0.jsonl.gz"
    detection.strangers([records], made, baselines=shipped)
    capsys.readouterr()
    committed = RESULTS / f"{table}-cifar10-small-amd-epyc-1.32.0.csv"
    assert made.read_text("utf-8") == committed.read_text("utf-8")


def test_what_a_device_is_used_for_becomes_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "COPIED", 1 << 16)
    path = tmp_path / "device.csv"
    chosen = ["--device", "cpu", "--seconds", "0", "--only", "mnist-badnets"]
    device.main(["--csv", str(path), *chosen])
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {row["measure"]: float(row["value"]) for row in rows}
    assert {row["network"] for row in rows} == {"mnist-badnets"}
    assert len(found) == 10
    assert min(found.values()) > 0
    ours, theirs, host = (
        found[f"steps of a search, {which}"]
        for which in ("state on the device", "PyTorch", "loop on the host")
    )
    assert found["steps of a search, ours : PyTorch"] == pytest.approx(ours / theirs, rel=1e-2)
    assert found["steps of a search, device : host"] == pytest.approx(ours / host, rel=1e-2)


def test_clean_networks_of_test_recipes_seldom_lead_far_by_their_preferences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As docs/detection.md says of the detector `head`."""
    leads.main([RESULTS / "population-amd-epyc-1.32.0.jsonl.gz"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    clean = [row for row in rows if row[0] == "head" and row[2:4] == ["test", "clean"]]
    assert [(row[1], row[4], row[-2], row[-1]) for row in clean] == [
        ("0", "90", "2.39", "0.02"),
        ("1", "180", "2.35", "0.03"),
    ]


def test_a_sweep_is_counted_by_the_bounds_as_they_are(tmp_path: Path) -> None:
    """By data, split and attack; what could not be swept is left out."""
    file = tmp_path / "records.csv"
    rows = [
        ("clean", "0.30", "0.20", "0.25", "0.3"),
        ("clean", "0.97", "0.90", "1.0", "0.4"),  # another class is reached as well
        ("clean", "", "", "", ""),
        ("badnets", "1.0", "0.40", "1.0", "0.1"),
        ("badnets", "0.9", "0.40", "0.9", "0.1"),
        ("all-to-all", "0.3", "0.2", "0.2", "0.9"),
        ("all-to-all", "0.3", "0.2", "0.2", ""),  # swept before it was looked for
    ]
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, sweeps.COLUMNS)
        writer.writeheader()
        for attack, share, following, held, relabelled in rows:
            writer.writerow({
                "detector": "patch_sweep", "searched on": "images",
                "split": "test", "attack": attack, "classes": "10",
                "share": share, "next": following, "held back": held, "relabelled": relabelled,
                "relabelled held back": "0.8", "relabelled classes": "10",
            })  # fmt: skip
    clean, shifted, planted = sweeps.counted(sweeps.read([file]))
    assert (clean["n"], clean["suspicious"], clean["warning"], clean["at most"]) == (2, 0, 0, 0.97)
    assert (planted["n"], planted["suspicious"], planted["warning"]) == (2, 1, 1)
    assert (shifted["n"], shifted["suspicious"], shifted["relabelled, at most"]) == (2, 1, 0.8)
    assert [clean["networks"], planted["networks"]] == ["clean", "badnets"]


def one_moved(
    attack: str, sha256: str, figure: float, recipe: str = "r", moves: bool = True
) -> one_class.Network:
    """A network whose class 2 some stamp moves to class 0, as the attacker wants it or not."""
    rows: list[list[float | None]] = [[0.0] * 3 for _ in range(3)]
    rows[2][0] = figure
    move = Move(
        source=2, target=0, stamp="a patch", details={}, turned=9, images=9, strayed=0, others=30,
        success=1.0, steady=1.0,
    )  # fmt: skip
    found = Moves(figures=tuple(map(tuple, rows)), foremost=(move,)) if moves else None
    planted = attack != "clean"
    return one_class.Network(
        file="m.onnx", sha256=sha256, recipe=recipe, split="test", attack=attack, trigger="",
        source=1 if sha256 == "d" else 2 if planted else None, target=0 if planted else None,
        success=1.0 if planted else None, moves=found,
    )  # fmt: skip


def test_networks_of_one_class_are_counted_alone_and_beside_each_clean_one_of_their_recipe() -> (
    None
):
    networks = [
        one_moved("clean", "a", 0.1),
        one_moved("clean", "b", 0.96),
        one_moved("one-to-one", "c", 1.0),
        one_moved("one-to-one", "d", 0.9),  # found where nobody planted it
        one_moved("one-to-one", "e", 1.0, recipe="another"),
        one_moved("clean", "f", 0.0, moves=False),  # too few images of each class
    ]
    clean, planted = one_class.counted(networks)
    told = ("n", "alone: warning", "pairs", "beside one: suspicious", "of the attacker's classes",
            "warning")  # fmt: skip
    assert [clean[name] for name in told] == [2, 1, 2, 1, 0, 0]
    assert [planted[name] for name in told] == [3, 2, 4, 2, 1, 1]
    assert (clean["networks"], planted["networks"]) == ("clean", "one-to-one")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            "one-class",
            [
                ("development", "clean", 57, 6, 122, 1, 11),
                ("development", "one-to-one", 9, 3, 30, 14, 5),
                ("test", "clean", 63, 5, 126, 0, 12),
                ("test", "one-to-one", 17, 6, 51, 16, 5),
                ("zoo", "clean", 32, 0, 588, 0, 0),
                ("zoo", "one-to-one", 8, 6, 81, 57, 20),
            ],
        ),
        (
            "one-class-later",
            [("zoo", "clean", 5, 1, 8, 0, 2), ("zoo", "one-to-one", 10, 7, 26, 22, 2)],
        ),
    ],
)
def test_the_tables_of_one_class_alone_are_those_of_the_records(
    records: str, expected: list[tuple[str | int, ...]]
) -> None:
    """As docs/detection.md says; each suspicion names the attacker's two classes."""
    rows = list(
        one_class.counted(one_class.read([RESULTS / f"{records}-amd-epyc-1.32.0.jsonl.gz"]))
    )
    told = ("split", "networks", "n", "alone: warning", "pairs", "beside one: suspicious",
            "warning")  # fmt: skip
    assert [tuple(row[name] for name in told) for row in rows] == expected
    for row in rows:
        if row["networks"] != "clean":
            assert row["of the attacker's classes"] == row["beside one: suspicious"]


def test_the_triggers_of_one_class_that_took_well_are_counted_apart() -> None:
    """As docs/detection.md says."""
    networks = one_class.read([RESULTS / "one-class-amd-epyc-1.32.0.jsonl.gz"])
    well, others = (tuple(row.values()) for row in one_class.by_success(networks))
    assert well == ("at least 90%", 22, 15, 84, 59, 10)
    assert others == ("less than 90%", 12, 2, 78, 28, 20)


@pytest.mark.parametrize(
    ("attack", "rate", "trigger", "said"),
    [
        ("clean", 0.0, {}, "clean"),
        ("badnets", 0.1, {"side": 3, "margin": 1}, "badnets"),
        ("badnets", 0.01, {"side": 3, "margin": 1}, "badnets 1%"),
        ("badnets", 0.1, {"side": 5, "pattern": "checker"}, "badnets other square"),
        ("blended", 0.1, {"alpha": 0.2}, "blended"),
    ],
)
def test_the_name_of_an_attack_says_what_is_unusual(
    attack: str, rate: float, trigger: dict[str, float | int | str], said: str
) -> None:
    entry = trainer_data.entry("m.onnx", attack=attack, rate=rate, parameters=trigger)
    assert sweeps.named(entry) == said
    assert sweeps.named(dataclasses.replace(entry, labels="all-to-all")) == "all-to-all"


def test_a_network_cut_in_the_middle_answers_as_the_whole_one() -> None:
    sample = RESULTS.parent / "mnist-badnets.onnx"
    noise, tail = latents.halves(sample, 0.0, 1.0)
    whole, rest = (
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        for data in (sample.read_bytes(), tail)
    )
    images = np.random.default_rng(0).random((latents.NOISE, 1, 28, 28), dtype=np.float32)
    (expected,), (found,) = (
        session.run(None, {session.get_inputs()[0].name: values})
        for session, values in ((whole, images), (rest, noise))
    )
    assert np.allclose(found, expected, atol=1e-4)


def test_searches_in_the_middle_are_told_by_how_far_a_class_stands_out() -> None:
    flat, high = [1.0, 1.1, 0.9, 1.0, 1.05], [1.0, 1.1, 9.0, 1.0, 1.05]
    rows = [
        {"sha256": name, "recipe": "r", "attack": attack, **dict.fromkeys(latents.SEARCHES, own)}
        for name, attack, own in (("a", "clean", flat), ("b", "clean", flat), ("c", "sig", high))
    ]
    (row,) = latents.reported(rows)
    assert (row.pop("attack"), row.pop("n")) == ("sig", 1)
    assert set(row.values()) == {"1.00"}
    assert len(row) == 2 * len(latents.SEARCHES)


def test_searches_on_small_images_are_set_beside_those_on_whole_ones() -> None:
    apart, alike = [1.0, 50.0, 50.0, 50.0], [50.0, 49.0, 50.0, 50.0]
    rows = [
        {
            "file": attack, "recipe": "r", "split": "test", "attack": attack,
            "labels": "all-to-one", "target": target, "classes": [7, 3, 5, 2],
            "figures": {"whole 32": whole, "half 8": alike},
            "cpu": {"whole 32": 4.0, "half 8": 1.0},
        }
        for attack, target, whole in (("clean", None, alike), ("blended", 7, apart))
    ]  # fmt: skip
    rows.append({**rows[0], "file": "another"})
    whole, half = half_side.reported(rows)
    assert (whole["AUC alone"], whole["AUC beside one"]) == ("1.00", "1.00")
    assert (half["AUC alone"], half["AUC beside one"]) == ("0.50", "0.50")
    assert (whole["smallest mask is the attacker's"], whole["CPU s, median"]) == (1, "4.0")
    assert (half["smallest mask is the attacker's"], half["images"]) == (0, "half 8")


def test_searches_in_stages_are_set_beside_full_ones() -> None:
    row = {"file": "f", "recipe": "r", "split": "test", "labels": "all-to-one", "cpu": 1.0}
    full = row | {"rule": "neural_cleanse", "way": staged.FULL, "searched": [0, 1, 2, 3]}
    few = row | {"rule": "neural_cleanse", "way": staged.LEAST, "searched": [1, 2]}
    clean = {"attack": "clean", "target": None, "statistic": 1.0, "foremost": 2}
    planted = {"attack": "blended", "target": 3, "foremost": 3}
    rows = [
        full | clean,
        full | planted | {"statistic": 2.0},
        few | clean,
        few | planted | {"statistic": 0.5, "foremost": 1},
    ]
    whole, part = staged.reported(rows)
    assert (whole["AUC"], whole["above 95 % of clean"]) == ("1.00", 1)
    assert (whole["right class searched"], whole["right class first"]) == (1, 1)
    assert (part["AUC"], part["above 95 % of clean"]) == ("0.00", 0)
    assert (part["right class searched"], part["right class first"]) == (0, 0)


def test_the_table_of_searches_in_stages_is_that_of_the_records() -> None:
    page = Path(__file__).parent.parent / "docs" / "large-networks.md"
    records = half_side.read(RESULTS / "staged-amd-epyc-1.32.0.jsonl.gz")
    head, _, *rows = quality.table([*staged.reported(records)]).splitlines()
    shown = page.read_text(encoding="utf-8")
    assert all(f"{line}\n" in shown for line in (head, *rows))


def test_a_file_of_another_framework_is_held_against_its_gradient(tmp_path: Path) -> None:
    model = models.build(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        ],
        {"weights": np.arange(16, dtype=np.float32).reshape(4, 4)},
        input_shape=("N", 1, 2, 2),
        output="logits",
    )
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "Linear.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "keras" / "Broken.txt").write_text("ValueError: no such layer")
    rng = np.random.default_rng(0)
    images, slope = rng.random((2, 1, 2, 2), np.float32), rng.random((2, 4), np.float32)
    exact = (slope @ np.arange(16.0).reshape(4, 4).T).reshape(2, 1, 2, 2)
    values: dict[str, Any] = {"images": images, "slope": slope, "gradient": exact}
    np.savez(tmp_path / "keras" / "Linear.npz", exact=exact, **values)
    np.savez(tmp_path / "keras" / "Wrong.npz", exact=-exact, **values)
    (tmp_path / "keras" / "Wrong.onnx").write_bytes(model.SerializeToString())

    broken, right, wrong = (
        families.row(subject, scan=False) for subject in families.of_folder(tmp_path / "keras")
    )
    assert broken["error"] == "export: RuntimeError: ValueError: no such layer"
    assert float(right["gradient_error"]) < 1e-6
    assert (right["cosine"], wrong["cosine"], wrong["gradient_error"]) == (
        "1.0000",
        "-1.0000",
        "2.0e+00",
    )


def test_the_report_of_families_takes_the_latest_row_of_each() -> None:
    blank = dict.fromkeys(families.COLUMNS, "")
    key = {"library": "timm", "exporter": "dynamo", "form": "float32", "family": "ViT"}
    compared = blank | key | {"gradient_error": "2e-7", "cosine": "1"}
    scanned = compared | {"cpu_seconds": "12.4", "peak_mib": "1300", "verdict": "inconclusive"}
    failed = blank | key | {"family": "BEiT", "error": "export: TypeError"}
    report = families.reported([compared, scanned, failed])
    assert "| timm | dynamo | float32 | 2 | 1 | 1 | 2.0e-07 | 2.0e-07 |  | 1 | 1 | 0 |" in report
    assert "| BEiT | not exported |" in report
    assert "| ViT | 12 s, 1,300 MiB |" in report
