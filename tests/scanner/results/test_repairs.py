"""What a repair says of itself, and what of it cannot be read back."""

import pytest

from scanner.results import Outcome, Repaired, RepairedFile, RepairStep, Way
from scanner.values import UnfitError, from_json, to_json


@pytest.mark.parametrize("outcome", Outcome)
def test_something_changed_only_where_a_step_was_kept(outcome: Outcome) -> None:
    found = Repaired(
        steps=(RepairStep(way=Way.CUT, outcome=outcome, sentence=""),),
        proofs=(),
        agreement=1.0,
        images=1,
        held_back=1,
        source="",
        structural_before=0,
        structural_after=0,
    )
    assert found.changed == (outcome is Outcome.KEPT)
    assert from_json(Repaired, to_json(found)) == found


@pytest.mark.parametrize(
    ("field", "value"), [("size", -1), ("size", 2**50), ("sha256", "zz"), ("suffix", None)]
)
def test_a_file_that_cannot_be_is_refused(field: str, value: object) -> None:
    data = to_json(RepairedFile(suffix="", size=1, sha256="0" * 64)) | {field: value}
    with pytest.raises(UnfitError):
        from_json(RepairedFile, data)
