"""What an environment holds, and whether it is whole: every file that a package brought, compared with its own list."""

import base64
import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..cancel import CancelToken
from .place import Place


@dataclass(frozen=True)
class Installed:
    """One package; `name` normalised as indexes do (lower case, dashes)."""

    name: str
    version: str
    record: Path

    def damage(self, thorough: bool) -> str | None:
        """The first file that is missing or not as recorded, or None; `thorough` also reads and hashes each."""
        try:
            rows = list(csv.reader(self.record.read_text(encoding="utf-8").splitlines()))
        except (OSError, ValueError):
            return self.record.name
        site = self.record.parent.parent
        for name, hashed, size in (row for row in rows if len(row) == 3):
            if not size or name.endswith(".pyc"):
                continue
            file = site / name
            if not file.is_file() or file.stat().st_size != int(size):
                return name
            if thorough and hashed.startswith("sha256=") and _sha256(file) != hashed.removeprefix("sha256="):
                return name
        return None


def installed(place: Place) -> dict[str, Installed]:
    """Name -> package of the environment; empty where there is none."""
    return {package.name: package for package in _packages(place)}


def damaged(place: Place, cancel: CancelToken, thorough: bool = False) -> dict[str, str]:
    """Name of each damaged package -> the first file that is not right."""
    found: dict[str, str] = {}
    for package in _packages(place):
        cancel.check()
        if (file := package.damage(thorough)) is not None:
            found[package.name] = file
    return found


def _packages(place: Place) -> Iterator[Installed]:
    for site in (*place.environment.glob("lib/python3*/site-packages"), place.environment / "Lib" / "site-packages"):
        for folder in sorted(site.glob("*.dist-info")):
            name, _, version = folder.name.removesuffix(".dist-info").partition("-")
            yield Installed(re.sub(r"[-_.]+", "-", name).lower(), version, folder / "RECORD")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")
