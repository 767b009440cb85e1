"""What is installed and how it is released: pinned, in step with pyproject.toml, attested."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = [
    Requirement(line)
    for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cpu"])
]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def entries(name: str) -> dict[str, str]:
    """Return the pinned packages of a file with the text of each entry."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if "==" in line and not line.startswith("#")]
    return {plain(line.split("==")[0]): line for line in lines}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).strip().lower()


def pinned(line: str) -> str:
    return line.split("==")[1].split(maxsplit=1)[0]


def test_every_pin_has_hashes() -> None:
    for line in entries("requirements-cpu.txt").values():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_a_dependency_is_pinned_within_its_bounds_and_as_it_was_tested(wanted: Requirement) -> None:
    pins, tested = entries("requirements-cpu.txt"), entries("constraints.txt")
    version = pinned(pins[plain(wanted.name)])
    assert version in SpecifierSet(str(wanted.specifier))
    assert version == pinned(tested[plain(wanted.name)])


def test_the_pins_are_closed() -> None:
    pins, waiting, seen = entries("requirements-cpu.txt"), [*WANTED], set[str]()
    while waiting:
        name = plain(waiting.pop().name)
        if name in seen:
            continue
        seen.add(name)
        assert name in pins, f"run .ci/lock: {name} is not pinned"
        try:
            needs = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            continue
        needed = map(Requirement, needs)
        waiting += [n for n in needed if n.marker is None or n.marker.evaluate({"extra": ""})]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_is_pinned_and_has_few_rights(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    uses = re.findall(r"uses: (\S+)", text)
    assert uses
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action) for action in uses)
    assert "\npermissions:\n  contents: read\n" in text
    assert "secrets." not in text
    assert "pull_request_target" not in text
    jobs = re.findall(r"^  ([\w-]+):\n", text.split("\njobs:\n")[1], re.MULTILINE)
    assert text.count("timeout-minutes:") == len(jobs)
    assert not any("\t" in line for line in text.splitlines())
    for script in re.findall(r"run: (\.ci/\w+)", text):
        assert (ROOT / script).stat().st_mode & 0o100


def test_a_release_is_attested_and_published_without_a_password() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    for word in (
        "attest-build-provenance",
        "id-token: write",
        "--trusted-publishing always",
        ".ci/sbom",
    ):
        assert word in text
