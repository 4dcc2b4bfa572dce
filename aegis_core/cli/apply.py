"""aegis apply: a trial's settings into the training plan."""

from typing import Annotated

import typer

from ..failures import UsageError
from ..freshness import BY_ID
from ..run_directory import RunDirectory
from ..search.applying import apply_trial
from .work import RunFolder


def apply(
    run_dir: RunFolder,
    step: Annotated[str, typer.Argument(help="search or schedule.")],
    trial: Annotated[int, typer.Argument(help="Number of the trial, counted from 1.", min=1)],
) -> None:
    """Train with the settings of any trial of a finished search; shows what changes."""
    if step not in BY_ID or not BY_ID[step].optional:
        raise UsageError("{step} is no search.", "Write search or schedule.", step=step)
    run = RunDirectory.open(run_dir)
    with run.lock():
        old, new = apply_trial(run, BY_ID[step], trial)
    for name, value in new.items():
        print(f"{name}: {old[name]} -> {value}" if old[name] != value else f"{name}: {value} (unchanged)")
