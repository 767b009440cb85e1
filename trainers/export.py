"""From PyTorch to ONNX, with the same logits or an error.

Nothing about the attack or its target goes into the file: the scanner would mark its own homework.
The truth lives in the manifest.
"""

import copy
import dataclasses
import io
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainers.errors import ExportError
from trainers.files import write_whole

# Takes effect only before ONNX Runtime is imported, which the functions below do.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

OPSET = 17
INPUT, OUTPUT = "input", "logits"
TOLERANCE = {"float32": 1e-4, "float16": 2e-2}
"""Largest difference of a logit, relative to the largest logit."""
INT8_AGREEMENT = 0.95
"""Least share of images whose class an 8-bit export keeps."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """In which form a network is exported.

    Attributes:
        dtype: Of weights and activations; `int8` quantises statically, with QuantizeLinear and
            DequantizeLinear nodes.
        fold_bn: Merge batch normalisation into the convolutions before it.
        exporter: PyTorch's older exporter, or the one that is its default since version 2.9 (and
            needs onnxscript).
    """

    dtype: Literal["float32", "float16", "int8"] = "float32"
    fold_bn: bool = True
    exporter: Literal["torchscript", "dynamo"] = "torchscript"

    def __str__(self) -> str:
        """Return the form as a part of a file name; empty for the plain one."""
        parts = {"float32": [], "float16": ["fp16"], "int8": ["int8"]}[self.dtype]
        parts += [] if self.fold_bn else ["unfolded"]
        return "-".join([*parts, *(["dynamo"] if self.exporter == "dynamo" else [])])


def export(network: nn.Module, images: Tensor, path: Path, form: Form | None = None) -> float:
    """Write a network as ONNX with a dynamic batch axis.

    Args:
        network: Maps images in [0, 1] to logits.
        images: Some real images, (N, C, H, W) float32 in [0, 1]: for parity, and to calibrate 8-bit
            ranges.
        path: Where to; written whole or not at all.
        form: Of the export; float32 with folded batch normalisation where it is None.

    Returns:
        Largest absolute difference of a logit between PyTorch (float32) and ONNX Runtime.

    Raises:
        ExportError: The exported network computes something else, or the file cannot be written.
    """
    form = form or Form()
    network, images = copy.deepcopy(network).cpu().eval(), images.cpu()
    with torch.no_grad():
        expected = network(images).numpy()
    content = _convert(network, images, form)
    got = _run(content, images.numpy(), np.float16 if form.dtype == "float16" else np.float32)
    _check_parity(path, form, expected, got)
    try:
        write_whole(path, content)
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written ({error.strerror})", remedy="choose another folder"
        ) from error
    return float(np.abs(got - expected).max())


def _convert(network: nn.Module, images: Tensor, form: Form) -> bytes:
    if form.dtype == "float16":
        network, images = network.half(), images.half()
    if form.exporter == "dynamo":
        content = _trace(network, images)
        return _quantise(content, images.numpy(), fold_bn=True) if form.dtype == "int8" else content
    buffer = io.BytesIO()
    mode = torch.onnx.TrainingMode.EVAL if form.fold_bn else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        # PyTorch announces its new exporter, which needs two more packages and gives the same
        # graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Group normalisation compares a size, which the trace takes for a constant; it is one.
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")
        torch.onnx.export(
            network,
            (images[:1],),
            buffer,  # type: ignore[arg-type] # the annotation omits file objects
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            training=mode,
            do_constant_folding=form.fold_bn,
            dynamo=False,
        )
    if form.dtype == "int8":
        return _quantise(buffer.getvalue(), images.numpy(), fold_bn=form.fold_bn)
    return buffer.getvalue()


def _trace(network: nn.Module, images: Tensor) -> bytes:
    """Return the network as PyTorch's newer exporter writes it, which folds batch normalisation."""
    # It notes each package that it could translate and that is not there.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages' deprecations, which vary by version
        try:
            program = torch.onnx.export(
                network,
                (images[:2],),  # one image would make the batch axis a constant
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        except ModuleNotFoundError as error:
            raise ExportError(
                f"the newer exporter needs {error.name}, which is not installed",
                remedy="run 'pip install onnxscript', or install the train extra",
            ) from error
    if program is None:
        raise ExportError("the newer exporter returned nothing", remedy="use the older one")
    model = program.model_proto
    for node in (*model.graph.node, *(node for body in model.functions for node in body.node)):
        # Where each operation stands in this machine's files is nobody's business.
        kept = [item for item in node.metadata_props if "stack_trace" not in item.key]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    return bytes(model.SerializeToString())


def _quantise(content: bytes, images: np.ndarray, *, fold_bn: bool) -> bytes:
    """Return the network in 8 bits, ranges taken from `images`; batch normalisation stays."""
    # Slow to import, and only this form needs it.
    from onnxruntime import quantization  # noqa: PLC0415
    from onnxruntime.quantization import shape_inference  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # onnxruntime is untyped
        def __init__(self) -> None:
            self._batches = iter(np.array_split(images, max(1, len(images) // 64)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({INPUT: batch} for batch in self._batches), None)

    with tempfile.TemporaryDirectory() as folder:
        source, ready, target = (
            Path(folder, f"{stage}.onnx") for stage in ("float", "ready", "int8")
        )
        source.write_bytes(content)
        shape_inference.quant_pre_process(
            source,
            ready,
            skip_symbolic_shape=True,
            skip_optimization=not fold_bn,  # which merges batch normalisation
        )
        # Weights of 7 bits: processors without VNNI add products up in pairs of 16 bits, in which
        # larger ones do not fit.
        quantization.quantize_static(ready, target, Reader(), per_channel=True, reduce_range=True)
        return target.read_bytes()


def _run(content: bytes, images: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    import onnxruntime  # noqa: PLC0415 - training alone must not need it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {INPUT: images.astype(dtype)})[0], dtype=np.float32)


def _check_parity(path: Path, form: Form, expected: np.ndarray, got: np.ndarray) -> None:
    if form.dtype == "int8":
        agreement = (got.argmax(1) == expected.argmax(1)).mean()
        faithful, figure = agreement >= INT8_AGREEMENT, f"{agreement:.1%} of the classes agree"
    else:
        difference = float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))
        faithful, figure = (
            difference <= TOLERANCE[form.dtype],
            f"relative difference of the logits {difference:.2g}",
        )
    if not faithful:
        raise ExportError(
            f"{path.name} as {form.dtype} does not compute what the network does ({figure})",
            remedy="export it as float32, or report this with the command that led here",
        )
