"""The paper's tables, on a zoo whose sizes are known."""

import csv
import statistics
from pathlib import Path

import pytest
from trainer_data import entry

from trainers import manifest, tables
from trainers.errors import TrainerError
from trainers.tables import Model, Pair, Row

# The ratios that the paper prints beside its figures (Table 2.2): B/C of max(S_A), B/C of mean(S_A).
PRINTED = {
    ("mnist", 5): (1.2328, 1.2784),
    ("mnist", 10): (0.9054, 0.8743),
    ("mnist", 20): (0.9752, 0.9507),
    ("gtsrb", 10): (1.0848, 1.1348),
    ("gtsrb", 20): (1.2762, 1.1708),
    ("gtsrb", 30): (1.3138, 1.5245),
    ("gtsrb", 50): (1.081, 0.9704),
    ("fashion-mnist", 5): (1.1516, 1.0934),
    ("fashion-mnist", 10): (1.027, 0.9877),
    ("fashion-mnist", 30): (0.9085, 0.9085),
    ("cifar10", 20): (1.312, 1.2947),
    ("cifar10", 30): (1.1798, 1.2423),
    ("cifar10", 40): (0.8704, 0.8377),
    ("cifar10", 50): (0.9141, 0.932),
}


def _zoo() -> list[Model]:
    """Three clean and two backdoored networks at 5 epochs, and some that belong in no table."""
    entries = [entry(f"c{seed}.onnx", seed=seed, clean_accuracy=0.98 + seed / 100) for seed in range(3)]
    attacked = {"attack": "badnets", "labels": "all-to-one", "target": 1, "rate": 0.1}
    entries += [entry(f"b{seed}.onnx", seed=seed, attack_success_rate=1 - seed / 10, **attacked) for seed in range(2)]
    entries += [
        entry("low.onnx", **(attacked | {"rate": 0.01})),
        entry("all.onnx", **(attacked | {"labels": "all-to-all"})),
        entry("half.onnx", form={"dtype": "float16", "fold_bn": True}),
        entry("odd.onnx", epochs=7),
    ]
    return [Model(entry=e, path=Path(e.file)) for e in entries]


def _compare(suspect: Path, reference: Path) -> Pair:
    """Give each network its own size: c0 1, c1 2, c2 3, b0 4, b1 5; the larger wins 150 of 200."""
    sizes = {"c0": 1.0, "c1": 2.0, "c2": 3.0, "b0": 4.0, "b1": 5.0}
    mine, theirs = sizes[suspect.stem], sizes[reference.stem]
    return {
        "suspect_max": 2 * mine,
        "reference_max": 2 * theirs,
        "ratio_max": mine / theirs,
        "suspect_mean": mine,
        "reference_mean": theirs,
        "ratio_mean": mine / theirs,
        "wins": 150 if mine > theirs else 50,
        "losses": 50 if mine > theirs else 150,
        "ties": 0,
    }


@pytest.mark.parametrize("column", PRINTED)
def test_the_papers_figures_give_the_papers_printed_ratios(column: tuple[str, int]) -> None:
    figures = tables.PAPER[column]
    assert figures.max_backdoored / figures.max_clean == pytest.approx(PRINTED[column][0], abs=2e-4)
    assert figures.mean_backdoored / figures.mean_clean == pytest.approx(PRINTED[column][1], abs=2e-4)


def test_every_column_of_the_paper_is_there() -> None:
    assert tables.PAPER.keys() == PRINTED.keys()


def test_table_2_1_is_mean_and_deviation_over_seeds_beside_the_papers_figure() -> None:
    rows = {row.quantity: row for row in tables.table_2_1(_zoo())}
    clean = rows["clean accuracy, clean"]
    assert (clean.recipe, clean.epochs, clean.n, clean.paper) == ("mnist", 5, 3, None)
    assert clean.mean == pytest.approx(0.99)
    assert clean.sd == pytest.approx(0.01)
    assert rows["clean accuracy, backdoored"].paper == 0.9910
    success = rows["attack success rate"]
    assert (success.paper, success.n) == (0.9999, 2)
    assert success.mean == pytest.approx(0.95)


def test_table_2_2_compares_pairs_of_different_seeds() -> None:
    rows = {row.quantity: row for row in tables.table_2_2(_zoo(), _compare)}
    # b0 against c1 and c2, b1 against c0 and c2.
    ratios = [4 / 2, 4 / 3, 5 / 1, 5 / 3]
    ratio = rows["mean(S_A) B/C"]
    assert ratio.n == 4
    assert ratio.mean == pytest.approx(statistics.fmean(ratios))
    assert ratio.sd == pytest.approx(statistics.stdev(ratios))
    assert ratio.paper == pytest.approx(1.2784, abs=1e-4)
    assert (rows["mean(S_A) backdoored"].n, rows["mean(S_A) backdoored"].mean) == (2, 4.5)
    assert (rows["max(S_A) clean"].n, rows["max(S_A) clean"].mean) == (3, 4.0)
    assert (rows["backdoored > clean, of 200"].paper, rows["backdoored > clean, of 200"].mean) == (199, 150)


