"""Models in memory, for whoever repairs them."""

from pathlib import Path

import onnx

from scanner.limits import Limits
from scanner.modelfile.model import Model
from scanner.settings import Settings
from trainers.graph_backdoor import plant

SAMPLE = Path(__file__).parent.parent / "samples" / "mnist-clean.onnx"
SETTINGS = Settings(input_range=(0.0, 1.0))


def opened(proto: onnx.ModelProto) -> Model:
    return Model(Path("model.onnx"), "model.onnx", proto.SerializeToString(), Limits())


def clean() -> onnx.ModelProto:
    proto: onnx.ModelProto = onnx.ModelProto.FromString(SAMPLE.read_bytes())
    return proto


def gated(kind: str = "patch-equals") -> onnx.ModelProto:
    """A trained network with a test of the input planted in its graph."""
    planted: onnx.ModelProto = plant(clean(), kind, 3).model
    return planted
