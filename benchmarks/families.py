"""Families of image classifiers as exporters write them: is the gradient right, and the scan whole?

    python -m benchmarks.families --csv families.csv [--exporter dynamo] [--no-scan] [--only Swin]
    python -m benchmarks.families --csv families.csv --library torchvision
    python -m benchmarks.families --csv families.csv --form qdq --only ResNet
    python -m benchmarks.families --csv families.csv --exported FOLDER
    python -m benchmarks.families --csv families.csv --report

Networks of timm or torchvision (`pip install timm`) are made here with random weights and ten
classes, and exported with an open batch; with `--form` they are quantised by ONNX Runtime's own
tools. FOLDER holds the files and gradients that `foreign_exports.py` made with other frameworks;
its name stands for the exporter. Each file is differentiated as the searches do, and compared with
the gradient that its framework has in double precision; then it is scanned by every detector, with
a search for one class. The weights are random numbers, which the scan has to notice: none of these
networks is clean. A row of the CSV for each; a family that is already in it is left alone, so that
a run resumes. `--report` prints the tables of benchmarks/README.md.
"""

import argparse
import csv
import dataclasses
import importlib
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime import quantization
from torch import nn

from benchmarks.measure import Usage
from benchmarks.quality import table
from scanner import Device
from scanner.graph.core import flatten
from scanner.graph.gradient.backward import Objective, gradient_model
from scanner.graph.gradient.real_input import real_input
from scanner.graph.gradient.unsaturated import unsaturated
from scanner.graph.layers.logits import find_logits
from scanner.instruments import runtime

CLASSES, IMAGES, CALIBRATION = 10, 2, 16
SEARCHED = (0,)  # classes, by a scan
EXITS = (0, 1, 2, 3)
EXPORTERS = ("torchscript", "dynamo")
FORMS = ("float32", "qdq", "qlinear", "dynamic")
_KEY = ("library", "exporter", "form", "family")
COLUMNS = (
    *_KEY, "side", "nodes", "gradient_error",
    "framework_error", "cosine", "verdict", "untrained", "ran", "skipped", "failed", "cpu_seconds",
    "peak_mib", "error",
)  # fmt: skip
_OPSET = 18
_SMALL = f"""
import dataclasses, json, sys
from benchmarks.measure import run
print(json.dumps(dataclasses.asdict(run(sys.argv[1:], {EXITS}))))
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """A family, the library's name of a small member, and the side of its images."""

    name: str
    member: str
    side: int = 64


TIMM = (
    Family("ResNet", "resnet18"),
    Family("ResNeXt", "resnext26ts"),
    Family("SE-ResNet", "seresnet18"),
    Family("SK-ResNet", "skresnet18"),
    Family("ECA-ResNet", "ecaresnet26t"),
    Family("DenseNet", "densenet121"),
    Family("VGG", "vgg11_bn", 224),
    Family("MobileNet v1", "mobilenetv1_100"),
    Family("MobileNet v2", "mobilenetv2_035"),
    Family("MobileNet v3", "mobilenetv3_small_050"),
    Family("MobileNet v4", "mobilenetv4_conv_small_050"),
    Family("EfficientNet v1", "efficientnet_b0"),
    Family("EfficientNet v2", "tf_efficientnetv2_b0"),
    Family("RegNet X", "regnetx_002"),
    Family("RegNet Y", "regnety_002"),
    Family("ConvNeXt", "convnext_atto"),
    Family("ConvNeXt v2", "convnextv2_atto"),
    Family("Inception v3", "inception_v3", 128),
    Family("InceptionNeXt", "inception_next_atto"),
    Family("Xception", "xception41"),
    Family("GhostNet", "ghostnet_050"),
    Family("HRNet", "hrnet_w18_small"),
    Family("DLA", "dla34"),
    Family("DPN", "dpn48b"),
    Family("RepVGG", "repvgg_a0"),
    Family("NFNet", "nfnet_f0"),
    Family("ConvMixer", "convmixer_768_32"),
    Family("StarNet", "starnet_s1"),
    Family("FastViT", "fastvit_t8"),
    Family("PoolFormer", "poolformer_s12"),
    Family("EdgeNeXt", "edgenext_xx_small"),
    Family("MobileViT", "mobilevit_xxs"),
    Family("ViT", "vit_tiny_patch16_224"),
    Family("DeiT", "deit_tiny_patch16_224"),
    Family("Swin", "swin_tiny_patch4_window7_224"),
    Family("Swin v2", "swinv2_tiny_window8_256"),
    Family("MaxViT", "maxvit_tiny_tf_224"),
    Family("BEiT", "beit_base_patch16_224"),
    Family("EVA-02", "eva02_tiny_patch14_224", 56),
    Family("CaiT", "cait_xxs24_224"),
    Family("XCiT", "xcit_nano_12_p16_224"),
    Family("CoAtNet", "coatnet_nano_rw_224"),
    Family("GC ViT", "gcvit_xxtiny"),
    Family("LeViT", "levit_128s"),
    Family("PVT v2", "pvt_v2_b0"),
    Family("Twins", "twins_svt_small"),
    Family("TinyViT", "tiny_vit_5m_224"),
    Family("PiT", "pit_ti_224", 224),
    Family("HaloNet", "halonet26t"),
    Family("BoTNet", "botnet26t_256"),
    Family("MLP-Mixer", "mixer_s32_224"),
    Family("ResMLP", "resmlp_12_224"),
    Family("gMLP", "gmlp_s16_224"),
)


