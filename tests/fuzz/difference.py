"""The differential target: what was measured against what ONNX Runtime answers to the file.

The oracle is not the check that a scan makes (`scanner.detectors.translation`), but a comparison of
its own on images of its own. Where the two networks differ and that check is content, a backdoor
could hide: that is the fault looked for.
"""

import contextlib

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from fuzz.targets import EMPTY_FOLDER, LIMITS

from scanner.detectors.translation import Translation
from scanner.errors import ScannerError
from scanner.graph.gradient.backward import Objective
from scanner.instruments.agreement import row_distances
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.modelfile.model import Model
from scanner.settings import Device, Settings

_SETTINGS = Settings(device=Device.CPU, threads=1, images=4, limits=LIMITS)
_IMAGES = 8
_APART = 1.0
"""Spreads of the answer by which two networks differ: far beyond any rounding."""

Answers = npt.NDArray[np.float64]


def fuzz_difference(data: bytes) -> bool:
    """Compare a file with what would be measured in its place; return whether that was possible.

    Raises:
        AssertionError: They differ, and the scan's own check says nothing.
    """
    try:
        subject = _subject(data)
        differentiable(subject, Objective.CROSS_ENTROPY)
    except ScannerError:
        return False
    witness = subject.witnesses[-1]
    images = _images(subject)
    theirs = _answers(data, images, witness.values[-1])
    if theirs is None:
        return False
    try:
        ours = witness.answer(images)[witness.values[-1]]
        distances = row_distances(theirs, ours)
    except (ScannerError, ValueError):
        return False
    if (distances > _APART).any() and not _is_doubted(subject):
        raise AssertionError(f"apart by {distances.max():.3g} spreads, and not a word of it")
    return True


def _subject(data: bytes) -> Subject:
    model = Model(EMPTY_FOLDER / "mutant.onnx", "mutant", data, LIMITS)
    return Subject(model=model, settings=_SETTINGS)


def _images(subject: Subject) -> npt.NDArray[np.generic]:
    """Return images that the scan's own check does not use, of the kind that users send."""
    declared = subject.model.identity.inputs[0]
    shape = [size if isinstance(size, int) and size > 0 else 8 for size in declared.shape[1:]]
    fraction = np.random.default_rng(999).random((_IMAGES, *shape))
    if declared.dtype.startswith(("uint", "int")):
        return np.rint(255 * fraction).astype(declared.dtype)
    return fraction.astype({"float": "float32", "double": "float64"}.get(declared.dtype, "float16"))


def _answers(data: bytes, images: npt.NDArray[np.generic], value: str) -> Answers | None:
    """Return what the runtime answers to each image alone; None where the file does not run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    rows = []
    # ONNX Runtime raises classes of its own, of which RuntimeError is not always a base.
    with contextlib.suppress(Exception):
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        batch = given.shape[0] if given.shape and isinstance(given.shape[0], int) else 1
        for image in images:
            whole = np.repeat(image[None], max(batch, 1), axis=0)
            (answer,) = session.run([value], {given.name: whole})
            rows.append(np.asarray(answer, np.float64)[0])
    return np.stack(rows) if len(rows) == len(images) else None


def _is_doubted(subject: Subject) -> bool:
    """Whether the scan's own check says anything: a finding, or a refusal to pass the file."""
    try:
        return bool(Translation().measure(subject).observations)
    except ScannerError:
        return True
