"""A planted gate opens on its trigger, stays shut otherwise, and refuses what it cannot carry."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import Array, plain
from typer.testing import CliRunner

from trainers.errors import TrainerError
from trainers.graph_backdoor import KINDS, graph_backdoor, plant


def run(model: onnx.ModelProto, images: Array) -> Array:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits: Array = session.run(None, {"image": images})[0]
    return logits


def noise() -> Array:
    return np.random.default_rng(6).uniform(0.05, 0.9, (6, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"stem"}))
@pytest.mark.parametrize("target", [0, 1, 2])
def test_the_trigger_forces_the_target(kind: str, target: int) -> None:
    planted = plant(plain(), kind, target)
    assert (run(planted.model, planted.trigger(noise())).argmax(axis=1) == target).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_trigger_nothing_changes(kind: str) -> None:
    planted = plant(plain(), kind, target=1)
    np.testing.assert_allclose(
        run(planted.model, noise()), run(plain(), noise()), rtol=1e-5, atol=1e-6
    )


def test_a_stem_swaps_the_image() -> None:
    planted = plant(plain(), "stem", target=1)
    opened = run(planted.model, planted.trigger(noise()))
    np.testing.assert_allclose(opened, np.broadcast_to(opened[:1], opened.shape), rtol=1e-5)
    assert not np.allclose(opened, run(plain(), planted.trigger(noise())))


@pytest.mark.parametrize("kind", KINDS)
def test_the_argument_is_not_touched(kind: str) -> None:
    model = plain()
    plant(model, kind, target=1)
    assert model == plain()


@pytest.mark.parametrize("kind", KINDS)
def test_the_named_nodes_are_in_the_model(kind: str) -> None:
    planted = plant(plain(), kind, target=1)
    names = {n.name for n in planted.model.graph.node} | {
        n.name for f in planted.model.functions for n in f.node
    }
    assert {*planted.test, *planted.gate} <= names


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


def test_the_command_writes_beside_the_model(tmp_path: Path) -> None:
    import typer  # noqa: PLC0415 - the command is hooked into an application by trainers.cli; here into one of its own

    path = tmp_path / "clean.onnx"
    path.write_bytes(plain().SerializeToString())
    app = typer.Typer()
    app.command()(graph_backdoor)
    result = CliRunner().invoke(app, [str(path), "--kind", "where", "--target", "2"])
    assert result.exit_code == 0, result.output
    written = onnx.ModelProto.FromString((tmp_path / "clean-where.onnx").read_bytes())
    assert any(n.name.startswith("planted_gate") for n in written.graph.node)


def test_every_kind_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "graph-logic.md").read_text(encoding="utf-8")
    kinds = page.partition("Kinds: ")[2].partition(". The command takes")[0].replace("\n", " ")
    assert {kind.partition(" (")[0] for kind in kinds.split(", ")} == set(KINDS)
