"""Every carrier runs as before, and the audit names what it carries where the table says so."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import plain
from onnx import numpy_helper
from typer.testing import CliRunner

from scanner.graph.audit.checks import audit
from scanner.results import Severity
from trainers.cli import app
from trainers.errors import TrainerError
from trainers.graph_backdoor.carriers import KINDS, LOADS, carry, write

# ONNX Runtime looks these up, or refuses what stands there.
REFUSED_BY_RUNTIME = {"domain"}
IN_WEIGHTS = {
    "three-bytes", "fast-substitution", "half-substitution", "lowest-byte", "lowest-bit", "spread",
    "subnormal-numbers",
}  # fmt: skip


def network() -> onnx.ModelProto:
    """Return a small network whose dense layer has room for every load."""
    model = plain()
    dense = next(t for t in model.graph.initializer if t.name == "dense")
    wide = np.random.default_rng(3).normal(0, 0.1, (4, 5_000)).astype(np.float32)
    dense.CopyFrom(numpy_helper.from_array(wide, "dense"))
    return model


NETWORK = network()


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    image = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    logits: np.ndarray = session.run(["logits"], {"image": image})[0]
    return logits


def worst(kind: str, load: str) -> Severity:
    carrier = carry(NETWORK, kind, LOADS[load])
    found = audit(carrier, carrier.SerializeToString(), Path("m.onnx"))
    return max((o.severity for o in found), default=Severity.NOTE)


def test_the_network_itself_carries_nothing() -> None:
    assert audit(NETWORK, NETWORK.SerializeToString(), Path("m.onnx")) == ()


@pytest.mark.parametrize("kind", sorted(set(KINDS) - REFUSED_BY_RUNTIME - IN_WEIGHTS))
def test_a_carrier_answers_as_before(kind: str) -> None:
    np.testing.assert_allclose(
        run(carry(NETWORK, kind, LOADS["archive"])), run(NETWORK), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("load", sorted(set(LOADS) - {"noise"}))
def test_a_load_of_a_known_format_is_suspicious_wherever_it_lies(kind: str, load: str) -> None:
    assert (worst(kind, load) >= Severity.SUSPICIOUS) is KINDS[kind].known


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_a_warning_wherever_it_can_show(kind: str) -> None:
    assert (worst(kind, "noise") >= Severity.WARNING) is KINDS[kind].noise


def test_the_command_writes_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(NETWORK.SerializeToString())
    result = CliRunner().invoke(app, ["carrier", str(tmp_path / "m.onnx"), "--kind", "times-zero"])
    assert result.exit_code == 0, result.output
    made = onnx.load(tmp_path / "m-times-zero-archive.onnx")
    assert run(made) == pytest.approx(run(NETWORK))


@pytest.mark.parametrize(("kind", "load"), [("nosuch", "archive"), ("times-zero", "nosuch")])
def test_what_there_is_not_is_named(kind: str, load: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(NETWORK.SerializeToString())
    with pytest.raises(TrainerError, match="choose one of"):
        write(tmp_path / "m.onnx", kind, load)


def test_a_model_without_weights_has_no_low_bits() -> None:
    empty = plain()
    del empty.graph.initializer[:]
    with pytest.raises(TrainerError, match="no float32 weights"):
        carry(empty, "lowest-byte", b"load")
