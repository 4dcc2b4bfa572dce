"""The window is killed while its engine works: the engine must save and end by itself."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from aegis_core.child import Child
from aegis_core.engine.command import engine_command
from aegis_core.run_directory import RunDirectory

from .dose import Dose
from .engine import PATIENCE_SECONDS, STEPS, forked, in_session
from .judge import Trial, ended_well, false_claims, last_checkpoint, lost_steps, n_events, users_files_lost
from .ritual import Reference

FAULT = "kill -9 of the window"
HOW = (
    "A process that starts the engine as the window does (`Child`, with pipes) is killed at a random moment; the "
    "engine must save and end by itself within three minutes, and the plain command must come to the undisturbed "
    "result. That a window opened anew offers to go on is asked by tests/test_gui_recovery.py."
)


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for step in dose.some(STEPS, FAULT):
        for number in range(dose.of(0.04)):
            seed = dose.seed + number
            yield Trial(FAULT, step, seed, "; ".join(_trial(reference, step, seed, log)))


def _trial(reference: Reference, step: str, seed: int, log: Path) -> list[str]:
    run, told = reference.set_out(step), log.with_suffix(".pid")
    for path in (log, told):
        path.unlink(missing_ok=True)
    before = n_events(run)
    window = in_session(lambda: _watch(run, step, told), log)
    while n_events(run) <= before and window.poll() is None:
        time.sleep(0.01)
    time.sleep(random.Random(f"{step} {seed}").random() * reference.seconds[step])
    engine = psutil.Process(int(told.read_text(encoding="ascii")))
    os.kill(window.pid, signal.SIGKILL)
    window.wait()
    problems = [*users_files_lost(run)]
    _, alive = psutil.wait_procs([engine], timeout=PATIENCE_SECONDS)
    for process in alive:
        problems.append("the engine did not end by itself")
        process.kill()
    problems += false_claims(run)
    safe, heard = last_checkpoint(run) if step == "train" else 0, n_events(run)
    problems += ended_well(reference, step, forked(["run", str(run.path), "--only", step], log))
    return [*problems, *(lost_steps(run, heard, safe) if step == "train" else ())]


def _watch(run: RunDirectory, step: str, told: Path) -> int:
    child = Child(engine_command("run", run.path, "--events", "--only", step), run.stderr_path)
    told.write_text(str(child.pid), encoding="ascii")
    for _ in child.events():
        pass
    return 0
