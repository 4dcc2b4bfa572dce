"""kill -9 in the middle of a training: the resumed run is the uninterrupted one, bit for bit."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aegis_core.cancel import CancelToken
from aegis_core.pipeline import BY_ID, run_steps
from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory
from aegis_core.soul.gate import load_soul
from aegis_core.training.metrics import read_metrics

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 200


def start(run: RunDirectory) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aegis_core", "run", str(run.path), "--only", "train"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, encoding="utf-8", **pipes)


def finish(run: RunDirectory) -> None:
    process = start(run)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors[-2000:]


def kill_at(run: RunDirectory, step: int, delay: float) -> None:
    """Kill the training some moments after the row of `step` was written."""
    process, started = start(run), time.monotonic()
    while not any(row["step"] >= step for row in read_metrics(run.path / "train" / "metrics.jsonl")):
        assert process.poll() is None and time.monotonic() - started < PATIENCE_SECONDS
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert run.done("train") is None


@pytest.mark.timeout(900)
def test_after_kills_at_random_moments_the_training_is_the_uninterrupted_one_to_the_bit(
    run: RunDirectory, tmp_path: Path
) -> None:
    settings = {
        "train.steps": 60, "train.checkpoint_steps": 3, "train.evaluate_steps": 20, "train.accumulation": 2,
        "train.gradient_checkpointing": "on", "lora.dropout": 0.1, "soul.rotation_learning_rate": 1e-2,
    }  # fmt: skip
    run.write_plan(changed(run.plan(), settings))
    run_steps(run, (BY_ID["prepare"],), lambda event: None, CancelToken())
    whole = RunDirectory.create(tmp_path / "whole", run.plan())
    run_steps(whole, (BY_ID["prepare"],), lambda event: None, CancelToken())
    finish(whole)

    chance = random.Random(3)
    for low, high in ((4, 18), (20, 45)):
        kill_at(run, chance.randint(low, high), chance.random() * 0.05)
    finish(run)

    rows = {r: read_metrics(r.path / "train" / "metrics.jsonl") for r in (run, whole)}
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows[r]] for r in (run, whole)]
    assert [row["step"] for row in timeless[0]] == list(range(1, 61))
    assert timeless[0] == timeless[1]
    adapters = [(r.path / "train" / "adapter" / "adapter_model.safetensors").read_bytes() for r in (run, whole)]
    assert adapters[0] == adapters[1]
    souls = [load_soul(r.path / "train" / "soul.safetensors").generator for r in (run, whole)]
    assert souls[0].equal(souls[1]) and souls[0].abs().max() > 0
