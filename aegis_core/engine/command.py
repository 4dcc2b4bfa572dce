"""Which Python runs the engine, and what it needs around it. Everything that starts a child asks here."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from .. import __version__, platforms
from ..failures import UserError
from ..hardware import CARD_ORDER
from .place import engine_place, is_frozen

_MEND = "Open the settings and choose Set up the engine, or write aegis engine install in a terminal."
_FROM_THE_FREEZER = ("_MEIPASS", "_PYI_")  # PyInstaller's own; its child would take itself for the window
_LEADING_ASTRAY = ("PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
_SEARCH_PATH = "LD_LIBRARY_PATH"
PROGRAM = "AEGIS_PROGRAM"
"""Variable that tells an engine what its window's person types to run `aegis`."""
LIBRARIES = {
    **CARD_ORDER,
    "HF_HUB_DISABLE_SYMLINKS_WARNING": "1",  # where links are not allowed, the hub's library copies and says so
    "HF_HUB_DISABLE_TELEMETRY": "1",  # the hub is asked for what is wanted of it, and told nothing else
}
"""How libraries are told to behave, unless the user's own environment says otherwise."""


def engine_command(*arguments: str | Path) -> list[str]:
    """The command that runs `aegis ARGUMENTS` in the engine's Python; UserError where there is none to run it."""
    return [str(engine_python()), "-m", "aegis_core", *map(str, arguments)]


def engine_python() -> Path:
    """The Python that has torch: this program's own, or for the frozen window the one of the engine's environment.

    UserError where that environment is missing, half made, damaged or of another version.
    """
    return _python_of_the_engine() if is_frozen() else _this_python()


def engine_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of such a command: UTF-8 everywhere, nothing held back in buffers, the cards numbered as the
    driver does, and the right copy of aegis_core, whatever the working folder; `extra` on top."""
    fixed = {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    inherited = (
        {**own_environment(os.environ), PROGRAM: typed()}
        if is_frozen()
        else {**os.environ, "PYTHONPATH": _this_copy_first()}
    )
    return {**LIBRARIES, **inherited, **fixed, **(extra or {})}


def own_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """What a Python environment of its own may see: neither the frozen window's libraries nor the user's packages."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(_FROM_THE_FREEZER) and name not in (*_LEADING_ASTRAY, "PYTHONPATH")
    }
    before = kept.pop(f"{_SEARCH_PATH}_ORIG", None)  # what it was before the freezer put its own libraries first
    if before is not None:
        kept[_SEARCH_PATH] = before
    elif is_frozen():
        kept.pop(_SEARCH_PATH, None)
    return {**kept, "PATH": _without_the_freezers(kept.get("PATH", "")), "PYTHONNOUSERSITE": "1"}


def typed() -> str:
    """What a person writes in a terminal to run `aegis`: the bare word, or for the frozen window a program's path."""
    if not is_frozen():
        return "aegis"
    beside = Path(sys.executable).with_name(platforms.here().program("aegis"))
    own = engine_place().python.with_name(beside.name)
    return str(beside if beside.is_file() else own)


def _without_the_freezers(path: str) -> str:
    """The folders of a search path that are not the frozen window's: its start-up puts those of Qt in front."""
    own = vars(sys).get("_MEIPASS")
    if own is None:
        return path
    kept = [folder for folder in path.split(os.pathsep) if not Path(folder).is_relative_to(own)]
    return os.pathsep.join(kept)


def _this_python() -> Path:
    python = Path(sys.executable)
    if python.name.lower() == "pythonw.exe":  # has no standard streams to speak through
        python = python.with_name("python.exe")
    return python


def _this_copy_first() -> str:
    home = str(Path(__file__).resolve().parent.parent.parent)
    return os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))


def _python_of_the_engine() -> Path:
    place = engine_place()
    marker = place.marker()
    if marker is None:
        if place.environment.exists():
            raise UserError("The engine is not completely set up yet.", _MEND)
        raise UserError("The engine, which does the work, is not set up yet.", _MEND)
    if marker.version != __version__:
        raise UserError(
            "The engine is of version {engine} and the window of {window}.",
            _MEND,
            engine=marker.version,
            window=__version__,
        )
    if not place.python.exists():
        raise UserError("The engine is damaged: its Python is missing.", _MEND)
    return place.python
