"""A limit is at least 1, and a confinement says in words what holds and what does not."""

import pytest

from scanner.limits import Confinement, Limits
from scanner.values import from_json


@pytest.mark.parametrize(
    "field", ["memory", "file_size", "nodes", "depth", "trips", "parts", "interface"]
)
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    assert getattr(from_json(Limits, {field: 1}), field) == 1
    with pytest.raises(ValueError, match=f"{field} must be at least 1, not 0"):
        from_json(Limits, {field: 0})


def test_what_is_missing_is_said() -> None:
    assert Confinement().missing() == (
        "files are not confined (no Landlock)",
        "sockets and new processes are not refused (no seccomp filter)",
        "new privileges are not refused",
        "privileges of the account are kept",
        "memory is not limited",
        "threads are not limited",
    )
    assert Confinement().granted() == ("a process of its own with a deadline",)


def test_what_is_granted_is_said() -> None:
    full = Confinement(
        limits=("memory",),
        memory="kernel",
        threads="kernel",
        no_new_privs=True,
        capabilities="none",
        landlock=4,
        seccomp=True,
        namespaces=("user", "mount"),
        processes_hidden=True,
    )
    assert not full.missing()
    assert not full.lesser()
    assert full.granted() == (
        "a process of its own with a deadline",
        "limits on memory",
        "threads limited by the kernel",
        "no new privileges",
        "no capabilities",
        "Landlock 4 (reads the models' folders and its own libraries, no TCP)",
        "seccomp (no sockets, no new processes, no file written)",
        "namespaces of its own (user, mount)",
        "no other process in /proc",
    )


def test_what_another_defence_holds_as_well_is_said_apart() -> None:
    assert Confinement(processes_hidden=True).lesser() == ("it has no namespaces of its own",)
    assert Confinement(namespaces=("user",)).lesser() == (
        "which other processes exist can be told from /proc",
    )


def test_the_right_of_root_to_read_is_said() -> None:
    assert "no capability but root's to read files" in Confinement(capabilities="read").granted()


def test_open_devices_of_cuda_are_said() -> None:
    sentence = "the devices of CUDA are open, and memory is only watched"
    assert sentence in Confinement(cuda=True).missing()
    assert sentence not in Confinement().missing()


def test_an_older_landlock_is_said_where_seccomp_does_not_stand_in() -> None:
    def held(landlock: int, *, seccomp: bool) -> Confinement:
        return Confinement(
            memory="kernel",
            threads="parent",
            no_new_privs=True,
            capabilities="none",
            landlock=landlock,
            seccomp=seccomp,
        )

    assert held(2, seccomp=True).missing() == ()
    assert held(2, seccomp=False).missing() == (
        "files can be truncated (Landlock 2)",
        "other processes can be sent signals (Landlock 2)",
        "sockets and new processes are not refused (no seccomp filter)",
    )


def test_landlock_before_version_4_knows_no_tcp() -> None:
    assert "TCP" not in " ".join(Confinement(landlock=3).granted())
