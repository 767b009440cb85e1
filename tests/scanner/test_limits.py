"""A limit is at least 1, and a confinement says in words what holds and what does not."""

import pytest

from scanner.limits import Confinement, Limits
from scanner.values import from_json


@pytest.mark.parametrize("field", ["memory", "file_size", "nodes", "depth", "trips"])
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    assert getattr(from_json(Limits, {field: 1}), field) == 1
    with pytest.raises(ValueError, match=f"{field} must be at least 1, not 0"):
        from_json(Limits, {field: 0})


def test_what_is_missing_is_said() -> None:
    assert Confinement().missing() == (
        "files are not confined (no Landlock)",
        "sockets and new processes are not refused (no seccomp filter)",
        "new privileges are not refused",
        "memory is not limited",
    )
    assert Confinement().granted() == ("a process of its own with a deadline",)


def test_what_is_granted_is_said() -> None:
    full = Confinement(
        limits=("memory",), memory="kernel", no_new_privs=True, landlock=4, seccomp=True
    )
    assert not full.missing()
    assert full.granted() == (
        "a process of its own with a deadline",
        "limits on memory",
        "no new privileges",
        "Landlock 4 (reads the models' folders and its own libraries, no TCP)",
        "seccomp (no sockets, no new processes)",
    )


def test_landlock_before_version_4_knows_no_tcp() -> None:
    assert "TCP" not in " ".join(Confinement(landlock=3).granted())
