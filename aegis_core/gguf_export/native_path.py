"""File names that native programs can open: on Windows they take ASCII only, whatever the folder is called."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import platforms
from ..failures import UserError


@dataclass(frozen=True)
class Platform:
    """What the decision needs to know of the operating system.

    `short_name` gives the 8.3 name of an existing path or None; `ascii_folders` are places for a link, best first.
    """

    ascii_only: bool
    short_name: Callable[[Path], str | None]
    ascii_folders: Callable[[Path], list[Path]]


@contextmanager
def native_path(path: Path, platform: Platform | None = None) -> Iterator[Path]:
    """Yield a path to the same file that llama.cpp can open; a link made for it is removed afterwards.

    The file itself where the name is harmless, else its short name, else a hard link or copy in an ASCII folder.
    Raises UserError when there is no such folder.
    """
    platform = platform or this_platform()
    if not platform.ascii_only or str(path).isascii():
        yield path
        return
    short = platform.short_name(path)
    if short and short.isascii():
        yield Path(short)
        return
    folder = _ascii_folder(path, platform)
    try:
        yield _linked(path, folder / "model.gguf")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def this_platform() -> Platform:
    system = platforms.here()
    return Platform(system.native_paths_are_ascii(), system.short_name, _ascii_folders)


def _ascii_folder(path: Path, platform: Platform) -> Path:
    for parent in platform.ascii_folders(path):
        if not str(parent).isascii():
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="aegis-", dir=parent))
        except OSError:
            continue  # the next one may be writable
    raise UserError(
        "llama.cpp cannot open {path}: its name has letters beyond ASCII and no plain folder can be written.",
        "Choose an export folder with a plain name such as C:/models.",
        path=path,
    )


def _linked(path: Path, link: Path) -> Path:
    try:
        link.hardlink_to(path)
    except OSError:  # another drive, or a file system without hard links
        shutil.copyfile(path, link)
    return link


def _ascii_folders(path: Path) -> list[Path]:
    """The temporary folder, the one all users share, and the root of the file's own drive."""
    shared = os.environ.get("PROGRAMDATA")
    return [Path(tempfile.gettempdir()), *([Path(shared)] if shared else []), Path(path.absolute().anchor)]