TORCHVISION = (
    Family("ResNet", "resnet18"),
    Family("ResNeXt", "resnext50_32x4d"),
    Family("DenseNet", "densenet121"),
    Family("VGG", "vgg11_bn", 224),
    Family("MobileNet v2", "mobilenet_v2"),
    Family("MobileNet v3", "mobilenet_v3_small"),
    Family("EfficientNet v1", "efficientnet_b0"),
    Family("EfficientNet v2", "efficientnet_v2_s"),
    Family("RegNet Y", "regnet_y_400mf"),
    Family("ConvNeXt", "convnext_tiny"),
    Family("ShuffleNet v2", "shufflenet_v2_x0_5"),
    Family("SqueezeNet", "squeezenet1_1"),
    Family("MNASNet", "mnasnet0_5"),
    Family("GoogLeNet", "googlenet"),
    Family("Inception v3", "inception_v3", 128),
    Family("ViT", "vit_b_16", 224),
    Family("Swin", "swin_t"),
    Family("Swin v2", "swin_v2_t"),
    Family("MaxViT", "maxvit_t", 224),
)
LIBRARIES = {"timm": TIMM, "torchvision": TORCHVISION}


@dataclasses.dataclass(frozen=True, slots=True)
class Gradients:
    """Images of a network, the slopes of its logits, and what its framework makes of them.

    `exact` and `gradient` are those of the logits' weighted sum by the images, in float64 and
    in float32. All have the layout of the file.
    """

    images: Any
    slope: Any
    exact: Any
    gradient: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """A network in one form: the columns that name it, and what writes it to a file."""

    labels: dict[str, str]
    write: Callable[[Path], Gradients]


def made(library: str, family: Family) -> nn.Module:
    """Return a network of a family with random weights, also where the library has zeros."""
    torch.manual_seed(0)
    network = (_of_timm if library == "timm" else _of_torchvision)(family)
    for name, weights in network.named_parameters():
        if weights.any():
            continue
        if weights.ndim == 1 and name.endswith("weight"):
            nn.init.ones_(weights)  # the gain of a normalisation, as most networks start with
        else:
            nn.init.normal_(weights, std=0.02)
    return network.eval()


def _of_timm(family: Family) -> nn.Module:
    timm: Any = importlib.import_module("timm")  # which no part of this project needs
    network: nn.Module
    try:
        network = timm.create_model(family.member, num_classes=CLASSES, img_size=family.side)
    except TypeError:  # convolutions take any side
        network = timm.create_model(family.member, num_classes=CLASSES)
    return network


def _of_torchvision(family: Family) -> nn.Module:
    models: Any = importlib.import_module("torchvision.models")
    inception = {"aux_logits": False, "init_weights": False}
    options = inception if family.member in {"googlenet", "inception_v3"} else {}
    network: nn.Module = models.get_model(family.member, num_classes=CLASSES, **options)
    return network


def of_pytorch(library: str, exporter: str, form: str) -> Iterator[Subject]:
    """Yield the networks of a library of PyTorch's, by one of its exporters."""
    for family in LIBRARIES[library]:

        def write(path: Path, family: Family = family) -> Gradients:
            network = made(library, family)
            images = torch.rand(IMAGES, 3, family.side, family.side)
            export(network, images, exporter, path)
            quantise(path, images.shape, form)
            slope = torch.rand(len(images), CLASSES)
            theirs = _by_torch(network, images, slope)
            exact = _by_torch(made(library, family).double(), images.double(), slope.double())
            return Gradients(images.numpy(), slope.numpy(), exact, theirs)

        yield Subject(_labels(library, exporter, form, family.name), write)


