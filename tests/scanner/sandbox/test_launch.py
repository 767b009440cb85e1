"""A child is forked only if that is safe, and is then as good as a fresh interpreter."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from scanner.sandbox import launch

ROOT = Path(__file__).parents[3]
DEEDS = ROOT / "tests" / "hostile"
PROMISES = ("tests/scanner/sandbox/test_worker.py", "tests/hostile/test_confinement.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
SAMPLE = ROOT / "samples" / "mnist-clean.onnx"
PROGRAM = f"""
import os, signal, sys, threading
from scanner.sandbox import launch
from scanner.limits import Allowance
from scanner.sandbox.endpoint import Endpoint
from scanner.sandbox.worker import Worker
launch._roots.append({str(DEEDS)!r})
def deed(name, argument=None):
    endpoint = Endpoint(function=f"deeds:{{name}}", request=object, answer=object)
    with Worker() as child:
        assert type(child._child) is launch.Fork
        return child.ask(endpoint, argument, Allowance(seconds=20))
"""


def run(code: str, folder: Path, stdin: str = "", **environment: str) -> str:
    """Return what a program in a clean interpreter prints."""
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(DEEDS))),
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + code],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=variables,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("way", ["fork", "fork twin", "interpreter twin"])
def test_every_promise_of_a_child_holds_however_it_was_started(way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PROMISES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"SCAN_TESTS_START": way},
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed", done.stdout)


@pytest.mark.parametrize("module", ["numpy", "onnx", "onnxruntime"])
def test_a_caller_with_native_libraries_gets_an_interpreter(module: str, tmp_path: Path) -> None:
    assert run(f"import {module}; print(launch.may_fork())", tmp_path) == "False"


def test_a_caller_with_threads_gets_an_interpreter(tmp_path: Path) -> None:
    assert run("print(launch.may_fork())", tmp_path) == "True"
    code = (
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "print(launch.may_fork())"
    )
    assert run(code, tmp_path) == "False"


def test_a_large_caller_gets_an_interpreter(tmp_path: Path) -> None:
    assert run("memory = bytearray(b'x') * 2**28; print(launch.may_fork())", tmp_path) == "False"


def test_a_caller_that_sees_no_proc_gets_an_interpreter(tmp_path: Path) -> None:
    code = """
