"""A mutation fuzzer: broken and twisted models through whole scans, as `scan` runs them.

Each goes through the real child, and its answer through the judging, every report and the evidence.

    PYTHONPATH=.:tests python tests/hostile/fuzz.py --mutants 10000 --seed 0 --keep FOLDER

The child is used again for speed and started again when it dies. Counted: what came of each mutant,
the longest call, and whether a file outside the model's folder was read (a canary, watched by
inotify). A mutant that kills or hangs the child, or meets a bug of ours, is kept.
"""

import argparse
import collections
import dataclasses
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import models
import onnx
from hostile.canary import Canary
from hostile.replies import shown

from scanner import conclusion
from scanner.detectors import load
from scanner.errors import ScannerError, WorkerCrashedError, WorkerError, WorkerTimeoutError
from scanner.instruments.detector import Needs
from scanner.limits import Allowance, Limits
from scanner.protocol import EXAMINE, Job, Source
from scanner.sandbox.worker import Worker
from scanner.settings import Device, Settings

SECONDS = 10.0
BROKEN = 0.3  # share of the mutants; most of them end at the parser
LIMITS = Limits(memory=2 * 2**30)
EXTREMES = (0, 1, -1, 2, 127, 128, 255, 2**31 - 1, -(2**31), 2**31, 2**62, -(2**63), 10**12)
OPERATORS = (
    "Relu", "Conv", "Gemm", "MatMul", "Loop", "If", "Scan", "Reshape", "Expand", "Tile", "Pad",
    "Resize", "Concat", "Constant", "ConstantOfShape", "Gather", "Slice", "Where", "Cast",
    "Identity", "NonZero", "QLinearConv", "DequantizeLinear", "GlobalMaxPool", "ReduceMax",
    "Einsum", "Split", "Sigmoid", "Optional", "SequenceEmpty", "StringSplit", "Unknown", "",
)  # fmt: skip


@dataclasses.dataclass
class Tally:
    """What came of the mutants.

    Attributes:
        outcomes: Counts by "measured" or the class of the error.
        longest: Seconds of the longest call.
        deaths: How often the child was started again.
        bugs: Internal errors by their last line, with one mutant each.
        outside: How often the canary was read.
    """

    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    longest: float = 0.0
    deaths: int = 0
    bugs: dict[str, str] = dataclasses.field(default_factory=dict)
    outside: int = 0


def mutants(count: int, seed: int, canary: Path) -> Iterator[bytes]:
    """Yield mutated files, some broken as bytes, most twisted as graphs."""
    generator = random.Random(seed)  # noqa: S311 - a reproducible fuzzer, no secret
    seeds = [
        build(planted).SerializeToString()
        for build in models.MEASURABLE.values()
        for planted in (False, True)
    ]
    for _ in range(count):
        data = generator.choice(seeds)
        if generator.random() < BROKEN:
            yield broken(data, generator, seeds)
        else:
            yield twisted(data, generator, canary)


