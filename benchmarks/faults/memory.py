"""The memory is not enough: an allocation fails, in Python or in a library."""

import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

from .dose import Dose
from .engine import STEPS, forked
from .judge import Trial, ended_well, false_claims, refused_clearly, users_files_lost
from .kills import moments_of
from .moments import at
from .ritual import Reference

FAULT = "out of memory in the child"
HOW = (
    "Either Python's MemoryError is raised at a chosen fsync, rename, delete or mkdir, or the process may have only "
    "so much address space (RLIMIT_AS) more than it has; a library that then ends the process outright counts as a "
    "kill. The kernel's own way of ending a process is kill -9, above."
)
RAISED, LIMITED = "MemoryError", "address space limited"


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for step in dose.some(STEPS, FAULT):
        n_moments = moments_of(reference, step, log)
        for number in range(dose.of(0.2)):
            way, seed = (RAISED, LIMITED)[number % 2], dose.seed + number
            chance = random.Random(f"{step} {seed}")
            fault = _raise_at(chance.randrange(n_moments)) if way == RAISED else _limit(chance.randrange(1 << 28))
            yield Trial(FAULT, step, seed, "; ".join(_trial(reference, step, fault, log)), way)


def _trial(reference: Reference, step: str, fault: Callable[[], None], log: Path) -> list[str]:
    run = reference.set_out(step)
    log.unlink(missing_ok=True)
    command = ["run", str(run.path), "--only", step]
    attempt = forked(command, log, fault)
    problems = refused_clearly(attempt, "memory") if attempt.wait() > 0 else []
    problems += [*false_claims(run), *users_files_lost(run)]
    return [*problems, *ended_well(reference, step, forked(command, log))]


def _limit(n_bytes: int) -> Callable[[], None]:
    def prepare() -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + n_bytes, resource.RLIM_INFINITY))

    return prepare


def _raise_at(number: int) -> Callable[[], None]:
    def refuse() -> None:
        raise MemoryError

    return at(number, refuse)
