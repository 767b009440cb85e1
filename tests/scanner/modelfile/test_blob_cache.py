"""A model in a download cache is a link, as is its data; no other link is followed."""

import hashlib
from pathlib import Path

import models
import onnx
import pytest

from scanner import Device, Settings, scan
from scanner.errors import UnsafeModelError
from scanner.modelfile import external_data
from scanner.modelfile.blob_cache import blob

SETTINGS = Settings(device=Device.CPU, images=4, detectors=("overactivation", "integrity"))


def cached(folder: Path) -> Path:
    """Lay out a cache with one model and its external data, and return the model's link."""
    snapshot, blobs = (
        folder / "models--a--b" / "snapshots" / "1f",
        folder / "models--a--b" / "blobs",
    )
    for each in (snapshot, blobs):
        each.mkdir(parents=True)
    plain = models.plain()
    onnx.save(
        plain, snapshot / "model.onnx", save_as_external_data=True, location="model.onnx.data",
        size_threshold=0,
    )  # fmt: skip
    for name in ("model.onnx", "model.onnx.data"):
        data = (snapshot / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        (snapshot / name).rename(blobs / digest)
        (snapshot / name).symlink_to(Path("../../blobs") / digest)
    return snapshot / "model.onnx"


def test_a_model_and_its_data_are_scanned_through_their_links(tmp_path: Path) -> None:
    result = scan(cached(tmp_path), settings=SETTINGS)
    assert not result.failures
    assert {f.rule.id for f in result.findings} == {"overactivation", "integrity"}
    assert not any(f.observations for f in result.findings)


@pytest.mark.parametrize("target", ["../../secret", "../../blobs/../../secret", "../../blobs/x"])
def test_no_other_link_is_followed(tmp_path: Path, target: str) -> None:
    model = cached(tmp_path)
    data = model.with_name("model.onnx.data")
    for place in (tmp_path / "models--a--b" / "secret", tmp_path / "models--a--b/blobs/x"):
        place.write_bytes(b"secret")
    data.unlink()
    data.symlink_to(target)
    assert blob(data) is None
    tensor = onnx.load(model, load_external_data=False).graph.initializer[0]
    with pytest.raises(UnsafeModelError, match="a symbolic link"):
        external_data.of_model(model).inline(tensor)


def test_data_in_a_cache_of_its_own_is_none_of_a_model_outside(tmp_path: Path) -> None:
    model = cached(tmp_path)
    plain = model.with_name("plain.onnx")
    plain.write_bytes(model.read_bytes())
    assert external_data.trespass(plain, "model.onnx.data") == "a symbolic link"
    assert external_data.trespass(model, "model.onnx.data") is None
