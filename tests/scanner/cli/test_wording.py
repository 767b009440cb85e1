"""Sentences of the library name settings; the command names its options instead."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import result

from scanner.cli import wording
from scanner.errors import ErrorData
from scanner.limits import Limits
from scanner.settings import Settings

SCANNER = Path(__file__).parents[3] / "scanner"
NAMED = re.compile(r"\b[Tt]he (setting|function) `(\w*)`?")
COMMAND_LINE = re.compile(r"(?<![\w-])--[a-z]|'scan(?: [a-z]+)+")
# Modules whose sentences still name options; the list only shrinks.
NOT_YET: frozenset[str] = frozenset()


def modules() -> list[str]:
    """Return the modules that serve every caller; __main__ is the command's own start."""
    paths = (path.relative_to(SCANNER) for path in sorted(SCANNER.rglob("*.py")))
    return [str(path) for path in paths if path.parts[0] not in {"cli", "__main__.py"}]


def literals(module: str) -> Iterator[str]:
    """Yield the strings of a module, docstrings and the constant parts of f-strings included."""
    tree = ast.parse((SCANNER / module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("module", modules())
def test_no_sentence_of_the_library_names_the_command_line(module: str) -> None:
    if module in NOT_YET:
        pytest.skip("not converted yet")
    found = [text for text in literals(module) if COMMAND_LINE.search(text)]
    assert found == []


def test_the_modules_that_are_not_converted_yet_exist() -> None:
    assert set(modules()) >= NOT_YET


@pytest.mark.parametrize("module", modules())
def test_every_name_in_a_sentence_has_a_translation(module: str) -> None:
    names = {match.groups() for text in literals(module) for match in NAMED.finditer(text)}
    known = {("setting", name) for name in wording.SETTINGS}
    known |= {("function", name) for name in wording.FUNCTIONS}
    assert names - known == set()


@pytest.mark.parametrize("module", modules())
def test_no_name_stands_where_it_is_not_translated(module: str) -> None:
    """As in "a larger setting `budget`", which a terminal showed as it stands."""
    named = re.compile(r"\b(?:setting|function) `\w")
    found = [
        text
        for text in literals(module)
        for match in named.finditer(text)
        if not re.search(r"\b[Tt]he $", text[: match.start()])
    ]
    assert found == []


def test_every_setting_with_an_option_has_a_translation() -> None:
    fields = {field.name for kind in (Settings, Limits) for field in dataclasses.fields(kind)}
    fields -= {"limits", "shipped_baselines"}  # no option fills these
    named = {"references", "baseline", "baseline_sha256", "evidence", "cache", "keep", "scheduler"}
    named |= {"triggers", "targets"}  # of `scan inputs` and `scan repair`
    assert fields | named == set(wording.SETTINGS)


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("give the setting `input_shape`", "give --input-shape"),
        ("raise the setting `memory` if you trust it", "raise --memory-limit if you trust it"),
        ("The setting `images_file` is empty", "--images-npz is empty"),
        ("the function `calibrate` makes one", "'scan calibrate' makes one"),
        ("the setting `unknown` stays", "the setting `unknown` stays"),
        ("the setting is not named", "the setting is not named"),
    ],
)
def test_translations(sentence: str, shown: str) -> None:
    assert wording.in_options(sentence) == shown


def test_a_result_is_translated_but_for_what_names_its_model() -> None:
    sentence = "give the setting `images_file`"
    plain = result(sentence)
    worded = dataclasses.replace(plain, advice=(sentence,), reason=sentence)
    shown = wording.result_in_options(worded)
    assert (shown.advice, shown.reason) == (("give --images-npz",), "give --images-npz")
    assert shown.model == plain.model
    assert (
        dataclasses.replace(
            shown, advice=plain.advice, reason=plain.reason, failures=plain.failures
        )
        == plain
    )


def test_a_failure_is_translated() -> None:
    failed = result().failures[0]
    error: ErrorData = {**failed.error, "remedy": "raise the setting `timeout`"}
    worded = dataclasses.replace(result(), failures=(dataclasses.replace(failed, error=error),))
    assert wording.result_in_options(worded).failures[0].sentence.endswith("raise --timeout.")
