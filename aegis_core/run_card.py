"""A run at a glance, as the list of runs shows it: model, where it stands, what it reached. Judged from files alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from . import freshness
from .events import Progress, StepCancelled, StepFailed, StepStarted
from .failures import UserError
from .freshness import State
from .journal import newest
from .plan import Plan
from .run_directory import RunDirectory
from .run_numbers import Numbers, read_content, read_numbers


class Standing(StrEnum):
    """Where a run stands as a whole.

    `cut_off`: its unfinished step was stopped, killed or lost its power; `outdated`: everything was done once, before
    a change; `damaged`: it cannot be opened.
    """

    NEW = "new"
    UNDER_WAY = "under_way"
    RUNNING = "running"
    CUT_OFF = "cut_off"
    FAILED = "failed"
    OUTDATED = "outdated"
    DONE = "done"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class RunCard:
    """`step` is where the run goes on ("" if nowhere), `n_of_step` how far that step is (done, total, unit).

    `verdicts` are the run log's indicators (name → pass | fail | skipped), empty where none is up to date. `problem`
    keeps a run from being opened; then the figures are empty.
    """

    path: Path
    standing: Standing
    changed_at: float
    plan: Plan | None = None
    step: str = ""
    n_of_step: tuple[float, float, str] | None = None
    n_done: int = 0
    n_steps: int = 0
    numbers: Numbers = field(default_factory=Numbers)
    verdicts: Mapping[str, str] = field(default_factory=dict)
    problem: UserError | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def n_passed(self) -> int:
        return list(self.verdicts.values()).count("pass")


def run_paths(folder: Path, recent: Iterable[Path] = ()) -> list[Path]:
    """Every run in the folder and among the recent ones, the one worked on last first; their files are not read."""
    found = {path.parent.resolve() for path in folder.glob("*/plan.json")} if folder.is_dir() else set()
    found |= {path.resolve() for path in recent if (path / "plan.json").is_file()}
    return sorted(found, key=lambda path: (-changed_at(path), path))


def known_runs(folder: Path, recent: Iterable[Path] = ()) -> list[RunCard]:
    """The cards of all of them."""
    return [run_card(path) for path in run_paths(folder, recent)]


def changed_at(path: Path) -> float:
    """When something was last done with the run, in seconds since the epoch; 0 if it is gone."""
    run = RunDirectory(path)
    times = [file.stat().st_mtime for file in (run.plan_path, run.events_path) if file.is_file()]
    return max(times, default=0.0)


def run_card(path: Path) -> RunCard:
    """The card of one run; whatever keeps it from being read becomes its `problem`."""
    run = RunDirectory(path)
    touched = changed_at(path)
    try:
        plan = run.plan()
        states = freshness.states(run, plan)
        numbers = read_numbers(run, states)
    except UserError as error:
        return RunCard(path, Standing.DAMAGED, touched, problem=error)
    except OSError as error:
        problem = UserError("It cannot be read: {problem}.", problem=error.strerror or type(error).__name__)
        return RunCard(path, Standing.DAMAGED, touched, problem=problem)
    counted = {step: state for step, state in states.items() if state is not State.DISABLED}
    step = next((step for step, state in counted.items() if state is not State.DONE), "")
    standing, n_of_step = _standing(run, counted, step)
    n_done = list(counted.values()).count(State.DONE)
    verdicts = _verdicts(run, states)
    return RunCard(path, standing, touched, plan, step, n_of_step, n_done, len(counted), numbers, verdicts)


def _standing(
    run: RunDirectory, states: Mapping[str, State], step: str
) -> tuple[Standing, tuple[float, float, str] | None]:
    if run.is_locked():
        return Standing.RUNNING, _progress(run, step)
    if not step:
        return Standing.DONE, None
    ended = _last_end(run, step)
    if ended is StepFailed:
        return Standing.FAILED, _progress(run, step)
    if ended is StepCancelled or (run.begun(step) and states[step] is State.READY):
        return Standing.CUT_OFF, _progress(run, step)
    if all(state in (State.DONE, State.STALE) for state in states.values()):
        return Standing.OUTDATED, None
    return (Standing.UNDER_WAY if State.DONE in states.values() else Standing.NEW), None


def _last_end(run: RunDirectory, step: str) -> type | None:
    """How the newest attempt of the step ended where that was not well; one that just broke off was cut off."""
    for event in newest(run.events_path):
        if event.stage != step:
            continue
        if isinstance(event, StepFailed | StepCancelled):
            return type(event)
        if isinstance(event, StepStarted):
            return StepCancelled
    return None


def _progress(run: RunDirectory, step: str) -> tuple[float, float, str] | None:
    """(done, total, unit) as the step's newest attempt last said it."""
    for event in newest(run.events_path):
        if event.stage != step:
            continue
        if isinstance(event, Progress) and event.total and not event.phase:
            return float(event.done), float(event.total), event.unit
        if isinstance(event, StepStarted):
            return None
    return None


def _verdicts(run: RunDirectory, states: Mapping[str, State]) -> dict[str, str]:
    report = read_content(run.path / "report.json") if states["report"] is State.DONE else None
    rows = report.get("indicators") if isinstance(report, dict) else None
    if not isinstance(rows, dict):
        return {}
    return {name: str(row.get("status")) for name, row in rows.items() if isinstance(row, dict)}