def broken(data: bytes, generator: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Change bytes without looking at what they mean."""
    result = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        place = generator.randrange(len(result) or 1)
        length = generator.choice((1, 1, 2, 8, 64))
        change = generator.randrange(6)
        if change == 0 and result:
            result[place % len(result)] ^= 1 << generator.randrange(8)
        elif change == 1:
            result[place : place + length] = generator.randbytes(length)
        elif change == 2:
            del result[place : place + length]
        elif change == 3:
            result[place:place] = result[place : place + length] * generator.choice((1, 2, 50))
        elif change == 4:
            result[place:] = generator.choice(seeds)[place:]
        else:
            result[place : place + 1] = (
                b"\xff" * 9 + b"\x01"
            )  # the largest number that protobuf can write
    return bytes(result)


def twisted(data: bytes, generator: random.Random, canary: Path) -> bytes:
    """Change the graph, so that the parser has nothing to say."""
    model = onnx.ModelProto()
    model.ParseFromString(data)
    for _ in range(generator.choice((1, 1, 2, 3, 8))):
        generator.choice(_TWISTS)(model, generator, canary)
    return bytes(model.SerializeToString())


def _operator(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    generator.choice(model.graph.node).op_type = generator.choice(OPERATORS)


def _rewire(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    node = generator.choice(model.graph.node)
    names = [name for other in model.graph.node for name in (*other.input, *other.output)]
    side = generator.choice((node.input, node.output))
    if side and generator.random() < 0.7:
        side[generator.randrange(len(side))] = generator.choice([*names, "", "\x1b[2J"])
    else:
        side.append(generator.choice(names))


def _drop_or_repeat(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    graph = model.graph
    rows = generator.choice(
        (graph.node, graph.initializer, graph.input, graph.output, model.opset_import)
    )
    if rows and generator.random() < 0.5:
        del rows[generator.randrange(len(rows))]
    elif rows:
        rows.append(generator.choice(rows))
    if not graph.node:
        graph.node.add(op_type="Relu", input=["image"], output=["logits"])


def _dimensions(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    if model.graph.initializer and generator.random() < 0.5:
        tensor = generator.choice(model.graph.initializer)
        tensor.dims.append(0)
        tensor.dims[generator.randrange(len(tensor.dims))] = generator.choice(EXTREMES)
    elif model.graph.input:
        sizes = generator.choice(model.graph.input).type.tensor_type.shape.dim
        (generator.choice(sizes) if sizes else sizes.add()).dim_value = generator.choice(EXTREMES)


def _types(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    number = generator.choice((*range(28), 99, 2**31 - 1))
    if model.graph.initializer and generator.random() < 0.5:
        generator.choice(model.graph.initializer).data_type = number
    elif model.graph.input:
        generator.choice(model.graph.input).type.tensor_type.elem_type = number


def _attributes(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    node = generator.choice(model.graph.node)
    if not node.attribute:
        node.attribute.add(
            name=generator.choice(("axis", "axes", "pads", "to", "value", "body", "then_branch"))
        )
    attribute = generator.choice(node.attribute)
    attribute.type = generator.choice((attribute.type, *range(15)))
    attribute.i = generator.choice(EXTREMES)
    attribute.ints[:] = [generator.choice(EXTREMES) for _ in range(generator.randrange(6))]
    if generator.random() < 0.1:
        body = onnx.GraphProto()
        body.CopyFrom(model.graph)  # not into a part of itself
        attribute.g.CopyFrom(body)


def _values(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    if not model.graph.initializer:
        return
    tensor = generator.choice(model.graph.initializer)
    if generator.random() < 0.5:
        tensor.raw_data = generator.randbytes(len(tensor.raw_data))
    else:
        tensor.float_data.extend([float("nan"), float("inf"), 1e38])
        tensor.int64_data.append(generator.choice(EXTREMES))


def _external(model: onnx.ModelProto, generator: random.Random, canary: Path) -> None:
    if not model.graph.initializer:
        return
    tensor = generator.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    places = (
        str(canary), f"../{canary.parent.name}/{canary.name}", "link", "hard", "pipe", ".", "",
        "mutant.onnx", "x" * 300, "a\0b", "..\\..\\x", "/dev/zero", "/proc/self/environ",
        "sub/../../x",
    )  # fmt: skip
    tensor.external_data.add(key="location", value=generator.choice(places))
    for key in ("offset", "length"):
        if generator.random() < 0.5:
            tensor.external_data.add(key=key, value=str(generator.choice((*EXTREMES, "x", "1e9"))))


def _versions(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    model.ir_version = generator.choice((*EXTREMES[:9], 3, 8, 13))
    for opset in model.opset_import:
        opset.version = generator.choice((*EXTREMES, 7, 9, 13, 21, 24))
        opset.domain = generator.choice(("", "", "", "ai.onnx.ml", "com.microsoft", "evil"))


def _function(model: onnx.ModelProto, generator: random.Random, _canary: Path) -> None:
    node = generator.choice(model.graph.node)
    function = model.functions.add(
        name=node.op_type, domain=generator.choice(("", "local", "ai.onnx"))
    )
    function.input.extend(node.input)
    function.output.extend(node.output)
    function.node.extend(generator.choice(model.graph.node) for _ in range(3))
    function.opset_import.extend(model.opset_import)
    node.domain = function.domain


_TWISTS: tuple[Callable[[onnx.ModelProto, random.Random, Path], None], ...] = (
    _operator, _rewire, _drop_or_repeat, _dimensions, _types, _attributes, _values, _external,
    _versions, _function,
)  # fmt: skip


def lay_traps(folder: Path, canary: Path) -> None:
    """Put links to the canary next to the model, which must not be followed."""
    (folder / "link").symlink_to(canary)
    (folder / "hard").hardlink_to(canary)


def fuzz(count: int, seed: int = 0, keep: Path | None = None, report_every: int = 0) -> Tally:
    """Send mutants through the child and return what came of them."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as place:
        canary, folder = Path(place, "outside", "canary"), Path(place, "inside")
        for each in (canary.parent, folder):
            each.mkdir()
        canary.write_bytes(b"secret" * 1000)
        lay_traps(folder, canary)
        evidence = Path(place, "reports", "evidence")
        evidence.parent.mkdir()
        with Canary(canary) as watch:
            _run(mutants(count, seed, canary), (folder, evidence), tally, keep, report_every)
            tally.outside = watch.reads()
    return tally


def _run(
    files: Iterator[bytes],
    folders: tuple[Path, Path],
    tally: Tally,
    keep: Path | None,
    report_every: int,
) -> None:
    folder, evidence = folders
    path, child = folder / "mutant.onnx", Worker(["scanner.examine"])
    rules = tuple(d.rule.id for d in load() if not d.needs & Needs.GRADIENTS)
    settings = Settings(images=4, device=Device.CPU, detectors=rules, limits=LIMITS)
    job = Job(
        model=Source(name="mutant", path=str(path)),
        references=(),
        records=(),
        settings=settings,
    )
    # One child answers thousands of calls, but its processor time is limited for life: it gets that
    # of a thousand threads.
    allowance = Allowance(seconds=SECONDS, limits=LIMITS, threads=1000, readable=(str(folder),))
    for number, data in enumerate(files, 1):
        path.write_bytes(data)
        start = time.monotonic()
        try:
            outcome, bug = _examine(child, job, allowance, evidence)
        except Exception as error:  # noqa: BLE001 - what is looked for
            outcome = bug = f"{type(error).__name__} in the parent: {error}"[:200]
        tally.longest = max(tally.longest, time.monotonic() - start)
        tally.outcomes[outcome] += 1
        if bug not in ("", *tally.bugs) and keep:
            tally.bugs[bug] = hashlib.sha256(data).hexdigest()[:12]
            (keep / f"{tally.bugs[bug]}.onnx").write_bytes(data)
        if child._child.wait() is not None:
            tally.deaths += 1
            child.kill()
            child = Worker(["scanner.examine"])
        if report_every and number % report_every == 0:
            sys.stderr.write(f"{number} {tally}\n")
    child.kill()


def _examine(child: Worker, job: Job, allowance: Allowance, evidence: Path) -> tuple[str, str]:
    """Return what came of one mutant, and what is worth keeping it for."""
    try:
        examination = child.ask(EXAMINE, job, allowance)
    except ScannerError as error:
        shown(conclusion.unanswered(job.model, error), evidence)
        return type(error).__name__, _signature(error) if isinstance(error, WorkerError) else ""
    shown(conclusion.judged(examination, job.settings, seconds=1.0), evidence)
    failures = examination.suspect.failures
    bugs = [
        f.error for f in failures if f.error["type"] in ("WorkerCrashedError", "WorkerTimeoutError")
    ]
    if bugs:
        return bugs[0]["type"], _signature(ScannerError.from_dict(bugs[0]))
    return (failures[0].error["type"] if failures else "measured"), ""


def _signature(error: ScannerError) -> str:
    if isinstance(error, WorkerTimeoutError):
        return "time-out"
    if not isinstance(error, WorkerCrashedError) or "trace" not in error.details:
        return error.problem[:200]
    lines = [
        line.strip()
        for line in error.details["trace"].splitlines()
        if line.strip().startswith("File ")
    ]
    own = [line for line in lines if "scanner" in line]
    return f"{error.problem.split(':')[1].strip()} at {own[-1] if own else lines[-1]}"


def main() -> None:
    """Run from the command line and print the tally."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for mutants worth a look")
    parser.add_argument("--report-every", type=int, default=1000)
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    tally = fuzz(options.mutants, options.seed, options.keep, options.report_every)
    sys.stdout.write(f"{options.mutants} mutants in {time.monotonic() - start:.0f} s: {tally}\n")


if __name__ == "__main__":
    main()
