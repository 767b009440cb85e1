"""Scans of hostile models: never clean, always in time, the cause named, this process alive."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import models
import onnx
import pytest
from hostile import attacks, fuzz
from hostile.canary import Canary

from scanner import Device, ScanResult, Settings, Verdict, scan, scan_many
from scanner.limits import Limits

TIMEOUT = 3.0
SETTINGS = Settings(
    images=4,
    device=Device.CPU,
    timeout=TIMEOUT,
    detectors=("overactivation",),
    limits=Limits(memory=2**30),
)


def scanned(model: onnx.ModelProto, folder: Path, settings: Settings = SETTINGS) -> ScanResult:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    start = time.monotonic()
    result = scan(path, settings=settings)
    assert time.monotonic() - start < TIMEOUT + 2
    assert result.verdict is Verdict.INCONCLUSIVE
    return result


def error(result: ScanResult) -> str:
    return str(result.failures[0].error["type"])


@pytest.mark.parametrize(
    "name", ["endless_loop", "function_bomb", "doubling_constants", "constant_of_shape_1e12"]
)
def test_a_refusal_is_a_finding(tmp_path: Path, name: str) -> None:
    result = scanned(attacks.REFUSED[name](), tmp_path)
    assert error(result) == "UnsafeModelError"
    assert [f.rule.id for f in result.findings] == ["unanalysable-refusal"]
    assert result.reason == result.findings[0].reason


def test_a_model_without_an_end_is_stopped_and_named(tmp_path: Path) -> None:
    result = scanned(attacks.endless_loop_in_disguise(), tmp_path)
    assert [f.rule.id for f in result.findings] == ["unanalysable-timeout"]
    assert result.model.sha256, "ONNX Runtime was stopped, and the child lived to answer"


def test_memory_that_only_a_run_asks_for_is_a_limit(tmp_path: Path) -> None:
    result = scanned(attacks.memory_at_run_time(), tmp_path)
    assert [f.rule.id for f in result.findings] == ["unanalysable-limit"]


@pytest.mark.parametrize("build", attacks.MALFORMED.values(), ids=attacks.MALFORMED)
def test_what_is_no_model_is_an_error_and_no_finding(
    tmp_path: Path, build: Callable[[], onnx.ModelProto]
) -> None:
    result = scanned(build(), tmp_path)
    assert error(result) == "MalformedModelError"
    assert not result.findings


def test_an_unknown_operator_is_not_run(tmp_path: Path) -> None:
    assert error(scanned(attacks.custom_operator(), tmp_path)) == "UnsupportedModelError"


def test_the_other_models_of_a_call_go_on(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    models.save(models.plain(), good)
    models.save(attacks.endless_loop_in_disguise(), bad)
    results = list(scan_many([good, bad, good], settings=SETTINGS))
    assert [len(r.failures) for r in results] == [0, 1, 0]


def test_a_module_beside_the_model_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "onnx", "onnxruntime", "json"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8"
        )
    path = models.save(models.plain(), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    assert not scan(path, settings=SETTINGS).failures
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_in_place_of_a_model_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    start = time.monotonic()
    result = scan(tmp_path / "model.onnx", settings=SETTINGS)
    assert "a pipe or a device" in result.failures[0].sentence
    assert time.monotonic() - start < TIMEOUT
    assert "a pipe or a device" in scan("/dev/zero", settings=SETTINGS).failures[0].sentence


def external(location: str) -> onnx.ModelProto:
    model = models.plain()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


@pytest.mark.skipif(not Canary.available, reason="inotify of Linux")
@pytest.mark.parametrize("way", ["../outside/canary", "{canary}", "link", "hard", "down/canary"])
def test_no_file_outside_the_models_folder_is_read(tmp_path: Path, way: str) -> None:
    canary, inside = tmp_path / "outside" / "canary", tmp_path / "inside"
    for folder in (inside, canary.parent):
        folder.mkdir()
    canary.write_bytes(b"x" * 144)  # as long as the tensor
    fuzz.lay_traps(inside, canary)
    (inside / "down").symlink_to(canary.parent)
    with Canary(canary) as watch:
        result = scanned(external(way.format(canary=canary)), inside)
        assert watch.reads() == 0
    assert error(result) == "UnsafeModelError"


@pytest.mark.skipif(not Canary.available, reason="inotify of Linux")
def test_mutants_are_survived() -> None:
    tally = fuzz.fuzz(300, seed=2)
    assert sum(tally.outcomes.values()) == 300
    assert tally.outside == 0
    assert tally.longest < fuzz.SECONDS + 2
    assert tally.outcomes["measured"] > 0


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scanner", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_exit_codes_tell_a_refusal_from_what_is_no_model(tmp_path: Path) -> None:
    refused, broken = tmp_path / "refused.onnx", tmp_path / "broken.onnx"
    models.save(attacks.endless_loop(), refused)
    broken.write_bytes(b"no model")
    done = command(refused, "--detector", "overactivation")
    assert done.returncode == 3
    assert "runs more than 10,000,000 times" in " ".join(done.stdout.split())
    assert command(broken).returncode == 2
    models.save(attacks.memory_at_run_time(), refused)
    done = command(refused, "--memory-limit", "1GiB", "-d", "overactivation")
    assert done.returncode == 3
    assert re.search("raise (--memory-limit|the setting `memory`)", done.stdout)
    models.save(attacks.endless_loop(), refused)
    assert (
        command(refused, "--max-trips", 10**13, "--timeout", 2, "-d", "overactivation").returncode
        == 3
    )


@pytest.mark.parametrize("shape", ["table", "json", "layers"])
def test_no_name_from_a_model_reaches_the_terminal_as_a_command(tmp_path: Path, shape: str) -> None:
    folder = tmp_path / "\x1b[2J[bold]\u202e"
    folder.mkdir()
    path = folder / "m\x1b]0;owned\x07.onnx"
    models.save(attacks.hostile_names(), path)
    words = (
        ["layers", path]
        if shape == "layers"
        else [path, "--images", 4, "-d", "overactivation", "--format", shape]
    )
    done = command(*words)
    assert done.returncode in (0, 3), done.stderr
    for character in "\x1b\x07\u202e\u2066\r":
        assert character not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) < 400 or shape == "json"
