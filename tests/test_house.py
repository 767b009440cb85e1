"""The laws that no single module can hold: imports, isolation, the mirror of tests, documents.

docs/architecture.md states them, and explains the rooms that are named here.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.detectors import FAMILY, load

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
PAIR = (str(SAMPLES / "mnist-badnets.onnx"), str(SAMPLES / "mnist-clean.onnx"))
QUICK = "Settings(detectors=('overactivation',))"
HEAVY = {"onnx", "onnxruntime", "numpy", "torch"}
ALLOWED_IN = {
    "onnx": {"scanner.modelfile", "scanner.graph"},
    "onnxruntime": {"scanner.instruments.runtime"},
    "typer": {"scanner.cli"},
    "rich": {"scanner.cli", "scanner.report.terminal", "scanner.report.table"},
    "dask": {"scanner.cluster"},
    "distributed": {"scanner.cluster"},
    "torch": set(),
}
# The only folder that a scan makes: the child's empty working folder, removed at its end.
CHILD_FOLDER = re.compile(r"/scan-\w+$")
# A child puts what it keeps of /proc into a file system of its own, which nobody else sees.
OWN_PROC = re.compile(r"(/proc/)?\d+|/proc/(self|cpuinfo|meminfo|self/([ug]id_map|setgroups))")
WRITES = re.compile(
    r"O_WRONLY|O_RDWR|O_CREAT|^\d+ +(?:creat|mkdir|rename|link|symlink|unlink|rmdir)"
)
# The kernel's unnamed temporary file holds what the child says on stderr; it never has a name on
# the disk.
UNNAMED = "O_TMPFILE"

_OPERATORS = (
    "every operator with a gradient is a row in tests/scanner/graph/gradient/vjps/test_rules.py"
)
# Modules of scanner/ without a test file at the mirrored place, each with the reason why not.
TESTED_ELSEWHERE = {
    f"graph/gradient/vjps/{family}.py": _OPERATORS
    for family in (
        "convolution", "elementwise", "indexing", "linear", "normalisation", "pooling",
        "quantisation", "reduction", "resize", "shape",
    )
} | {
    "graph/gradient/vjps/separable.py": (
        "what pooling and resizing share, in their rows of test_rules.py"
    ),
    "sandbox/fork.py": "tests/scanner/sandbox/test_launch.py forks real children",
}  # fmt: skip


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=inherited | environment,
    )


def loaded(code: str) -> set[str]:
    """Return the top-level modules that are loaded once `code` has run."""
    report = (
        "import sys, atexit\n"
        "names = lambda: {module.split('.')[0] for module in sys.modules}\n"
        "atexit.register(lambda: print('LOADED', *names()))\n"
    )
    run = python(report + code)
    assert "LOADED" in run.stdout, run.stderr
    return set(run.stdout.rsplit("LOADED", 1)[1].split())


def test_import_contracts_hold() -> None:
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("dependency", ALLOWED_IN)
def test_a_dependency_is_imported_only_in_its_rooms(dependency: str) -> None:
    rooms = {room for room, imported in imports() if imported == dependency}
    assert {room for room in rooms if not room.startswith(tuple(ALLOWED_IN[dependency]))} == set()


def imports() -> Iterator[tuple[str, str]]:
    """Yield (module of the scanner, top-level package that it imports)."""
    for path in (ROOT / "scanner").rglob("*.py"):
        room = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((room, alias.name.split(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield room, node.module.split(".")[0]


@pytest.mark.parametrize(
    "code",
    [
        "import scanner",
        "import scanner.pipeline, scanner.batch, scanner.report.json",
        "import sys; sys.argv = ['scan', '--help']; from scanner.__main__ import main; main()",
    ],
)
def test_nothing_heavy_is_imported_before_a_scan(code: str) -> None:
    assert HEAVY & loaded(code) == set()


def test_a_report_renders_without_onnx() -> None:
    golden = Path(__file__).parent / "golden" / "scan.json"
    code = (
        "import json, rich.console; from scanner.report import terminal; from scanner.results "
        "import ScanResult; from scanner.values import from_json\n"
        f"data = json.load(open({str(golden)!r})); del data['schema']\n"
        "terminal.render([from_json(ScanResult, data)], rich.console.Console())"
    )
    assert HEAVY & loaded(code) == set()


def test_the_caller_of_a_scan_loads_no_model_library() -> None:
    code = (
        "from scanner import Settings, scan\n"
        f"assert scan({PAIR[0]!r}, [{PAIR[1]!r}], {QUICK}).findings"
    )
    assert HEAVY & loaded(code) == set()


def test_no_torch_after_a_scan_in_the_child_itself() -> None:
    code = (
        "from scanner import Settings, examine, questions\n"
        "from scanner.protocol import Job\n"
        f"suspect, reference = map(questions.source_of, {PAIR!r})\n"
        "job = Job(model=suspect, references=(reference,), records=(), population=(), source='', "
        f"settings={QUICK})\n"
        "assert examine.examine(job, lambda _: None).comparisons"
    )
    modules = loaded(code)
    assert "onnxruntime" in modules
    assert "torch" not in modules


def test_a_scan_of_the_first_layer_of_a_sample_imports_no_onnx_in_the_child_either() -> None:
    watch = (
        "import sys; from scanner import Settings, examine, questions; from "
        "scanner.protocol import Job\n"
        f"suspect, reference = map(questions.source_of, {PAIR!r})\n"
        "job = Job(model=suspect, references=(reference,), records=(), population=(), source='', "
        f"settings={QUICK})\n"
        "answer = examine.examine(job, lambda _: None)\n"
        "assert answer.suspect.runtime.versions['onnx'] and answer.populations, answer"
    )
    modules = loaded(watch)
    assert {"onnxruntime", "numpy"} <= modules
    assert not {"onnx", "google", "importlib_metadata"} & modules


def test_telemetry_is_off_before_onnx_runtime_is_imported() -> None:
    watch = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime': print('SEEN', os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import scanner.examine"
    )
    assert python(watch).stdout == "SEEN 1\n"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Run a scan under strace, watching the calls that open sockets or touch the disk.

    Returns its folder and the lines of the trace.
    """
    strace = shutil.which("strace")
    probe = [strace or "", "-qq", "-e", "trace=none", "true"]
    if strace is None or subprocess.run(probe, check=False).returncode:
        pytest.skip("strace is not installed, or may not trace here")
    folder = tmp_path_factory.mktemp("traced")
    for name in ("home", "temporary", "out"):
        (folder / name).mkdir()
    calls = (
        "%network,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,"
        "symlink,symlinkat,unlink,unlinkat,rmdir"
    )
    command = [
        *(strace, "-f", "-qq", "-o", str(folder / "trace"), "-e", f"trace={calls}"),
        *(sys.executable, "-m", "scanner", PAIR[0], "--reference", PAIR[1]),
        *("--detector", "overactivation", "--output", str(folder / "out" / "result.txt")),
    ]
    environment = {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
        # Python itself caches compiled modules beside their source; that is not the scan's doing.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | environment,
    )  # fmt: skip
    assert (folder / "out" / "result.txt").stat().st_size > 0, run.stderr
    return folder, (folder / "trace").read_text(encoding="utf-8").splitlines()


