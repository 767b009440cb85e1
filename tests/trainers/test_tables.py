"""The paper's tables, on a zoo whose sizes are known."""

import csv
import dataclasses
import statistics
from pathlib import Path

import pytest
from trainer_data import entry

from trainers import manifest, tables
from trainers.errors import TrainerError
from trainers.files import sha256
from trainers.tables import Model, Pair, Row

# The ratios that the paper prints beside its figures (Table 2.2): B/C of max(S_A), B/C of
# mean(S_A).
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
    entries = [
        entry(f"c{seed}.onnx", seed=seed, clean_accuracy=0.98 + seed / 100) for seed in range(3)
    ]
    attacked = {"attack": "badnets", "labels": "all-to-one", "target": 1, "rate": 0.1}
    entries += [
        entry(f"b{seed}.onnx", seed=seed, attack_success_rate=1 - seed / 10, **attacked)
        for seed in range(2)
    ]
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
    assert figures.mean_backdoored / figures.mean_clean == pytest.approx(
        PRINTED[column][1], abs=2e-4
    )


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


def test_networks_of_another_width_have_rows_of_their_own() -> None:
    wide = [
        dataclasses.replace(m, entry=dataclasses.replace(m.entry, recipe="mnist-w64"))
        for m in _zoo()[:4]
    ]
    rows = [
        row
        for row in (
            *tables.table_2_1([*_zoo(), *wide]),
            *tables.table_2_2([*_zoo(), *wide], _compare),
        )
        if row.recipe == "mnist-w64"
    ]
    found = {row.quantity: row for row in rows}
    assert found["clean accuracy, clean"].n == 3
    assert found["clean accuracy, backdoored"].paper == 0.9910
    assert found["mean(S_A) B/C"].paper == pytest.approx(1.2784, abs=1e-4)
    narrow = [row for row in tables.table_2_1([*_zoo(), *wide]) if row.recipe == "mnist"]
    assert {row.n for row in narrow if row.quantity == "clean accuracy, clean"} == {3}


def test_a_network_that_was_trained_for_less_than_any_of_the_papers_has_a_row() -> None:
    short = {"recipe": "cifar100-w8", "epochs": 15}
    attacked = {"attack": "badnets", "labels": "all-to-one", "target": 1, "rate": 0.1}
    made = [entry("a.onnx", **short), entry("b.onnx", **short, **attacked)]
    rows = tables.table_2_1([Model(entry=e, path=Path(e.file)) for e in made])
    assert {(row.recipe, row.epochs, row.paper) for row in rows} == {("cifar100-w8", 15, None)}
    assert [row.quantity for row in rows] == [
        "clean accuracy, clean", "clean accuracy, backdoored", "attack success rate",
    ]  # fmt: skip


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
    assert (rows["backdoored > clean, of 200"].paper, rows["backdoored > clean, of 200"].mean) == (
        199,
        150,
    )


def test_rows_come_in_the_papers_order() -> None:
    assert [row.quantity for row in tables.table_2_2(_zoo(), _compare)][:7] == [
        "max(S_A) backdoored",
        "max(S_A) clean",
        "max(S_A) B/C",
        "mean(S_A) backdoored",
        "mean(S_A) clean",
        "mean(S_A) B/C",
        "backdoored > clean, of 200",
    ]


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
        "max(S_A) clean",
        "mean(S_A) clean",
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


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "recipe,epochs,quantity,paper,n,mean,sd\nmnist,x,q,,1,1,\n"]
)
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
    below = (
        "4.99 points (0.7 standard deviations of our 2 runs) under the paper's. The paper states"
    )
    assert f"* MNIST, 5 epochs, attack success rate: {below}" in text
    assert "| MNIST | 5 | backdoored > clean, of 200 | 199.0 | 150.0 ± 0.000 | 4 |" in text
    assert "not recomputed yet: MNIST at 10 epochs, MNIST at 20 epochs, GTSRB at 10 epochs" in text
    assert f"measured on `{suffix.removesuffix('.csv')}`" in text


def test_the_page_holds_every_machines_tables(tmp_path: Path) -> None:
    row = Row(
        recipe="cifar10",
        epochs=50,
        quantity="attack success rate",
        paper=0.9999,
        n=1,
        mean=1.0,
        sd=None,
    )
    for machine in ("one-1.30.0", "other-1.32.0"):
        tables.write_csv([row], tmp_path / f"table-2.1-{machine}.csv")
    text = tables.markdown(tmp_path, tmp_path / "docs")
    assert "(../table-2.1-one-1.30.0.csv)" in text
    assert text.count("| CIFAR10 | 50 | attack success rate | 99.99% | 100.00% | 1 |") == 2
    assert "`one-1.30.0`" in text


