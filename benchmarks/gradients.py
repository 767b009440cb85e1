"""What a gradient costs: our gradient graph against ONNX Runtime forward and PyTorch.

    python benchmarks/gradients.py [--runs 5]

One thread each; processor time, the smallest of the runs; the three alternate, so that other load
cancels out of the ratios. PyTorch differentiates by its input only, as we do. All three compute the
same network, and the two gradients are compared.
"""

import argparse
import dataclasses
import io
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from scanner.graph.gradient.backward import Objective, gradient_model


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A network, its input, and the ratios that it must keep; None sets no bound."""

    name: str
    network: nn.Module
    shape: tuple[int, ...]
    by_forward: float | None
    by_torch: float
    build_seconds: float


class Bottleneck(nn.Module):
    """ResNet's block of three convolutions, version 1.5 (the stride lies on the middle one)."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = 4 * width
        self.body = nn.Sequential(
            *normalised(inside, width, 1, 1), nn.ReLU(),
            *normalised(width, width, 3, stride), nn.ReLU(),
            *normalised(width, outside, 1, 1),
        )  # fmt: skip
        changes = stride > 1 or inside != outside
        self.shortcut = (
            nn.Sequential(*normalised(inside, outside, 1, stride)) if changes else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return torch.relu(self.body(x) + self.shortcut(x))


def normalised(inside: int, outside: int, kernel: int, stride: int) -> list[nn.Module]:
    """Return a convolution and its batch normalisation."""
    return [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
    ]


def resnet50() -> nn.Module:
    """Return a ResNet-50 for 224 x 224 images."""
    layers = [*normalised(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for position in range(blocks):
            layers.append(Bottleneck(inside, width, stride if position == 0 else 1))
            inside = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1000))


def small() -> nn.Module:
    """Return two convolutions and a linear layer for 32 x 32 images."""
    layers: list[nn.Module] = []
    for inside, outside in ((3, 32), (32, 64)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 64, 10))


def exported(network: nn.Module, images: torch.Tensor) -> onnx.ModelProto:
    """Return the network as ONNX, for any batch size."""
    file = io.BytesIO()
    axes = {"x": {0: "N"}, "y": {0: "N"}}
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (images,), cast("Any", file), dynamo=False, opset_version=17, **names
        )
    return onnx.load_from_string(file.getvalue())


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """Return a session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def alternate(tasks: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Return the smallest processor time of each task, in seconds; the first run is a warm-up."""
    times: list[list[float]] = [[] for _ in tasks]
    for run in range(runs + 1):
        for task, taken in zip(tasks, times, strict=True):
            start = time.process_time()
            task()
            if run:
                taken.append(time.process_time() - start)
    return [min(taken) for taken in times]


def measure(case: Case, runs: int) -> bool:
    """Print one case and return whether it keeps its bounds."""
    torch.manual_seed(0)
    network = case.network.eval().requires_grad_(requires_grad=False)
    images = torch.rand(case.shape)
    model = exported(network, images)
    start = time.process_time()
    backward = gradient_model(
        model, of="y", with_respect_to=["x"], objective=Objective.CROSS_ENTROPY
    )
    build = time.process_time() - start
    classes = int(network(images[:1]).shape[1])
    targets = torch.eye(classes)[torch.arange(len(images)) % classes]
    forward, gradient = session(model), session(backward.proto)
    feeds = {"x": images.numpy()}
    fed = {**feeds, backward.weights: targets.numpy()}

    def eager() -> torch.Tensor:
        x = images.clone().requires_grad_()
        (-(network(x).log_softmax(1) * targets).sum()).backward()
        return torch.as_tensor(x.grad)

    ours = gradient.run([backward.gradients["x"]], fed)[0]
    theirs = eager().numpy()
    distance = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    tasks = [lambda: forward.run(None, feeds), lambda: gradient.run(None, fed), eager]
    seconds = alternate(tasks, runs)
    return report(case, build, seconds, distance)


def report(case: Case, build: float, seconds: Sequence[float], distance: float) -> bool:
    """Print the figures and return whether they keep their bounds."""
    forward, gradient, torch_seconds = seconds
    by_forward, by_torch = gradient / forward, gradient / torch_seconds
    kept = (
        (case.by_forward is None or by_forward <= case.by_forward)
        and by_torch <= case.by_torch
        and build <= case.build_seconds
        and distance < 1e-2  # noqa: PLR2004 - float32 on both sides, with rectifiers near 0 and ties in between
    )
    print(
        f"{case.name}: {gradient / forward:.2f} x its forward pass, {by_torch:.2f} x PyTorch "
        "forward + backward; "
        f"built in {build:.2f} s; the two gradients differ by {distance:.0e} of their norm "
        f"({forward * 1e3:.1f}, {gradient * 1e3:.1f}, {torch_seconds * 1e3:.1f} ms): "
        f"{'kept' if kept else 'BROKEN'}"
    )
    return kept


def main() -> int:
    """Measure every case; 0 where all bounds are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    ort.set_default_logger_severity(3)
    cases = [
        Case("ResNet-50, batch 4", resnet50(), (4, 3, 224, 224), 3.0, 1.0, 1.0),
        Case("small network, batch 64", small(), (64, 3, 32, 32), None, 1.1, 1.0),
    ]
    kept = [measure(case, runs) for case in cases]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    raise SystemExit(main())