def _labels(*values: str) -> dict[str, str]:
    return dict(zip(_KEY, values, strict=True))


def of_folder(folder: Path) -> Iterator[Subject]:
    """Yield what `foreign_exports.py` left in a folder."""
    for left in sorted([*folder.glob("*.npz"), *folder.glob("*.txt")]):

        def write(path: Path, left: Path = left) -> Gradients:
            if left.suffix == ".txt":
                raise RuntimeError(left.read_text())
            path.symlink_to(left.with_suffix(".onnx").resolve())
            with np.load(left) as found:
                return Gradients(*(found[name] for name in Gradients.__slots__))

        library = "paddle" if folder.name.startswith("paddle") else "keras"
        yield Subject(_labels(library, folder.name, FORMS[0], left.stem), write)


def export(network: nn.Module, images: torch.Tensor, exporter: str, path: Path) -> None:
    """Write a network as ONNX, for any batch."""
    if exporter == "dynamo":
        batch = ({0: torch.export.Dim("N")},)
        program = torch.onnx.export(
            network, (images,), dynamo=True, dynamic_shapes=batch, verbose=False
        )
        assert program is not None  # noqa: S101 - no file was named
        program.save(path)
        return
    torch.onnx.export(
        network, (images,), path, dynamo=False, opset_version=_OPSET, input_names=["image"],
        output_names=["logits"], dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
    )  # fmt: skip


def quantise(path: Path, shape: Sequence[int], form: str) -> None:
    """Turn a float model into a quantised form of 8 bits, in place."""
    if form == FORMS[0]:
        return
    if form == "dynamic":
        quantization.quantize_dynamic(path, path)
        return
    written = onnx.load(path)
    image = written.graph.input[0].name
    rng = np.random.default_rng(0)

    class Noise(quantization.CalibrationDataReader):  # type: ignore[misc] # has no types
        left = CALIBRATION

        def get_next(self) -> dict[str, Any] | None:
            self.left -= 1
            drawn = rng.random((1, *shape[1:]), dtype=np.float32)
            return {image: drawn} if self.left >= 0 else None

    layout = quantization.QuantFormat.QDQ if form == "qdq" else quantization.QuantFormat.QOperator
    quantization.quantize_static(path, path, Noise(), quant_format=layout)


def gradient_errors(of: Gradients, proto: onnx.ModelProto) -> dict[str, str]:
    """Return how far our gradient and the framework's lie from its own in double precision.

    At most, over the largest. In a network with random weights and no normalisation before its end,
    rounding alone may shut a rectifier that was open. The cosine is that of our gradient and the
    exact one: a quantised file has a gradient of its own, which points the same way.
    """
    flat = unsaturated(real_input(flatten.flatten(proto)))
    image = flat.graph.input[0].name
    made_of = gradient_model(
        flat,
        of=find_logits(flat).value,
        with_respect_to=[image],
        objective=Objective.WEIGHTED_SUM,
    )
    session = runtime.open_session(made_of.proto.SerializeToString(), Device.CPU, 1)
    feeds = {image: of.images, made_of.weights: of.slope}
    (ours,) = session.native.run([made_of.gradients[image]], feeds)
    lengths = np.linalg.norm(ours) * np.linalg.norm(of.exact)
    return {
        **{
            name: f"{np.abs(found - of.exact).max() / np.abs(of.exact).max():.1e}"
            for name, found in (("gradient_error", ours), ("framework_error", of.gradient))
        },
        "cosine": f"{float((ours * of.exact).sum() / lengths):.4f}",
    }


def _by_torch(network: nn.Module, images: torch.Tensor, slope: torch.Tensor) -> Any:
    traced = images.clone().requires_grad_()
    (network(traced) * slope).sum().backward()
    assert traced.grad is not None  # noqa: S101 - it was asked for
    return traced.grad.numpy()


def scanned(path: Path, shape: Sequence[int]) -> dict[str, Any]:
    """Return what a scan of a file with a search for one class costs, and what it leaves out."""
    classes = [word for one in SEARCHED for word in ("--classes", str(one))]
    image = ["--input-shape", ",".join(str(size) for size in shape[1:])]
    command = [sys.executable, "-m", "scanner", str(path), *classes, *image, "--format", "json"]
    usage = _used([*command, "--memory-limit", "3GiB"])
    result = json.loads(usage.output)
    told = [o["code"] for finding in result["findings"] for o in finding["observations"]]
    return {
        "verdict": result["verdict"],
        "untrained": "yes" if "untrained" in told else "no",
        "ran": len(result["findings"]),
        "skipped": " ".join(sorted(skip["rule"] for skip in result["skips"])),
        "failed": " ".join(sorted(failure["rule"] for failure in result["failures"])),
        "cpu_seconds": round(usage.cpu, 1),
        "peak_mib": round(usage.peak),
    }


