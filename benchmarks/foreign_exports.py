"""Image classifiers of other frameworks as ONNX files, and beside each its own gradient.

    python benchmarks/foreign_exports.py keras FOLDER     # pip install tensorflow-cpu tf2onnx
    python benchmarks/foreign_exports.py tf2onnx FOLDER   # the same
    KERAS_BACKEND=torch python benchmarks/foreign_exports.py keras FOLDER
                                                          # pip install torch keras onnxscript
    python benchmarks/foreign_exports.py paddle FOLDER    # pip install paddlepaddle paddle2onnx

Runs in an environment of the framework's own, without this project: they ask for versions of NumPy,
onnx and protobuf that exclude each other. Weights are random, there are ten classes, and the batch
is open. `FAMILY.npz` holds two images, the slope by which the logits are weighted, and the gradient
of their weighted sum by the images, in double precision (`exact`) and in float32 (`gradient`), all
in the layout of the file. `python -m benchmarks.families --exported FOLDER` reads them. A family
that was tried before is left alone; `FAMILY.txt` says why one could not be exported.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

CLASSES, IMAGES, SIDE = 10, 2, 64
_OPSET = 17
_KERAS = {
    "ResNet": "ResNet50",
    "ResNet v2": "ResNet50V2",
    "DenseNet": "DenseNet121",
    "VGG": "VGG16",
    "MobileNet v1": "MobileNet",
    "MobileNet v2": "MobileNetV2",
    "MobileNet v3": "MobileNetV3Small",
    "EfficientNet v1": "EfficientNetB0",
    "EfficientNet v2": "EfficientNetV2B0",
    "ConvNeXt": "ConvNeXtTiny",
    "Inception v3": "InceptionV3",
    "Inception-ResNet v2": "InceptionResNetV2",
    "Xception": "Xception",
    "NASNet": "NASNetMobile",
}
_PADDLE = {
    "ResNet": "resnet18",
    "ResNeXt": "resnext50_32x4d",
    "Wide ResNet": "wide_resnet50_2",
    "DenseNet": "densenet121",
    "VGG": "vgg11",
    "MobileNet v1": "mobilenet_v1",
    "MobileNet v2": "mobilenet_v2",
    "MobileNet v3": "mobilenet_v3_small",
    "ShuffleNet v2": "shufflenet_v2_x0_5",
    "SqueezeNet": "squeezenet1_1",
    "Inception v3": "inception_v3",
    "AlexNet": "alexnet",
}
_SIDES = {
    "Inception v3": 128,
    "Inception-ResNet v2": 128,
    "Xception": 96,
    "AlexNet": 224,
}


def keras_family(exporter: str) -> Callable[[str, int, Path], dict[str, Any]]:
    """Return what writes a network of Keras, by its own export or by tf2onnx."""
    keras: Any = importlib.import_module("keras")

    def write(member: str, side: int, path: Path) -> dict[str, Any]:
        def made(precision: str, activation: str | None) -> Any:
            keras.config.set_dtype_policy(precision)
            keras.utils.set_random_seed(0)
            return getattr(keras.applications, member)(
                weights=None, input_shape=(side, side, 3), classes=CLASSES,
                classifier_activation=activation,
            )  # fmt: skip

        network = made("float32", "softmax")
        shape = [keras.InputSpec(shape=(None, side, side, 3), dtype="float32", name="image")]
        if exporter == "keras":
            network.export(path, format="onnx", input_signature=shape, verbose=False)
        else:
            _by_tf2onnx(network, side, path)
        images, slope = _drawn((IMAGES, side, side, 3))
        found = {"images": images, "slope": slope}
        for name, precision in (("gradient", "float32"), ("exact", "float64")):
            logits = made(precision, None)
            logits.set_weights(network.get_weights())
            found[name] = _keras_gradient(logits, images, slope, precision)
        return found

    return write


def _by_tf2onnx(network: Any, side: int, path: Path) -> None:
    tf: Any = importlib.import_module("tensorflow")
    convert: Any = importlib.import_module("tf2onnx.convert")
    function = tf.function(lambda image: network(image, training=False))
    shape = [tf.TensorSpec((None, side, side, 3), tf.float32, name="image")]
    convert.from_function(function, shape, opset=_OPSET, output_path=str(path))


def _keras_gradient(network: Any, images: Any, slope: Any, precision: str) -> Any:
    if os.environ.get("KERAS_BACKEND") == "torch":
        torch: Any = importlib.import_module("torch")
        traced = torch.tensor(images.astype(precision), requires_grad=True)
        (network(traced, training=False) * torch.tensor(slope.astype(precision))).sum().backward()
        return traced.grad.numpy()
    tf: Any = importlib.import_module("tensorflow")
    traced = tf.constant(images, dtype=precision)
    with tf.GradientTape() as tape:
        tape.watch(traced)
        total = tf.reduce_sum(network(traced, training=False) * slope.astype(precision))
    return tape.gradient(total, traced).numpy()


def paddle_family(member: str, side: int, path: Path) -> dict[str, Any]:
    """Write a network of PaddlePaddle's model zoo by paddle2onnx."""
    paddle: Any = importlib.import_module("paddle")
    models: Any = importlib.import_module("paddle.vision.models")
    paddle.seed(0)
    network = getattr(models, member)(num_classes=CLASSES)
    network.eval()
    shape = [paddle.static.InputSpec([None, 3, side, side], "float32", "image")]
    paddle.onnx.export(network, str(path.with_suffix("")), input_spec=shape, opset_version=_OPSET)
    images, slope = _drawn((IMAGES, 3, side, side))
    found = {"images": images, "slope": slope}
    for name, precision in (("gradient", "float32"), ("exact", "float64")):
        network.to(dtype=precision)
        traced = paddle.to_tensor(images.astype(precision), stop_gradient=False)
        (network(traced) * paddle.to_tensor(slope.astype(precision))).sum().backward()
        found[name] = traced.grad.numpy()
    return found


def _drawn(shape: tuple[int, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return (
        rng.random(shape, dtype=np.float32),
        rng.random((IMAGES, CLASSES), dtype=np.float32),
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exporter", choices=("keras", "tf2onnx", "paddle"))
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    families: Mapping[str, str] = _PADDLE if chosen.exporter == "paddle" else _KERAS
    write = paddle_family if chosen.exporter == "paddle" else keras_family(chosen.exporter)
    for family, member in families.items():
        path: Path = chosen.folder / f"{family}.onnx"
        values = path.with_suffix(".npz")
        trouble = path.with_suffix(".txt")
        if values.exists() or trouble.exists():
            continue
        trouble.write_text("the process died")
        try:
            found = write(member, _SIDES.get(family, SIDE), path)
        except Exception as error:  # noqa: BLE001 - another library's, and the next is tried
            path.unlink(missing_ok=True)
            trouble.write_text(f"{type(error).__name__}: {error}")
            print(f"{family}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
            continue
        trouble.unlink()
        np.savez_compressed(values, **found)
        print(f"{family}: {path}")


if __name__ == "__main__":
    main()
