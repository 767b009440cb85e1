"""How long graph logic and integrity take: linear in nodes, and a 100 MB model of 1,000 nodes.

python benchmarks/graph_logic.py
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit.checks import audit
from scanner.graph.logic.gates import observe
from scanner.graph.logic.unfold import unfold
from scanner.modelfile.model import open_model

_SIZES = (1_000, 5_000, 10_000, 50_000)
_CHANNELS = 88
"""3x3 kernels of so many channels, 334 of them, are 100 MB."""


def chain(nodes: int, channels: int) -> onnx.ModelProto:
    """Return convolutions, residual additions and ReLUs in a row, with weights of their own."""
    rng = np.random.default_rng(0)
    made, weights, value = [], [], "image"
    for place in range(nodes - 2):
        name = f"v{place}"
        kind = place % 3
        if kind == 0:
            kernel = rng.normal(0, 0.05, (channels, channels, 3, 3)).astype(np.float32)
            weights.append(numpy_helper.from_array(kernel, f"w{place}"))
            made.append(
                helper.make_node("Conv", [value, f"w{place}"], [name], name=name, pads=[1, 1, 1, 1])
            )
        elif kind == 1:
            made.append(helper.make_node("Relu", [value], [name], name=name))
        else:
            made.append(helper.make_node("Add", [value, f"v{place - 2}"], [name], name=name))
        value = name
    made.append(helper.make_node("GlobalAveragePool", [value], ["pooled"], name="pool"))
    made.append(helper.make_node("Flatten", ["pooled"], ["logits"], name="flatten"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, 16, 16])
    graph = helper.make_graph(
        made, "chain", [image], [helper.make_empty_tensor_value_info("logits")], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def seconds(path: Path) -> tuple[float, float, float]:
    """Return the seconds of opening a file, of graph logic and of the audit."""
    marks = [time.perf_counter()]
    model = open_model(path)
    marks.append(time.perf_counter())
    observe(unfold(model.proto))
    marks.append(time.perf_counter())
    audit(model.proto, model.data, path)
    marks.append(time.perf_counter())
    opened, logic, audited = np.diff(marks)
    return float(opened), float(logic), float(audited)


def main() -> None:
    """Print a table."""
    print(
        f"{'nodes':>7} {'MB':>7} {'open s':>8} {'graph logic s':>14} {'audit s':>8} "
        f"{'us a node':>10}"
    )
    with TemporaryDirectory() as folder:
        for nodes, channels in [*((n, 1) for n in _SIZES), (1_000, _CHANNELS)]:
            path = Path(folder) / "model.onnx"
            path.write_bytes(chain(nodes, channels).SerializeToString())
            opened, logic, audited = seconds(path)
            size = path.stat().st_size / 1e6
            each = 1e6 * (logic + audited) / nodes
            print(f"{nodes:7} {size:7.1f} {opened:8.2f} {logic:14.2f} {audited:8.2f} {each:10.0f}")


if __name__ == "__main__":
    main()
