"""The clock jumps back while a step works."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .dose import Dose
from .engine import STEPS, forked
from .judge import Trial, ended_well
from .ritual import Reference

FAULT = "the clock jumps back"
HOW = (
    "time.time() is a fake, which after a number of calls drawn by chance goes back by an hour, a year or to 1970; "
    "the step must come to the undisturbed result. The system's own clock, and so the times of files, stay right."
)
JUMPS = {"an hour": 3600.0, "a year": 3.2e7, "to 1970": None}


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for step in dose.some(STEPS, FAULT):
        for number in range(dose.of(0.06)):
            seed = dose.seed + number
            way = list(JUMPS)[number % len(JUMPS)]
            run = reference.set_out(step)
            log.unlink(missing_ok=True)
            after = random.Random(f"{step} {seed}").randrange(60)
            attempt = forked(["run", str(run.path), "--only", step], log, jump(JUMPS[way], after))
            yield Trial(FAULT, step, seed, "; ".join(ended_well(reference, step, attempt)), way)


def jump(seconds: float | None, after: int) -> Callable[[], None]:
    """What makes time.time() go back so far (None: to the beginning) after so many calls."""

    def prepare() -> None:
        real, began, n_calls = time.time, time.time(), 0

        def fake() -> float:
            nonlocal n_calls
            n_calls += 1
            if n_calls <= after:
                return real()
            return real() - (began if seconds is None else seconds)

        time.time = fake

    return prepare
