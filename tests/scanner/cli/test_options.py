"""Every command's options are found in one place, and a policy may set each of a scan's."""

from scanner.cli import options
from scanner.cli.options import CalibrateOptions, ScanOptions


def test_a_policy_may_set_every_option_but_where_it_is_itself() -> None:
    names = options.names()
    assert "config" not in names
    assert {"no-color", "reference", "memory-limit", "fail-on", "keep"} <= names.keys()
    known = {*ScanOptions.__dataclass_fields__, *CalibrateOptions.__dataclass_fields__}
    assert set(names.values()) == known - {"config", "baseline_file"}


def test_every_name_that_commands_use_is_there() -> None:
    assert all(hasattr(options, name) for name in options.__all__)
