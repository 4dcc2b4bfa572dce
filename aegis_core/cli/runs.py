"""Commands about a run as such: new, set, status."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .. import pace
from ..failures import UsageError
from ..pipeline import STEPS, State, Step, states, why_stale
from ..plan import Plan, changed, demo_plan, parsed
from ..presets import find_preset
from ..resources import system_language
from ..run_directory import RunDirectory
from .tables import settings_lines, status_table
from .work import RunFolder, Settings, apply_settings


def new(
    run_dir: RunFolder,
    demo: Annotated[bool, typer.Option("--demo", help="Use the embedded demo model.")] = False,
    preset: Annotated[str | None, typer.Option(help="Begin with the settings of a preset: aegis preset list.")] = None,
    settings: Settings = None,
) -> None:
    """Start a run: write its plan."""
    if demo and preset:
        raise UsageError("--demo cannot go together with --preset.", "Give one of them.")
    changes = {"report.language": system_language()} | dict(map(parsed, settings or []))
    start = find_preset(preset).plan() if preset else demo_plan() if demo else Plan()
    RunDirectory.create(run_dir, changed(start, changes))


def change(
    run_dir: Annotated[Path | None, typer.Argument(metavar="[RUN_DIR]", help="Folder of the run.")] = None,
    settings: Annotated[list[str] | None, typer.Argument(metavar="[SECTION.FIELD=VALUE]...")] = None,
    show: Annotated[bool, typer.Option("--list", help="Show every setting, its value and its meaning.")] = False,
) -> None:
    """Change settings of a run; nothing is written unless all of them are valid."""
    if run_dir is None:
        if not show:
            raise UsageError("Which run?", "Write aegis set RUN_DIR section.field=value, or aegis set --list.")
        print(*settings_lines(Plan()), sep="\n")
        return
    run = RunDirectory.open(run_dir)
    if settings:
        with run.lock():
            apply_settings(run, settings)
    elif not show:
        raise UsageError("Nothing to change.", "Write e.g. train.steps=200, or --list to see all settings.")
    if show:
        print(*settings_lines(run.plan()), sep="\n")


def status(run_dir: RunFolder, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say where each step stands."""
    run = RunDirectory.open(run_dir)
    plan = run.plan()
    found = states(run, plan)
    if not as_json:
        Console().print(status_table(run, plan, found))
        return
    rows = [_row(run, plan, step, found[step.id]) for step in STEPS]
    print(json.dumps({"run": str(run.path), "running": run.is_locked(), "steps": rows}, indent=1))


def _row(run: RunDirectory, plan: Plan, step: Step, state: State) -> dict[str, object]:
    done, expected = run.done(step.id), pace.expected(run, plan, step.id)
    return {
        "id": step.id,
        "state": str(state),
        "begun": done is None and run.begun(step.id),
        "because": why_stale(run, plan, step) if state is State.STALE else [],
        "seconds": done.seconds if done else None,
        "expected_seconds": expected.seconds if expected else None,
        "finished_at": done.finished_at if done else None,
        "outputs": [str(run.output_path(artifact)) for artifact in done.outputs] if done else [],
    }
