"""The hook, the action, the template, the container: well formed, and their commands run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import models
import pytest
import yaml

ROOT = Path(__file__).parent.parent
INSTRUCTION = re.compile(r"^(FROM|ARG|WORKDIR|COPY|RUN|USER|ENTRYPOINT|CMD)\b")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a model and a 'scan' where the integrations install theirs."""
    models.save(models.plain(), tmp_path / "model.onnx")
    program = tmp_path / "overactivation" / "bin" / "scan"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m scanner "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return tmp_path


def loaded(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def bash(script: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("bash") or pytest.skip("no bash")
    return subprocess.run(
        [program, "-euo", "pipefail", "-c", script],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_the_hook(home: Path) -> None:
    (hook,) = loaded(".pre-commit-hooks.yaml")
    assert re.search(hook["files"], "models/a.onnx")
    assert not re.search(hook["files"], "models/a.onnx.txt")
    words = [hook["entry"], *hook["args"], "model.onnx", "-d", "integrity"]
    path = f"{home / 'overactivation' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = bash(shlex.join(words), home, PATH=path)
    assert done.returncode == 0, done.stderr
    assert "inconclusive" in done.stdout


def test_the_action(home: Path) -> None:
    action = loaded("action.yml")
    assert action["runs"]["using"] == "composite"
    steps = {step["name"]: step for step in action["runs"]["steps"] if "name" in step}
    for step in steps.values():
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]  # an input would become part of the script
        assert bash(f": <<'END'\n{step['run']}\nEND\nbash -n <<'END'\n{step['run']}\nEND", home)
    inputs = {name: str(value.get("default", "")) for name, value in action["inputs"].items()}
    inputs |= {"models": "model.onnx", "arguments": "-d integrity --fail-on suspicious"}
    given = {
        name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: inputs[found[1]], value)
        for name, value in steps["Scan"]["env"].items()
    }
    summary = home / "summary.md"
    done = bash(
        steps["Scan"]["run"], home, RUNNER_TEMP=str(home), GITHUB_STEP_SUMMARY=str(summary), **given
    )
    assert done.returncode == 0, done.stderr
    assert (home / "overactivation.sarif").exists()
    assert summary.read_text(encoding="utf-8").startswith("### Backdoor scan: 1 model")


def test_the_template(home: Path) -> None:
    (job,) = loaded("ci/gitlab.yml").values()
    *_, command = job["script"]
    given = {**job["variables"], "MODELS": "model.onnx", "ARGUMENTS": "-d integrity"}
    local = command.replace("/tmp/overactivation", str(home / "overactivation"))  # noqa: S108 - in the file
    done = bash(local, home, **given)
    assert done.returncode == 3, done.stderr
    made = [
        *job["artifacts"]["paths"],
        job["artifacts"]["reports"]["junit"],
        *job["cache"]["paths"],
    ]
    assert [name for name in made if not (home / name).exists()] == []


def test_the_container() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert [line for line in lines if not INSTRUCTION.match(line)] == []
    # Its last user is not root, and its program is the one that the build installs.
    assert [line for line in lines if line.startswith("USER")][-1] == "USER scan"
    assert lines[-2:] == ['ENTRYPOINT ["/opt/overactivation/bin/scan"]', 'CMD ["--help"]']
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    copied = [w for line in lines if line.startswith("COPY ") for w in line.split()[1:-1]]
    for name in copied:
        assert name.startswith(("--from=", "/")) or (
            (ROOT / name).exists() and f"!{name}" in ignored
        )
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert {"cpu", "gpu"} <= set(extras)
