"""The table of filters: which tells stamped inputs from clean ones, and that all obey the rules.

To add a filter, add its row to `scanner.filters.FILTERS`; if it tells a square in the corner of a
linear classifier, also here.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import scenes

from scanner import filters
from scanner.filters import FILTERS
from scanner.instruments.filter import Filter

TELL_A_SQUARE = {"strip", "transplant", "disturbance", "inverted"}
DOCS = Path(__file__).parent.parent.parent.parent / "docs"


def loaded() -> dict[str, Filter]:
    return {each.rule.id: each for each in filters.load(scenes.scene(scenes.corner()))}


def test_the_table_names_them_in_order() -> None:
    assert list(loaded()) == list(FILTERS)


def test_without_a_trigger_none_is_looked_for() -> None:
    names = [each.rule.id for each in filters.load(scenes.scene())]
    assert names == [name for name in FILTERS if name != "inverted"]


@pytest.mark.parametrize("rule", FILTERS)
def test_a_rule_has_a_source_and_a_section(rule: str) -> None:
    assert re.search(r"\b(19|20)\d\d\b", loaded()[rule].rule.source)
    sections = re.findall(r"^### .*\(`([\w-]+)`\)$", (DOCS / "inputs.md").read_text(), re.MULTILINE)
    assert sections.count(rule) == 1


@pytest.mark.parametrize("rule", sorted(TELL_A_SQUARE))
def test_a_stamped_input_lies_beyond_every_clean_one(rule: str) -> None:
    each = loaded()[rule]
    clean = [each.read(scenes.candidate(image)).statistic for image in scenes.clean(40, seed=5)]
    stamped = [each.read(scenes.candidate(image)).statistic for image in scenes.stamped(10)]
    assert min(stamped) > max(clean)


@pytest.mark.parametrize("rule", FILTERS)
def test_the_same_input_is_read_alike_twice(rule: str) -> None:
    each, image = loaded()[rule], scenes.stamped(1)[0]
    assert each.read(scenes.candidate(image)) == each.read(scenes.candidate(image))


def test_no_more_passes_are_made_than_are_told() -> None:
    shown = 0

    def counted(images: scenes.Floats) -> scenes.Floats:
        nonlocal shown
        shown += len(images)
        return scenes.ask(images)

    made = filters.load(dataclasses.replace(scenes.scene(scenes.corner()), ask=counted))
    candidate = scenes.candidate(scenes.stamped(1)[0])
    for each in made:
        each.read(candidate)
    assert 0 < shown <= sum(each.passes for each in made)


def test_one_class_only_leaves_nothing_to_transplant_to() -> None:
    scene = scenes.scene()
    alone = dataclasses.replace(scene, classes=np.full(len(scene.hosts), scenes.TARGET))
    for each in filters.load(alone):
        assert np.isfinite(each.read(scenes.candidate(scenes.stamped(1)[0])).statistic)
