"""What was found of inputs survives a trip through JSON; nonsense is refused."""

import dataclasses

import pytest
import scenes

from scanner.results import InputReading, ScreenedInput, Screening
from scanner.values import UnfitError, from_json, to_json


def test_a_screening_survives_json() -> None:
    whole = scenes.screening(scenes.screened(shown=True))
    assert from_json(Screening, to_json(whole)) == whole
    assert from_json(ScreenedInput, to_json(whole.found[0])) == whole.found[0]


def test_a_statistic_without_its_region_is_refused() -> None:
    data = to_json(scenes.reading(0.5))
    data["regions"] = []
    with pytest.raises((UnfitError, ValueError)):
        from_json(InputReading, data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None])
def test_a_statistic_is_a_number(value: object) -> None:
    data = to_json(dataclasses.replace(scenes.reading(0.5)))
    data["statistics"] = [value]
    with pytest.raises(UnfitError):
        from_json(InputReading, data)
