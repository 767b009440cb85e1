"""Pictures of inputs: the frame is around the region, and hostile names and regions do no harm."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scenes
from PIL import Image

from scanner.errors import UsageError
from scanner.report.input_evidence import write_inputs
from scanner.results import Region


def test_an_input_is_written_to_look_at_and_to_feed(tmp_path: Path) -> None:
    written = write_inputs([scenes.screened(shown=True), scenes.screened(9)], tmp_path)
    names = ["framed.png", "input.npy", "input.png", "region.png"]
    assert sorted(path.name for path in written) == names
    folder = tmp_path / "000003-3.png"
    assert np.load(folder / "input.npy").shape == scenes.SHAPE
    framed = np.asarray(Image.open(folder / "framed.png").convert("RGB"))
    assert framed.shape == (256, 256, 3)
    red = (framed == (255, 0, 64)).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (0, 63, 128, 191)
    assert not red[20:44, 150:170].any()
    region = np.asarray(Image.open(folder / "region.png"))
    whole = np.asarray(Image.open(folder / "input.png"))
    assert (region[::128, ::128] == whole[:64:32, 128:192:32]).all()


@pytest.mark.parametrize(
    "region",
    [
        Region(top=0, left=0, height=0, width=0),
        Region(top=7, left=7, height=2**31 - 1, width=2**31 - 1),
        Region(top=2**31 - 1, left=0, height=1, width=1),
    ],
)
def test_a_region_that_lies_outside(region: Region, tmp_path: Path) -> None:
    shown = dataclasses.replace(scenes.screened(shown=True), region=region)
    assert write_inputs([shown], tmp_path)


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    shown = dataclasses.replace(scenes.screened(shown=True), name="../../../x")
    inside = tmp_path / "evidence"
    assert all(path.resolve().is_relative_to(inside) for path in write_inputs([shown], inside))


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "000003-3.png").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="cannot be written"):
        write_inputs([scenes.screened(shown=True)], tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []
