"""ONNX Runtime computes what PyTorch does, in every form."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from trainers.architectures import PAPER
from trainers.architectures.paper import two_conv
from trainers.errors import ExportError
from trainers.export import Form, export


def _network(architecture: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a narrow network with batch statistics beyond the initial ones, and images for it."""
    shape = (1, 28, 28) if architecture.startswith("2") else (3, 32, 32)
    torch.manual_seed(0)
    network, images = PAPER[architecture](shape, 10, 4), torch.rand(16, *shape)
    network(images)
    return network.eval(), images


def _operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load_model(path).graph.node}


@pytest.mark.parametrize("fold_bn", [True, False])
@pytest.mark.parametrize("architecture", PAPER)
def test_onnx_runtime_gives_the_same_logits(
    architecture: str, fold_bn: bool, tmp_path: Path
) -> None:
    network, images = _network(architecture)
    path = tmp_path / "model.onnx"
    assert export(network, images, path, Form(fold_bn=fold_bn)) < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 5):  # the batch axis is dynamic
        (logits,) = session.run(["logits"], {"input": images[:count].numpy()})
        np.testing.assert_allclose(logits, network(images[:count]).detach().numpy(), atol=1e-4)
    assert ("BatchNormalization" in _operators(path)) == (
        not fold_bn and architecture != "2 conv + 1 dense"
    )


def test_the_exported_network_is_left_as_it_was(tmp_path: Path) -> None:
    network, images = _network("5 conv")
    network.train()
    export(network, images, tmp_path / "model.onnx", Form(dtype="float16"))
    assert network.training
    assert {weights.dtype for weights in network.parameters()} == {torch.float32}


def test_half_precision_has_half_precision_weights_and_input(tmp_path: Path) -> None:
    network, images = _network("5 conv")
    export(network, images, tmp_path / "model.onnx", Form(dtype="float16"))
    graph = onnx.load_model(tmp_path / "model.onnx").graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert {tensor.data_type for tensor in graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_eight_bits_are_quantised_statically(tmp_path: Path) -> None:
    network, images = _network("2 conv + 1 dense")
    with torch.no_grad():
        network[-1].weight.mul_(30)  # type: ignore[index] # clear classes, as if trained
    export(network, images, tmp_path / "model.onnx", Form(dtype="int8"))
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= _operators(tmp_path / "model.onnx")


def test_eight_bits_are_enough_on_any_processor(tmp_path: Path) -> None:
    """Bright images under large weights of one sign, whose products are the largest there are."""
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 64, 10))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network[0].weight.fill_(0.9)  # type: ignore[operator]
    images = 0.7 + 0.3 * torch.rand(16, 1, 10, 10, generator=generator)
    difference = export(network, images, tmp_path / "model.onnx", Form(dtype="int8"))
    scores = network(images).detach()
    assert difference < 0.05 * float(scores.max() - scores.min())


@pytest.mark.parametrize("fold_bn", [True, False])
def test_eight_bits_fold_batch_normalisation_only_where_asked(
    fold_bn: bool, tmp_path: Path
) -> None:
    network, images = _network("5 conv")
    with torch.no_grad():
        network[-1].weight.mul_(30)  # type: ignore[index] # as above
    export(network, images, tmp_path / "model.onnx", Form(dtype="int8", fold_bn=fold_bn))
    assert "QuantizeLinear" in _operators(tmp_path / "model.onnx")
    assert ("BatchNormalization" in _operators(tmp_path / "model.onnx")) == (not fold_bn)


class _Unfaithful(nn.Module):
    """Computes something else in ONNX: the tracer keeps the batch size of its example."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = images.shape[0]
        return images.flatten(1)[:, :10] * float(size)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_network_that_changes_on_export_is_refused_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(
        ExportError, match=r"model\.onnx as float32 does not compute what the network does"
    ):
        export(_Unfaithful(), torch.rand(4, 1, 4, 4), path)
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export(two_conv((1, 8, 8), 3, 2), torch.rand(2, 1, 8, 8), tmp_path / "file" / "model.onnx")


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (Form(), ""),
        (Form(fold_bn=False), "unfolded"),
        (Form(dtype="float16"), "fp16"),
        (Form(dtype="int8"), "int8"),
    ],
)
def test_forms_are_named(form: Form, name: str) -> None:
    assert str(form) == name


def test_the_newer_exporter_gives_the_same_logits_and_no_path_of_this_machine(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxscript")
    network, images = _network("5 conv")
    path = tmp_path / "model.onnx"
    assert export(network, images, path, Form(exporter="dynamo")) < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 5):  # the batch axis is dynamic
        (logits,) = session.run(["logits"], {"input": images[:count].numpy()})
        assert logits.shape == (count, 10)
    assert b"stack_trace" not in path.read_bytes()
    assert b".py" not in path.read_bytes()


def test_without_its_package_the_newer_exporter_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_words: object, **_settings: object) -> None:
        raise ModuleNotFoundError(name="onnxscript")

    monkeypatch.setattr(torch.onnx, "export", missing)
    network, images = _network("2 conv + 1 dense")
    with pytest.raises(ExportError, match="pip install onnxscript"):
        export(network, images, tmp_path / "model.onnx", Form(exporter="dynamo"))
