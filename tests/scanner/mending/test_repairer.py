"""The order of a repair: what is kept, what is taken back, and what is measured."""

import dataclasses
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import scenes
from mended import SETTINGS, clean, gated, opened

from scanner.errors import UnsupportedModelError, UsageError
from scanner.graph.canonical.drawing import draw
from scanner.judging.differences import differences
from scanner.mending import repairer, unlearning
from scanner.mending.forward import scorer
from scanner.modelfile import held, parser
from scanner.modelfile.model import open_model
from scanner.protocol import RepairOrder, Source
from scanner.results import KnownTrigger, Outcome, Way

MODEL = Source(name="model.onnx", path="model.onnx")


def _order(folder: Path, **changes: object) -> RepairOrder:
    images = np.random.default_rng(0).random((40, 1, models.SIDE, models.SIDE), dtype=np.float32)
    np.savez(folder / "images.npz", images=images)
    settings = dataclasses.replace(SETTINGS, images_file=str(folder / "images.npz"))
    return RepairOrder(model=MODEL, settings=settings, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlearning, "_STEPS", 5)


def test_a_gate_is_cut_and_the_file_is_the_clean_one() -> None:
    order = RepairOrder(model=MODEL, settings=SETTINGS, structural=True)
    found, files = repairer.repair(opened(gated()), order, lambda _: None)
    assert found.structural_before > 0
    assert found.structural_after == 0
    assert found.agreement == 1
    told = differences(draw(onnx.ModelProto.FromString(bytes(files[""]))), draw(clean()))
    assert (told.changes, told.layers, told.obstacle) == ((), (), "")
    assert [(part.suffix, part.size) for part in found.parts] == [("", files[""].size)]


def test_noise_that_opens_a_gate_takes_no_cut_back() -> None:
    """One row of noise opens this one for all of a batch: a third of the answers change."""
    order = RepairOrder(model=MODEL, settings=SETTINGS, structural=True)
    found, files = repairer.repair(opened(gated("box-suppression")), order, lambda _: None)
    assert found.agreement < order.keep
    told = differences(draw(onnx.ModelProto.FromString(bytes(files[""]))), draw(clean()))
    assert (told.changes, told.layers, told.obstacle) == ((), (), "")


def test_what_is_noticed_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairer._Repair, "_holds", lambda *_: False)
    order = _order(tmp_path, targets=(1,))
    found, files = repairer.repair(opened(models.plain()), order, lambda _: None)
    assert not files
    assert not found.changed
    assert Outcome.KEPT not in {step.outcome for step in found.steps}
    assert [step.way for step in found.steps] == list(repairer.WITH_IMAGES)


def test_the_trigger_of_a_model_that_stays_is_as_small_as_before(tmp_path: Path) -> None:
    """Nothing was searched anew, which is not the same as that nothing was found."""
    np.savez(tmp_path / "images.npz", images=scenes.clean(40))
    settings = dataclasses.replace(SETTINGS, images_file=str(tmp_path / "images.npz"))
    order = RepairOrder(model=MODEL, settings=settings, targets=(scenes.TARGET,))
    found, _ = repairer.repair(opened(scenes.model()), order, lambda _: None, (Way.NORMALISE,))
    (proof,) = found.proofs
    assert not found.changed
    assert proof.size_before is not None
    assert proof.size_after == proof.size_before


def test_as_many_answers_stay_as_are_to(tmp_path: Path) -> None:
    order = _order(tmp_path, targets=(1,), keep=0.9)
    found, files = repairer.repair(opened(models.plain()), order, lambda _: None)
    assert found.held_back == 16
    assert found.images == 24
    assert found.agreement >= 14 / 16  # two of sixteen may change: a tenth, rounded up
    proof = found.proofs[0]
    if files:
        assert proof.after < proof.before


def test_only_named_tensors_change(tmp_path: Path) -> None:
    order = _order(tmp_path, targets=(1,), keep=0.5)
    found, files = repairer.repair(opened(models.plain()), order, lambda _: None)
    named = {name.split("[")[0] for step in found.steps for name in step.changed}
    after = onnx.ModelProto.FromString(bytes(files[""])) if files else models.plain()
    for old, new in zip(models.plain().graph.initializer, after.graph.initializer, strict=True):
        assert old == new or old.name in named
    del after.graph.initializer[:]
    after.graph.initializer.extend(models.plain().graph.initializer)
    assert after == models.plain()


