"""Trigger inversion of one class against the same loop in PyTorch (README.md).

A sample model, 64 images, 250 steps, one thread; processor time; the two alternate, so that other
load cancels out of the ratio. PyTorch runs the same network with the weights of the ONNX file, from
the same starting point, on the same images, by its own Adam with the same schedule; the two must
find masks of nearly the same size.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and PyTorch are imported

import numpy as np
import torch
from onnx import numpy_helper
from torch.nn import functional

from benchmarks.measure import BELOW, Ratio
from scanner.graph.gradient.backward import Objective
from scanner.instruments import inversion, probes, trigger
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable, Floats, differentiable
from scanner.modelfile.model import Model, open_model
from scanner.settings import Budget, Device, Settings
from trainers.architectures.paper import two_conv

SAMPLES = Path(__file__).parent.parent / "samples"
STEPS = 250
SAME = (
    0.05  # relative, on mask sizes: float32 on both sides, with rectifiers near 0 and ties between
)
LARGEST_NUMPY_SHARE = 0.15


class Stopwatch:
    """A runtime session that adds up the processor time of its runs."""

    def __init__(self, native: Any) -> None:
        self._native, self.seconds = native, 0.0

    def run(self, *arguments: Any) -> Any:
        """Run the session."""
        start = time.process_time()
        try:
            return self._native.run(*arguments)
        finally:
            self.seconds += time.process_time() - start


def start(model: Differentiable, images: Floats, target: int) -> inversion.Inversion:
    """Return a search at the starting point that both ways share."""
    return inversion.Inversion(model, images, target, np.random.default_rng(0))


def ours(model: Differentiable, images: Floats, target: int) -> float:
    """Search as the scanner does and return the mask's size."""
    search = start(model, images, target)
    for _ in range(STEPS):
        search.step()
    return search.size


def network(model: Model) -> torch.nn.Module:
    """Return the network of a sample with its weights."""
    weights = {
        t.name: torch.from_numpy(numpy_helper.to_array(t).copy())
        for t in model.proto.graph.initializer
    }
    built = two_conv((1, 28, 28), len(weights["7.bias"]), len(weights["0.bias"]))
    built.load_state_dict(weights)
    return built.eval().requires_grad_(requires_grad=False)


def theirs(net: torch.nn.Module, search: inversion.Inversion, shown: Floats) -> float:
    """Do what `Inversion` does, in PyTorch, for images in [0, 1], and return the mask's size."""
    images = torch.from_numpy(shown)
    targets = torch.full((len(images),), search.target)
    begun = (search.trigger.free_mask, search.trigger.free_pattern)
    free = [torch.from_numpy(array.copy()).requires_grad_() for array in begun]
    adam = torch.optim.Adam(free, lr=trigger.LEARNING_RATE, betas=trigger.BETAS)
    cost, successes, failures, best = 0.0, 0, 0, float("inf")
    for _ in range(STEPS):
        mask, pattern = ((f.tanh() + 1) / 2 for f in free)
        logits = net(images + mask * (pattern - images))
        loss: Any = functional.cross_entropy(logits, targets) + cost * mask.sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        success = (logits.argmax(dim=1) == targets).float().mean().item() >= inversion.SUCCESS
        best = min(best, mask.sum().item()) if success else best
        successes, failures = (successes + 1, 0) if success else (0, failures + 1)
        if successes >= trigger.PATIENCE:
            cost, successes = cost * trigger.COST_UP or trigger.FIRST_COST, 0
        elif failures >= trigger.PATIENCE:
            cost, failures = cost / trigger.COST_DOWN, 0
    return best


def timed(task: Callable[[], float]) -> tuple[float, float]:
    """Return a task's result and its processor time in seconds."""
    begin = time.process_time()
    return task(), time.process_time() - begin


def measure(name: str, target: int, rounds: int) -> bool:
    """Print one sample's figures and return whether they keep their bounds."""
    settings = Settings(device=Device.CPU, budget=Budget.STANDARD)
    opened = open_model(SAMPLES / f"{name}.onnx")
    model = differentiable(Subject(model=opened, settings=settings), Objective.CROSS_ENTROPY)
    watch = Stopwatch(model.session.native)
    model = dataclasses.replace(model, session=dataclasses.replace(model.session, native=watch))
    images = probes.clean_images(settings, model.shape, (model.low, model.high)).shown
    net = network(opened)
    runs: Mapping[str, Callable[[], float]] = {
        "ours": lambda: ours(model, images, target),
        "PyTorch": lambda: theirs(net, start(model, images, target), images),
    }
    results = [{who: timed(task) for who, task in runs.items()} for _ in range(rounds + 1)]
    total = sum(result["ours"][1] for result in results)
    numpy_share = 1 - watch.seconds / total
    ratios = [
        result["ours"][1] / result["PyTorch"][1] for result in results[1:]
    ]  # the first one warms up
    ratio = Ratio(
        name=f"CPU time, ours : PyTorch, {name}, class {target}", values=ratios, bar=1.0, side=BELOW
    )
    sizes = [results[0][who][0] for who in runs]
    agree = abs(sizes[0] - sizes[1]) <= SAME * max(sizes)
    print(ratio)
    print(
        f"      {total / len(results):.2f} s a class of ours, of which {numpy_share:.0%} outside "
        "the session"
    )
    print(
        f"      masks of {sizes[0]:.2f} and {sizes[1]:.2f} pixels: "
        f"{'the same' if agree else 'NOT the same'}"
    )
    return ratio.holds and agree and numpy_share <= LARGEST_NUMPY_SHARE


def main() -> int:
    """Measure; 0 where all bounds are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    kept = [measure("mnist-badnets", 0, rounds), measure("mnist-badnets", 5, rounds)]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    raise SystemExit(main())
