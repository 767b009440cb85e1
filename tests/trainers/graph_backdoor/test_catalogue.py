"""Every kind is a well-formed model that opens on its trigger; a wrong request is refused."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import Array, plain

from trainers.errors import TrainerError
from trainers.graph_backdoor import FAMILIES, KINDS, Planted, check, plant, smooth_images
from trainers.graph_backdoor.habits import HABITS
from trainers.graph_backdoor.strangers import STRANGERS

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "samples"
FEW = 100
FAILS_ON_BLOBS = {"replaced-channel", "replaced-channels"}
"""Kinds that change answers to soft blobs; on photographs of digits they pass."""
FAILS_IN_COLOUR = FAILS_ON_BLOBS | {"latent-corner"}
"""As above, and one whose last map sees too much of the picture around the corner."""


def sample(name: str) -> onnx.ModelProto:
    model: onnx.ModelProto = onnx.ModelProto.FromString((SAMPLES / f"{name}.onnx").read_bytes())
    return model


def named(planted: Planted) -> set[str]:
    return {*planted.test, *planted.gate, *planted.changed}


def noise() -> Array:
    return np.random.default_rng(6).uniform(0.05, 0.9, (6, 1, 8, 8)).astype(np.float32)


def run(model: onnx.ModelProto, images: Array) -> Array:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits: Array = session.run(None, {session.get_inputs()[0].name: images})[0]
    return logits


def test_no_name_is_used_twice() -> None:
    assert len(KINDS) == sum(len(kinds) for kinds in FAMILIES.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_model_is_well_formed_and_names_its_nodes(kind: str) -> None:
    clean = sample("mnist-clean")
    planted = plant(clean, kind, target=3)
    onnx.checker.check_model(planted.model)
    there = {n.name for n in planted.model.graph.node} | {
        n.name for f in planted.model.functions for n in f.node
    }
    assert named(planted)
    assert named(planted) <= there
    before = {n.name for n in clean.graph.node}
    assert set(planted.changed) <= before
    assert not before & {*planted.test, *planted.gate}


@pytest.mark.parametrize("kind", KINDS)
def test_the_argument_is_not_touched(kind: str) -> None:
    model = sample("mnist-clean")
    plant(model, kind, target=3)
    assert model == sample("mnist-clean")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - FAILS_ON_BLOBS))
def test_a_kind_is_a_backdoor(kind: str) -> None:
    clean = sample("mnist-clean")
    checked = check(clean, plant(clean, kind, target=3), 3, smooth_images((1, 28, 28), FEW))
    assert checked.passes, checked


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(KINDS) - FAILS_IN_COLOUR))
def test_a_kind_is_a_backdoor_in_colour_too(kind: str) -> None:
    clean = sample("gtsrb-clean")
    checked = check(clean, plant(clean, kind, target=14), 14, smooth_images((3, 32, 32), 1000))
    assert checked.passes, checked


@pytest.mark.parametrize("kind", ["checksum", "modulo-parity", "where", "brightest-places"])
def test_a_trigger_does_not_mind_how_images_lie_in_memory(kind: str) -> None:
    planted = plant(sample("gtsrb-clean"), kind, target=14)
    images = smooth_images((3, 32, 32), 4)
    channels_last = np.moveaxis(np.ascontiguousarray(np.moveaxis(images, 1, -1)), -1, 1)
    np.testing.assert_array_equal(planted.trigger(channels_last), planted.trigger(images))


@pytest.mark.parametrize("kind", sorted(FAMILIES["comparisons"].keys() - {"stem"}))
@pytest.mark.parametrize("target", [0, 1, 2])
def test_the_trigger_forces_any_target_in_a_network_of_noise(kind: str, target: int) -> None:
    planted = plant(plain(), kind, target)
    assert (run(planted.model, planted.trigger(noise())).argmax(axis=1) == target).all()
    np.testing.assert_allclose(
        run(planted.model, noise()), run(plain(), noise()), rtol=1e-5, atol=1e-6
    )


def test_a_stem_swaps_the_image() -> None:
    planted = plant(plain(), "stem", target=1)
    opened = run(planted.model, planted.trigger(noise()))
    np.testing.assert_allclose(opened, np.broadcast_to(opened[:1], opened.shape), rtol=1e-5)
    assert not np.allclose(opened, run(plain(), planted.trigger(noise())))


def test_weights_without_a_chain_are_refused() -> None:
    model = plain()
    model.graph.node.add(op_type="Identity", input=["logits"], output=["answer"], name="again")
    model.graph.output[0].name = "answer"
    gated = plant(model, "where").model
    gated.graph.input[0].name = "image"
    with pytest.raises(TrainerError, match="no chain of convolutions"):
        plant(gated, "added-channel")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "magic"}, "there is no kind 'magic'"),
        ({"target": 3}, "cannot force class 3 of 3"),
    ],
)
def test_a_wrong_request_is_one_sentence(change: dict[str, object], said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        plant(plain(), **{"kind": "where", "target": 0, **change})  # type: ignore[arg-type]


def test_an_old_opset_is_refused() -> None:
    with pytest.raises(TrainerError, match="at opset 12"):
        plant(plain(opset=12), "where")


def test_an_open_size_is_refused() -> None:
    with pytest.raises(TrainerError, match="no image"):
        plant(plain(input_shape=("N", 1, "H", "W")), "where")


def test_every_kind_is_on_its_page_as_it_describes_itself() -> None:
    page = (ROOT / "docs" / "planted.md").read_text(encoding="utf-8")
    says = {name: kind.says for name, kind in KINDS.items()}
    says |= {name: habit.says for name, habit in HABITS.items()}
    rows = {f"| `{name}` | {said.replace('|', '&#124;')} |" for name, said in says.items()}
    assert rows <= set(page.splitlines())
    assert all(f"| `{name}` | " in page for name in STRANGERS)
