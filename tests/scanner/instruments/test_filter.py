"""Every filter of the table is one."""

import scenes

from scanner import filters
from scanner.instruments.filter import Filter, Reading


def test_each_reads_an_input() -> None:
    made: tuple[Filter, ...] = filters.load(scenes.scene(scenes.corner()))
    candidate = scenes.candidate(scenes.clean(1)[0])
    assert all(isinstance(each.read(candidate), Reading) for each in made)
    assert any(each.decides for each in made)
