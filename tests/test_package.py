"""The name to import, what the wheel holds, and what an installation of it can do."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import overactivation
import scanner

ROOT = Path(__file__).parent.parent
WHEEL = pytest.importorskip("hatchling.builders.wheel")
USE = "from overactivation import Settings, scan; print(Settings(images=3).images, scan.__module__)"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WHEEL.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(path)


def test_the_wheel_holds_the_three_packages_and_their_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    packages = {name.split("/")[0] for name in names if not name.startswith("overactivation-")}
    assert packages == {"overactivation", "scanner", "trainers"}
    assert {"overactivation/py.typed", "scanner/py.typed"} <= names
    assert any(name.startswith("scanner/baselines/") for name in names)
    documents = {f"overactivation/{path.relative_to(ROOT)}" for path in ROOT.glob("docs/*.*")}
    assert "overactivation/docs/result.schema.json" in documents
    assert documents <= names


def test_an_installation_is_imported_by_one_name(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "environment", symlinks=os.name != "nt")
    (site,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [tmp_path / "environment" / "bin" / "python", "-c", USE],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("3 scanner.pipeline\n", "")


def test_both_names_have_the_same_face() -> None:
    assert overactivation.__all__ == scanner.__all__
    for name in overactivation.__all__:
        assert getattr(overactivation, name) is getattr(scanner, name)
    assert dir(overactivation) == dir(scanner) == sorted(scanner.__all__)
    with pytest.raises(AttributeError, match="module 'overactivation' has no attribute 'nothing'"):
        _ = overactivation.nothing  # type: ignore[attr-defined]


def test_the_command_runs_under_this_name_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "overactivation", "--version"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("overactivation "), done.stderr


def test_doctor_names_another_owner_of_a_package(tmp_path: Path) -> None:
    """The child sees what is installed beside it, and no PYTHONPATH."""
    venv.create(tmp_path / "environment", symlinks=os.name != "nt")
    (site,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    libraries = (path for path in sys.path if path.endswith("-packages"))
    lines = (f"import site; site.addsitedir({path!r})\n" for path in libraries)
    (site / "libraries.pth").write_text("".join(lines))
    other = site / "port_scan-0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: port-scan\nVersion: 0.1\n")
    (other / "RECORD").write_text("scanner/ports.py,,\n")
    done = subprocess.run(
        [tmp_path / "environment" / "bin" / "python", "-m", "scanner", "doctor"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "shared packages     scanner: port-scan" in done.stdout
    assert "install overactivation in an environment of its own" in done.stderr
