"""Which shared libraries of the system a frozen folder still needs, once plugins were left out of it (Linux)."""

from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

Entry = tuple[str, str, str]  # its place in the folder, where it comes from, PyInstaller's word for its kind


def reachable(entries: Iterable[Entry], imports: Callable[[str], set[str]] | None = None) -> list[Entry]:
    """The entries without the libraries that neither a Python module nor a plugin needs, through others or itself.

    `imports` names the libraries that one file asks for; it is read from the file unless given.
    """
    asked = imports or _imports
    entries = list(entries)
    by_name = {PurePosixPath(place).name: source for place, source, kind in entries if kind != "SYMLINK"}
    waiting = {PurePosixPath(place).name for place, _, kind in entries if kind == "EXTENSION" or _is_root(place)}
    kept: set[str] = set()
    while waiting:
        name = waiting.pop()
        kept.add(name)
        waiting |= asked(by_name[name]) & by_name.keys() - kept
    return [entry for entry in entries if PurePosixPath(entry[0]).name in kept]


def _is_root(place: str) -> bool:
    """Plugins are opened by their place, the interpreter by the program itself."""
    return "/plugins/" in place or PurePosixPath(place).name.startswith("libpython")


def _imports(path: str) -> set[str]:
    from PyInstaller.depend.bindepend import get_imports

    return {PurePosixPath(name).name for name, _ in get_imports(path)}