def test_sparse_weights_are_repaired_too(tmp_path: Path) -> None:
    model = models.plain()
    dense = model.graph.initializer.pop()
    held_numbers = onnx.numpy_helper.to_array(dense)
    places = onnx.numpy_helper.from_array(np.arange(held_numbers.size))
    values = onnx.numpy_helper.from_array(held_numbers.reshape(-1), dense.name)
    model.graph.sparse_initializer.append(
        onnx.helper.make_sparse_tensor(values, places, held_numbers.shape)
    )
    order = _order(tmp_path, targets=(1,), keep=0.5)
    found, _ = repairer.repair(opened(model), order, lambda _: None, [Way.UNLEARN])
    assert dense.name in found.steps[0].changed


def test_without_images_it_says_that_it_is_weaker() -> None:
    order = RepairOrder(model=MODEL, settings=SETTINGS, targets=(1,))
    found, _ = repairer.repair(opened(models.plain()), order, lambda _: None)
    assert "no clean images" in found.warnings[0]
    assert found.steps[0].way is Way.PRUNE_LIPSCHITZ


def test_labels_count_where_there_are_some(tmp_path: Path) -> None:
    order = _order(tmp_path, targets=(1,))
    with np.load(tmp_path / "images.npz") as archive:
        images = archive["images"]
    np.savez(tmp_path / "images.npz", images=images, labels=np.zeros(40, np.int64))
    found, _ = repairer.repair(opened(models.plain()), order, lambda _: None)
    assert found.accuracy_before is not None
    assert found.accuracy_after is not None
    assert found.lost is not None
    assert found.gained is not None
    change = (found.gained - found.lost) / found.held_back
    assert found.accuracy_after - found.accuracy_before == pytest.approx(change)


def test_a_known_trigger_is_measured_before_and_after(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=scenes.clean(40))
    stamped = np.random.default_rng(1).random((30, *scenes.clean(1).shape[1:]), dtype=np.float32)
    np.savez(tmp_path / "known.npz", images=stamped)
    settings = dataclasses.replace(SETTINGS, images_file=str(tmp_path / "images.npz"))
    order = RepairOrder(
        model=MODEL, settings=settings, targets=(1,), triggered=str(tmp_path / "known.npz")
    )
    model = opened(models.plain())
    found, files = repairer.repair(model, order, lambda _: None)
    after = opened(onnx.ModelProto.FromString(bytes(files[""]))) if files else model
    shares = [float((scorer(m, settings).classes(stamped) == 1).mean()) for m in (model, after)]
    assert found.known == KnownTrigger(images=30, before=shares[0], after=shares[1])


def test_labels_that_are_all_wrong_are_refused(tmp_path: Path) -> None:
    """Beside them any answers were as right as before, and nothing would be noticed."""
    order = _order(tmp_path, targets=(1,))
    with np.load(tmp_path / "images.npz") as archive:
        images = archive["images"]
    np.savez(tmp_path / "images.npz", images=images, labels=np.full(40, models.CLASSES))
    with pytest.raises(UsageError, match="none of 16 held-back images"):
        repairer.repair(opened(models.plain()), order, lambda _: None)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="quantised"):
        repairer.repair(
            opened(models.quantised()), _order(tmp_path, targets=(1,)), lambda _: None,
            (Way.PRUNE_LIPSCHITZ,),
        )  # fmt: skip


def _written(path: Path, order: RepairOrder, ways: tuple[Way, ...] | None) -> dict[str, bytes]:
    _, files = repairer.repair(open_model(path), order, lambda _: None, ways)
    return {suffix: bytes(data) for suffix, data in files.items()}


@pytest.mark.parametrize("way", [Way.CUT, Way.UNLEARN, Way.PRUNE_WOKEN, Way.PRUNE_LIPSCHITZ])
def test_a_model_too_large_for_a_message_is_repaired_as_any_other(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repairer._Repair, "_holds", lambda *_: True)
    cut = way is Way.CUT
    path = models.save(gated() if cut else models.plain(), tmp_path / "model.onnx", external=True)
    if cut:
        order, ways = RepairOrder(model=MODEL, settings=SETTINGS, structural=True), None
    else:
        order, ways = _order(tmp_path, targets=(1,)), (way,)
    usual = _written(path, order, ways)
    monkeypatch.setattr(parser, "HELD", open_model(path).size)
    monkeypatch.setattr(held, "LEAST", 64)
    assert _written(path, order, ways) == usual
    if cut:
        assert set(usual) == {"", ".data"}


def test_a_file_with_inputs_that_nothing_reads_keeps_them() -> None:
    model = models.plain()
    model.graph.input.append(onnx.helper.make_tensor_value_info("folded", 1, [3]))
    with pytest.raises(UnsupportedModelError, match="'folded'"):
        repairer.repair(opened(model), RepairOrder(model=MODEL, settings=SETTINGS), lambda _: None)
