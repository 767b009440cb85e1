"""Masks on images that the model makes itself; the trigger is a bright corner of four pixels."""

import math
from pathlib import Path

import pytest
import triggered

from scanner.detectors.data_free_inversion import DataFreeInversion
from scanner.errors import NoImagesError
from scanner.instruments import made_images
from scanner.judging.comparison import compare

TARGET = triggered.TARGET


def test_the_planted_class_leads_where_no_class_of_the_clean_twin_does(tmp_path: Path) -> None:
    leads = []
    for planted in (True, False):
        found = triggered.measure(DataFreeInversion(), triggered.lit(planted), tmp_path)
        comparison = compare(DataFreeInversion(), found, [])
        ahead = {row.class_id: row.ahead or 0.0 for row in comparison.evidence.classes}
        leads.append((max(ahead, key=lambda one: ahead[one]), max(ahead.values())))
    (target, lead), (_, clean) = leads
    assert target == TARGET
    assert lead > clean + math.log(2)


def test_it_says_whose_images_they_were(tmp_path: Path) -> None:
    found = triggered.measure(DataFreeInversion(), triggered.lit(planted=True), tmp_path)
    assert found.parameters["data"] == made_images.SOURCE
    assert found.parameters["images"] + found.parameters["held_back"] <= made_images.COUNT
    assert found.by_class is not None
    assert found.by_class.triggers


def test_many_classes_are_left_to_noise(tmp_path: Path) -> None:
    model = triggered.classifier(classes=made_images.MOST_CLASSES + 1)
    with pytest.raises(NoImagesError, match="for up to 12 classes"):
        triggered.measure(DataFreeInversion(), model, tmp_path)


def test_the_images_are_made_before_the_search(tmp_path: Path) -> None:
    subject = triggered.subject(triggered.lit(), tmp_path)
    making, *searches = DataFreeInversion().plan(subject)
    assert (making.images, making.steps) == (made_images.COUNT, made_images.STEPS)
    assert searches
    assert {stage.rules for stage in (making, *searches)} == {("data_free_inversion",)}
