"""`aegis engine`: the environment in which the frozen window's engine runs: its state, making and mending it."""

import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from ..cancel import Cancelled, CancelToken
from ..engine.condition import Condition, EngineState, examine
from ..engine.making import Progress, Stage, make_engine
from ..engine.parts import this_parts
from ..engine.place import engine_place
from ..engine.resolution import Sources
from ..engine.room import need
from ..engine.troubles import traced_in
from ..engine.wish import Wish, this_wish

app = typer.Typer(help="The engine's own environment: its state, making and mending it.", rich_markup_mode=None)
_WORDS = {
    Condition.READY: "The engine is ready.",
    Condition.ABSENT: "The engine is not set up: aegis engine install",
    Condition.HALF: "The engine is half set up: aegis engine install goes on with it.",
    Condition.OUTDATED: "The engine is of another version than this AEGIS: aegis engine install",
    Condition.DAMAGED: "The engine is damaged: aegis engine repair",
}
_STAGES = {
    Stage.LOOK: "Looking at what is there",
    Stage.PYTHON: "Making an environment",
    Stage.RESOLVE: "Asking PyPI and PyTorch which files this machine needs",
    Stage.FETCH: "Fetching",
    Stage.INSTALL: "Unpacking",
    Stage.TRY: "Trying whether it starts",
}
_SAY_EVERY_SECONDS = 10.0

Torch = Annotated[str, typer.Option("--torch", help="Build of torch: auto, cpu, cu130 or cu126.")]
Python = Annotated[Path | None, typer.Option("--python", help="A Python 3.11 to use instead of fetching one.")]
Wheels = Annotated[Path | None, typer.Option("--wheels", help="A folder of wheels at hand, looked into first.")]
Index = Annotated[str | None, typer.Option("--index", help="An index to ask instead of PyPI and PyTorch.")]


@app.callback(invoke_without_command=True)
def without_command(context: typer.Context) -> int | None:
    """Say how the engine stands; see --help for the commands."""
    return status() if context.invoked_subcommand is None else None


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> int:
    """Say whether the engine is set up and whole; exit code 1 if not."""
    place = engine_place()
    state = examine(place, this_parts(), CancelToken())
    if as_json:
        print(json.dumps(_row(state) | {"folder": str(place.folder)}, ensure_ascii=False))
    else:
        print(_WORDS[state.condition])
        print(place.folder)
        for name, file in state.broken:
            print(f"  {name}: {file}")
        if state.marker:
            print(f"  AEGIS {state.marker.version}, torch {state.marker.torch}, Python {state.marker.python}")
    return 0 if state.condition is Condition.READY else 1


@app.command()
def install(torch: Torch = "", python: Python = None, wheels: Wheels = None, index: Index = None) -> int:
    """Set the engine up, go on with a half one, or bring an old one up to date."""
    return _make(_wish(torch, python, wheels, index), thorough=False)


@app.command()
def repair(torch: Torch = "", python: Python = None, wheels: Wheels = None, index: Index = None) -> int:
    """Compare every file of the engine with its hash and fetch anew what is not whole."""
    return _make(_wish(torch, python, wheels, index), thorough=True)


def _wish(torch: str, python: Path | None, wheels: Path | None, index: str | None) -> Wish:
    known = this_wish()
    sources = Sources(wheels or known.sources.at_hand, index or known.sources.index)
    return Wish(torch or known.build, python or known.python, sources)


def _make(wish: Wish, thorough: bool) -> int:
    place, parts, cancel = engine_place(), this_parts(), CancelToken()
    with traced_in(place.log):
        wanted = need(place, parts, wish)
    print(f"Folder: {place.folder}")
    print(f"torch {parts.torch_version} ({wanted.build.tag}); about {wanted.fetched_bytes / 1e9:.1f} GB to fetch")

    def stop(number: int, frame: FrameType | None) -> None:
        cancel.cancel()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        marker = make_engine(place, parts, wish, cancel, _Said(), thorough)
    except Cancelled:
        print("Stopped; the next install goes on from here.", file=sys.stderr)
        return 130
    print(f"{_WORDS[Condition.READY]} torch {marker.torch}")
    return 0


class _Said:
    """A line for each stage, and one now and then while fetching."""

    def __init__(self) -> None:
        self._stage: Stage | None = None
        self._at = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage is not self._stage:
            print(_STAGES[progress.stage], flush=True)
        elif now - self._at < _SAY_EVERY_SECONDS:
            return
        self._stage, self._at = progress.stage, now
        if progress.total_bytes:
            print(f"  {progress.done_bytes / 1e6:.0f} of {progress.total_bytes / 1e6:.0f} MB", flush=True)


def _row(state: EngineState) -> dict[str, object]:
    marker = asdict(state.marker) if state.marker else None
    return {"condition": state.condition.value, "marker": marker, "broken": dict(state.broken)}