Trace = tuple[Path, list[str]]


def test_a_scan_opens_no_socket(trace: Trace) -> None:
    calls = [
        line
        for line in trace[1]
        if re.match(r"\d+ +(?:socket|connect|bind|listen|send|recv)\w*\(", line)
    ]
    assert calls == []


def test_a_scan_writes_only_its_output(trace: Trace) -> None:
    folder, lines = trace
    opened = [line for line in lines if WRITES.search(line) and UNNAMED not in line]
    named = {path for line in opened for path in re.findall(r'"([^"]+)"', line)}
    outside = {
        path
        for path in named
        if not path.startswith((f"{folder}/out/", f"{folder}/temporary/", "/dev/null"))
        and not OWN_PROC.fullmatch(path)
    }
    assert named, "the trace is empty"
    assert outside == set()


def test_a_scan_leaves_nothing_else_behind(trace: Trace) -> None:
    folder, lines = trace
    assert [path.name for path in (folder / "out").iterdir()] == ["result.txt"]
    # ONNX Runtime's telemetry would keep its id in the home folder.
    assert list((folder / "home").iterdir()) == []
    assert list((folder / "temporary").iterdir()) == []
    made = {path for line in lines if "mkdir" in line for path in re.findall(r'"([^"]+)"', line)}
    assert all(CHILD_FOLDER.search(path) or OWN_PROC.fullmatch(path) for path in made)


def test_every_module_has_its_test_file_or_a_reason() -> None:
    """`scanner/ROOM/MODULE.py` is tested in `tests/scanner/ROOM/test_MODULE.py`.

    A package's `__init__` lists what its modules hold, and is tested with them.
    """
    house, mirror = ROOT / "scanner", ROOT / "tests" / "scanner"
    modules = {
        path.relative_to(house) for path in house.rglob("*.py") if path.name != "__init__.py"
    }
    untested = {
        module.as_posix()
        for module in modules
        if not (mirror / module.parent / f"test_{module.stem.strip('_')}.py").exists()
    }
    assert sorted(untested - TESTED_ELSEWHERE.keys()) == []
    assert sorted(TESTED_ELSEWHERE.keys() - untested) == [], "a reason that is no longer needed"


@pytest.mark.parametrize("rule", list(FAMILY))
def test_every_detector_has_a_section(rule: str) -> None:
    text = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## .*\(`([\w-]+)`\)$", text, re.MULTILINE)
    assert sections.count(rule) == 1


def test_every_rule_cites_a_publication() -> None:
    for detector in load():
        assert re.search(r"\b(19|20)\d\d\b", detector.rule.source), detector.rule.id


def test_no_text_names_the_host_of_a_package_registry() -> None:
    hosts = re.compile(r"pypi\.|pythonhosted\.|download\.pytorch|anaconda\.org")
    folders = (
        ROOT / name
        for name in (
            ".ci",
            "benchmarks",
            "docs",
            "samples",
            "scanner",
            "tests",
            "trainers",
        )
    )
    files = [*ROOT.glob("*.*"), *(path for folder in folders for path in folder.rglob("*"))]
    texts = [
        path
        for path in files
        if path.suffix in {".md", ".toml", ".txt", ".py", ".json", ""} and path.is_file()
    ]
    assert ROOT / "README.md" in texts
    assert [path for path in texts if hosts.search(path.read_text(encoding="utf-8"))] == []
