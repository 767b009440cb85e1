"""What a hostile file costs stands in proportion to its size; no absolute time is measured here."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import models
import onnx
import pytest
from hostile import attacks
from hostile.long_lists import LISTED

from scanner.detectors import FAMILY
from scanner.errors import UnsafeModelError
from scanner.examine import examine
from scanner.graph.audit import checks
from scanner.graph.core import draft, facts, flatten, shapes
from scanner.graph.core.structure import Uses
from scanner.graph.layers import channels
from scanner.graph.logic import unfold
from scanner.limits import Limits
from scanner.modelfile import bounds, inference
from scanner.modelfile.guards import check_cost, check_structure
from scanner.modelfile.nested import Contents
from scanner.protocol import Job, Source
from scanner.settings import Device, Settings

LIMITS = Limits()
BOUNDED = attacks.BOUNDED | LISTED
PASSES: dict[str, Callable[[onnx.ModelProto], object]] = {
    "contents": Contents,
    "structure": lambda model: check_structure(model, LIMITS),
    "cost": lambda model: check_cost(model, LIMITS),
    "flatten": flatten.flatten,
    "facts": lambda model: facts.infer(flatten.flatten(model)),
    "shapes": shapes.value_types,
    "unfold": unfold.unfold,
    "audit": lambda model: checks.audit(model, model.SerializeToString(), Path("m.onnx")),
}


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of the quickest of three runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("attack", BOUNDED)
def test_no_pass_multiplies_a_file(attack: str, name: str) -> None:
    # Ten seconds of the processor are no measure of speed: without the bounds, these take minutes,
    # or memory without end.
    model = BOUNDED[attack]()
    start = time.process_time()
    PASSES[name](model)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("name", ["cost", "flatten", "facts", "unfold"])
def test_four_times_the_bodies_cost_no_sixteen_times(name: str) -> None:
    small, large = attacks.many_bodies(400), attacks.many_bodies(1600)
    ratio = seconds(lambda: PASSES[name](large)) / seconds(lambda: PASSES[name](small))
    assert ratio < 10


def test_each_level_of_branches_does_not_copy_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = itertools.count()
    monkeypatch.setattr(flatten, "copied", lambda m: (next(copies), draft.copied(m))[1])
    flat = flatten.flatten(attacks.nested_branches(numbers=16))
    assert next(copies) == 1
    assert not any(node.op_type == "If" for node in flat.graph.node)


def test_a_branch_named_like_its_if_is_spliced_once() -> None:
    flat = flatten.flatten(attacks.branch_named_like_its_if())
    assert all(not set(node.input) & set(node.output) for node in flat.graph.node)


def test_looking_for_channels_walks_each_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = itertools.count()
    original = channels._computed
    monkeypatch.setattr(channels, "_computed", lambda n, u: (next(steps), original(n, u))[1])
    graph = attacks.activations_in_a_row(300).graph
    uses, known = Uses(graph), channels.Known()
    axes = {channels.channel_axis(f"row{i + 1}", 4, uses, known) for i in range(300)}
    assert axes == {1}
    assert next(steps) <= 600


@pytest.mark.parametrize("name", ["doubling_shapes", *LISTED])
def test_no_more_numbers_are_listed_than_are_bounded(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    followed = []
    original = onnx.shape_inference.infer_shapes

    def infer(model: onnx.ModelProto, data_prop: bool = False) -> onnx.ModelProto:
        if data_prop:
            followed.append(bounds.Bounds(model).numbers)
            assert not bounds.Bounds(model).unbounded
        return original(model, data_prop=data_prop)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", infer)
    facts.infer(BOUNDED[name]())
    facts.infer(attacks.doubling_shapes(8))
    assert all(numbers <= bounds.MOST_NUMBERS for numbers in followed)
    assert len(followed) in (1, 2)


@pytest.mark.parametrize("attack", ["rank_by_length", "rank_by_gathering"])
def test_no_value_gets_more_dimensions_than_a_runtime_takes(attack: str) -> None:
    known = facts.infer(attacks.BOUNDED[attack]()).shapes
    assert max(map(len, known.values())) <= bounds.MOST_DIMENSIONS


def test_a_long_name_of_a_dimension_is_not_copied() -> None:
    inferred = inference.infer_shapes(attacks.long_dimension_name(), follow_numbers=True)
    assert inferred.ByteSize() < 10**5


def test_what_exceeds_the_parts_is_refused_before_it_is_looked_at() -> None:
    many = 20_000
    floods = (
        onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto()] * many),
        onnx.ModelProto(graph=onnx.GraphProto(output=[onnx.ValueInfoProto()] * many)),
        onnx.ModelProto(graph=onnx.GraphProto(node=[onnx.NodeProto(input=[""] * many)])),
    )
    for flood in floods:
        model = models.plain()
        model.MergeFrom(flood)
        with pytest.raises(UnsafeModelError, match="raise the setting `parts`"):
            check_structure(model, Limits(parts=10_000))


def test_unknown_fields_are_one_finding_and_counted_against_the_limit() -> None:
    model = models.plain()
    data = model.SerializeToString() + b"\xa0\x06\x00" * 5000  # field 100, a number of one byte
    (odd,) = (o for o in checks.audit(model, data, Path("m")) if o.code == "unknown-field")
    assert odd.details["count"] == 5000
    assert len(odd.nodes) == 1
    with pytest.raises(UnsafeModelError, match="raise the setting `parts`"):
        checks.audit(model, data, Path("m"), Limits(parts=1000))


@pytest.mark.parametrize("name", attacks.TYPED)
def test_what_is_of_the_wrong_kind_is_no_internal_error(tmp_path: Path, name: str) -> None:
    path = models.save(attacks.TYPED[name](), tmp_path / "m.onnx")
    rules = tuple(rule for rule in FAMILY)
    settings = Settings(images=2, device=Device.CPU, detectors=rules)
    job = Job(
        model=Source(name="m", path=str(path)),
        references=(),
        records=(),
        settings=settings,
    )
    failures = examine(job, lambda _: None).suspect.failures
    internal = [f.error for f in failures if f.error["type"] == "WorkerCrashedError"]
    assert not internal


def test_constants_that_double_are_folded_no_further_than_the_file_is_large() -> None:
    from scanner.graph.core import simplify  # noqa: PLC0415

    model = draft.copied(attacks.doubling_constants())
    simplify.fold_constants(model, {"logits"})
    folded = sum(simplify._elements(tensor) for tensor in model.graph.initializer)
    assert folded < 2 * simplify._FOLDED_ELEMENTS
