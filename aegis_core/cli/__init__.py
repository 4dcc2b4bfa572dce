"""The terminal's door to AEGIS. Commands parse and print; the work lies in the engine. Exit codes:

0 done · 1 failed (a sentence and an advice on stderr) · 2 bad usage · 130 cancelled.
"""

import os
import sys
import traceback
from typing import Annotated

import typer

from ..engine.command import LIBRARIES
from ..failures import UsageError, explain
from . import apply, demo, engine, hub, ollama, overrule, preset, preview, runs, shelf, verify, work


def _leave(code: int | None, debug: bool) -> None:
    """What a command returns is the exit code."""
    raise typer.Exit(code or 0)


app = typer.Typer(
    name="aegis",
    result_callback=_leave,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(work.check)
app.command()(runs.new)
app.command()(work.run)
app.command("set")(runs.change)
app.command()(runs.status)
app.command()(preview.preview)
app.command()(verify.verify)
app.command()(work.report)
app.command()(work.chat)
app.command()(apply.apply)
app.command()(overrule.overrule)
app.command()(demo.demo)
app.command()(shelf.runs)
app.command()(shelf.duplicate)
app.command()(shelf.compare)
app.command()(shelf.command)
app.add_typer(preset.app, name="preset")
app.add_typer(ollama.app, name="ollama")
app.add_typer(hub.app, name="hub")
app.add_typer(engine.app, name="engine")


@app.callback()
def aegis(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full trace of an error; goes anywhere.")] = False,
) -> None:
    """From a base language model to your own GGUF: nine steps, each of which can be repeated."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a cp932 console cannot show everything
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    try:
        app([word for word in words if word != "--debug"], prog_name="aegis")
    except SystemExit as end:  # typer has shown its own usage errors by now
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # the outermost boundary: one sentence, one advice
        failure = explain(error)
        if debug:
            traceback.print_exception(error)
        print(failure.reason, failure.advice, sep="\n", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0
