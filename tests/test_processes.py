"""The training step under `accelerate launch` with two CPU processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_core.cancel import CancelToken
from aegis_core.pipeline import BY_ID, run_steps
from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.soul.gate import load_soul
from aegis_core.training import checkpoints
from aegis_core.training.metrics import read_metrics

ROOT = Path(__file__).parents[1]


def launch(run: RunDirectory, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu",
        "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "aegis_core", "run", str(run.path), *arguments,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=240)


def prepared(path: Path, plan: object, **settings: object) -> RunDirectory:
    run = RunDirectory.create(path, changed(plan, {name.replace("__", "."): v for name, v in settings.items()}))
    run_steps(run, (BY_ID["prepare"],), lambda event: None, CancelToken())
    return run


def test_two_processes_train_as_one_with_accumulation(run: RunDirectory, tmp_path: Path) -> None:
    same = {"lora__dropout": 0.0, "train__steps": 2, "train__warmup_steps": 0}  # within one pass over the data
    one = prepared(tmp_path / "one", run.plan(), train__accumulation=2, **same)
    run_steps(one, (BY_ID["train"],), lambda event: None, CancelToken())
    two = prepared(tmp_path / "two 日本語", run.plan(), **same)
    finished = launch(two, "--only", "train")
    assert finished.returncode == 0, finished.stderr[-2000:]
    rows = {r.path.name[:3]: read_metrics(r.path / "train" / "metrics.jsonl") for r in (one, two)}
    assert [row["step"] for row in rows["two"]] == [1, 2]
    for expected, found in zip(rows["one"], rows["two"], strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert found["tokens"] == expected["tokens"]
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
    souls = [load_soul(r.path / "train" / "soul.safetensors").generator for r in (one, two)]
    assert souls[0].allclose(souls[1], atol=1e-6) and souls[0].abs().max() > 0
    assert two.done("train") is not None
    kept = checkpoints.newest(two.path / "train")
    assert kept is not None and {f"rng_state_{i}.pth" for i in range(2)} <= read_json(kept / "files.json").keys()


def test_only_the_training_step_can_run_in_several_processes(run: RunDirectory) -> None:
    finished = launch(run)
    assert finished.returncode != 0
    assert "Several processes can run the training step alone." in finished.stderr
