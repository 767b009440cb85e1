"""Weights whose bits are none that training leaves, over all tensors."""

import numpy as np
from models import plain
from onnx import numpy_helper

from scanner.graph.audit.odd_bits import OddBits
from scanner.modelfile.nested import Contents
from scanner.results import Severity


def looked_at(*arrays: np.ndarray) -> OddBits:
    model = plain()
    held = [numpy_helper.from_array(array, f"w{n}") for n, array in enumerate(arrays)]
    model.graph.initializer.extend(held)
    return OddBits(Contents(model))


def test_honest_weights_are_not_told() -> None:
    weights = np.random.default_rng(0).normal(0, 0.1, 1 << 14).astype(np.float32)
    assert list(looked_at(weights).told()) == []


def test_all_tensors_of_one_kind_are_told_together() -> None:
    loads = [np.random.default_rng(n).bytes(1 << 15) for n in range(2)]
    (found,) = looked_at(*(np.frombuffer(load, np.float32) for load in loads)).told()
    assert (found.code, found.severity) == ("replaced-bytes", Severity.SUSPICIOUS)
    assert found.nodes == ("w0", "w1")


def test_what_low_bytes_hold_is_found_with_its_place() -> None:
    weights = np.random.default_rng(0).normal(0, 0.1, 1 << 13).astype(np.float32)
    octets = weights.view(np.uint8).reshape(-1, 4)
    program = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0" + bytes(200)
    octets[40 : 40 + len(program), 0] = np.frombuffer(program, np.uint8)
    ((place, seen, size),) = looked_at(weights).found
    assert (place, seen.kind, size) == ("tensor 'w0'", "an ELF program", weights.nbytes)
