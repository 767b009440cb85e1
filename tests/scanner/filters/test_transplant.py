"""The transplanted window: where it is found."""

import scenes

from scanner.filters.transplant import Transplant
from scanner.results import Region


def test_the_region_is_that_of_the_trigger() -> None:
    reading = Transplant(scenes.scene()).read(scenes.candidate(scenes.stamped(1)[0]))
    assert reading.region == Region(top=0, left=0, height=2, width=2)
    assert reading.statistic > 0.99
