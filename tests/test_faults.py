"""`python -m benchmarks.faults --short`: three seeded kills in each step and a little of every other fault."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.judge import Trial

ROOT = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="forks a process that has imported everything"),
    pytest.mark.timeout(1800),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Trial]]:
    keep = tmp_path_factory.mktemp("faults")
    command = [sys.executable, "-m", "benchmarks.faults", "--short", "--keep", str(keep)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=1700, check=False)
    found = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in keep.glob("*.jsonl")}
    assert found.keys() == FAULTS.keys(), done.stderr[-3000:]
    return {name: [Trial(**json.loads(line)) for line in lines] for name, lines in found.items()}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_survived(tried: dict[str, list[Trial]], name: str) -> None:
    if not tried[name]:
        pytest.skip("this machine does not let it happen (mounts, or versions of the history that are not here)")
    assert not [trial.line() for trial in tried[name] if trial.lost]


def test_each_step_is_killed_three_times(tried: dict[str, list[Trial]]) -> None:
    places = [trial.place for trial in tried["kill"]]
    assert {place: places.count(place) for place in places} == dict.fromkeys(
        ("check", "prepare", "search", "schedule", "train", "fuse", "export", "chat", "report"), 3
    )
