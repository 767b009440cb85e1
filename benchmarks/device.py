"""What a device is used for: the first layer against its bandwidth, searches against PyTorch.

    python -m benchmarks.device --csv device.csv [--device cuda] [--seconds 5]

The network is a sample with its weights, and `ResNet18` of width 64 for 32 x 32 images with random
ones. PyTorch runs the same network on the same device; on CUDA one step of its search is captured
once as a CUDA graph and replayed, so that nothing is lost between its kernels. Ours comes twice: as
the loop on the host, which moves images and gradients in each step, and with its state on the
device, as a scan runs it there (docs/large-networks.md). PyTorch keeps the price of a mask's pixel
fixed: what is timed are steps. Traffic of the first layer is the least possible: each image read
once, its activation written once and read once for the maximum. The bandwidth is that of a copy on
the device, read and written bytes together. Clock time; on a machine that is shared with other
work, figures of the CPU say nothing.
"""

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.inversion import SAMPLES, network
from scanner.graph.core import flatten
from scanner.graph.core.facts import infer
from scanner.graph.gradient.backward import Objective
from scanner.graph.layers import first_layer
from scanner.instruments import device_search, runtime, trigger
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Floats, differentiable
from scanner.instruments.inversion import EARLY_STOP, SUCCESS, Inversion
from scanner.instruments.trigger import FIRST_COST
from scanner.modelfile.model import Model, open_model
from scanner.settings import Device, Settings
from trainers.architectures import ARCHITECTURES
from trainers.export import export

IMAGES, TARGET = 32, 1
BATCHES = {Device.CPU: 256, Device.CUDA: 4096}  # images of a first-layer run
COPIED = 1 << 28  # bytes
COLUMNS = ("device", "network", "measure", "value", "unit")
_COST = 1e-3
_WARM = 3  # calls that are not timed


def per_second(call: Callable[[], object], seconds: float, wait: Callable[[], object]) -> float:
    """Return how often a second something can be called.

    Args:
        call: What is called.
        seconds: How long, at least.
        wait: Returns when the device has done all.
    """
    for _ in range(_WARM):
        call()
    wait()
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < seconds:
        call()
        count += 1
    wait()
    return count / (time.perf_counter() - begin)


def torch_step(net: nn.Module, images: torch.Tensor, *, captured: bool) -> Callable[[], object]:
    """Return one step of a search for a trigger in PyTorch, on the device of the images."""
    shape = images.shape[1:]
    place = images.device
    free = [
        torch.full((1, *shape[1:]), -2.0, device=place).requires_grad_(),
        torch.zeros(shape, device=place).requires_grad_(),
    ]
    targets = torch.full((len(images),), TARGET, device=place)
    adam = torch.optim.Adam(
        free, lr=trigger.LEARNING_RATE, betas=trigger.BETAS, capturable=captured
    )

    def step() -> None:
        mask, pattern = ((f.tanh() + 1) / 2 for f in free)
        logits = net(images + mask * (pattern - images))
        loss: Any = functional.cross_entropy(logits, targets) + _COST * mask.sum()
        adam.zero_grad(set_to_none=not captured)
        loss.backward()
        adam.step()

    if not captured:
        return step
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def searches(subject: Subject, images: Floats) -> tuple[Inversion, device_search.Inversion]:
    """Return a search in the loop on the host, and the same with its state on the device."""
    model = differentiable(subject, Objective.CROSS_ENTROPY)
    schedule = device_search.Schedule(
        batch=None, success=SUCCESS, first_cost=FIRST_COST, early_stop=EARLY_STOP
    )

    def on_host(target: int, generator: np.random.Generator) -> Inversion:
        return Inversion(model, images, target, generator)

    found = device_search.inversions(subject, model, images, schedule, on_host)
    if found is None:
        raise SystemExit("the device does not come to what the host comes to")
    return on_host(TARGET, np.random.default_rng(0)), found.start(TARGET, np.random.default_rng(0))


def _from_host(data: bytes, batch: Floats, settings: Settings) -> Callable[[], object]:
    """Return a run of a graph on images that come from the host, as a scan's noise does."""
    session = runtime.open_session(data, settings.device, settings.threads)
    return lambda: session.run(batch)