def test_folders_without_models_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        TrainerError, match="lists a model; train some with 'python -m trainers zoo'"
    ):
        tables.collect([tmp_path])


def _list(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    manifest.add(path.parent, [entry(path.name, sha256=sha256(path))])


def test_models_are_found_beside_their_manifest_and_counted_once(tmp_path: Path) -> None:
    for name, content in (("one/a", b"same"), ("copy/b", b"same"), ("copy/c", b"other")):
        _list(tmp_path / name, content)
    paths = [model.path for model in tables.collect([tmp_path / "copy", tmp_path / "one"])]
    assert paths == [tmp_path / "copy/b", tmp_path / "copy/c"]


@pytest.mark.parametrize("content", [None, b"changed"])
def test_a_file_that_is_not_the_one_that_was_measured_is_named(
    tmp_path: Path, content: bytes | None
) -> None:
    _list(tmp_path / "a.onnx", b"measured")
    (tmp_path / "a.onnx").unlink()
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(TrainerError, match=r"a\.onnx is not the file that its manifest describes"):
        tables.collect([tmp_path])


def test_networks_of_one_seed_count_once_though_two_zoos_hold_them() -> None:
    again = [dataclasses.replace(model, path=Path("again") / model.path) for model in _zoo()]
    assert tables.table_2_1([*_zoo(), *again]) == tables.table_2_1(_zoo())
    assert list(tables.table_2_2([*_zoo(), *again], _compare)) == list(
        tables.table_2_2(_zoo(), _compare)
    )


def _shortfalls(tmp_path: Path, *rows: Row) -> str:
    tables.write_csv(rows, tmp_path / "table-2.1-machine.csv")
    return tables.markdown(tmp_path, tmp_path)


def _accuracy(recipe: str, epochs: int, mean: float, sd: float | None = None) -> Row:
    return Row(
        recipe=recipe, epochs=epochs, quantity=tables.ACCURACY, paper=None, n=5, mean=mean, sd=sd
    )


def test_what_is_below_the_paper_within_the_spread_of_runs_is_said_to_be(tmp_path: Path) -> None:
    text = _shortfalls(
        tmp_path,
        _accuracy("mnist", 5, 0.9904, 0.0006),
        _accuracy("fashion-mnist", 5, 0.913, 0.0015),
    )
    assert (
        "* MNIST, 5 epochs, clean accuracy, backdoored: 0.06 points (1.0 standard deviations of "
        "our 5 runs)" in text
    )
    assert text.count("One run, such as the paper's, does not tell the two apart.") == 1
    assert (
        "1.51 points (10.1 standard deviations of our 5 runs) under the paper's. The paper states"
        in text
    )


def test_every_epoch_is_held_against_the_papers_one_figure(tmp_path: Path) -> None:
    text = _shortfalls(
        tmp_path, _accuracy("fashion-mnist", 30, 0.925), _accuracy("gtsrb", 50, 0.97)
    )
    assert (
        "FashionMNIST, 30 epochs, clean accuracy, backdoored: 0.31 points under the paper's, which "
        "is at 5" in text
    )
    assert "GTSRB, 50 epochs, clean" not in text


def test_a_shortfall_without_a_known_reason_says_so(tmp_path: Path) -> None:
    assert "Why has not been looked into." in _shortfalls(tmp_path, _accuracy("cifar10", 50, 0.9))


def test_a_column_with_clean_networks_only_is_not_called_recomputed(tmp_path: Path) -> None:
    clean = [
        dataclasses.replace(m, entry=dataclasses.replace(m.entry, epochs=10)) for m in _zoo()[:3]
    ]
    tables.write_csv(
        tables.table_2_2([*_zoo(), *clean], _compare), tmp_path / "table-2.2-machine.csv"
    )
    text = tables.markdown(tmp_path, tmp_path)
    assert "| MNIST | 10 | max(S_A) clean | 3.910 | 4.000 ± 2.000 | 3 |" in text
    assert "not recomputed yet: MNIST at 10 epochs, MNIST at 20 epochs" in text


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
