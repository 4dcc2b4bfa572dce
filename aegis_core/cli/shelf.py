"""Commands about several runs: runs, duplicate, compare, command."""

import json
import time
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console

from ..command_line import SHELLS, Shell, repeat_command
from ..duplicate import duplicate as duplicate_run
from ..failures import UsageError
from ..plan import changed, parsed
from ..resources import runs_folder
from ..run_card import RunCard, known_runs, run_card
from ..run_directory import RunDirectory
from ..run_numbers import MAIN_STAGES
from ..side_by_side import MOST, SideBySide, side_by_side
from .tables import comparison_table, runs_table
from .work import RunFolder, Settings


def runs(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="Where the runs are.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the runs of a folder, the one worked on last first."""
    cards = known_runs(folder or runs_folder())
    if as_json:
        print(json.dumps([_row(card) for card in cards], indent=1))
    elif cards:
        Console().print(runs_table(cards))
        for card in cards:
            if card.problem:
                print(f"{card.name}: {card.problem.reason} {card.problem.advice}")
    else:
        print(f"There is no run in {folder or runs_folder()}.")


def duplicate(
    run_dir: RunFolder,
    new_dir: Annotated[Path, typer.Argument(metavar="NEW_RUN_DIR", help="Folder of the new run.")],
    settings: Settings = None,
) -> None:
    """Start a run with the settings of another one; its results stay where they are."""
    changes = dict(map(parsed, settings or []))
    source = RunDirectory.open(run_dir)
    changed(source.plan(), changes)  # refused before anything is written
    new = duplicate_run(source, new_dir)
    if changes:
        new.write_plan(changed(new.plan(), changes))
    print(new.path)


def compare(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR RUN_DIR...", help="Two to four runs.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Hold runs against each other: their numbers, and the settings in which they differ."""
    if not 2 <= len(run_dirs) <= MOST:
        raise UsageError("{n} runs cannot be compared.", "Name two to {most}.", n=len(run_dirs), most=MOST)
    cards = [run_card(RunDirectory.open(path).path) for path in run_dirs]
    for card in cards:
        if card.problem:
            raise card.problem
    found = side_by_side(cards)
    if as_json:
        print(json.dumps(_compared(found), indent=1))
        return
    Console().print(comparison_table(found))
    if found.same_text is False:
        print("The held-out losses were measured on different texts: they cannot be compared.")


def command(
    run_dir: RunFolder,
    shell: Annotated[str, typer.Option(help="sh, powershell or cmd; this system's own unless given.")] = SHELLS[0],
) -> None:
    """Print the command line that begins a run with exactly this plan."""
    known: dict[str, Shell] = {name: name for name in get_args(Shell)}
    if shell not in known:
        raise UsageError("There is no shell {shell}.", "It is {known}.", shell=shell, known=", ".join(known))
    print(repeat_command(RunDirectory.open(run_dir), known[shell]))


def _row(card: RunCard) -> dict[str, Any]:
    return {
        "run": str(card.path),
        "standing": str(card.standing),
        "problem": card.problem.reason if card.problem else None,
        "model": card.plan.model.source if card.plan else None,
        "step": card.step or None,
        "done": card.n_done,
        "steps": card.n_steps,
        "losses": {stage: card.numbers.losses.get(stage) for stage in MAIN_STAGES},
        "indicators": dict(card.verdicts),
        "changed_at": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(card.changed_at)),
    }


def _compared(found: SideBySide) -> dict[str, Any]:
    return {
        "runs": [str(card.path) for card in found.runs],
        "same_text": found.same_text,
        "numbers": {name: list(values) for name, values in found.numbers.items()},
        "settings": {name: list(values) for name, values in found.settings.items()},
    }
