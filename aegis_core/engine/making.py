"""Makes the engine's environment, completes a half one, mends a damaged one, brings an old one up to date: one way.

Nothing counts as there until engine.json is written, last. Whatever was fetched or installed before is used again.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from .. import __version__
from ..cancel import CancelToken
from ..failures import UserError
from ..hardware import disk_free_bytes
from ..replacing import remove
from ..resources import chosen_folder
from ..run_directory import sha256_of_file
from .download import Downloads
from .installed import damaged, installed
from .parts import Parts
from .place import Marker, Place
from .resolution import Sources, Wheel, resolve
from .torch_build import AUTO, TorchBuild, this_build
from .trial import answers, tried
from .uv import Uv

PYTHON_BYTES = 120_000_000  # the Python that uv brings, unpacked
UNPACKED = (
    3.6  # how many times larger packages are than their wheels: 1.36 GB from 388 MB on Linux with torch's CPU build
)


class Stage(StrEnum):
    LOOK = "look"
    PYTHON = "python"
    RESOLVE = "resolve"
    FETCH = "fetch"
    INSTALL = "install"
    TRY = "try"


@dataclass(frozen=True)
class Progress:
    """What is being done; bytes only while fetching."""

    stage: Stage
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True)
class Wish:
    """What the user may choose: build of torch, a Python instead of the one uv brings, wheels at hand, an index."""

    build: str = AUTO
    python: Path | None = None
    sources: Sources = field(default_factory=Sources)


def this_wish() -> Wish:
    """As the environment variables AEGIS_ENGINE_TORCH, _PYTHON, _WHEELS and _INDEX say."""
    return Wish(
        os.environ.get("AEGIS_ENGINE_TORCH") or AUTO,
        chosen_folder("AEGIS_ENGINE_PYTHON"),
        Sources(chosen_folder("AEGIS_ENGINE_WHEELS"), os.environ.get("AEGIS_ENGINE_INDEX") or None),
    )


@dataclass(frozen=True)
class Need:
    """What setting up takes, before anything is fetched; expectations, rounded."""

    build: TorchBuild
    fetched_bytes: int
    disk_bytes: int
    free_bytes: int | None

    @property
    def fits(self) -> bool:
        return self.free_bytes is None or self.free_bytes >= self.disk_bytes


def need(place: Place, parts: Parts, wish: Wish) -> Need:
    """For an engine that is not there at all."""
    build = this_build(wish.build)
    fetched = parts.download_bytes + build.fetched_bytes + (0 if wish.python else PYTHON_BYTES // 4)
    unpacked = round(parts.download_bytes * UNPACKED) + build.unpacked_bytes + PYTHON_BYTES
    return Need(build, fetched, fetched + unpacked, disk_free_bytes(place.folder))


def make_engine(
    place: Place,
    parts: Parts,
    wish: Wish,
    cancel: CancelToken,
    hear: Callable[[Progress], None],
    thorough: bool = False,
) -> Marker:
    """Set the engine up or mend it; `thorough` also reads every file of what is there and compares its hash.

    UserError with advice where that fails, Cancelled if told to stop: the next call goes on from there.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place.folder / "lock", timeout=0):
            return _made(place, parts, wish, cancel, hear, thorough)
    except Timeout:
        raise UserError(
            "Another AEGIS is setting the engine up right now.", "Wait until it is done, then try again."
        ) from None


def _made(
    place: Place,
    parts: Parts,
    wish: Wish,
    cancel: CancelToken,
    hear: Callable[[Progress], None],
    thorough: bool,
) -> Marker:
    own_wheel = parts.wheel()
    uv = Uv(parts.uv(), place.folder, place.log, cancel, wish.sources.index)
    build = this_build(wish.build)
    hear(Progress(Stage.LOOK))
    broken = damaged(place, cancel, thorough) if answers(place, parts, cancel) else None
    place.write_marker(None)
    if broken is None:
        hear(Progress(Stage.PYTHON))
        _make_environment(uv, place, parts, wish, cancel)
    hear(Progress(Stage.RESOLVE))
    wheels = resolve(uv, place.python, parts, build, wish.sources)
    there = {name: package.version for name, package in installed(place).items() if name not in (broken or {})}
    index = wish.sources.index
    downloads = Downloads(place.downloads, cancel, lambda done, total: hear(Progress(Stage.FETCH, done, total)), index)
    missing = downloads.sized([wheel for wheel in wheels if there.get(wheel.package) != wheel.version])
    _refuse_a_full_disk(place, missing)
    downloads.fetch(missing)
    hear(Progress(Stage.INSTALL))
    _install(uv, place, wheels, own_wheel, sorted(broken or {}))
    hear(Progress(Stage.TRY))
    torch = tried(place, cancel)
    for leftover in (place.downloads, uv.cache):
        shutil.rmtree(leftover, ignore_errors=True)
    marker = Marker(__version__, parts.sha256, torch, build.tag, ".".join(map(str, parts.python_version)))
    place.write_marker(marker)
    return marker


def _make_environment(uv: Uv, place: Place, parts: Parts, wish: Wish, cancel: CancelToken) -> None:
    remove(place.environment)
    version = ".".join(map(str, parts.python_version))
    python = ["--python", str(wish.python)] if wish.python else ["--python", version, "--managed-python"]
    uv.run("venv", "--no-project", *python, place.environment)
    if not answers(place, parts, cancel):
        raise UserError(
            "The engine needs Python {version}, and {python} is another one.",
            "Name a Python {version} in AEGIS_ENGINE_PYTHON, or none, and one is fetched.",
            version=version,
            python=wish.python or "",
        )


def _refuse_a_full_disk(place: Place, missing: Sequence[Wheel]) -> None:
    """Fetched and unpacked lie side by side for a while; what a first attempt fetched counts as there."""
    fetched = sum(wheel.size_bytes or 0 for wheel in missing)
    kept = sum(file.stat().st_size for file in place.downloads.glob("*")) if place.downloads.is_dir() else 0
    wanted = round(fetched * (1 + UNPACKED)) - kept
    free = disk_free_bytes(place.folder)
    if free is not None and free < wanted:
        raise UserError(
            "The engine needs {wanted} GB on the disk and {free} GB are free.",
            "Free some disk space and try again.",
            wanted=f"{wanted / 1e9:.1f}",
            free=f"{free / 1e9:.1f}",
        )


def _install(uv: Uv, place: Place, wheels: Sequence[Wheel], own: Path, broken: Sequence[str]) -> None:
    """Offline, from what was fetched; uv compares every hash once more."""
    shutil.copyfile(own, place.downloads / own.name)
    own_version = own.name.split("-")[1]
    lines = [f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in wheels]
    lines.append(f"aegis=={own_version} --hash=sha256:{sha256_of_file(own)}")
    wanted = place.folder / "wanted.txt"
    wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
    anew = [word for name in {"aegis", *broken} for word in ("--reinstall-package", name)]
    offline = ["--offline", "--no-index", "--find-links", str(place.downloads), "--require-hashes"]
    uv.run("pip", "sync", wanted, "--python", place.python, *offline, *anew)
