"""What puts the packages of this Python right: that depends on how they came here."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import platforms
from .command import PROGRAM
from .place import engine_place

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Remedy:
    """`command` is what a person types; `mend` what the window can do about it (as in `events.CheckRow`)."""

    command: str
    mend: str = ""


def remedy() -> Remedy:
    """The engine's own repair for the environment that it made, start.py for a checkout, pip for anything else."""
    if Path(sys.prefix).resolve() == engine_place().environment.resolve():
        return Remedy(f"{_quoted(os.environ.get(PROGRAM, 'aegis'))} engine repair", "engine")
    if (_CHECKOUT / "start.py").is_file():
        return Remedy("start.bat" if platforms.here().name == "win32" else "python start.py")
    return Remedy("pip install --force-reinstall aegis")


def _quoted(program: str) -> str:
    return f'"{program}"' if " " in program else program
