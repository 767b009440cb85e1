"""What a child that was taken over may answer: true replies of real scans, twisted.

Each twisted reply goes the way of a true one: through the reading of answers, the judging, every
report and the evidence. What comes of it is a result, or a typed error about that one model.

    PYTHONPATH=.:tests python tests/hostile/replies.py --replies 100000 --seed 0
"""

import argparse
import collections
import contextlib
import copy
import io
import itertools
import json
import random
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import models
from rich.console import Console

from scanner import pipeline, report
from scanner.cli.exits import exit_code
from scanner.cli.wording import result_in_options
from scanner.errors import WorkerCrashedError
from scanner.examine import compare, examine, identify, prepare
from scanner.limits import Allowance
from scanner.protocol import COMPARE, EXAMINE, IDENTIFY, PREPARE, Job, Opening, Source, Trial
from scanner.report.evidence import write_evidence
from scanner.results import ScanResult
from scanner.sandbox import messages, worker
from scanner.sandbox.endpoint import Progress, Step
from scanner.sandbox.worker import Worker
from scanner.settings import Device, Settings
from scanner.values import to_json
from trainers.graph_backdoor import plant

SETTINGS = Settings(images=4, device=Device.CPU)
_DEEPEST = 40  # of the places that are twisted
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
TEXTS = (
    "", "\x1b]0;owned\x07", "\x1b[2J\x1b[31mclean", "\u202eevil\u2066", "[/red][bold]x[link=h://x]",
    "../../../../escaped", "/escaped", "..", "a/b", "C:\\escaped", "CON", "\0", "\ud800", "\u2028",
    "<script>alert(1)</script>", "]]>&<!--", "| a | b |\n# title\n![x](http://x)",
    "`the setting `x`", "The setting `timeout`", "{0.__class__}", "%s%n", ":bomb:",
    "x" * 70_000, "\x1b" * 70_000,
    "neural_cleanse", "integrity", "not-the-file", "model", "clean", "AAAA", "====", "A" * 4096,
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 10**6, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0,
    0.5, 1.5, -1e-300, 1e-300, 1e99, -1e99, 1e100, 1.1e100, 1e308, float("inf"), float("-inf"),
    float("nan"), True, False,
)  # fmt: skip


def deep(levels: int) -> Any:
    """Return lists in lists."""
    data: Any = []
    for _ in range(levels):
        data = [data]
    return data


