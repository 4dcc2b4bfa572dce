"""Where the engine's environment is, and what it says about itself. Reads files only; nothing here asks a network.

<user data folder>/engine/
  environment/   the virtual environment         python/      the Python that uv brought, where it brought one
  engine.json    written last: what is complete   downloads/   wheels, until they are unpacked
  half.json      what is being made, until it is   wanted.txt   what was installed last, each file with its hash
  install.log    every word that uv said          lock         held while somebody works here
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import platforms
from ..replacing import remove
from ..resources import chosen_folder, data_folder
from ..run_directory import write_json

FORMAT = 1


@dataclass(frozen=True)
class Marker:
    """What a complete environment was made of; `build` is torch's: cpu, cu126, cu130 or plain. `chosen` says whether
    a person named that build, or the machine's looks decided."""

    version: str
    lock_sha256: str
    torch: str
    build: str
    python: str
    format: int = FORMAT
    chosen: bool = False


@dataclass(frozen=True)
class Place:
    """The folder of one engine and the files in it, whether they are there or not."""

    folder: Path

    @property
    def environment(self) -> Path:
        return self.folder / "environment"

    @property
    def python(self) -> Path:
        return (
            self.environment
            / ("Scripts" if platforms.here().name == "win32" else "bin")
            / platforms.here().program("python")
        )

    @property
    def marker_path(self) -> Path:
        return self.folder / "engine.json"

    @property
    def half_path(self) -> Path:
        return self.folder / "half.json"

    @property
    def wanted(self) -> Path:
        return self.folder / "wanted.txt"

    @property
    def downloads(self) -> Path:
        return self.folder / "downloads"

    @property
    def log(self) -> Path:
        return self.folder / "install.log"

    def marker(self) -> Marker | None:
        """None where there is no complete environment, or one that this AEGIS cannot read."""
        return _read(self.marker_path)

    def last(self) -> Marker | None:
        """What is complete or, where nothing is, what was being made last."""
        return self.marker() or _read(self.half_path)

    def begin(self, intended: Marker) -> None:
        """What is there counts as half from now on, on its way to `intended`."""
        write_json(self.half_path, asdict(intended))
        remove(self.marker_path)

    def write_marker(self, marker: Marker) -> None:
        write_json(self.marker_path, asdict(marker))
        remove(self.half_path)


def _read(path: Path) -> Marker | None:
    try:
        found = Marker(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.format == FORMAT else None


def is_frozen() -> bool:
    """Whether this program is the frozen window, whose executable is no Python that could run a child."""
    return bool(vars(sys).get("frozen"))


def engine_place() -> Place:
    """The user's engine; AEGIS_ENGINE names another folder."""
    return Place(chosen_folder("AEGIS_ENGINE") or data_folder() / "engine")