from pathlib import Path
def gone(*_, **__): raise FileNotFoundError
Path.iterdir = Path.read_text = gone
print(launch.may_fork())
"""
    assert run(code, tmp_path) == "False"


@pytest.mark.parametrize("name", ["numpy", "onnxruntime", "google", "PIL"])
def test_a_caller_whose_libraries_lie_elsewhere_gets_an_interpreter(
    name: str, tmp_path: Path
) -> None:
    package = tmp_path / "elsewhere" / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    code = f"sys.path.append({str(package.parent)!r}); print(launch.may_fork())"
    assert run(code, tmp_path) == "False"


def scan_in_overlay(folder: Path, packages: list[Path]) -> subprocess.CompletedProcess[str]:
    """Scan a sample in an environment with nothing but a `.pth` file that names the packages."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    lines = (f"import site; site.addsitedir({str(path)!r})\n" for path in packages)
    (site / "overlay.pth").write_text("".join(lines), encoding="utf-8")
    return subprocess.run(
        [folder / "bin" / "python", "-m", "scanner", SAMPLE, "-d", "overactivation"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def installed() -> list[Path]:
    return [Path(path) for path in sys.path if path.endswith("-packages")]


def test_libraries_that_a_pth_file_names_are_found(tmp_path: Path) -> None:
    done = scan_in_overlay(tmp_path, installed())
    assert "unanalysable" not in done.stdout
    assert re.search(r"^detectors +1 ", done.stdout, re.MULTILINE), done.stderr


@pytest.mark.parametrize(("missing", "sentence"), [
    ("onnxruntime", "ONNX Runtime cannot be loaded (No module named 'onnxruntime')"),
    ("numpy", "a library that a scan needs cannot be loaded (No module named 'numpy')"),
])  # fmt: skip
def test_a_missing_library_is_named_in_an_overlay_too(
    missing: str, sentence: str, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in (path for folder in installed() for path in folder.iterdir()):
        if path.name != missing and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    done = scan_in_overlay(tmp_path / "overlay", [packages])
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("call", ["memfd_create", "pipe", "fork"])
def test_a_fork_that_fails_leaves_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, succeed = tmp_path / "own", [os.pipe] if call == "pipe" else []  # one of two pipes

    def fail(*_: object) -> tuple[int, int]:
        if succeed:
            return succeed.pop()()
        raise BlockingIOError

    folder.mkdir()
    before = descriptors()
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(BlockingIOError):
        launch.Fork((), str(folder))
    assert descriptors() == before
    assert not folder.exists()


def test_child_after_child_is_forked_and_none_is_left(tmp_path: Path) -> None:
    code = """
assert [deed("facts")["session"] for _ in range(3)] == [True] * 3
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("none is left", os.listdir(os.environ["TMPDIR"]))
"""
    assert run(code, tmp_path, TMPDIR=str(tmp_path)) == "none is left []"


def test_what_the_caller_has_not_yet_written_or_read_is_his(tmp_path: Path) -> None:
    code = """
print("once", end=" ")
first = sys.stdin.readline()
deed("shout")
print(repr(first), repr(sys.stdin.read()))
"""
    assert run(code, tmp_path, stdin="one\ntwo\n") == "once 'one\\n' 'two\\n'"


def test_the_callers_descriptors_are_closed(tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    code = (
        "kept = open('open'); os.set_inheritable(kept.fileno(), True); print(*deed('descriptors'))"
    )
    assert "open" not in {Path(name).name for name in run(code, tmp_path).split()}


def test_a_caller_without_standard_streams_is_served(tmp_path: Path) -> None:
    code = "os.close(0); os.close(2); print(deed('facts')['session'])"
    assert run(code, tmp_path) == "True"


def test_the_first_environment_is_wiped(tmp_path: Path) -> None:
    code = """
print("secret" in open("/proc/self/environ").read(), "secret" in deed("first_environment"))
"""
    assert run(code, tmp_path, ANYTHING="secret") == "True False"


def test_without_a_temporary_folder_an_interpreter_looks_for_one(tmp_path: Path) -> None:
    code = """
with Worker() as child:
    print(type(child._child).__name__, os.path.isdir(child._child.folder))
"""
    assert run(code, tmp_path, TMPDIR=str(tmp_path / "none")) == "Interpreter True"


def test_the_callers_signals_are_taken_again(tmp_path: Path) -> None:
    code = """
deed('facts')
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), deed('blocked_signals'))
"""
    assert run(code, tmp_path) == "set() []"


def test_the_callers_handlers_of_signals_are_gone(tmp_path: Path) -> None:
    assert (
        run("signal.signal(signal.SIGTERM, lambda *_: None); print(deed('signals'))", tmp_path)
        == "[]"
    )


def test_the_callers_folders_are_not_on_the_module_path(tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    code = f"sys.path += [{str(extra)!r}, ''] ; print(*deed('module_path'), sep='\\n')"
    path = run(code, tmp_path).splitlines()
    assert path[:2] == [str(ROOT), str(DEEDS)]
    assert not {"", str(tmp_path), str(extra)} & set(path)


def test_a_module_beside_the_model_is_not_imported(tmp_path: Path) -> None:
    for name in ("numpy", "onnx", "onnxruntime", "ctypes"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    code = f"""
from scanner import Settings, scan
result = scan({str(SAMPLE)!r}, settings=Settings(detectors=("overactivation",)))
print(launch.may_fork(), len(result.findings), len(result.failures))
"""
    assert run(code, tmp_path) == "True 1 0"


def test_an_environment_names_what_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tampering = dict.fromkeys(
        (
            "TOKEN",
            "PYTHONPATH",
            "PYTHONHOME",
            "LD_PRELOAD",
            "ORT_LOG",
            "CUDA_INJECTION64_PATH",
            "LC_X",
        ),
        "x",
    )
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "LANG": "C.UTF-8", **tampering})
    assert launch.environment() == {
        "LANG": "C.UTF-8",
        "ORT_DISABLE_TELEMETRY": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def test_folders_of_libraries_are_passed_on_where_only_root_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anybodys = tmp_path / "libraries"
    anybodys.mkdir()
    named = f"/usr/local/cuda/lib64:relative::{anybodys}:{sys.prefix}/lib"
    monkeypatch.setenv("LD_LIBRARY_PATH", named)
    expected = f"/usr/local/cuda/lib64:{sys.prefix}/lib"
    assert launch.environment()["LD_LIBRARY_PATH"] == expected


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES"])
def test_a_caller_that_was_started_with_other_libraries_gets_an_interpreter(
    name: str, tmp_path: Path
) -> None:
    code = f"os.environ[{name!r}] = {str(tmp_path)!r}; print(launch.may_fork())"
    assert run(code, tmp_path) == "False"


def test_a_tampering_environment_reaches_no_interpreter(tmp_path: Path) -> None:
    """The variables change after the caller's own start: what they would do to him is not ours."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("numpy", "onnx", "onnxruntime", "ctypes", "sitecustomize", "json"):
        (evil / f"{name}.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    code = f"""
import numpy
from scanner import Settings, scan
os.environ.update({{
    "PYTHONPATH": {str(evil)!r}, "PYTHONHOME": {str(evil)!r}, "PYTHONSTARTUP": "x",
    "LD_PRELOAD": {str(evil / "none.so")!r}, "LD_LIBRARY_PATH": {str(evil)!r},
    "ORT_LOG_LEVEL": "x", "PYTHONSAFEPATH": "", "PYTHONINSPECT": "1",
}})
result = scan({str(SAMPLE)!r}, settings=Settings(detectors=("overactivation",)))
print(launch.may_fork(), len(result.findings), len(result.failures))
"""
    assert run(code, tmp_path) == "False 1 0"


def test_a_fresh_interpreter_shows_no_secret(tmp_path: Path) -> None:
    code = """
import numpy
with Worker() as child:
    print("secret" in open(f"/proc/{child.pid}/environ").read())
"""
    assert run(code, tmp_path, ANYTHING="secret") == "False"


def test_a_child_without_memory_to_print_its_end_still_names_it(tmp_path: Path) -> None:
    code = """
def live():
    import traceback
    def print_exc():
        raise MemoryError
    traceback.print_exc = print_exc
    raise RuntimeError
ours, theirs = os.pipe()
pid = launch.fork([0, 1, theirs], ".", sys.path, live)
os.close(theirs)
print(os.read(ours, 99).decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run(code, tmp_path) == "MemoryError 1"
