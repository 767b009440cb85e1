"""What a nursery imports its children have; whether it forks them or not, they answer."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEEDS = ROOT / "tests" / "hostile"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
PROGRAM = f"""
from pathlib import Path
from scanner.sandbox import launch, twins
from scanner.limits import Allowance
from scanner.sandbox.endpoint import Endpoint
from scanner.sandbox.worker import Worker
launch._roots.append({str(DEEDS)!r})
endpoint = Endpoint(function="deeds:has_module", request=object, answer=object)
launch.may_fork = lambda: {{forks}}
launch.is_alone = lambda: {{alone}}
for child in twins.start(("numpy",), 2):
    with Worker(child=child) as worker:
        print(worker.ask(endpoint, "numpy", Allowance(seconds=20)))
        print("-P" in Path(f"/proc/{{{{worker.pid}}}}/cmdline").read_text().split(chr(0)))
"""


@pytest.mark.parametrize(
    ("forks", "alone", "fresh"), [(True, True, False), (False, True, True), (True, False, True)]
)
def test_its_children_have_what_they_need(forks: bool, alone: bool, fresh: bool) -> None:
    """A fork has this program's command line, a fresh interpreter or a fork of one has its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(forks=forks, alone=alone)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["True", str(fresh)] * 2, done.stderr
