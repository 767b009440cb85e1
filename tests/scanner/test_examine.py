"""What a child says of the machine that it runs on."""

from importlib import metadata

import pytest

from scanner import examine
from scanner.protocol import SharedPackage


def test_a_package_of_the_same_name_is_told_with_its_owners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owners = {
        "scanner": ["Overactivation", "port-scan", "port-scan"],
        "trainers": ["gym"],
        "onnx": ["x"],
    }
    monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)
    assert examine._shared_packages() == (
        SharedPackage(name="scanner", distributions=("port-scan",)),
        SharedPackage(name="trainers", distributions=("gym",)),
    )
