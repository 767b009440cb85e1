"""What is typed comes first, then the environment, then the policy, then the default."""

import json
import os
import re
from pathlib import Path

import pytest
from command import said, scan

from scanner.cli import policies
from scanner.errors import UsageError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a policy."""
    (tmp_path / "clean.onnx").write_bytes((folder / "clean.onnx").read_bytes())
    text = "detector = ['integrity']\nalpha = 0.2\nfail-on = ['suspicious']\n"
    (tmp_path / "scan.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return tmp_path


def alpha(*arguments: str, **environment: str) -> float:
    run = scan("clean.onnx", "--format", "json", *arguments, **environment)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert [finding["rule"]["id"] for finding in told["findings"]] == ["integrity"]
    return float(told["run"]["alpha"])


@pytest.mark.usefixtures("place")
def test_precedence() -> None:
    assert alpha() == 0.2
    assert alpha(OVERACTIVATION_ALPHA="0.3") == 0.3
    assert alpha("--alpha", "0.4", OVERACTIVATION_ALPHA="0.3") == 0.4


def test_the_policy_is_named_on_stderr(place: Path) -> None:
    assert scan("clean.onnx").stderr.strip() == f"policy: {place / 'scan.toml'}"
    assert scan("clean.onnx", "-q").stderr == ""


def test_what_is_misspelt_beside_options_is_said_on_stderr(place: Path) -> None:
    text = "detector = ['integrity']\n" + "".join(
        f"[[allow]]\nrule = '{rule}'\nreason = 'x'\nexpires = 2099-01-01\n"
        for rule in ("dormnat", "integrity/opset", "unanalysable-crash")
    )
    (place / "scan.toml").write_text(text, encoding="utf-8")
    run = scan("clean.onnx", "-q", OVERACTIVATION_JBOS="3", OVERACTIVATION_CONFIG="scan.toml")
    assert run.returncode == 3, "the file alone is no verdict"
    variable, rule = run.stderr.splitlines()
    assert "did you mean 'OVERACTIVATION_JOBS'?" in variable
    assert "did you mean 'dormant'?" in rule


def test_config_shows_what_holds_and_from_where(place: Path) -> None:
    run = scan("config", "--format", "json", OVERACTIVATION_JOBS="3")
    rows = {row["option"]: (row["value"], row["from"]) for row in json.loads(run.stdout)}
    assert rows["alpha"] == ("0.2", str(place / "scan.toml"))
    assert rows["jobs"] == ("3", "OVERACTIVATION_JOBS")
    assert rows["seed"] == ("0", "default")


@pytest.mark.usefixtures("place")
def test_config_shows_defaults_and_says_what_is_not_set() -> None:
    run = scan("config", "--format", "json")
    values = {row["option"]: row["value"] for row in json.loads(run.stdout)}
    assert values["fail-on"] == "suspicious", "a list, as people write it"
    assert values["timeout"] == "by budget"
    assert values["input-range"] == "auto"
    assert values["quiet"] == "no"
    assert values["layer"] is None
    table = scan("config", COLUMNS="400").stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    assert [row for row in rows if len(row) != 3] == [], "no blank value"
    assert "not set" in table


def test_another_policy_can_be_named(place: Path) -> None:
    (place / "other.toml").write_text(
        "detector = ['integrity']\nalpha = 0.01\nfail-on = ['nothing']\n"
    )
    assert alpha("--config", "other.toml") == 0.01


def test_a_policy_can_pin_a_baseline(place: Path) -> None:
    text = f"baseline = 'clean.json'\nbaseline-sha256 = '{'ab' * 32}'\n"
    (place / "clean.json").write_text("{}", encoding="utf-8")
    (place / "scan.toml").write_text(text, encoding="utf-8")
    run = scan("clean.onnx")
    assert (run.returncode, run.stdout) == (2, "")
    assert "SHA-256" in said(run)
    (place / "scan.toml").write_text(text.partition("\n")[2], encoding="utf-8")
    assert "there is no baseline" in said(scan("clean.onnx"))


def test_a_policy_with_an_unknown_option_scans_nothing(place: Path) -> None:
    (place / "scan.toml").write_text("imagse = 3\n", encoding="utf-8")
    run = scan("clean.onnx")
    assert (run.returncode, run.stdout) == (2, "")
    assert "did you mean 'images'?" in said(run)


def test_a_value_of_the_wrong_kind_is_wrong_usage(place: Path) -> None:
    (place / "scan.toml").write_text("images = 'many'\n", encoding="utf-8")
    run = scan("clean.onnx", COLUMNS="300")
    assert (run.returncode, run.stdout) == (2, "")
    assert "internal error" not in said(run)
    assert str(place / "scan.toml") in said(run), "nobody typed it"


@pytest.mark.usefixtures("place")
def test_a_wrong_value_in_the_environment_says_where_it_stands() -> None:
    run = scan("clean.onnx", OVERACTIVATION_ALPHA="2")
    assert (run.returncode, run.stdout) == (2, "")
    assert "It stands in OVERACTIVATION_ALPHA." in said(run)
    typed = scan("clean.onnx", "--alpha", "2", OVERACTIVATION_ALPHA="2")
    assert "It stands in" not in said(typed)


def test_a_working_folder_that_is_gone_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Path:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "cwd", gone)
    with pytest.raises(UsageError, match="the working folder is not there any more"):
        policies.holding.__wrapped__(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobs = {a = 1}", "'jobs' takes one text or number"),
        ("format = 3", "'format' takes a list; write it as in format = [...]"),
        ("reference = 'clean.onnx'", "'reference' takes a list"),
        ("alpha = true", "'alpha' takes one text or number"),
        ("timeout = 2030-01-01", "'timeout' takes one text or number"),
        ("images-npz = [1]", "'images-npz' takes one text or number"),
        ("quiet = [true]", "'quiet' takes yes or no"),
    ],
)
def test_a_value_of_another_kind_is_one_sentence(text: str, words: str, place: Path) -> None:
    (place / "scan.toml").write_text(f"{text}\n", encoding="utf-8")
    run = scan("clean.onnx")
    assert (run.returncode, run.stdout) == (2, "")
    assert words in said(run)


def test_reports_that_a_policy_asks_for_are_those_of_scans(place: Path) -> None:
    text = "detector = ['integrity']\nformat = ['table', 'json=out.json']\n"
    (place / "scan.toml").write_text(text, encoding="utf-8")
    assert scan("clean.onnx").returncode == 3
    run = scan("compare", "out.json", "out.json")
    assert (run.returncode, run.stdout) == (3, "nothing changed\n"), run.stderr
    assert "json=out.json" in scan("config").stdout
    assert scan("layers", "clean.onnx").returncode == 0


def test_a_file_for_the_report_of_a_scan_takes_no_model_and_no_baseline(place: Path) -> None:
    (place / "scan.toml").write_text("output = 'report.txt'\n", encoding="utf-8")
    for command in ("repair", "calibrate"):
        run = scan(command, "clean.onnx", "-d", "integrity")
        assert (run.returncode, run.stdout) == (2, "")
        assert "Missing option '--output'" in said(run)
    assert not (place / "report.txt").exists()
    assert scan("clean.onnx", "-d", "integrity").stdout == ""
    assert (place / "report.txt").exists()


def test_what_a_scan_is_compared_with_is_no_models_name_in_another_command(place: Path) -> None:
    (place / "scan.toml").write_text("reference = ['clean.onnx']\n", encoding="utf-8")
    assert scan("diff", "clean.onnx", "clean.onnx").returncode == 0
    assert "Missing argument" in said(scan("diff", "clean.onnx"))


def shown_range(*arguments: str, **environment: str) -> list[float]:
    words = ("-d", "overactivation", "--format", "json", *arguments)
    run = scan("clean.onnx", *words, **environment)
    found = json.loads(run.stdout)["input_range"]
    return [found["low"], found["high"]]


def test_an_automatic_range_that_is_typed_comes_first(place: Path) -> None:
    found = shown_range()
    (place / "scan.toml").write_text("input-range = [-3, 3]\n", encoding="utf-8")
    assert shown_range() == [-3, 3]
    assert shown_range("--input-range", "auto") == found != [-3, 3]
    assert shown_range("--input-range", "auto", "--input-range", "-2", "2") == [-2, 2]
    (place / "scan.toml").write_text("input-range = 'auto'\n", encoding="utf-8")
    assert shown_range() == found


def test_an_automatic_range_in_the_environment_comes_before_the_policy(place: Path) -> None:
    (place / "scan.toml").write_text("input-range = [-3, 3]\n", encoding="utf-8")
    automatic = {"OVERACTIVATION_INPUT_RANGE": "auto"}
    found = shown_range(**automatic)
    assert found == shown_range("--input-range", "auto", **automatic) != [-3, 3]
    assert shown_range("--input-range", "-2", "2", **automatic) == [-2, 2]
    assert scan("layers", "clean.onnx", **automatic).returncode == 0


@pytest.mark.usefixtures("place")
def test_a_command_without_a_range_takes_none() -> None:
    assert "No such option" in said(scan("layers", "clean.onnx", "--input-range", "auto"))
