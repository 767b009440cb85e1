"""Families of image classifiers as exporters write them: is the gradient right, and the scan whole?

    python -m benchmarks.families --csv families.csv [--exporter dynamo] [--no-scan] [--only Swin]

Needs timm (`pip install timm`), whose networks are made here with random weights and ten classes.
Each is exported with an open batch, differentiated as the searches do, and compared with PyTorch's
gradient of the same network; then it is scanned by every detector, with a search for one class.
The weights are random numbers, which the scan has to notice: none of these networks is clean.
A row of the CSV for each; a family that is already in it is left alone, so that a run resumes.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.measure import Usage
from scanner import Device
from scanner.graph.core import flatten
from scanner.graph.gradient.backward import Objective, gradient_model
from scanner.graph.gradient.real_input import real_input
from scanner.graph.gradient.unsaturated import unsaturated
from scanner.graph.layers.logits import find_logits
from scanner.instruments import runtime

CLASSES, IMAGES = 10, 2
SEARCHED = (0,)  # classes, by a scan
EXITS = (0, 1, 2, 3)
EXPORTERS = ("torchscript", "dynamo")
_OPSET = 18
_SMALL = f"""
import dataclasses, json, sys
from benchmarks.measure import run
print(json.dumps(dataclasses.asdict(run(sys.argv[1:], {EXITS}))))
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """A family, timm's name of a small member, and the side of its images."""

    name: str
    member: str
    side: int = 64


FAMILIES = (
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


def made(family: Family) -> nn.Module:
    """Return a network of a family with random weights, also where timm starts with zeros."""
    timm: Any = importlib.import_module("timm")  # which no part of this project needs

    torch.manual_seed(0)
    try:
        network: nn.Module = timm.create_model(
            family.member, num_classes=CLASSES, img_size=family.side
        )
    except TypeError:  # convolutions take any side
        network = timm.create_model(family.member, num_classes=CLASSES)
    for name, weights in network.named_parameters():
        if weights.any():
            continue
        if weights.ndim == 1 and name.endswith("weight"):
            nn.init.ones_(weights)  # the gain of a normalisation, as most networks start with
        else:
            nn.init.normal_(weights, std=0.02)
    return network.eval()


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


def gradient_errors(
    family: Family, network: nn.Module, images: torch.Tensor, proto: onnx.ModelProto
) -> dict[str, str]:
    """Return how far our gradient and PyTorch's lie from PyTorch's in double precision.

    At most, over the largest. In a network with random weights and no normalisation before its end,
    rounding alone may shut a rectifier that was open.
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
    slope = torch.rand(len(images), CLASSES)
    feeds = {image: images.numpy(), made_of.weights: slope.numpy()}
    (ours,) = session.native.run([made_of.gradients[image]], feeds)
    theirs = _by_torch(network, images, slope)
    exact = _by_torch(made(family).double(), images.double(), slope.double())
    return {
        name: f"{np.abs(found - exact).max() / np.abs(exact).max():.1e}"
        for name, found in (("gradient_error", ours), ("pytorch_error", theirs))
    }


def _by_torch(network: nn.Module, images: torch.Tensor, slope: torch.Tensor) -> Any:
    traced = images.clone().requires_grad_()
    (network(traced) * slope).sum().backward()
    assert traced.grad is not None  # noqa: S101 - it was asked for
    return traced.grad.numpy()


def scanned(path: Path, side: int) -> dict[str, Any]:
    """Return what a scan of a file with a search for two classes costs, and what it leaves out."""
    classes = [word for one in SEARCHED for word in ("--classes", str(one))]
    shape = ["--input-shape", f"3,{side},{side}"]
    command = [sys.executable, "-m", "scanner", str(path), *classes, *shape, "--format", "json"]
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


def row(family: Family, exporter: str, *, scan: bool) -> dict[str, Any]:
    """Return what became of a family: what was measured, or the error."""
    found: dict[str, Any] = {
        "family": family.name,
        "member": family.member,
        "exporter": exporter,
        "side": family.side,
    }
    steps: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        network = made(family)
        images = torch.rand(IMAGES, 3, family.side, family.side)

        def exported() -> dict[str, Any]:
            export(network, images, exporter, path)
            return {"nodes": len(onnx.load(path, load_external_data=False).graph.node)}

        def differentiated() -> dict[str, Any]:
            return gradient_errors(family, network, images, onnx.load(path))

        steps += [("export", exported), ("gradient", differentiated)]
        if scan:
            steps.append(("scan", lambda: scanned(path, family.side)))
        for name, step in steps:
            try:
                found |= step()
            except Exception as error:  # noqa: BLE001 - another library's, and the next is tried
                return found | {"error": f"{name}: {type(error).__name__}: {str(error)[:120]}"}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--exporter", choices=EXPORTERS, default=EXPORTERS[0])
    parser.add_argument("--only", action="append", help="a family; may be repeated")
    parser.add_argument("--no-scan", action="store_true", help="compare gradients only")
    chosen = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    columns = (
        "family", "member", "exporter", "side", "nodes", "gradient_error", "pytorch_error",
        "verdict", "untrained", "ran", "skipped", "failed", "cpu_seconds", "peak_mib", "error",
    )  # fmt: skip
    known = list(csv.DictReader(chosen.csv.open())) if chosen.csv.exists() else []
    done = {(entry["family"], entry["exporter"]) for entry in known}
    with chosen.csv.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if not known:
            writer.writeheader()
        for family in FAMILIES:
            wanted = not chosen.only or family.name in chosen.only
            if wanted and (family.name, chosen.exporter) not in done:
                writer.writerow(row(family, chosen.exporter, scan=not chosen.no_scan))
                file.flush()


if __name__ == "__main__":
    main()
