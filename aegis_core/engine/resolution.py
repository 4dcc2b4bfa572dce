"""Which wheels this machine needs, from where, how large, and what their SHA-256 must be."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from .. import platforms
from ..failures import UserError
from .parts import Parts
from .torch_build import TorchBuild
from .uv import Uv

_PLATFORM = re.compile(r"any|win_amd64" if platforms.here().name == "win32" else r"any|.*linux.*_x86_64")


@dataclass(frozen=True)
class Wheel:
    """`size_bytes` is None where the index does not say; `locked` means that its hash came along with AEGIS."""

    package: str
    version: str
    url: str
    sha256: str
    size_bytes: int | None
    locked: bool

    @property
    def file(self) -> str:
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine, or None if it has to be fetched."""
        parts = urlsplit(self.url)
        return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


@dataclass(frozen=True)
class Sources:
    """Where wheels come from besides PyPI and PyTorch: a folder of wheels at hand, another index in PyPI's place (uv is
    told of that one in its environment)."""

    at_hand: Path | None = None
    index: str | None = None

    def has_torch(self, version: str) -> bool:
        return self.at_hand is not None and any(self.at_hand.glob(f"torch-{version}*.whl"))

    def options(self) -> list[str]:
        return ["--find-links", str(self.at_hand)] if self.at_hand else []


def resolve(uv: Uv, python: Path, parts: Parts, build: TorchBuild, sources: Sources) -> list[Wheel]:
    """Ask the indexes, for the interpreter of the environment: uv would look for one elsewhere, or fetch it.

    UserError if they cannot be reached or offer something else than what is locked.
    """
    wanted = [parts.requirements, *([parts.cuda] if build.is_cuda else []), parts.torch]
    backend = [] if sources.has_torch(parts.torch_version) or sources.index else ["--torch-backend", build.tag]
    version = ".".join(map(str, parts.python_version))
    options = ["--format", "pylock.toml", "--python", str(python), "--python-version", version]
    options += ["--only-binary", ":all:", "--quiet"]
    text = uv.run("pip", "compile", *wanted, *options, *backend, *sources.options())
    return [_wheel(row, parts) for row in tomllib.loads(text).get("packages", [])]


def _wheel(row: dict[str, object], parts: Parts) -> Wheel:
    package, version = str(row["name"]), str(row["version"])
    hashes = parts.hashes.get(package)
    offered = [_one(package, version, found, hashes) for found in _rows(row)]
    fitting = [wheel for wheel in offered if wheel.sha256 and _fits(wheel.file, parts.python_version)]
    if hashes is not None:
        fitting = [wheel for wheel in fitting if wheel.locked]
    if not fitting:
        raise UserError(
            "{package} {version} is not offered as the file that AEGIS knows.",
            "Try again later; if it stays so, something between you and the package index changes files.",
            package=package,
            version=version,
        )
    return fitting[0]


def _one(package: str, version: str, found: dict[str, object], hashes: frozenset[str] | None) -> Wheel:
    sums, size = found.get("hashes"), found.get("size")
    sha256 = str(sums.get("sha256", "")) if isinstance(sums, dict) else ""
    locked = hashes is not None and sha256 in hashes
    return Wheel(package, version, str(found["url"]), sha256, size if isinstance(size, int) else None, locked)


def _rows(row: dict[str, object]) -> Sequence[dict[str, object]]:
    wheels = row.get("wheels")
    return wheels if isinstance(wheels, list) else []


def _fits(file: str, python: tuple[int, int]) -> bool:
    """Whether the name's tags are for this system and that Python."""
    *_, interpreters, abi, platforms = file.removesuffix(".whl").split("-")
    number = f"{python[0]}{python[1]}"
    is_plain = not {f"cp{number}", f"py{number}", "py3"}.isdisjoint(interpreters.split("."))
    takes = is_plain or "abi3" in abi.split(".")
    return takes and any(_PLATFORM.fullmatch(tag) for tag in platforms.split("."))
