"""The filter's decisions, by running its program as the kernel does, for both architectures.

What the kernel makes of them on this machine: tests/hostile/test_confinement.py.
"""

import errno
import platform
from pathlib import Path

import pytest

from scanner.sandbox import seccomp

ALLOW, FAIL = 0x7FFF0000, 0x00050000
DENIED, UNKNOWN = FAIL | errno.EPERM, FAIL | errno.ENOSYS
PID = 4321
MACHINES = ("x86_64", "aarch64")
# Of asm/unistd_64.h and asm-generic/unistd.h; None where a call does not exist.
REFUSED: dict[str, dict[str, tuple[int | None, int | None]]] = {
    "network": {"socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203)},
    "processes": {"fork": (57, None), "vfork": (58, None), "execve": (59, 221)},
    "programs": {"execveat": (322, 281), "setsid": (112, 157), "wait4": (61, 260)},
    "other processes": {
        "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
        "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "ptrace": (101, 117),
        "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
        "process_madvise": (440, 440), "kcmp": (312, 272), "setpriority": (141, 140),
        "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "ioprio_set": (251, 30),
    },
    "files": {
        "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
        "chown": (92, None), "fchown": (93, 55), "fchownat": (260, 54), "utimensat": (280, 88),
        "setxattr": (188, 5), "fsetxattr": (190, 7), "removexattr": (197, 14),
        "truncate": (76, 45), "ftruncate": (77, 46), "mkdirat": (258, 34), "unlinkat": (263, 35),
        "linkat": (265, 37), "symlinkat": (266, 36), "renameat2": (316, 276), "mknodat": (259, 33),
        "creat": (85, None), "open_by_handle_at": (304, 265),
    },
    "namespaces": {
        "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "pivot_root": (155, 41),
        "chroot": (161, 51),
    },
    "users": {"setuid": (105, 146), "setresuid": (117, 147), "capset": (126, 91)},
    "the kernel's wider surface": {
        "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
        "request_key": (249, 218), "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190),
        "msgget": (68, 186), "mq_open": (240, 180), "bpf": (321, 280),
        "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "memfd_create": (319, 279),
        "personality": (135, 92), "seccomp": (317, 277), "splice": (275, 76),
    },
}  # fmt: skip


def decide(
    machine: str, number: int, *arguments: int, audit: int | None = None, cuda: bool = False
) -> int:
    data = {0: number, 4: seccomp._ARCHITECTURES[machine][0] if audit is None else audit}
    data |= {16 + 8 * place: value & 0xFFFFFFFF for place, value in enumerate(arguments)}
    program, position, register = seccomp.program(machine, PID, cuda=cuda), 0, 0
    while True:
        code, yes, no, operand = program[position]
        position += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            register = data.get(operand, 0)
            continue
        holds = {
            0x15: register == operand,
            0x35: register >= operand,
            0x45: bool(register & operand),
        }[code]
        position += yes if holds else no


def call(machine: str, name: str, *arguments: int, cuda: bool = False) -> int:
    number = seccomp.allowed(machine, cuda=cuda)[name]
    return decide(machine, number, *arguments, cuda=cuda)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("cuda", [False, True])
def test_what_a_scan_needs_passes(machine: str, cuda: bool) -> None:
    for name, number in seccomp.allowed(machine, cuda=cuda).items():
        if name not in seccomp._CHECKED:
            assert decide(machine, number, cuda=cuda) == ALLOW, name


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("group", REFUSED)
def test_the_rest_is_refused(machine: str, group: str) -> None:
    for name, numbers in REFUSED[group].items():
        number = numbers[MACHINES.index(machine)]
        if number is not None:
            assert name not in seccomp.allowed(machine)
            assert decide(machine, number) in {DENIED, UNKNOWN}, name


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_not_named_is_refused(machine: str) -> None:
    passing = {n for n in range(449) if decide(machine, n, 0, 0, 0, 0) == ALLOW}
    assert passing <= set(seccomp.allowed(machine).values())


@pytest.mark.parametrize("machine", MACHINES)
def test_no_two_calls_have_one_number(machine: str) -> None:
    numbers = seccomp.allowed(machine).values()
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < seccomp._UNKNOWN


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_may_be_started_and_processes_not(machine: str) -> None:
    thread = 0x3D0F00  # as the C library asks
    assert call(machine, "clone", thread) == ALLOW
    assert call(machine, "clone", 17) == DENIED  # a fork
    assert call(machine, "clone", thread | 0x10000000) == DENIED  # in a new user namespace
    assert decide(machine, 435) == UNKNOWN


@pytest.mark.parametrize("machine", MACHINES)
def test_files_are_opened_for_reading_only(machine: str) -> None:
    read, write, both, create, cut = 0o2000000, 0o1, 0o2, 0o100, 0o1000
    assert call(machine, "openat", 0, 0, read) == ALLOW
    for flags in (write, both, create, cut, 0o20200000):
        assert call(machine, "openat", 0, 0, read | flags) == DENIED
    assert call(machine, "openat", 0, 0, both, cuda=True) == ALLOW  # the devices
    assert call(machine, "openat", 0, 0, both | create, cuda=True) == DENIED
    if machine == "x86_64":
        assert call(machine, "open", 0, read) == ALLOW
        assert call(machine, "open", 0, read | cut) == DENIED


@pytest.mark.parametrize("machine", MACHINES)
def test_memory_that_no_limit_counts_is_refused(machine: str) -> None:
    for flags in (0x22, 0x02, 0x01, 0x812, 0x20022):  # private, shared of a file, of a library
        assert call(machine, "mmap", 0, 0, 0, flags) == ALLOW
    for flags in (0x21, 0x23, 0x122):  # shared and anonymous, growing downwards
        assert call(machine, "mmap", 0, 0, 0, flags) == DENIED


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_about_processes_are_about_its_own(machine: str) -> None:
    assert call(machine, "tgkill", PID) == ALLOW
    assert call(machine, "tgkill", 1) == DENIED
    for name in ("prlimit64", "sched_getaffinity"):
        assert call(machine, name, 0) == ALLOW
        assert call(machine, name, 1) == DENIED


@pytest.mark.parametrize("machine", MACHINES)
def test_commands_of_calls_that_have_many_are_named(machine: str) -> None:
    assert call(machine, "fcntl", 0, 1) == ALLOW
    assert call(machine, "fcntl", 0, 8) == DENIED  # F_SETOWN
    assert call(machine, "fcntl", 0, 1031) == DENIED  # F_SETPIPE_SZ
    assert call(machine, "ioctl", 0, 0x5401) == ALLOW
    assert call(machine, "ioctl", 0, 0x5412) == DENIED  # TIOCSTI
    assert call(machine, "prctl", 15) == ALLOW
    assert call(machine, "prctl", 4) == DENIED  # PR_SET_DUMPABLE


@pytest.mark.parametrize("machine", MACHINES)
def test_another_table_of_calls_is_refused_whole(machine: str) -> None:
    read = seccomp.allowed(machine)["read"]
    assert decide(machine, read, audit=0x40000003) == DENIED
    assert decide(machine, 0x40000000) == DENIED


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_newer_than_the_list_does_not_exist(machine: str) -> None:
    assert decide(machine, 449) == UNKNOWN
    assert decide(machine, 5000) == UNKNOWN


def test_the_documentation_counts_them() -> None:
    text = (Path(__file__).parents[3] / "docs" / "threat-model.md").read_text(encoding="utf-8")
    counts = [len(seccomp.allowed(machine)) for machine in MACHINES]
    assert "{} calls on x86-64, {} on AArch64".format(*counts) in " ".join(text.split())


def test_an_unknown_machine_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not seccomp.refuse()
