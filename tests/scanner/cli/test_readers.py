"""What is typed becomes a number, a size or a path, or a sentence that says how to write it."""

from pathlib import Path

import pytest

from scanner.cli import readers
from scanner.detectors import FAMILY
from scanner.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "count"),
    [("512MiB", 512 * 2**20), ("1.5GB", 1_500_000_000), ("2000000", 2_000_000), ("3 k", 3000)],
)
def test_sizes(typed: str, count: int) -> None:
    assert readers.size("--memory-limit", typed) == count


@pytest.mark.parametrize("typed", ["", "0", "big", "-1", "1XB", "0.1", "9" * 320, "9" * 308 + "T"])
def test_what_is_not_a_size_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=r"--memory-limit .* is not a valid size; write it as in"):
        readers.size("--memory-limit", typed)


def test_memory_that_no_process_fits_into_is_refused() -> None:
    assert readers.memory("--memory-limit", "128MiB") == 2**27
    with pytest.raises(UsageError, match="give at least 128MiB"):
        readers.memory("--memory-limit", "1kB")


@pytest.mark.parametrize("typed", ["", "3,", "cat", "-1", "1.5"])
def test_what_is_not_a_list_of_numbers_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=r"--classes .* is not a list of numbers"):
        readers.numbers("0,3,7", lowest=0)("--classes", typed)


def test_folders_stand_for_their_models(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.onnx").mkdir()
    inside = [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    assert readers.files("--reference", ["x.onnx", str(tmp_path)]) == ["x.onnx", *inside]


def test_what_cannot_be_read_in_a_folder_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.onnx").touch()
    (tmp_path / "long.onnx").symlink_to("a" * 300)
    assert readers.files("--reference", [str(tmp_path)]) == [str(tmp_path / "a.onnx")]
    told = f"left out: {tmp_path / 'long.onnx'} cannot be read (File name too long)\n"
    assert capsys.readouterr().err == told
    assert readers.files("--reference", ["a" * 300]) == ["a" * 300]


def test_an_empty_name_is_not_the_working_folder() -> None:
    with pytest.raises(UsageError, match="--reference names nothing"):
        readers.files("--reference", [""])


def test_the_names_of_the_detectors_complete() -> None:
    assert set(readers.detector_names()) == set(FAMILY)
    assert readers.detector_names("over") == ["overactivation"]


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        (["m.onnx", "--input-range", "auto"], ["m.onnx"]),
        (["--input-range=auto", "m.onnx"], ["m.onnx"]),
        (["--input-range", "-1", "1", "auto"], ["--input-range", "-1", "1", "auto"]),
        (["m.onnx", "--input-range"], ["m.onnx", "--input-range"]),
    ],
)
def test_an_automatic_input_range_is_the_default(typed: list[str], left: list[str]) -> None:
    assert readers.without_auto(typed) == left
    assert readers.finds_range(typed, {}) == (left != typed)
    named = any(word.startswith("--input-range") for word in left)
    assert readers.finds_range(typed, {"OVERACTIVATION_INPUT_RANGE": "auto"}) == (not named)


@pytest.mark.parametrize("typed", ["", "0" * 63, "g" * 64])
def test_what_is_not_a_sha256_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=r"is not a SHA-256; give its 64 hexadecimal digits"):
        readers.sha256("--baseline-sha256", typed)


def test_an_empty_range_is_refused() -> None:
    assert readers.span("--input-range", (-1.0, 1.0)) == (-1.0, 1.0)
    with pytest.raises(UsageError, match=r"--input-range 1 1 is empty; give the lower value first"):
        readers.span("--input-range", (1.0, 1.0))


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no \.onnx file"):
        readers.files("--reference", [str(tmp_path)])


def test_a_pinned_baseline_has_to_be_named() -> None:
    assert readers.baseline_of(None, None) is None
    with pytest.raises(UsageError, match="there is no baseline"):
        readers.baseline_of(None, "ab" * 32)
