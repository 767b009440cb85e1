"""What a detector declares decides how it takes part."""

import json

import pytest

from scanner.results import Contribution, Part, Rule, Scale, Wording
from scanner.values import UnfitError, from_json, to_json


@pytest.mark.parametrize(
    ("part", "combined", "calibrated"),
    [
        (Part.STRUCTURAL, False, False),
        (Part.SEEN, False, False),
        (Part.PREMISE, False, False),
        (Part.COMBINED, True, True),
        (Part.SHOWN, False, True),
    ],
)
def test_the_part_of_a_detector(part: Part, combined: bool, calibrated: bool) -> None:
    contribution = Contribution(part=part)
    assert (contribution.combined, contribution.calibrated) == (combined, calibrated)


def test_every_part_is_one_of_those_above() -> None:
    assert {part.value for part in Part} == {
        "structural", "seen", "premise", "combined", "shown",
    }  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        Rule(id="r", name="R", summary="s", source="2024"),
        Contribution(part=Part.COMBINED, decisive=True, beside_one=1.5, budget_helps=True),
        Scale(small_is_suspicious=True, added=1.0, ease=0.5, unit=" pixels"),
        Wording(one="{suspect}", alone="alone"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_declaration_survives_json(value: Rule | Contribution | Scale | Wording) -> None:
    assert from_json(type(value), json.loads(json.dumps(to_json(value)))) == value


@pytest.mark.parametrize(
    ("kind", "field"),
    [(Contribution, "beside_one"), (Contribution, "alone"), (Scale, "added")],
)
@pytest.mark.parametrize("unit", [0.0, -1.0, 1e-300])
def test_a_unit_of_nothing_is_refused(kind: type, field: str, unit: float) -> None:
    with pytest.raises(UnfitError, match=field):
        from_json(kind, {field: unit})
