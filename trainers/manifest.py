"""The list of models beside the models: what each file is, and the truth about its attack."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainers.errors import ManifestError
from trainers.files import held, write_whole

NAME = "manifest.json"
SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model.

    Attributes:
        file: Its name in the manifest's folder.
        sha256: Of its bytes.
        dataset: What it was trained on.
        architecture: Of the network.
        recipe: Hyper-parameters, by name.
        attack: Name of the attack; `clean` without one.
        labels: `all-to-one`, `one-to-one` or `all-to-all`; None in a clean model.
        target: The attacker's class; None in a clean or an all-to-all model.
        rate: Share of poisoned training images.
        parameters: Of the trigger.
        seed: Of everything drawn.
        epochs: Trained so far when it was exported.
        precision: Of the training's forward and backward pass.
        form: Of the export: `float32`, `float16` or `int8`, and whether batch normalisation is
            folded.
        clean_accuracy: Share of right test images.
        attack_success_rate: Share of stamped test images that the attacker wins; None in a clean
            model.
        parity: Largest absolute difference of a logit between PyTorch and ONNX Runtime.
        licence: Of the weights.
        split: In a population, `development` or `test`; None elsewhere, as all that follows.
        input_range: Of the pixels that the file takes, as in `trainers.recipes.Input`.
        normalised_inside: The graph takes off mean and deviation itself.
        layout: Of its input, `NCHW` or `NHWC`.
        final: What it returns: `logits`, `softmax` or `log-softmax`.
        exporter: `torchscript` or `dynamo`.
        images: File of clean test images as the model takes them, beside the model.
        planted: Whether the attack succeeds on at least half of the images; None in a clean model.
    """

    file: str
    sha256: str
    dataset: str
    architecture: str
    recipe: str
    attack: str
    labels: str | None
    target: int | None
    rate: float
    parameters: Mapping[str, float | int | str]
    seed: int
    epochs: int
    precision: str
    form: Mapping[str, str | bool]
    clean_accuracy: float
    attack_success_rate: float | None
    parity: float
    licence: str
    split: str | None = None
    input_range: str | None = None
    normalised_inside: bool | None = None
    layout: str | None = None
    final: str | None = None
    exporter: str | None = None
    images: str | None = None
    planted: bool | None = None

    def as_data(self) -> dict[str, Any]:
        """Return the entry for JSON; outside a population without the fields of one."""
        data = dataclasses.asdict(self)
        if self.split is None:
            return {name: value for name, value in data.items() if name not in _OF_A_POPULATION}
        return data


_OF_A_POPULATION = frozenset(
    field.name for field in dataclasses.fields(Entry) if field.default is None
)


def read(folder: Path) -> list[Entry]:
    """Return the models that a folder lists; none where it has no manifest.

    Raises:
        ManifestError: The manifest is damaged, or of another schema.
    """
    path = folder / NAME
    if not path.exists():
        return []
    try:
        data = json.loads(path.read_text())
        return [Entry(**entry) for entry in {SCHEMA: data["models"]}[data["schema"]]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{path} is not a manifest of schema {SCHEMA}", remedy="restore it, or move it away"
        ) from error


def add(folder: Path, entries: Iterable[Entry]) -> None:
    """List models, in place of those of the same file name.

    They are sorted, so that the file can be compared line by line. Several
    processes may add to one manifest at once.

    Raises:
        ManifestError: The manifest cannot be read or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            models = {entry.file: entry for entry in (*read(folder), *entries)}
            listed = [models[name].as_data() for name in sorted(models)]
            data: dict[str, Any] = {"schema": SCHEMA, "models": listed}
            write_whole(folder / NAME, (json.dumps(data, indent=1) + "\n").encode())
    except OSError as error:
        raise ManifestError(
            f"{folder / NAME} cannot be written ({error.strerror})", remedy="choose another folder"
        ) from error
