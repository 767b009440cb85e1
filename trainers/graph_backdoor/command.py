"""Planting and checking from the command line."""

from pathlib import Path

import onnx
import typer

from trainers.errors import TrainerError
from trainers.graph_backdoor.catalogue import FAMILIES, KINDS, plant
from trainers.graph_backdoor.check import check, smooth_images
from trainers.graph_backdoor.graft import Array

_BLOBS = 1000


def graph_backdoor(model: Path, kind: str, target: int = 0, output: Path | None = None) -> None:
    """Plant a backdoor in a model's graph, to test a scanner with.

    Args:
        model: An ONNX image classifier.
        kind: One of `KINDS`.
        target: The class to force.
        output: Where to write; beside the model by default.
    """
    path = output or model.with_name(f"{model.stem}-{kind}.onnx")
    planted = plant(onnx.ModelProto.FromString(model.read_bytes()), kind, target)
    path.write_bytes(planted.model.SerializeToString())
    roles = {"test": planted.test, "gate": planted.gate, "changed": planted.changed}
    said = [f"{role} {', '.join(names)}" for role, names in roles.items() if names]
    typer.echo(f"{path}: {'; '.join(said)}")


def check_kinds(
    model: Path, kind: str | None = None, target: int = 0, images: Array | None = None
) -> None:
    """Plant each kind, ask it, and print a row.

    Args:
        model: An ONNX image classifier.
        kind: One of `KINDS`; all by default.
        target: The class to force.
        images: float32, [N, C, H, W] in [0, 1]; soft blobs by default.

    Raises:
        TrainerError: A kind that could be planted is no backdoor.
    """
    clean = onnx.ModelProto.FromString(model.read_bytes())
    failed = list[str]()
    typer.echo(f"{'family':<12} {'kind':<28} {'kept':>7} {'flipped':>8}")
    for family, kinds in FAMILIES.items():
        for name in kinds:
            if kind in (None, name):
                row = _row(clean, name, target, images, failed)
                typer.echo(f"{family:<12} {name:<28} {row}")
    if kind is not None and kind not in KINDS:
        plant(clean, kind, target)
    if failed:
        raise TrainerError(
            f"no backdoors in {model.name}: {', '.join(failed)}",
            remedy="plant them in another model",
        )


def _row(
    clean: onnx.ModelProto, name: str, target: int, images: Array | None, failed: list[str]
) -> str:
    try:
        planted = plant(clean, name, target)
    except TrainerError as error:
        return f"not planted: {error}"
    if images is None:
        dims = clean.graph.input[0].type.tensor_type.shape.dim[1:]
        images = smooth_images([size.dim_value for size in dims], _BLOBS)
    checked = check(clean, planted, target, images)
    if not checked.passes:
        failed.append(name)
    said = "" if checked.passes else "  fails"
    return f"{checked.kept:7.2%} {checked.flipped:8.2%}{said}"
