"""Where Ollama's program and its models lie on this machine, by what its installers do on each system."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Their names exist in `subprocess` on Windows alone.
CREATE_NO_WINDOW = 0x08000000
CREATE_NEW_PROCESS_GROUP = 0x00000200
_MAC_APP = "Applications/Ollama.app/Contents/Resources/ollama"
_SERVICE_MODELS = Path("/usr/share/ollama/.ollama/models")


def find_program(
    platform: str = sys.platform, environment: Mapping[str, str] | None = None, home: Path | None = None
) -> Path | None:
    """The executable: where the installer puts it, or on the PATH; None where it is in neither.

    A program started from the desktop does not always see the PATH that a terminal has.
    """
    environment = os.environ if environment is None else environment
    for place in _installed(platform, environment, home or Path.home()):
        if place.is_file():
            return place
    found = shutil.which("ollama", path=environment.get("PATH", ""))
    return Path(found) if found else None


def models_folder(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Path:
    """Where a server on this machine keeps its models: OLLAMA_MODELS, the service's folder on Linux, or the user's."""
    environment = os.environ if environment is None else environment
    if chosen := environment.get("OLLAMA_MODELS", "").strip().strip("\"'"):
        return Path(chosen).expanduser()
    own = (home or Path.home()) / ".ollama" / "models"
    return _SERVICE_MODELS if not own.is_dir() and _exists(_SERVICE_MODELS) else own


def detached(platform: str = sys.platform) -> dict[str, Any]:
    """How a program is started that outlives this one: no console window flashes up, no Ctrl-C reaches it."""
    if platform == "win32":
        return {"creationflags": CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _installed(platform: str, environment: Mapping[str, str], home: Path) -> list[Path]:
    if platform == "win32":
        local = environment.get("LOCALAPPDATA")
        folders = [Path(local) / "Programs"] if local else []
        folders += [Path(environment[name]) for name in ("ProgramFiles",) if environment.get(name)]
        return [folder / "Ollama" / "ollama.exe" for folder in folders]
    if platform == "darwin":
        return [Path("/") / _MAC_APP, home / _MAC_APP, Path("/opt/homebrew/bin/ollama"), Path("/usr/local/bin/ollama")]
    return [Path("/usr/local/bin/ollama"), Path("/usr/bin/ollama"), home / ".local" / "bin" / "ollama"]


def _exists(folder: Path) -> bool:
    """False as well where this user may not look."""
    try:
        return folder.is_dir()
    except PermissionError:
        return False
