"""Two programs on one run: the second must go away and leave the first alone."""

import time
from collections.abc import Iterator
from pathlib import Path

from .dose import Dose
from .engine import STEPS, forked
from .judge import Trial, ended_well, refused_clearly
from .ritual import Reference

FAULT = "two programs on one run"
HOW = (
    "While one works on a step, the same command is given again: it must say in one sentence that another works "
    "there, and the first must come to the undisturbed result."
)


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for step in dose.some(STEPS, FAULT):
        for number in range(dose.of(0.1)):
            yield Trial(FAULT, step, dose.seed + number, "; ".join(_trial(reference, step, log)))


def _trial(reference: Reference, step: str, log: Path) -> list[str]:
    run, second_log = reference.set_out(step), log.with_suffix(".second")
    for path in (log, second_log):
        path.unlink(missing_ok=True)
    command = ["run", str(run.path), "--only", step]
    first = forked(command, log)
    while not run.is_locked() and first.poll() is None:
        time.sleep(0.001)
    second = forked(command, second_log)
    problems = refused_clearly(second, "Another AEGIS is working on")
    if first.poll() is not None and second.exit_code == 0:
        problems = []  # the first was through already: nothing to be refused
    return [*problems, *ended_well(reference, step, first)]
