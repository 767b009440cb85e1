"""The version that is built is the one that results carry."""

from pathlib import Path

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from scanner.version import VERSION

ROOT = Path(__file__).parents[2]


def test_the_package_has_this_version() -> None:
    assert ProjectMetadata(str(ROOT), PluginManager()).version == VERSION