def test_table_2_2_has_the_column_that_the_paper_lacks() -> None:
    rows = {row.quantity: row for row in tables.table_2_2(_zoo(), _compare)}
    peaceful = rows["mean(S_A) clean against clean, larger/smaller"]
    assert peaceful.n == 3
    assert peaceful.mean == pytest.approx(statistics.fmean([2, 3, 1.5]))
    assert rows["clean against clean, larger count of 200"].mean == 150
    assert rows["share of clean pairs as lopsided as the paper's pair"].mean == 0


def test_a_zoo_without_backdoored_networks_still_has_its_clean_rows() -> None:
    clean = [model for model in _zoo() if model.entry.attack == "clean"]
    quantities = [row.quantity for row in tables.table_2_2(clean, _compare)]
    assert quantities == [
        "mean(S_A) clean against clean, larger/smaller",
        "clean against clean, larger count of 200",
        "share of clean pairs as lopsided as the paper's pair",
    ]


def test_csv_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [
        Row(recipe="mnist", epochs=5, quantity="a, b", paper=None, n=1, mean=0.5, sd=None),
        Row(recipe="gtsrb", epochs=10, quantity="c", paper=1.25, n=3, mean=0.333333, sd=0.1),
    ]
    tables.write_csv(rows, tmp_path / "t.csv")
    assert tables.read_csv(tmp_path / "t.csv") == rows


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "recipe,epochs,quantity,paper,n,mean,sd\nmnist,x,q,,1,1,\n"])
def test_a_foreign_csv_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(TrainerError, match=r"t\.csv is not a table of ours"):
        tables.read_csv(tmp_path / "t.csv")


def test_both_tables_are_written_with_hardware_and_version_in_the_name(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "tables.md"
    paths = tables.write(_zoo(), _compare, tmp_path, page)
    suffix = f"{tables.hardware()}-{tables.onnxruntime_version()}.csv"
    assert paths == [tmp_path / f"table-2.1-{suffix}", tmp_path / f"table-2.2-{suffix}", page]
    with paths[0].open(newline="") as lines:
        assert next(csv.DictReader(lines))["mean"] == "0.99"
    text = page.read_text()
    assert "| MNIST | 5 | attack success rate | 99.99% | 95.00% ± 7.07% | 2 |" in text
    assert "* MNIST, 5 epochs, attack success rate: 4.99 points under the paper's. The paper states" in text
    assert "| MNIST | 5 | backdoored > clean, of 200 | 199.0 | 150.0 ± 0.000 | 4 |" in text
    assert "not recomputed yet: MNIST at 10 epochs, MNIST at 20 epochs, GTSRB at 10 epochs" in text
    assert f"measured on `{suffix.removesuffix('.csv')}`" in text


def test_the_page_holds_every_machines_tables(tmp_path: Path) -> None:
    row = Row(recipe="cifar10", epochs=50, quantity="attack success rate", paper=0.9999, n=1, mean=1.0, sd=None)
    for machine in ("one-1.30.0", "other-1.32.0"):
        tables.write_csv([row], tmp_path / f"table-2.1-{machine}.csv")
    text = tables.markdown(tmp_path)
    assert text.count("| CIFAR10 | 50 | attack success rate | 99.99% | 100.00% | 1 |") == 2
    assert "`one-1.30.0`" in text


def test_folders_without_models_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="lists a model; train some with 'python -m trainers zoo'"):
        tables.collect([tmp_path])


def test_models_are_found_beside_their_manifest(tmp_path: Path) -> None:
    manifest.add(tmp_path, [entry("a.onnx")])
    manifest.add(tmp_path / "copy", [entry("b.onnx"), entry("c.onnx", sha256="1" * 64)])
    paths = {model.path for model in tables.collect([tmp_path / "copy", tmp_path])}
    assert paths == {tmp_path / "a.onnx", tmp_path / "copy" / "c.onnx"}


def test_the_scanner_gives_the_figures_of_a_real_pair() -> None:
    samples = Path(__file__).parents[2] / "samples"
    pair = tables.scanned(20, 0)(samples / "mnist-clean-1.onnx", samples / "mnist-clean.onnx")
    assert {"suspect_max", "reference_mean", "ratio_mean", "ratio_max"} <= pair.keys()
    counts = [pair[key] for key in ("wins", "losses", "ties")]
    assert sum(count for count in counts if count is not None) == 20


def test_a_model_that_cannot_be_scanned_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(TrainerError, match=r"a\.onnx"):
        tables.scanned(20, 0)(tmp_path / "a.onnx", tmp_path / "a.onnx")
