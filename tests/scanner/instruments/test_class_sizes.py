"""What a report lists of the classes that were searched."""

import math

from scanner.instruments.class_sizes import LISTED, described
from scanner.results import ClassDifference, Comparison, Contribution, Evidence, Measurement, Table

SEARCHED = Measurement(
    rule="search",
    statistic=None,
    parameters={"images": 48, "data": "64 images of x.npz", "budget": "quick", "seed": 7},
)


def table(*rows: ClassDifference, target: int | None = None, compared: int = 0) -> Table:
    evidence = Evidence(target_class=target, classes=rows, classes_compared=compared)
    comparison = Comparison(
        rule="search", statistic=None, contribution=Contribution(), evidence=evidence
    )
    first, second = described(SEARCHED, comparison, "warp (px)", "{:.2f}".format).blocks
    assert first.line == "48 images: 64 images of x.npz; budget quick, seed 7"
    assert second.table is not None
    return second.table


def test_without_references_the_smallest_come_first() -> None:
    rows = [ClassDifference(class_id=i, suspect=s) for i, s in enumerate((2.0, None, 0.5))]
    found = table(*rows, target=2)
    assert found.columns == ("class", "warp (px)")
    assert found.rows == (("2", "0.50"), ("0", "2.00"), ("1", "not found"))
    assert (found.emphasised, found.caption) == (0, "")


def test_beside_references_the_largest_ratios_come_first() -> None:
    rows = [
        ClassDifference(class_id=0, suspect=2.0, references=(2.0, 2.001), difference=0.0),
        ClassDifference(class_id=1, suspect=0.5, references=(1.0, 1.5), difference=math.log(2.5)),
    ]
    found = table(*rows, target=1, compared=2)
    assert found.columns == ("class", "warp (px)", "references", "times smaller")
    assert found.rows == (("1", "0.50", "1.00 to 1.50", "2.50"), ("0", "2.00", "2.00", "1.00"))


def test_more_than_a_person_reads_are_counted() -> None:
    rows = [ClassDifference(class_id=i, suspect=1.0) for i in range(LISTED + 3)]
    found = table(*rows)
    assert len(found.rows) == LISTED
    assert found.caption == "3 more classes in the JSON result"