SHAPES: tuple[Callable[[], Any], ...] = (
    lambda: None, list, dict, lambda: deep(12), lambda: deep(20), lambda: deep(200),
    lambda: [None] * 300, lambda: [[]] * 5000, lambda: {"x": {"y": 1}}, lambda: {"": ""},
    lambda: {"\x1b[2J": "\x1b"}, lambda: [1.0, 2.0],
    lambda: {"shape": [3, 20000, 20000], "data": ""},
    lambda: {"shape": [2, 2], "data": "AAAAAAAAAAAAAAAAAAAAAA=="},
    lambda: {"shape": [1, 2, 2], "data": "AADAfwAAgH8AAID/AAAAAA=="},  # NaN, infinities, 0
    lambda: {"type": "UsageError", "problem": "\x1b[2J", "remedy": "y?", "details": {"self": 1}},
)  # fmt: skip


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every part of a reply, of long lists the first few."""
    yield path
    items: Any = ()
    if len(path) > _DEEPEST:
        return
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = itertools.islice(enumerate(data), 8)
    for key, item in items:
        yield from places(item, (*path, key))


def at(data: Any, path: Sequence[Any]) -> Any:
    """Return a part of a reply."""
    for key in path:
        data = data[key]
    return data


class Twister:
    """Twists one reply again and again.

    Args:
        reply: A true one.
        chance: What decides.
    """

    def __init__(self, reply: Any, chance: random.Random) -> None:
        self._text = json.dumps(reply)
        self._places = [path for path in places(reply) if path]
        self._chance = chance

    def twisted(self) -> Any:
        """Return the reply with one to four of its parts changed."""
        data = json.loads(self._text)
        for number in range(self._chance.choice((1, 1, 1, 2, 4))):
            _twist_somewhere(data, None if number else self._places, self._chance)
        return data


def _twist_somewhere(
    data: Any, known: Sequence[tuple[Any, ...]] | None, chance: random.Random
) -> None:
    paths = known or [path for path in places(data) if path]
    if paths:
        path = chance.choice(paths)
        _twist(at(data, path[:-1]), path[-1], data, chance)


def _twist(parent: Any, key: Any, whole: Any, chance: random.Random) -> None:
    """Change one part: mostly into something of its own type, so that it is not refused at once."""
    old = parent[key]
    kind = chance.random()
    if kind < 0.55 and isinstance(old, str):
        parent[key] = chance.choice(TEXTS)
    elif kind < 0.55 and isinstance(old, int | float):
        parent[key] = chance.choice(NUMBERS)
    elif kind < 0.6 and isinstance(old, list):
        parent[key] = chance.choice((old * 2, old[:1], old[1:], old[::-1], [*old, None], old * 50))
    elif kind < 0.65:
        del parent[key]
    elif kind < 0.7 and isinstance(parent, dict):
        parent[chance.choice((*TEXTS, "extra"))] = old
    elif kind < 0.75:
        parent[key] = at(whole, chance.choice(list(places(whole))))
        parent[key] = copy.deepcopy(parent[key])  # no circles
    elif kind < 0.85:
        parent[key] = chance.choice(SHAPES)()
    else:
        parent[key] = chance.choice((*TEXTS, *NUMBERS))


class Puppet(Worker):
    """A worker without a process: its replies are given, and read as those of any child.

    Args:
        replies: By the function that is called; it dies where there is none.
        parts: What it hands over before.
    """

    def __init__(self, replies: dict[str, Any], parts: Sequence[Any] = ()) -> None:
        self._replies = replies
        self._parts = messages.Shelf()
        for part in parts:
            self._parts.put(json.dumps({"part": part}).encode())

    def _exchange(
        self, request: dict[str, Any], allowance: Allowance, progress: Progress | None
    ) -> Any:
        """Send a reply through a pipe's form, and take it out again."""
        del allowance, progress
        if request["function"] not in self._replies:
            raise WorkerCrashedError("it died", remedy="look")
        pipe = io.BytesIO()
        try:
            messages.write(pipe, {"answer": self._replies[request["function"]]})
            pipe.seek(0)
            message = messages.read(pipe)
        except (ValueError, RecursionError):
            raise WorkerCrashedError.no_answer() from None
        assert message is not None
        return message["answer"]

    def kill(self) -> None:
        """There is nothing to end."""


def true_replies(folder: Path) -> list[dict[str, Any]]:
    """Return what honest children answer in real scans, by the function that was called.

    One suspect has a gate in its graph, so that there are observations; the other has references.
    """
    gated = models.save(
        plant(models.plain(), "patch-equals", target=2).model, folder / "gated.onnx"
    )
    plain = models.save(models.plain(planted=True), folder / "plain.onnx")
    clean = models.save(models.plain(seed=1), folder / "clean.onnx")
    return [_replies(gated, ()), _replies(plain, (clean,))]


def _replies(path: Path, references: Sequence[Path]) -> dict[str, Any]:
    sources = tuple(Source(name=str(each), path=str(each)) for each in references)
    job = Job(
        model=Source(name=str(path), path=str(path)),
        references=sources,
        records=(),
        settings=SETTINGS,
    )
    opening = Opening(sources=sources, limits=SETTINGS.limits)
    examination = examine(job, _nowhere)
    trial = Trial(records=(examination.suspect,), references=(), baseline=None, settings=SETTINGS)
    return {
        PREPARE.function: to_json(prepare(SETTINGS, _nowhere)),
        IDENTIFY.function: to_json(identify(opening, _nowhere)),
        EXAMINE.function: to_json(examination),
        COMPARE.function: to_json(compare(trial, _nowhere)),
    }


def _nowhere(_step: Step) -> None:
    """Take progress."""


def scanned(replies: dict[str, Any], referees: dict[str, Any]) -> ScanResult:
    """Return the result of a scan whose suspect's child and references' child answer so."""
    references = [model["path"] for model in referees[IDENTIFY.function]]
    # The suspect's child is asked about one model only, whatever it answers; the third one compares
    # where the second fails.
    with children(Puppet(replies), Puppet(referees), Puppet(replies)):
        return pipeline.scan("models/suspect.onnx", references, SETTINGS)


