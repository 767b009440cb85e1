"""What prints takes formats, and what fails a pipeline takes words; others are refused."""

import pytest
import typer

from scanner import report
from scanner.cli import exits, output_options
from scanner.cli.output_options import CheckOptions


def test_a_format_may_name_a_file() -> None:
    typed = ["json", "sarif=out.sarif"]
    assert output_options.formats(typed) == typed
    assert output_options.formats(None) == []


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [("jsn", "'jsn' is not one of 'table'"), ("json=", "'json=' names no file, as json=FILE")],
)
def test_an_unknown_format_and_a_missing_file_are_refused(typed: str, sentence: str) -> None:
    with pytest.raises(typer.BadParameter, match=sentence):
        output_options.formats([typed])


def test_what_fails_a_pipeline_is_a_known_word() -> None:
    typed = [*(word for word in exits.CONDITIONS if word != "nothing"), "size=1.5"]
    assert output_options._fail_on(typed) == typed
    assert output_options._fail_on(["nothing"]) == ["nothing"]
    with pytest.raises(typer.BadParameter, match="'nothing' stands alone"):
        output_options._fail_on(["nothing", "suspicious"])
    with pytest.raises(typer.BadParameter, match=r"'size=' is not one of .*, size=N"):
        output_options._fail_on(["size="])


def test_formats_and_words_complete() -> None:
    assert output_options.format_names("") == list(report.FORMATS)
    assert output_options.format_names("js") == ["json", "jsonl"]
    assert output_options._fail_on_words("si") == ["size="]


def test_a_shape_is_read_as_numbers() -> None:
    assert CheckOptions(input_shape="3x8x8").shape == (3, 8, 8)
    assert CheckOptions().shape is None


def test_a_share_is_a_number() -> None:
    assert [output_options.share(value) for value in (None, 0.1)] == [None, 0.1]
    with pytest.raises(typer.BadParameter, match="nan is no number"):
        output_options.share(float("nan"))
