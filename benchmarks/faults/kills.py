"""kill -9 of the child in each of the nine steps: at random moments, and at those at which something becomes true."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

from .dose import Dose
from .engine import STEPS, Attempt, forked, in_new_process
from .judge import Trial, ended_well, false_claims, last_checkpoint, lost_steps, n_events, users_files_lost
from .moments import count_into, kill_at
from .ritual import Reference

FAULT = "kill -9 of the child"
HOW = (
    "A fork of a process that has imported everything runs the real `aegis run --only STEP` and is killed: at a "
    "moment drawn evenly over the step's measured time, or right before or after one of its fsync, rename, delete and "
    "mkdir calls (those that Python makes), or twice in a row. Some of each step go through a fresh Python instead."
)
AT_RANDOM, AT_A_MOMENT, TWICE, REAL = "at random", "at a write", "twice at random", "fresh process, at random"


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    n_moments = {step: moments_of(reference, step, log) for step in STEPS}
    for number in range(dose.times):
        for step in STEPS:
            way = (
                REAL
                if dose.seed + number < dose.n_real
                else (AT_RANDOM, AT_A_MOMENT, AT_RANDOM, AT_A_MOMENT, TWICE)[number % 5]
            )
            yield _trial(reference, step, way, n_moments[step], dose.seed + number, log)


def moments_of(reference: Reference, step: str, log: Path) -> int:
    """At how many moments the step can be killed, counted in one undisturbed run."""
    run, counted = reference.set_out(step), log.with_suffix(".moments")
    counted.unlink(missing_ok=True)
    forked(["run", str(run.path), "--only", step], log, count_into(str(counted))).wait()
    return counted.stat().st_size


def _trial(reference: Reference, step: str, way: str, n_moments: int, seed: int, log: Path) -> Trial:
    chance = random.Random(f"{step} {way} {seed}")
    run = reference.set_out(step)
    log.unlink(missing_ok=True)
    command, problems = ["run", str(run.path), "--only", step], []
    for _ in range(2 if way == TWICE else 1):
        before = n_events(run)
        if way == AT_A_MOMENT:
            attempt = forked(command, log, kill_at(chance.randrange(n_moments)))
            attempt.wait()
        else:
            attempt = in_new_process(command, log) if way == REAL else forked(command, log)
            _kill_in(attempt, reference, step, before, way, chance)
        if orphans := attempt.orphans():
            problems.append(f"left running after the kill: {orphans}")
        problems += [*false_claims(run), *users_files_lost(run)]
    safe, heard = last_checkpoint(run) if step == "train" else 0, n_events(run)
    problems += ended_well(reference, step, forked(command, log))
    if step == "train":
        problems += lost_steps(run, heard, safe)
    return Trial(FAULT, step, seed, "; ".join(problems), way)


def _kill_in(attempt: Attempt, reference: Reference, step: str, before: int, way: str, chance: random.Random) -> None:
    """Uniformly over the time that the step takes; of a fresh process, from the moment at which the step began."""
    if way == REAL:
        while n_events(reference.run) <= before and attempt.poll() is None:
            time.sleep(0.01)
    time.sleep(chance.random() * reference.seconds[step])
    attempt.kill()
