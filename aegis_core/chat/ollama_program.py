"""Where Ollama's program and its models lie on this machine, by what its installers do on each system."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from .. import platforms

_MAC_APP = "Applications/Ollama.app/Contents/Resources/ollama"
_SERVICE_MODELS = Path("/usr/share/ollama/.ollama/models")


def find_program(
    platform: str = "", environment: Mapping[str, str] | None = None, home: Path | None = None
) -> Path | None:
    """The executable: where the installer puts it, or on the PATH; None where it is in neither.

    `platform` is this system's name unless given. A program started from the desktop does not always see the PATH
    that a terminal has.
    """
    environment = os.environ if environment is None else environment
    for place in _installed(platform or platforms.here().name, environment, home or Path.home()):
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
