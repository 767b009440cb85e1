"""Whole networks, exported by PyTorch or built by hand, against torch autograd in float64.

The scanner's gradient is float32; against the float64 truth a network of a hundred layers errs by a
few 1e-6 of its norm, and by 1e-3 where a rectifier's input lies within rounding of 0 and the two
precisions disagree on its side.
"""

import io
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from scanner.graph.gradient.backward import Objective, gradient_model

TOLERANCE = 1e-3


class Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        changed = nn.Sequential(
            nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
        )
        self.shortcut = changed if stride > 1 or inside != outside else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - PyTorch's protocol
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    widths = [16, 16, 32, 64, 128]
    stages = [
        nn.Sequential(Residual(a, b, 1 if i == 0 else 2), Residual(b, b, 1))
        for i, (a, b) in enumerate(itertools.pairwise(widths))
    ]
    stem = [
        nn.Conv2d(3, 16, 7, 2, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


class Dense(nn.Module):
    """A block of DenseNet and its transition."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(3 + 4 * i), nn.ReLU(), nn.Conv2d(3 + 4 * i, 4, 3, padding=1)
            )
            for i in range(4)
        )
        self.end = nn.Sequential(
            nn.BatchNorm2d(19), nn.ReLU(), nn.Conv2d(19, 8, 1), nn.AvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Linear(8 * 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - PyTorch's protocol
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return torch.as_tensor(self.head(self.end(x)))


class SqueezeExcite(nn.Module):
    """MobileNet's channel gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, 4, 1),
            nn.ReLU(),
            nn.Conv2d(4, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - PyTorch's protocol
        return x * torch.as_tensor(self.gate(x))


def mobilenet() -> nn.Module:
    def block(inside: int, outside: int, stride: int, activation: nn.Module) -> nn.Module:
        wide = 4 * inside
        return nn.Sequential(
            nn.Conv2d(inside, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            activation,
            nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            SqueezeExcite(wide),
            activation,
            nn.Conv2d(wide, outside, 1),
        )

    blocks = [
        block(8, 12, 2, nn.Hardswish()),
        block(12, 16, 1, nn.ReLU6()),
        block(16, 16, 2, nn.SiLU()),
    ]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


class Transformer(nn.Module):
    """A small vision transformer: patches, a class token, attention, GELU."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.place = nn.Parameter(torch.randn(1, 17, width))
        self.first, self.second, self.last = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # noqa: D102 - PyTorch's protocol
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        for _ in range(2):
            x = x + self._attention(self.first(x))
            x = x + self.mlp(self.second(x))
        return torch.as_tensor(self.head(self.last(x)[:, 0]))

    def _attention(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        q, k, v = (
            self.qkv(x)
            .reshape(n, tokens, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        scores = (q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5).softmax(-1)
        return torch.as_tensor(self.out((scores @ v).transpose(1, 2).reshape(n, tokens, width)))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * 16 * 16, 32),
        nn.Tanh(),
        nn.Linear(32, 32),
        nn.ELU(),
        nn.Linear(32, 10),
    )


def sizes_asked() -> nn.Module:
    class Asking(nn.Module):
        """Reshapes by sizes that it asks for, and resamples."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4 * 16 * 16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.interpolate(
                nn.functional.leaky_relu(self.conv(x)), size=x.shape[2:], mode="bilinear"
            )
            return torch.as_tensor(self.head(y.view(y.size(0), -1)))

    return Asking()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet18": (resnet18, 64),
    "DenseNet block": (Dense, 16),
    "MobileNet": (mobilenet, 32),
    "vision transformer": (Transformer, 16),
    "MLP": (mlp, 16),
    "resampling": (sizes_asked, 16),
}


def network(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a network with believable statistics, and a batch of images."""
    torch.manual_seed(3)
    build, side = NETWORKS[name]
    module = build()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
            part.running_mean = torch.randn(part.num_features) * 0.1
            part.running_var = torch.rand(part.num_features) + 0.5
    return module.eval(), torch.rand(3, 3, side, side)


def exported(
    module: nn.Module, images: torch.Tensor, opset: int, *, batch: int | None = None, **options: Any
) -> onnx.ModelProto:
    """Return the network as the legacy exporter writes it, for any batch size or a fixed one."""
    file = io.BytesIO()
    axes = {} if batch else {"x": {0: "N"}, "y": {0: "N"}}
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (images[: batch or 1],)
        torch.onnx.export(
            module,
            example,
            cast("Any", file),
            dynamo=False,
            opset_version=opset,
            **names,
            **options,
        )
    return onnx.load_from_string(file.getvalue())


def run(proto: onnx.ModelProto, names: Sequence[str], **feeds: Any) -> list[Any]:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(list(names), feeds))


def truth(
    module: nn.Module, images: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and the gradient of their sum, in float64."""
    x = images.double().requires_grad_()
    losses = nn.functional.cross_entropy(module.double()(x), targets, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), x)
    module.float()
    return losses.detach(), gradient


def distance(found: Any, expected: torch.Tensor) -> float:
    return float(np.linalg.norm(found - expected.numpy()) / np.linalg.norm(expected.numpy()))


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_agrees_with_autograd(name: str, opset: int) -> None:
    module, images = network(name)
    targets = torch.tensor([1, 4, 9])
    losses, gradient = truth(module, images, targets)
    backward = gradient_model(
        exported(module, images, opset),
        of="y",
        with_respect_to=["x"],
        objective=Objective.CROSS_ENTROPY,
    )
    onnx.checker.check_model(backward.proto, full_check=True)
    one_hot = np.eye(10, dtype=np.float32)[targets.numpy()]
    names = [backward.objective, backward.gradients["x"]]
    loss, found = run(backward.proto, names, x=images.numpy(), **{backward.weights: one_hot})
    np.testing.assert_allclose(loss, losses.numpy(), rtol=1e-4)
    assert distance(found, gradient) < TOLERANCE


def test_batch_normalisation_in_the_file_is_folded() -> None:
    module, images = network("ResNet18")
    kept = exported(
        module, images, 17, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False
    )
    assert any(node.op_type == "BatchNormalization" for node in kept.graph.node)
    backward = gradient_model(kept, of="y", with_respect_to=["x"])
    assert not any(node.op_type == "BatchNormalization" for node in backward.proto.graph.node)
    weights = torch.randn(3, 10)
    x = images.double().requires_grad_()
    (expected,) = torch.autograd.grad((module.double()(x) * weights).sum(), x)
    (found,) = run(
        backward.proto,
        [backward.gradients["x"]],
        x=images.numpy(),
        **{backward.weights: weights.numpy()},
    )
    assert distance(found, expected) < TOLERANCE


def test_half_precision_is_differentiated_in_single() -> None:
    module, images = network("MobileNet")
    half = exported(module.half(), images.half(), 17)
    backward = gradient_model(
        half, of="y", with_respect_to=["x"], objective=Objective.CROSS_ENTROPY
    )
    assert backward.proto.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    targets = torch.tensor([1, 4, 9])
    _, gradient = truth(module, images, targets)
    one_hot = np.eye(10, dtype=np.float32)[targets.numpy()]
    (found,) = run(
        backward.proto, [backward.gradients["x"]], x=images.numpy(), **{backward.weights: one_hot}
    )
    assert distance(found, gradient) < TOLERANCE


class ChannelsLast(nn.Module):
    """A network of (N, C, H, W) fed with (N, H, W, C), its last maps averaged and classified."""

    def __init__(self, body: nn.Module, head: torch.Tensor) -> None:
        super().__init__()
        self.body, self.weights = body, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - PyTorch's protocol
        maps = torch.as_tensor(self.body(x.permute(0, 3, 1, 2)))
        return maps.mean((2, 3)) @ self.weights.to(x.dtype)


def channels_last() -> tuple[onnx.ModelProto, nn.Module]:
    """Return a network as tf2onnx writes it, and its twin in PyTorch.

    Its input is NHWC, and there are Transposes around each layer.
    """
    torch.manual_seed(0)
    twin = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, stride=2)
    )
    head = torch.randn(5, 3)
    names = {"k0": "0.weight", "b0": "0.bias", "k1": "3.weight", "b1": "3.bias"}
    constants = {name: twin.state_dict()[key] for name, key in names.items()} | {"head": head}
    nodes = [
        helper.make_node("Transpose", ["image"], ["t0"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t0", "k0", "b0"], ["c0"], auto_pad="SAME_UPPER"),
        helper.make_node("Transpose", ["c0"], ["u0"], perm=[0, 2, 3, 1]),
        helper.make_node("Relu", ["u0"], ["r0"]),
        helper.make_node("Transpose", ["r0"], ["t1"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "MaxPool", ["t1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID"
        ),
        helper.make_node("Conv", ["p1", "k1", "b1"], ["c1"], strides=[2, 2], auto_pad="VALID"),
        helper.make_node("Transpose", ["c1"], ["u1"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["u1"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["m", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    tensors = [numpy_helper.from_array(v.numpy(), n) for n, v in constants.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["unk__1", 10, 10, 3])
    result = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["unk__1", 3])
    graph = helper.make_graph(nodes, "tf2onnx", [image], [result], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)

    return model, ChannelsLast(twin, head)


def test_channels_last_network_agrees_with_autograd() -> None:
    model, twin = channels_last()
    images, targets = torch.rand(4, 10, 10, 3), torch.tensor([0, 1, 2, 1])
    losses, gradient = truth(twin, images, targets)
    backward = gradient_model(
        model, of="logits", with_respect_to=["image"], objective=Objective.CROSS_ENTROPY
    )
    one_hot = np.eye(3, dtype=np.float32)[targets.numpy()]
    names = [backward.objective, backward.gradients["image"]]
    loss, found = run(backward.proto, names, image=images.numpy(), **{backward.weights: one_hot})
    np.testing.assert_allclose(loss, losses.numpy(), rtol=1e-4)
    assert distance(found, gradient) < TOLERANCE


@pytest.mark.parametrize(
    "name", ["ResNet18", "DenseNet block", "MobileNet", "vision transformer", "MLP"]
)
def test_network_agrees_with_onnx_ad(name: str) -> None:
    """The other ONNX-to-ONNX differentiator there is; an optional oracle, `pip install onnx-ad`."""
    onnx_ad = pytest.importorskip("onnx_ad")
    module, images = network(name)
    model = onnx.shape_inference.infer_shapes(exported(module, images, 17, batch=3))
    backward = gradient_model(model, of="y", with_respect_to=["x"])
    weights = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    (found,) = run(
        backward.proto, [backward.gradients["x"]], x=images.numpy(), **{backward.weights: weights}
    )
    theirs = onnx_ad.reverse(model, layout="onnx")
    (expected,) = run(theirs, ["adj_x"], x=images.numpy(), adj_y=weights[..., None])
    assert distance(found, torch.from_numpy(expected[..., 0])) < TOLERANCE
