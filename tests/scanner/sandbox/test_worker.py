"""The child answers or fails with a typed error; whatever it does, this side survives."""

import contextlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import deeds

from scanner.errors import WorkerCrashedError, WorkerLimitError, WorkerTimeoutError
from scanner.limits import Allowance, Limits
from scanner.questions import allowance_for, source_of
from scanner.sandbox import launch, messages, worker
from scanner.sandbox.endpoint import Endpoint, Step
from scanner.sandbox.worker import Worker
from scanner.settings import Device, Settings
from scanner.values import to_json

DEEDS = Path(__file__).parents[2] / "hostile"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
ALLOWANCE = Allowance(seconds=20)


@pytest.fixture
def child(way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(launch, "_roots", [*launch._roots, str(DEEDS)])
    with Worker() as started:
        assert type(started._child).__name__.lower() == way
        yield started


def call(
    child: Worker, deed: str, argument: Any = None, allowance: Allowance = ALLOWANCE, **options: Any
) -> Any:
    return child.ask(deeds.endpoint(deed), argument, allowance, **options)


def test_it_answers_call_after_call_and_reports_progress(child: Worker) -> None:
    seen: list[Step] = []
    assert call(child, "report", progress=seen.append) == "reported"
    assert seen == [Step(done=1, total=2, rule="head", class_id=3)]
    assert call(child, "start_thread") == [True]


def test_it_starts_in_an_empty_folder_without_a_terminal(child: Worker) -> None:
    folder = Path(child._child.folder).resolve()
    assert call(child, "facts") == {"folder": str(folder), "session": True, "pid": child.pid}
    assert not list(folder.iterdir())


def test_its_folder_is_gone_afterwards(child: Worker) -> None:
    folder = Path(child._child.folder)
    assert folder.exists()
    child.kill()
    assert not folder.exists()


@pytest.mark.usefixtures("way")
def test_secrets_in_the_environment_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(launch, "_roots", [*launch._roots, str(DEEDS)])
    with Worker() as child:
        assert "AWS_SECRET_ACCESS_KEY" not in call(child, "environment")


def test_its_standard_output_cannot_reach_ours(
    child: Worker, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(child, "shout") == "done"
    assert capfd.readouterr().out == ""


@LINUX
def test_its_log_cannot_fill_the_disk(child: Worker) -> None:
    call(child, "flood_the_log")
    assert os.fstat(child._child.errors.fileno()).st_size <= 2**20


@pytest.mark.parametrize("deed", ["sleep", "spin", "hold_the_interpreter"])
def test_the_deadline_holds_whatever_it_does(child: Worker, deed: str) -> None:
    call(child, "start_thread")  # the imports are over
    start = time.monotonic()
    with pytest.raises(WorkerTimeoutError, match="raise the setting `timeout`"):
        call(child, deed, 60, Allowance(seconds=0.5))
    assert time.monotonic() - start < 0.5 + 2
    assert child._child.wait() is not None


def test_the_deadline_holds_where_it_does_not_listen(child: Worker) -> None:
    call(child, "go_deaf")
    assert call(child, "echo", "the last it hears") == "the last it hears"
    start = time.monotonic()
    with pytest.raises(WorkerTimeoutError):
        call(child, "echo", "more than a pipe holds " * 10_000, Allowance(seconds=1))
    assert time.monotonic() - start < 5


def test_memory_beyond_the_limit_is_a_typed_error(child: Worker) -> None:
    limits = Limits(memory=2**30)
    with pytest.raises(WorkerLimitError, match="1,024 MiB of memory; raise the setting `memory`"):
        call(child, "allocate", 2**31, Allowance(seconds=20, limits=limits))


@LINUX
def test_memory_that_the_kernel_does_not_count_is_watched_from_here(child: Worker) -> None:
    start = time.monotonic()
    with pytest.raises(WorkerLimitError, match="100 MiB"):
        call(
            child,
            "map_page_tables",
            2**36,
            Allowance(seconds=20, limits=Limits(memory=100 * 2**20)),
        )
    assert time.monotonic() - start < 5


@LINUX
def test_threads_that_the_kernel_does_not_count_are_watched_from_here(
    child: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(child, "facts")  # it is running Python by now
    held = launch.held(child.pid)
    assert held.memory > 2**20
    assert held.asked > 2**20
    assert held.threads >= 1
    crowd = launch.Held(threads=ALLOWANCE.most_threads + 1)
    monkeypatch.setattr(launch, "held", lambda _pid: crowd)
    with pytest.raises(WorkerLimitError, match="threads"):
        call(child, "sleep", 60)
    assert child._child.wait() is not None


@LINUX
@pytest.mark.parametrize("name", ["\xff\xfe", "\x1cVmPTE: much", "a) R 0"])
def test_a_child_may_call_itself_what_it_likes(child: Worker, name: str) -> None:
    assert call(child, "take_name", name) == name


def test_native_code_that_runs_out_of_memory_is_a_limit_and_no_crash(child: Worker) -> None:
    with pytest.raises(WorkerLimitError, match="memory"):
        call(child, "out_of_memory_in_native_code")


@LINUX
def test_a_limit_below_what_python_itself_needs_is_a_limit_and_no_crash(child: Worker) -> None:
    with pytest.raises(WorkerLimitError, match="1 MiB"):
        call(child, "facts", allowance=Allowance(seconds=20, limits=Limits(memory=2**20)))


@LINUX
def test_processor_time_beyond_the_limit_is_a_typed_error(child: Worker) -> None:
    with pytest.raises(WorkerLimitError, match="processor time"):
        call(child, "processor_time", 1)


@pytest.mark.parametrize(
    ("deed", "how"),
    [("abort", "signal 6"), ("segmentation_fault", "signal 11"), ("leave", "exit code 7")],
)
@LINUX
def test_a_death_is_named(child: Worker, deed: str, how: str) -> None:
    with pytest.raises(WorkerCrashedError, match=how):
        call(child, deed)


@LINUX
def test_who_dies_near_its_limit_may_have_died_for_want_of_memory(child: Worker) -> None:
    limits = Limits(memory=2**30)
    with pytest.raises(WorkerLimitError, match="signal 11") as caught:
        call(child, "die_with", 2**30 * 4 // 5, Allowance(seconds=20, limits=limits))
    assert caught.value.problem.endswith("of the 1,024 MiB of memory that are allowed")
    assert caught.value.remedy == "raise the setting `memory` if you trust the file"


@LINUX
@pytest.mark.parametrize("unconfined", [False, True])
def test_who_dies_far_from_its_limit_has_no_such_excuse(child: Worker, unconfined: bool) -> None:
    limits = Limits(memory=2**30)
    allowance = Allowance(seconds=20, limits=limits, unconfined=unconfined)
    with pytest.raises(WorkerCrashedError, match="do not deploy it"):
        call(child, "die_with", 2**27, allowance)


@LINUX
@pytest.mark.parametrize(
    ("name", "kind"), [("large.onnx", WorkerLimitError), ("small.onnx", WorkerCrashedError)]
)
def test_a_large_file_may_ask_for_much_at_once_and_no_other_of_its_folder(
    child: Worker, tmp_path: Path, name: str, kind: type[Exception]
) -> None:
    sparse(tmp_path / "large.onnx", 2**28)
    sparse(tmp_path / "small.onnx", 2**10)
    settings = Settings(device=Device.CPU, timeout=20, limits=Limits(memory=2**30))
    allowance = allowance_for(settings, (source_of(tmp_path / name),))
    with pytest.raises(kind, match="signal 11"):
        call(child, "die_with", 2**28, allowance)


def test_the_largest_file_counts_where_a_link_leads_and_if_another_is_not_there(
    tmp_path: Path,
) -> None:
    settings, size = Settings(device=Device.CPU), 1900 * 2**20
    sparse(tmp_path / "large.onnx", size)
    (tmp_path / "link.onnx").symlink_to(tmp_path / "large.onnx")
    nears = [
        worker._near(allowance_for(settings, tuple(source_of(tmp_path / name) for name in names)))
        for names in (["large.onnx"], ["link.onnx"], ["none.onnx", "large.onnx"], ["none.onnx"])
    ]
    allowed = settings.limits.memory
    assert nears == [allowed - 3 * size] * 3 + [0.75 * allowed]


def sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def test_a_bug_of_ours_carries_its_trace(child: Worker) -> None:
    with pytest.raises(WorkerCrashedError, match="internal error: RuntimeError: a bug") as caught:
        call(child, "bug")
    assert "deeds.py" in caught.value.details["trace"]


def test_a_request_larger_than_a_message_is_a_limit_and_leaves_the_child(
    child: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_MOST_VALUES", 1000)
    with pytest.raises(WorkerLimitError, match=r"a message of 10.. values.*name fewer"):
        call(child, "echo", [1] * 1000)
    assert call(child, "echo", [1]) == [1]


def test_parts_that_are_nested_too_deeply_are_no_answer(child: Worker) -> None:
    """They were parsed once, by a thread that had more room left."""
    child._parts.put(b'{"part": ' + b"[" * 20_000 + b"]" * 20_000 + b"}")
    with pytest.raises(WorkerCrashedError, match="not an answer"):
        child.parts(int)


def framed(text: str) -> str:
    return (struct.pack(">I", len(text)) + text.encode()).hex()


@pytest.mark.parametrize(
    "raw",
    [
        "ffffffff",
        framed("no json"),
        framed("[]"),
        framed("[" * 15_000),
        framed("{}"),
        framed(json.dumps({"progress": "x"})),
        framed(json.dumps({"progress": [1, 2]})),
        framed(json.dumps({"progress": {"done": 1, "total": 0}})),
        framed(json.dumps({"progress": {"done": 1, "total": 2, "rule": "\x1b[2J"}})),
        framed(json.dumps({"progress": {"done": 1, "total": 2, "rule": "x" * 65}})),
        framed(json.dumps({"progress": {"done": 1, "total": 2, "class_id": "3"}})),
        framed(json.dumps({"error": 1})),
        framed(json.dumps({"error": {"type": "UsageError"}})),
    ],
    ids=[
        *("too long", "no JSON", "no object", "nested", "empty", "text", "pair", "nothing"),
        *("escape", "long", "class", "number", "half"),
    ],
)
@LINUX
def test_nonsense_from_a_taken_over_child_is_a_crash(child: Worker, raw: str) -> None:
    with pytest.raises(WorkerCrashedError, match="not an answer"):
        call(child, "nonsense", raw)


@LINUX
@pytest.mark.parametrize("kind", ["answers", "progress"])
def test_a_child_that_floods_this_process_does_not_fill_its_memory(
    child: Worker, kind: str
) -> None:
    """Two seconds of messages, of which a process without bounds would keep a gigabyte."""
    # Too many for the parent, had it to look at each: it is slower than the pipe.
    step = to_json(Step(done=1, total=2))
    message = {"answers": {"more": "x" * 2**20}, "progress": {"progress": step, "x": "y" * 2**20}}
    before = launch.resident_bytes(os.getpid())
    with pytest.raises((WorkerCrashedError, WorkerTimeoutError)):
        call(
            child,
            "flood",
            json.dumps(message[kind]),
            Allowance(seconds=3),
            progress=lambda _: time.sleep(0.2),
        )
    assert launch.resident_bytes(os.getpid()) - before < 100 * 2**20


@pytest.mark.parametrize("answer", [None, "text", 3, [1], {}, {"limits": [], "more": 1}], ids=repr)
def test_an_answer_of_another_type_is_a_crash(child: Worker, answer: object) -> None:
    endpoint = Endpoint(function="deeds:echo", request=object, answer=Allowance)
    with pytest.raises(WorkerCrashedError, match="not an answer"):
        child.ask(endpoint, answer, ALLOWANCE)
    assert child._child.wait() is not None


@LINUX
@pytest.mark.parametrize("deed", ["spin", "sleep"])
def test_no_orphan_survives_its_parent(tmp_path: Path, deed: str, way: str) -> None:
    forks = launch.may_fork()  # as `way` wants it
    program = f"""
import os, sys, threading
sys.path.insert(0, {str(DEEDS.parent.parent)!r})
from scanner.sandbox import launch, twins
from scanner.limits import Allowance
from scanner.sandbox.endpoint import Endpoint, Step
from scanner.sandbox.worker import Worker
from scanner.values import to_json
launch.may_fork = lambda: {forks}
launch._roots.append({str(DEEDS)!r})
child = Worker(child=twins.start((), {2 if way == "twin" else 1})[0])
allowance = Allowance(seconds=60)
def ask(deed, request=None):
    endpoint = Endpoint(function=f"deeds:{{deed}}", request=object, answer=object)
    child.ask(endpoint, request, allowance)
ask("start_thread")
threading.Thread(target=ask, args=({deed!r}, 60), daemon=True).start()
print(child.pid, flush=True)
threading.Event().wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        parent.kill()
    deadline = time.monotonic() + 5
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
            != "Z"
        )
    return False


@pytest.mark.usefixtures("way")
def test_a_child_that_was_started_early_is_used_once() -> None:
    worker.prestart(())
    with worker.take(()) as early, worker.take(()) as late:
        assert early.pid != late.pid
    worker.prestart(())
    worker.discard()
    assert not worker._warm
