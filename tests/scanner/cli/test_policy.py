"""A policy file: found or named, read strictly, and applied so that nothing is hidden."""

import datetime as dt
import os
from dataclasses import replace
from pathlib import Path

import pytest
from examples import hostile, result

from scanner import jsonfile
from scanner.cli import policy
from scanner.errors import UsageError
from scanner.results import Verdict

NAMES = ("alpha", "fail-on", "jobs")
TODAY = dt.date(2026, 11, 26)
SHA = "ab" * 32


def written(folder: Path, text: str, name: str = "scan.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_nearest_file_is_found(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert policy.find(None, below) not in {tmp_path / "scan.toml", tmp_path / "a"}
    far = written(tmp_path, "")
    assert policy.find(None, below) == far
    written(below, "[tool.other]\n", "pyproject.toml")
    assert policy.find(None, below) == far
    near = written(tmp_path / "a", "[tool.overactivation]\nalpha = 0.1\n", "pyproject.toml")
    assert policy.find(None, below) == near
    assert policy.read(near, NAMES).options == {"alpha": 0.1}
    assert policy.find(tmp_path / "named.toml", below) == tmp_path / "named.toml"


def test_a_file_is_looked_for_above_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    above = written(tmp_path, "")
    assert policy.find(None, tmp_path / ("a" * 300)) == above


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    large = written(tmp_path, "[tool.overactivation]", "pyproject.toml")
    os.truncate(large, jsonfile.LARGEST + 1)
    assert policy.find(None, tmp_path) != large
    with pytest.raises(UsageError, match="has more than 64 MiB; name another file with --config"):
        policy.read(large, NAMES)
    with pytest.raises(UsageError, match="is a folder, a pipe or a device, not a file"):
        policy.read(Path("/dev/zero"), NAMES)  # a pipe would be waited for, were it opened as one
    assert policy.read(Path(os.devnull), NAMES).options == {}


BAD = {
    "missing": (None, "cannot be read"),
    "no TOML": ("alpha = = 1", "not valid TOML"),
    "unknown option": ("alhpa = 0.1", "did you mean 'alpha'"),
    "allow no list": ("allow = 1", "write \\[\\[allow\\]\\]"),
    "other keys": ("[[allow]]\nmodel = 'x'", "other keys"),
    "about nothing": ("[[allow]]\nreason = 'x'\nexpires = 2030-01-01", "about nothing"),
    "nested too deeply": ("alpha = " + 9999 * "[", "not valid TOML"),
    "no hash": ("[[allow]]\nsha256 = 'x'\nreason = 'x'\nexpires = 2030-01-01", "not a SHA-256"),
    "no reason": ("[[allow]]\nrule = 'x'\nreason = ' '\nexpires = 2030-01-01", "no reason"),
    "no expiry": ("[[allow]]\nrule = 'x'\nreason = 'x'", "no date of expiry"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_means_nothing_is_refused(case: str, tmp_path: Path) -> None:
    text, words = BAD[case]
    path = tmp_path / "scan.toml" if text is None else written(tmp_path, text)
    with pytest.raises(UsageError, match=words):
        policy.read(path, NAMES)


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\noveractivation = 3"])
def test_a_shared_file_holds_tables(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no table"):
        policy.read(written(tmp_path, text, "pyproject.toml"), NAMES)


def test_what_is_allowed_is_shown_and_counts_no_longer(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"[[allow]]\nsha256 = '{SHA}'\nrule = 'graph_logic/input-test'\nreason = 'a watermark'\n"
        "expires = 2026-11-26\n",
    )
    held = policy.read(path, NAMES)
    seen = replace(hostile(), suppressions=())
    applied = held.applied(seen, TODAY)
    assert (seen.allowed, applied.allowed) == (False, True)
    assert applied.verdict is Verdict.SUSPICIOUS
    assert applied.findings == seen.findings
    assert [s.reason for s in applied.suppressions] == ["a watermark"]
    assert held.applied(applied, TODAY) == applied, "as of a saved result that is shown again"
    tomorrow = TODAY + dt.timedelta(days=1)
    assert not held.applied(seen, tomorrow).allowed
    assert "expired on 2026-11-26" in next(held.expired(tomorrow))


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        (f"sha256 = '{SHA}'", True),
        (f"sha256 = '{'cd' * 32}'", False),
        ("rule = 'verdict'", True),
        ("rule = 'neural_cleanse'", False),  # one detector of several is not the verdict
        ("rule = 'graph_logic'", False),
    ],
)
def test_an_entry_is_about_what_it_names(entry: str, allowed: bool, tmp_path: Path) -> None:
    path = written(tmp_path, f"[[allow]]\n{entry}\nreason = 'known'\nexpires = 2030-01-01\n")
    assert policy.read(path, NAMES).applied(result(), TODAY).allowed is allowed


def test_an_entry_about_no_rule_is_told(tmp_path: Path) -> None:
    text = "".join(
        f"[[allow]]\nrule = '{rule}'\nreason = 'known'\nexpires = 2030-01-01\n"
        for rule in ("dormant", "graph_logc/input-test", "verdict", "model", "zzz")
    )
    held = policy.read(written(tmp_path, text), NAMES)
    close, far = held.unknown(("dormant", "graph_logic"))
    assert "'graph_logc/input-test'" in close
    assert close.endswith("did you mean 'graph_logic'?")
    assert far.endswith("'scan detectors' lists them")


def test_a_misspelt_variable_is_told() -> None:
    names = ("PATH", "OVERACTIVATION_ALPHA", "OVERACTIVATION_JBOS", "OVERACTIVATION_QQQQQQ")
    close, far = policy.unknown_variables(names, ("OVERACTIVATION_ALPHA", "OVERACTIVATION_JOBS"))
    assert "did you mean 'OVERACTIVATION_JOBS'?" in close
    assert far.startswith("OVERACTIVATION_QQQQQQ in the environment stands for no option")


def test_a_clean_model_needs_nobodys_leave(tmp_path: Path) -> None:
    path = written(tmp_path, f"[[allow]]\nsha256 = '{SHA}'\nreason = 'x'\nexpires = 2030-01-01\n")
    clean = replace(result(), verdict=Verdict.CLEAN)
    assert policy.read(path, NAMES).applied(clean, TODAY) == clean


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a.onnx"], None),
        (["a.onnx", "--config", "p.toml"], Path("p.toml")),
        (["--config=p.toml"], Path("p.toml")),
        (["--config"], None),
    ],
)
def test_the_named_file_is_known_before_options_are_parsed(
    arguments: list[str], named: Path | None
) -> None:
    assert policy.named_file(arguments) == named