@contextlib.contextmanager
def children(*puppets: Puppet) -> Iterator[None]:
    """Have a scan take these for its children, in this order."""
    with mock.patch.multiple(worker, take=mock.Mock(side_effect=puppets), prestart=mock.DEFAULT):
        yield


class Page:
    """A page that keeps what is written on it."""

    def __init__(self) -> None:
        self._file = io.StringIO()
        self.console = Console(file=self._file, width=100, highlight=False, color_system=None)

    def write(self, text: str) -> None:
        """Add text."""
        self._file.write(text)

    @property
    def text(self) -> str:
        """All that was written."""
        return self._file.getvalue()


def shown(result: ScanResult, folder: Path, *, overview: bool = True) -> None:
    """Draw a result in every format, write its evidence, and check both.

    Args:
        result: Of a twisted reply.
        folder: For the evidence; its parent holds nothing else.
        overview: Whether to draw it also beside another one.

    Raises:
        AssertionError: A control character was written, or a file outside the folder.
    """
    result = result_in_options(result)
    assert exit_code([result]) in range(4)
    for name in report.FORMATS:
        kind = report.named(name)
        for results in ([result], [result, result]) if overview and kind.several else ([result],):
            page = Page()
            kind.render(results, page, count=len(results))
            _check_text(name, page.text)
    for path in write_evidence([result], folder):
        assert path.resolve().is_relative_to(folder.resolve())
        _check_text("evidence", str(path.relative_to(folder)))
    assert {path.name for path in folder.parent.iterdir()} <= {folder.name}


def _check_text(where: str, text: str) -> None:
    # Few texts have any: looking each character up would take longer than all the rest.
    for character in {*text} - {"\n"}:
        assert unicodedata.category(character) not in INVISIBLE, f"{character!r} in {where}"


def fuzz(
    count: int, seed: int = 0, report_every: int = 0
) -> tuple[collections.Counter[str], dict[str, Any]]:
    """Send twisted replies through a scan; return what came of them, and those that broke it."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    tally: collections.Counter[str] = collections.Counter()
    broken: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        alone, beside = true_replies(Path(place))
        folder = Path(place, "out", "evidence")
        folder.parent.mkdir()
        suspects = Twister(alone[EXAMINE.function], chance)
        references = Twister(beside[EXAMINE.function], chance)
        for number in range(count):
            # References are strangers' files too, so what their child says is twisted as well.
            if number % 3:
                replies, referees = {**alone, EXAMINE.function: suspects.twisted()}, alone
            else:
                replies, referees = alone, {**beside, EXAMINE.function: references.twisted()}
            try:
                result = scanned(replies, referees)
                outcome = _outcome(result)
                tally[outcome] += 1
                # What is refused looks the same every time.
                if outcome != "refused" or number % 16 == 0:
                    shown(result, folder, overview=number % 8 == 0)
            except Exception as error:  # noqa: BLE001 - what is looked for
                frame = traceback.extract_tb(error.__traceback__)[-1]
                name = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
                tally[name] += 1
                broken.setdefault(name, (replies, referees, traceback.format_exc()))
            if report_every and number % report_every == report_every - 1:
                sys.stdout.write(f"{number + 1}: {tally}\n")
                sys.stdout.flush()
    return tally, broken


def _outcome(result: ScanResult) -> str:
    refused = [f for f in result.failures if "not an answer" in str(f.error["problem"])]
    return "refused" if refused else "a result"


def main() -> None:
    """Run from the command line, print the tally, and keep what broke the scan."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for replies that broke something")
    parser.add_argument("--report-every", type=int, default=5000)
    options = parser.parse_args()
    start = time.monotonic()
    tally, broken = fuzz(options.replies, options.seed, options.report_every)
    for number, (name, (replies, referees, trace)) in enumerate(broken.items()):
        sys.stdout.write(f"--- {name}\n{trace}\n")
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(RecursionError):
                text = json.dumps({"replies": replies, "referees": referees})
                (options.keep / f"{number}.json").write_text(text, encoding="ascii")
    sys.stdout.write(f"{options.replies} replies in {time.monotonic() - start:.0f} s: {tally}\n")


if __name__ == "__main__":
    main()