def _used(command: Sequence[str]) -> Usage:
    """Run a command from a small process: a child begins with the largest set of its parent."""
    small = subprocess.run(
        [sys.executable, "-c", _SMALL, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    return Usage(**json.loads(small.stdout))


def row(subject: Subject, *, scan: bool) -> dict[str, Any]:
    """Return what became of a network: what was measured, or the error."""
    found: dict[str, Any] = dict(subject.labels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        step = "export"
        try:
            gradients = subject.write(path)
            found["side"] = max(gradients.images.shape)
            found["nodes"] = len(onnx.load(path, load_external_data=False).graph.node)
            step = "gradient"
            found |= gradient_errors(gradients, onnx.load(path))
            step = "scan"
            if scan:
                found |= scanned(path, gradients.images.shape)
        except Exception as error:  # noqa: BLE001 - another library's, and the next is tried
            return found | {"error": f"{step}: {type(error).__name__}: {str(error)[:120]}"}
    return found


def reported(rows: Sequence[dict[str, str]]) -> str:
    """Return what became of each exporter's files, and what a scan of each family took."""
    latest = {tuple(row[name] for name in _KEY): row for row in rows}
    columns = list(dict.fromkeys(key[:-1] for key in latest))
    of_exporters = [
        {
            "library": library,
            "exporter": exporter,
            "form": form,
            "families": len(among),
            "exported": sum(not row["error"].startswith("export") for row in among),
            "differentiated": len(errors := _numbers(among, "gradient_error")),
            "median error": f"{np.median(errors):.1e}" if form == FORMS[0] else "",
            "largest": f"{max(errors):.1e}" if form == FORMS[0] else "",
            "least cosine": "" if form == FORMS[0] else f"{min(_numbers(among, 'cosine')):.2f}",
            "scanned": len(_numbers(among, "cpu_seconds")),
            "of these inconclusive": sum(row["verdict"] == "inconclusive" for row in among),
            "called untrained": sum(row["untrained"] == "yes" for row in among),
        }
        for library, exporter, form in columns
        if (among := [row for key, row in latest.items() if key[:-1] == (library, exporter, form)])
    ]
    scans = [
        {"family": family}
        | {
            " ".join(word for word in column if word != FORMS[0]): _cell(latest[(*column, family)])
            if (*column, family) in latest
            else ""
            for column in columns
        }
        for family in sorted({family for *_, family in latest})
    ]
    return f"{table(of_exporters)}\n\n{table(scans)}"


def _numbers(rows: Sequence[dict[str, str]], column: str) -> list[float]:
    return [float(row[column]) for row in rows if row[column]]


def _cell(row: dict[str, str]) -> str:
    if row["cpu_seconds"]:
        return f"{float(row['cpu_seconds']):.0f} s, {float(row['peak_mib']):,.0f} MiB"
    return {"export": "not exported", "gradient": "no gradient", "scan": "no scan"}.get(
        row["error"].partition(":")[0], "gradient"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--library", choices=LIBRARIES, default="timm")
    parser.add_argument("--exporter", choices=EXPORTERS, default=EXPORTERS[0])
    parser.add_argument("--form", choices=FORMS, default=FORMS[0])
    parser.add_argument("--exported", type=Path, help="a folder of foreign_exports.py")
    parser.add_argument("--only", action="append", help="a family; may be repeated")
    parser.add_argument("--no-scan", action="store_true", help="compare gradients only")
    parser.add_argument("--report", action="store_true", help="print tables of the CSV")
    chosen = parser.parse_args(arguments)
    known = list(csv.DictReader(chosen.csv.open())) if chosen.csv.exists() else []
    if chosen.report:
        print(reported(known))
        return
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    subjects = (
        of_folder(chosen.exported)
        if chosen.exported
        else of_pytorch(chosen.library, chosen.exporter, chosen.form)
    )
    done = {
        tuple(entry[name] for name in _KEY)
        for entry in known
        if chosen.no_scan or entry["verdict"] or entry["error"]
    }
    with chosen.csv.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not known:
            writer.writeheader()
        for subject in subjects:
            wanted = not chosen.only or subject.labels["family"] in chosen.only
            if wanted and tuple(subject.labels[name] for name in _KEY) not in done:
                writer.writerow(row(subject, scan=not chosen.no_scan))
                file.flush()


if __name__ == "__main__":
    main()
