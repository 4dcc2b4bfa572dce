"""`aegis demo`: the whole ritual on the embedded model, in this terminal."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..failures import UserError
from ..pipeline import STEPS, State, states
from ..plan import Plan, changed, demo_plan, get, parsed
from ..resources import runs_folder, system_language
from ..run_directory import RunDirectory, read_json
from .tables import indicator_table
from .work import Settings, perform

_PREFIX = "demo-"


def demo(
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; made if it is not there.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Training steps.")] = None,
    settings: Settings = None,
) -> int:
    """The whole ritual on the embedded 135M model: minutes on two cores, no GPU, no account."""
    changes: dict[str, Any] = dict(map(parsed, settings or []))
    if steps is not None:
        changes["train.steps"] = steps
    plan = changed(demo_plan(), {"report.language": system_language()} | changes)
    console = Console()
    run = _run_at(out, plan, changes) if out else _newest_unfinished(plan) or _fresh(plan)
    console.print(f"Run directory: {run.path}", soft_wrap=True, markup=False, highlight=False)
    code = perform(run, STEPS)
    if code:
        return code
    indicators = read_json(run.path / "report.json")["indicators"]
    console.print(indicator_table(indicators))
    console.print(f"Report: {run.path / 'report.html'}", soft_wrap=True, markup=False, highlight=False)
    return 1 if any(row["status"] == "fail" for row in indicators.values()) else 0


def _run_at(path: Path, plan: Plan, changes: dict[str, Any]) -> RunDirectory:
    """The run that is there, with these changes, or a new one."""
    run = RunDirectory(path)
    if not run.plan_path.exists():
        return RunDirectory.create(path, plan)
    if changes:
        with run.lock():
            run.write_plan(changed(run.plan(), changes))
    return run


def _newest_unfinished(plan: Plan) -> RunDirectory | None:
    """The newest demo run with this very plan that was cut off and on which nobody works."""
    folders = sorted(runs_folder().glob(f"{_PREFIX}*/plan.json"), reverse=True)
    for run in (RunDirectory(path.parent) for path in folders):
        try:
            found = run.plan()
            finished = all(state in (State.DONE, State.DISABLED) for state in states(run, found).values())
        except UserError:  # damaged, or of another version: it must not stand in the way of a new one
            continue
        if found == _with_results_of(found, plan) and not finished and not run.is_locked():
            return run
    return None


def _with_results_of(found: Plan, plan: Plan) -> Plan:
    """The plan with those settings of `found` that its searches may have written."""
    owned = [name for step in STEPS if step.optional and get(plan, f"{step.id}.enabled") for name in step.owns]
    return changed(plan, {name: get(found, name) for name in owned})


def _fresh(plan: Plan) -> RunDirectory:
    return RunDirectory.create(runs_folder() / f"{_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}", plan)
