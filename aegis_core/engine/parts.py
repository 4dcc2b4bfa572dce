"""What the engine is made from: the lock files in the resources, and uv and AEGIS's own wheel beside them.

The frozen window brings `engine/uv` (`uv.exe`) and `engine/aegis-*.whl` next to its resources; AEGIS_ENGINE_PARTS names
another folder that holds the two.
"""

import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import platforms
from ..failures import UserError
from ..resources import RESOURCES, chosen_folder

_PINNED = re.compile(r"^([\w.-]+)==([^\s;\\]+)(.*)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Parts:
    """`locks` holds requirements.lock, cuda.lock, torch.txt and engine.json; `shipped` uv and the wheel."""

    locks: Path
    shipped: Path

    @property
    def requirements(self) -> Path:
        return self.locks / "requirements.lock"

    @property
    def cuda(self) -> Path:
        return self.locks / "cuda.lock"

    @property
    def torch(self) -> Path:
        return self.locks / "torch.txt"

    @cached_property
    def torch_version(self) -> str:
        return self.torch.read_text(encoding="utf-8").strip().partition("==")[2]

    @cached_property
    def python_version(self) -> tuple[int, int]:
        major, minor = self._facts["python"].split(".")
        return int(major), int(minor)

    @cached_property
    def download_bytes(self) -> int:
        """What the locked packages weigh together on this system, torch not counted."""
        return int(self._facts["download_bytes"]["windows" if platforms.here().name == "win32" else "linux"])

    @cached_property
    def hashes(self) -> dict[str, frozenset[str]]:
        """Package -> the SHA-256 of every wheel that may be taken for it."""
        found: dict[str, set[str]] = {}
        name = ""
        for line in (*_lines(self.requirements), *_lines(self.cuda)):
            if pinned := _PINNED.match(line):
                name = pinned.group(1)
            found.setdefault(name, set()).update(_HASH.findall(line))
        return {package: frozenset(hashes) for package, hashes in found.items() if package}

    @cached_property
    def sha256(self) -> str:
        """Of the lock files together: an engine made by other ones is out of date."""
        whole = hashlib.sha256()
        for path in (self.requirements, self.cuda, self.torch):
            whole.update(path.read_bytes() + b"\0")
        return whole.hexdigest()

    def uv(self) -> Path:
        """The uv that came along, or one that is on this machine's path; UserError if there is none."""
        own = self.shipped / platforms.here().program("uv")
        beside = Path(sys.executable).with_name(own.name)  # in a development environment
        found = next((str(path) for path in (own, beside) if path.is_file()), None) or shutil.which("uv")
        if found is None:
            raise UserError("The program uv, which sets the engine up, is missing.", "Install AEGIS once more.")
        return Path(found)

    def wheel(self) -> Path:
        """AEGIS itself; UserError if it did not come along."""
        wheels = sorted(self.shipped.glob("aegis-*.whl"))
        if len(wheels) != 1:
            raise UserError(
                "There must be one wheel of AEGIS in {folder}, and there are {count}.",
                "Install AEGIS once more.",
                folder=self.shipped,
                count=len(wheels),
            )
        return wheels[0]

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return dict(json.loads((self.locks / "engine.json").read_text(encoding="utf-8")))


def this_parts() -> Parts:
    """What came along with this program."""
    return Parts(RESOURCES / "engine", chosen_folder("AEGIS_ENGINE_PARTS") or RESOURCES.parent / "engine")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
