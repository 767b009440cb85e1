"""The fuzzers themselves: reproducible, able to find, and content with the corpus."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from fuzz import corpus, drive, mutation, targets

HERE = Path(__file__).parent
MUTANTS = 400


def test_the_corpus_is_small_and_what_its_module_builds() -> None:
    stored = {path.stem: path.read_bytes() for path in corpus.FILES.iterdir()}
    assert sum(map(len, [*stored.values(), *corpus.replies()])) < 2**20
    assert len(stored) > 150
    assert all(map(json.loads, corpus.replies()))


@pytest.mark.parametrize("name", ["reader", "graphs"])
def test_no_file_of_the_corpus_is_a_fault(name: str) -> None:
    opened = [targets.TARGETS[name](data) for data in corpus.files()]
    assert sum(opened) > len(opened) / 2


def test_a_seed_makes_the_same_mutant_everywhere() -> None:
    mutants, again = drive.Mutants("files", 3), drive.Mutants("files", 3)
    assert [mutants[n] for n in range(50)] == [again[n] for n in range(50)]
    other = drive.Mutants("files", 4)
    assert [mutants[n] for n in range(50)] != [other[n] for n in range(50)]


@pytest.mark.parametrize("name", ["reader", "files", "difference"])
def test_mutants_are_answered(name: str) -> None:
    tally = drive.run(drive.TARGETS[name], drive.Mutants(name, 5), range(MUTANTS))
    assert tally.mutants == MUTANTS
    assert tally.opened > MUTANTS / 10
    assert not tally.faults


def test_a_fault_a_hang_and_a_death_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def target(data: bytes) -> bool:
        number = int(data)
        if number == 1:
            raise IndexError
        if number == 3:
            while True:
                pass
        if number == 5:
            os.abort()
        return True

    monkeypatch.setattr(drive.Mutants, "__getitem__", lambda _self, number: str(number).encode())
    monkeypatch.setattr(drive, "TARGETS", {"files": target})
    monkeypatch.setattr(drive, "SECONDS", 1.0)
    tally = drive.fuzz("files", 0, range(8))
    assert tally.mutants == 8
    assert set(tally.first.values()) >= {3, 5}
    assert any("exit code -6" in fault for fault in tally.faults)
    assert any("longer than" in fault for fault in tally.faults)


def test_a_file_opened_outside_is_a_fault() -> None:
    def target(_data: bytes) -> bool:
        return bool(Path("/proc/self/stat").read_bytes())

    tally = drive.run(target, drive.Mutants("files", 0), range(1))
    assert any("/proc/self/stat" in fault for fault in tally.faults)


def test_replies_are_changed_as_trees() -> None:
    data = corpus.replies()[0]
    mutants = [mutation.mutated_reply(data, [data], seed) for seed in range(40)]
    parsed = [m for m in mutants if m.startswith(b'{"answer"')]
    assert len(parsed) > 20
    assert len(set(mutants)) > 30


def test_the_oss_fuzz_project_names_its_parts() -> None:
    project = (HERE / "oss-fuzz/project.yaml").read_text(encoding="utf-8")
    for key in ("homepage", "language: python", "main_repo", "primary_contact", "libfuzzer"):
        assert key in project
    build = HERE / "oss-fuzz/build.sh"
    assert subprocess.run(["/bin/bash", "-n", build], check=False).returncode == 0
    named = set(build.read_text(encoding="utf-8").split("for target in ")[1].split(";")[0].split())
    assert named <= set(targets.TARGETS)
