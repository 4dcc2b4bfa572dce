"""The whole ritual in the terminal on the tiny model, and what a kill at any step costs: nothing that was finished."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_core.pipeline import State, states
from aegis_core.run_directory import RunDirectory

STEPS = ("check", "prepare", "train", "fuse", "export", "chat", "report")


def test_the_ritual_ends_with_a_report_of_measured_claims(run: RunDirectory) -> None:
    done = engine(run)
    assert done.returncode == 0, done.stderr
    report = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    status = {name: row["status"] for name, row in report["indicators"].items()}
    assert {name: status[name] for name in ("training_completed", "alpha_reached", "soul_saved", "fusion_equal")} == {
        "training_completed": "pass",
        "alpha_reached": "pass",
        "soul_saved": "pass",
        "fusion_equal": "pass",
    }
    assert status["gguf_verified"] == "pass"
    assert status["ollama_loaded"] == "skipped"
    assert status["answer_meaningful"] == "fail"  # random weights cannot speak, and the report says so
    assert set(report["quality"]) == {"base", "gated", "fused", "f16", "q4_k_m"}
    assert len({row["n_tokens"] for row in report["quality"].values()}) == 1
    assert report["chat"]["backend"] == "embedded"


def test_a_run_log_can_be_written_before_anything_was_done_and_claims_nothing(run: RunDirectory) -> None:
    assert engine(run, "report").returncode == 0
    indicators = json.loads((run.path / "report.json").read_text(encoding="utf-8"))["indicators"]
    assert len(indicators) == 7
    assert not any(row["status"] == "pass" for row in indicators.values())


@pytest.mark.timeout(900)
def test_a_kill_at_any_step_loses_no_finished_step(run: RunDirectory) -> None:
    for number, step in enumerate(STEPS):
        kill_in(run, step)
        assert run.done(step) is None
        finished = [name for name, state in states(run, run.plan()).items() if state is State.DONE]
        assert finished == list(STEPS[:number])
        assert not run.is_locked()
    assert engine(run).returncode == 0
    log = [json.loads(line) for line in run.events_path.read_text(encoding="utf-8").splitlines()]
    finishes = [row["stage"] for row in log if row["event"] == "StepFinished"]
    assert finishes == list(STEPS)  # each exactly once: nothing finished was done again
    assert engine(run, "verify", "--json").returncode == 0


def kill_in(run: RunDirectory, step: str) -> None:
    """Start the ritual and kill it hard as soon as the step has begun."""
    command = [sys.executable, "-m", "aegis_core", "run", str(run.path), "--events"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        for line in child.stdout:
            row = json.loads(line)
            if row["event"] == "StepStarted" and row["stage"] == step:
                child.kill()
                return
    pytest.fail(f"{step} never began")


def engine(run: RunDirectory, command: str = "run", *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aegis_core", command, str(run.path), *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=Path(__file__).parent.parent,
        check=False,
    )
