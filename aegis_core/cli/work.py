"""Commands that do the work of steps: check, run, report, chat."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from .. import platforms, stdio
from ..cancel import CancelToken
from ..events import Event, StepCancelled, StepFailed
from ..failures import UsageError, UserError, explain
from ..pipeline import Step, run_steps, selection
from ..plan import Plan, changed, parsed
from ..run_directory import RunDirectory
from ..session import Session
from .painter import painter

RunFolder = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of the run.")]
Events = Annotated[bool, typer.Option("--events", help="Speak JSON lines on stdout, obey JSON lines on stdin.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change a setting.")]


def check(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> int:
    """Look at this machine: what is there, what is missing, what mends it."""
    from ..steps.check import examine
    from .tables import check_table

    rows = list(examine(Plan(), Path.cwd()))
    if as_json:
        print(json.dumps([{k: v for k, v in asdict(row).items() if k not in ("at", "stage")} for row in rows]))
    else:
        Console().print(check_table(rows))
    return 1 if any(row.status == "missing" for row in rows) else 0


def run(
    run_dir: RunFolder,
    only: Annotated[str | None, typer.Option(help="Run this step alone.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="Start with this step.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="End with this step.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Run steps even if nothing changed.")] = False,
    settings: Settings = None,
    events: Events = False,
) -> int:
    """Run the steps of a run; what is done and unchanged is skipped, what was cut off continues."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _with_helpers(RunDirectory.open(run_dir), selection(only, first, last), again, settings)
    if not events:
        opened = RunDirectory.open(run_dir)
        return perform(opened, selection(only, first, last), again, settings)
    pipes = stdio.take_over()
    emit = stdio.EventWriter(pipes.events, on_broken=lambda: None)
    try:
        opened = RunDirectory.open(run_dir)
        return _serve(opened, selection(only, first, last), again, settings, pipes)
    except (UserError, OSError) as error:  # before any step: the parent must hear it too
        failure = explain(error)
        emit(
            StepFailed(
                failure.reason, failure.advice, "", failure.reason_template, failure.advice_template, failure.values
            )
        )
        raise


def report(run_dir: RunFolder) -> int:
    """Write the run log of a run anew and say where it is."""
    opened = RunDirectory.open(run_dir)
    code = perform(opened, selection(only="report"), again=True)
    if code == 0:
        Console().print(str(opened.path / "report.html"), soft_wrap=True, markup=False)
    return code


def chat(
    run_dir: RunFolder,
    events: Events = False,
    model: Annotated[str, typer.Option(help="Whom to talk to: base, aegis, or both without --events.")] = "aegis",
    go_on: Annotated[bool, typer.Option("--go-on", help="Go on with the latest conversation of the run.")] = False,
) -> int:
    """Talk with the finished model, with the base model it came from, or with both."""
    if model not in ("base", "aegis") and (events or model != "both"):
        raise UsageError("There is no model {model}.", "It is base, aegis or both.", model=model)
    opened = RunDirectory.open(run_dir)
    if not events:
        from ..chat import terminal
        from ..chat.dialogue import MODELS

        terminal.talk(opened, MODELS if model == "both" else (model,), Console(), go_on)
        return 0
    pipes = stdio.take_over()
    emit = stdio.EventWriter(pipes.events, on_broken=lambda: None)
    from ..chat import child

    child.serve(opened, model, stdio.lines_from(pipes.commands), emit)
    return 0


def perform(run: RunDirectory, steps: tuple[Step, ...], again: bool = False, settings: list[str] | None = None) -> int:
    """Run steps with progress on this terminal; returns the exit code."""
    with run.lock():
        apply_settings(run, settings)
        terminal = Console(file=sys.stdout)
        with stdio.quiet(run.stderr_path), painter(terminal) as paint, Session(run, paint) as session:
            _obey_signals(session.cancel, paint.stopping)
            last = run_steps(run, steps, session, session.cancel, again)
    if isinstance(last, StepFailed):
        if "--debug" in sys.argv:
            print(last.traceback, file=sys.stderr)
        print(last.reason, last.advice, sep="\n", file=sys.stderr)
        if last.changes:
            print("", set_command(run.path, last.changes), sep="\n", file=sys.stderr)
    return _exit_code(last)


def set_command(folder: Path, changes: Mapping[str, Any]) -> str:
    """The command that makes these changes, to be copied into a terminal of this system."""
    settings = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in changes.items()]
    words = ["aegis", "set", str(folder), *settings]
    return subprocess.list2cmdline(words) if platforms.here().name == "win32" else shlex.join(words)


def _with_helpers(run: RunDirectory, steps: tuple[Step, ...], again: bool, settings: list[str] | None) -> int:
    """One of several processes under accelerate launch: the first runs the step, the others take part."""
    from ..training import processes

    if [step.id for step in steps] != [processes.TRAIN]:
        raise UsageError(
            "Several processes can run the training step alone.",
            "Run the other steps without accelerate launch, and this one with --only train.",
        )
    if processes.helping():
        processes.help_along(run)
        return 0
    code = perform(run, steps, again, settings)
    if code == 0:  # otherwise the launcher ends the others, which may be anywhere in the loop
        processes.dismiss_helpers()
    return code


def apply_settings(run: RunDirectory, settings: list[str] | None) -> None:
    """Write `section.field=value` changes into the plan; call it with the lock held."""
    if settings:
        run.write_plan(changed(run.plan(), dict(map(parsed, settings))))


def _serve(
    run: RunDirectory, steps: tuple[Step, ...], again: bool, settings: list[str] | None, pipes: stdio.Pipes
) -> int:
    with run.lock():
        apply_settings(run, settings)
        run.plan()
        writer = stdio.EventWriter(pipes.events, on_broken=lambda: session.cancel.cancel())
        with Session(run, writer) as session:
            stdio.listen(stdio.lines_from(pipes.commands), session.cancel, session.say)
            _obey_signals(session.cancel, lambda: None)
            return _exit_code(run_steps(run, steps, session, session.cancel, again))


def _exit_code(last: Event | None) -> Literal[0, 1, 130]:
    if isinstance(last, StepCancelled):
        return 130
    return 1 if isinstance(last, StepFailed) else 0


def _obey_signals(cancel: CancelToken, tell: Callable[[], None]) -> None:
    """The first Ctrl-C (or a polite kill) saves and stops; the second ends the program on the spot."""

    def stop(number: int, frame: FrameType | None) -> None:
        if cancel.cancelled:
            os._exit(130)
        # in a thread: the handler may have interrupted a holder of the very locks it needs
        for act in (cancel.cancel, tell):
            threading.Thread(target=act, daemon=True).start()

    for wish in platforms.here().stop_signals():
        signal.signal(wish, stop)
