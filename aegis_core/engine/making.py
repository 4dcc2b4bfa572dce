"""Makes the engine's environment, completes a half one, mends a damaged one, brings an old one up to date: one way.

Nothing counts as there until engine.json is written, last. Whatever was fetched or installed before is used again.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from .. import __version__
from ..cancel import CancelToken
from ..failures import UserError
from ..replacing import remove
from ..run_directory import sha256_of_file
from .download import Downloads
from .in_use import refuse_while_at_work
from .installed import damaged, installed
from .parts import Parts
from .place import Marker, Place
from .resolution import Wheel, resolve
from .room import refuse_a_full_disk
from .trial import answers, tried
from .troubles import traced_in
from .uv import Uv
from .wish import Wish, wished_build


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
    with traced_in(place.log):
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
    build, chosen = wished_build(place, wish)
    python = ".".join(map(str, parts.python_version))
    intended = Marker(__version__, parts.sha256, "", build.tag, python, chosen=chosen)
    hear(Progress(Stage.LOOK))
    broken = damaged(place, cancel, thorough) if answers(place, parts, cancel) else None
    if broken == {} and _is_there(place, intended, own_wheel):
        return _kept(place, intended, cancel, hear)
    refuse_while_at_work(place)  # before anything is fetched in vain
    if broken is None:
        place.begin(intended)
        hear(Progress(Stage.PYTHON))
        _make_environment(uv, place, parts, wish, cancel)
    hear(Progress(Stage.RESOLVE))
    wheels = resolve(uv, place.python, parts, build, wish.sources)
    there = {name: package.version for name, package in installed(place).items() if name not in (broken or {})}
    index = wish.sources.index
    downloads = Downloads(place.downloads, cancel, lambda done, total: hear(Progress(Stage.FETCH, done, total)), index)
    missing = downloads.sized([wheel for wheel in wheels if there.get(wheel.package) != wheel.version])
    refuse_a_full_disk(place, missing, build)
    downloads.fetch(missing)
    refuse_while_at_work(place)
    place.begin(intended)
    hear(Progress(Stage.INSTALL))
    _install(uv, place, wheels, own_wheel, sorted(broken or {}))
    hear(Progress(Stage.TRY))
    torch = tried(place, cancel)
    for leftover in (place.downloads, uv.cache):
        shutil.rmtree(leftover, ignore_errors=True)
    marker = replace(intended, torch=torch)
    place.write_marker(marker)
    return marker


def _is_there(place: Place, intended: Marker, own_wheel: Path) -> bool:
    """Whether all that `intended` asks for is installed, by what the last installation noted; asks no network."""
    found = place.marker()
    if found is None or replace(found, torch="", chosen=intended.chosen) != intended:
        return False
    lines = place.wanted.read_text(encoding="utf-8").splitlines() if place.wanted.is_file() else []
    there = {f"{name}=={package.version}" for name, package in installed(place).items()}
    return _line_of(own_wheel) in lines and {line.split(" ")[0] for line in lines} <= there


def _kept(place: Place, intended: Marker, cancel: CancelToken, hear: Callable[[Progress], None]) -> Marker:
    """A sound engine stays ready whatever its trial says: nothing of it was touched."""
    hear(Progress(Stage.TRY))
    marker = replace(intended, torch=tried(place, cancel))
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


def _install(uv: Uv, place: Place, wheels: Sequence[Wheel], own: Path, broken: Sequence[str]) -> None:
    """Offline, from what was fetched; uv compares every hash once more."""
    shutil.copyfile(own, place.downloads / own.name)
    lines = [f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in wheels]
    lines.append(_line_of(own))
    place.wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
    anew = [word for name in {"aegis", *broken} for word in ("--reinstall-package", name)]
    offline = ["--offline", "--no-index", "--find-links", str(place.downloads), "--require-hashes"]
    uv.run("pip", "sync", place.wanted, "--python", place.python, *offline, *anew)


def _line_of(own_wheel: Path) -> str:
    """AEGIS itself among the requirements."""
    return f"aegis=={own_wheel.name.split('-')[1]} --hash=sha256:{sha256_of_file(own_wheel)}"
