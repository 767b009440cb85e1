"""Files of other formats, recognised by their first bytes, each with the way to ONNX."""

from collections.abc import Callable

from scanner.values import frozen

_PYTORCH = "load it with the code that made it, and export the network with torch.onnx.export"
_TENSORFLOW = "convert it with tf2onnx, or export it from Keras with model.export(format='onnx')"
_ENDS = 2**16  # a ZIP file lists its members at its end


@frozen
class Format:
    """A format that is not ONNX.

    Attributes:
        name: What the file is, as in "a NumPy archive".
        remedy: How to come by an ONNX file, as an imperative.
    """

    name: str
    remedy: str


def recognise(data: bytes) -> Format | None:
    """Return which other format a file is in, or None.

    No ONNX file that an exporter writes starts as one of these.
    """
    if data.startswith(b"PK\x03\x04"):
        return _archive(data)
    return next((found for test, found in _FORMATS if test(data)), None)


def _archive(data: bytes) -> Format:
    names = data[:_ENDS] + data[-_ENDS:]
    return next((found for word, found in _MEMBERS if word in names), _ZIP)


def _starts(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(starts)


def _bears(identifier: bytes) -> Callable[[bytes], bool]:
    """Return a test for a FlatBuffer's identifier, which stands behind its root's offset."""
    return lambda data: data[4:8] == identifier


def _is_safetensors(data: bytes) -> bool:
    """Whether a file is a header's length in eight bytes, then that header, a JSON object."""
    return data[8:9] == b"{" and 0 < int.from_bytes(data[:8], "little") <= len(data) - 8


# Members of a ZIP file that tell what it holds, the most telling first.
_MEMBERS = (
    (b"model.weights.h5", Format(name="a Keras model (.keras)", remedy=_TENSORFLOW)),
    (
        b"archive_format",
        Format(
            name="a program exported by PyTorch (.pt2)",
            remedy="load it with torch.export.load, and export it with torch.onnx.export",
        ),
    ),
    (b"constants.pkl", Format(name="a TorchScript program", remedy=_PYTORCH)),
    (b"data.pkl", Format(name="a PyTorch checkpoint (.pt, .pth)", remedy=_PYTORCH)),
    (b".npy", Format(name="a NumPy archive (.npz)", remedy="name the model, not its images")),
)
_ZIP = Format(name="a ZIP file", remedy="unpack it, and name the .onnx file inside")
_FORMATS = (
    (
        _starts(b"\x1f\x8b"),
        Format(name="compressed by gzip", remedy="unpack it with gunzip, and name what comes out"),
    ),
    (_starts(b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c"), Format(
        name="a compressed file", remedy="unpack it, and name the .onnx file inside"
    )),
    (_starts(b"\x89HDF\r\n\x1a\n"), Format(name="an HDF5 file (Keras .h5)", remedy=_TENSORFLOW)),
    (
        _is_safetensors,
        Format(
            name="a safetensors file, which holds weights and no graph",
            remedy="load the weights into their network, and export that to ONNX",
        ),
    ),
    (_bears(b"TFL3"), Format(name="a TensorFlow Lite model (.tflite)", remedy=(
        "convert it with 'python -m tf2onnx.convert', which has an option for such files"
    ))),
    (
        _starts(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        Format(name="a Python pickle, as old PyTorch checkpoints are", remedy=_PYTORCH),
    ),
    (_starts(b"GGUF"), Format(
        name="a GGUF file, which holds a language model", remedy="scan an image classifier"
    )),
    (
        _starts(b"version https://git-lfs"),
        Format(
            name="a pointer of Git LFS, not the file itself", remedy="fetch it with 'git lfs pull'"
        ),
    ),
    (
        _starts(b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"),
        Format(name="a web page", remedy="download the model itself; the address may need a login"),
    ),
)  # fmt: skip
