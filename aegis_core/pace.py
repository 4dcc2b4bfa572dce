"""How long a step will take on this machine: reckoned from how long it took here before, in proportion to its work.

What is measured lies in the user's data folder (`pace.json`), because it is the machine's and not a run's.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from . import hardware
from .plan import Plan
from .resources import data_folder
from .run_directory import RunDirectory, read_json, write_json

KEPT = 12
"""Measurements kept for each step and device; the oldest goes first."""
FURTHEST = 4.0
"""Nothing is said of work this many times larger or smaller: loading and measuring do not grow with the steps."""


@dataclass(frozen=True)
class Measured:
    """One finished attempt: `work` in a unit of the step's own, `seconds` it took, `at` Unix time of its end."""

    model: str
    work: float
    seconds: float
    at: float


@dataclass(frozen=True)
class Expected:
    """`alike`: measured with the same model and as much work, so it is no more than that repeated."""

    seconds: float
    at: float
    alike: bool


def remember(run: RunDirectory, plan: Plan, step: str, seconds: float) -> None:
    """Note what a step that ran from its beginning to its end took."""
    kept = _read()
    measured = Measured(plan.model.source, _work(run, plan, step), seconds, time.time())
    kept[_key(step)] = [*kept.get(_key(step), []), measured][-KEPT:]
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {key: [asdict(row) for row in rows] for key, rows in kept.items()})


def expected(run: RunDirectory, plan: Plan, step: str) -> Expected | None:
    """What the step should take here; None where nothing comparable was measured yet."""
    work = _work(run, plan, step)
    rows = [row for row in _read().get(_key(step), []) if _apart(row, work) <= math.log(FURTHEST)]
    if not rows:
        return None
    # the same model before another, then the nearest amount of work, then the latest
    near = min(rows, key=lambda row: (row.model != plan.model.source, round(_apart(row, work), 2), -row.at))
    alike = near.model == plan.model.source and math.isclose(near.work, work)
    return Expected(near.seconds * work / near.work, near.at, alike)


def _work(run: RunDirectory, plan: Plan, step: str) -> float:
    reckon = _WORK.get(step)
    return reckon(plan) * _parameters(run) if reckon else 1.0


_WORK: dict[str, Callable[[Plan], float]] = {
    "search": lambda plan: plan.search.tokens_per_trial * (plan.search.n_trials + 2 * plan.search.repeats),
    "schedule": lambda plan: plan.schedule.n_trials,
    "train": lambda plan: (
        plan.train.steps * plan.train.batch_size * plan.train.accumulation * plan.data.sequence_length
        * (1 + (plan.control.lora + plan.control.fixed) * plan.control.orders)
    ),
    "fuse": lambda plan: 1,
    "export": lambda plan: max(len(plan.export.types), 1),
    "chat": lambda plan: 1,
}  # fmt: skip


def _parameters(run: RunDirectory) -> float:
    """In billions; 1 where the model has not been looked at yet."""
    path = run.step_folder("prepare") / "base.json"
    return read_json(path)["n_parameters"] / 1e9 if path.is_file() else 1.0


def _apart(row: Measured, work: float) -> float:
    return abs(math.log(row.work / work))


def _key(step: str) -> str:
    return f"{step} on {_device()}"


@lru_cache(maxsize=1)
def _device() -> str:
    card = hardware.gpu()
    return card.name if card else f"{psutil.cpu_count()} processors"


def _path() -> Path:
    return data_folder() / "pace.json"


def _read() -> dict[str, list[Measured]]:
    """A file that cannot be read is no measurement: the next finished step begins it anew."""
    try:
        found: dict[str, list[dict[str, Any]]] = read_json(_path())
        return {key: [Measured(**row) for row in rows] for key, rows in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