def _on_device(data: bytes, batch: Floats, settings: Settings) -> Callable[[], object]:
    """Return a run of a graph on images that are on the device, captured where it is CUDA."""
    captured = settings.device is Device.CUDA
    session = runtime.open_session(data, settings.device, settings.threads, captured=captured)
    names = [output.name for output in session.native.get_outputs()]
    plain = runtime.open_session(data, settings.device, settings.threads)
    results = dict(zip(names, plain.run(batch), strict=True))
    held = session.buffer(batch.shape, "float32")
    held.write(batch)
    written = {name: session.buffer(made.shape, made.dtype.name) for name, made in results.items()}
    binding = session.binding({session.input_name: held}, written)
    return lambda: session.run_bound(binding, 1)


def measured(
    model: Model, net: nn.Module, device: Device, seconds: float
) -> Iterator[tuple[str, float, str]]:
    """Yield what was measured of one network: what, how much, in which unit."""
    torch.backends.cudnn.allow_tf32 = False  # both multiply in full float32
    place = torch.device("cuda" if device is Device.CUDA else "cpu")
    wait = torch.cuda.synchronize if device is Device.CUDA else (lambda: None)
    settings = Settings(device=device, threads=torch.get_num_threads())
    shape = tuple(int(size) for size in model.identity.inputs[0].shape[1:])
    rng = np.random.default_rng(0)
    whole = torch.empty(COPIED, dtype=torch.uint8, device=place)
    other = torch.empty_like(whole)
    bandwidth = 2 * COPIED * per_second(lambda: other.copy_(whole), seconds, wait)
    yield "bandwidth of a copy", bandwidth / 1e9, "GB/s"

    stem = first_layer.cut(model, None)
    sizes = infer(flatten.flatten(model.proto)).shapes[stem.value][1:]
    numbers = math.prod(shape) + 2 * math.prod(int(size) for size in sizes)
    batch = rng.random((BATCHES[device], *shape), dtype=np.float32)
    by_name = {
        "from the host": _from_host(stem.data, batch, settings),
        "on the device": _on_device(stem.data, batch, settings),
    }
    for images_are, run in by_name.items():
        runs = per_second(run, seconds, wait)
        traffic = 4 * len(batch) * numbers * runs
        yield f"first layer, images {images_are}", len(batch) * runs, "images/s"
        yield f"bandwidth : traffic, images {images_are}", bandwidth / traffic, "ratio"

    images = rng.random((IMAGES, *shape), dtype=np.float32)
    host, resident = searches(Subject(model=model, settings=settings), images)
    by_host = per_second(host.step, seconds, lambda: None)
    ours = per_second(resident.step, seconds, lambda: resident.size)
    net = net.to(place)
    step = torch_step(net, torch.from_numpy(images).to(place), captured=device is Device.CUDA)
    theirs = per_second(step, seconds, wait)
    yield "steps of a search, loop on the host", by_host, "steps/s"
    yield "steps of a search, state on the device", ours, "steps/s"
    yield "steps of a search, device : host", ours / by_host, "ratio"
    yield "steps of a search, PyTorch", theirs, "steps/s"
    yield "steps of a search, ours : PyTorch", ours / theirs, "ratio"


def networks(folder: Path) -> Iterator[tuple[str, Model, nn.Module]]:
    """Yield networks as files and in PyTorch."""
    sample = open_model(SAMPLES / "mnist-badnets.onnx")
    yield "mnist-badnets", sample, network(sample)
    torch.manual_seed(0)
    net = ARCHITECTURES["ResNet18"]((3, 32, 32), 10, 64).eval()
    net.requires_grad_(requires_grad=False)
    path = folder / "resnet18.onnx"
    export(net, torch.rand(8, 3, 32, 32), path)
    yield "ResNet18, width 64", open_model(path), net


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--device", choices=[d.value for d in Device], default="auto")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--only", help="one network")
    chosen = parser.parse_args(arguments)
    device = runtime.resolve_device(Device(chosen.device))
    name = torch.cuda.get_device_name() if device is Device.CUDA else "CPU"
    with tempfile.TemporaryDirectory() as folder, chosen.csv.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for label, model, net in networks(Path(folder)):
            if chosen.only in {None, label}:
                for what, value, unit in measured(model, net, device, chosen.seconds):
                    writer.writerow((name, label, what, f"{value:.4g}", unit))
                    file.flush()


if __name__ == "__main__":
    main()
