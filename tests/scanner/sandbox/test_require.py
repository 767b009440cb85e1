"""A scan that requires isolation refuses to run where a part of it is missing."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scanner import Settings, scan
from scanner.errors import DeviceError, UsageError
from scanner.limits import Confinement
from scanner.sandbox import confinement, landlock

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "samples" / "mnist-clean.onnx"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = Confinement(
        memory="kernel",
        threads="kernel",
        no_new_privs=True,
        capabilities="none",
        landlock=7,
        seccomp=True,
    )
    monkeypatch.setattr(confinement, "_current", complete)
    confinement.require()
    monkeypatch.setattr(confinement, "_current", Confinement())
    with pytest.raises(DeviceError, match=r"not complete: files are not confined \(no Landlock\),"):
        confinement.require()


@pytest.mark.skipif(landlock.version() == 0, reason="no Landlock in this kernel")
def test_a_scan_runs_where_nothing_is_missing() -> None:
    settings = Settings(detectors=("overactivation",), require_isolation=True)
    assert scan(SAMPLE, settings=settings).findings


def test_the_command_refuses_in_one_sentence() -> None:
    """The benchmark's command runs without a child: nothing is isolated there."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.inline", str(SAMPLE), "--require-isolation"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "isolation that was required is not complete" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_requires_isolation_and_does_without() -> None:
    with pytest.raises(UsageError, match="exclude one another"):
        Settings(require_isolation=True, unconfined=True)


def test_an_unconfined_scan_says_what_is_missing_and_finds_the_same() -> None:
    alone = ("overactivation",)
    confined = scan(SAMPLE, settings=Settings(detectors=alone))
    unconfined = scan(SAMPLE, settings=Settings(detectors=alone, unconfined=True))
    assert unconfined.findings == confined.findings
    assert unconfined.runtime is not None
    isolation: Any = unconfined.runtime.isolation
    assert (isolation["landlock"], isolation["seccomp"], isolation["limits"]) == (0, False, [])
    assert isolation["memory"] == "parent"
