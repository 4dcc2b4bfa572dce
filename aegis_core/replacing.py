"""A finished file or folder takes its name, or goes, also where another program has it open for a moment."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from . import platforms
from .failures import UserError

FILE_PATIENCE_SECONDS, FOLDER_PATIENCE_SECONDS = 3.0, 15.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.5


def rename(source: Path, target: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Path.replace, patient with Windows, where virus scanners, indexers and viewers hold fresh files open.

    Waits at most 3 s for a file (a window may be waiting) and 15 s for a folder. UserError with the name, and with
    the programs that hold it as far as Windows tells, if it stays held; other errors as they come.
    """
    _patiently(lambda: source.replace(target), source.is_dir(), lambda: _held(source, target), sleep)


def remove(path: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Take a file or a whole folder away, as patient as `rename`; nothing happens where there is none."""
    is_folder = path.is_dir() and not path.is_symlink()
    take_away = (lambda: shutil.rmtree(path)) if is_folder else (lambda: path.unlink(missing_ok=True))
    _patiently(take_away, is_folder, lambda: _kept(path), sleep)


def _patiently(
    act: Callable[[], object],
    is_folder: bool,
    refusal: Callable[[], UserError],
    sleep: Callable[[float], None],
) -> None:
    waited, pause = 0.0, _FIRST_PAUSE_SECONDS
    patience = FOLDER_PATIENCE_SECONDS if is_folder else FILE_PATIENCE_SECONDS
    while True:
        try:
            act()
            return
        except OSError as error:
            if not platforms.here().is_held_elsewhere(error):
                raise
            if waited >= patience:
                raise refusal() from error
        sleep(pause)
        waited += pause
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _held(source: Path, target: Path) -> UserError:
    """Who stands in the way: a reader of the old file, or one of the new."""
    for path in (target, source):
        if path.exists() and (names := platforms.here().holders(path)):
            return UserError(
                "{path} cannot be replaced: {programs} has it open.",
                "Close it there and run the step again; what was made so far is kept.",
                path=path,
                programs=", ".join(names),
            )
    return UserError(
        "{path} cannot be replaced: another program has it open, or it is write-protected.",
        "Close programs that show this folder, let the virus scanner leave it out, and run the step again.",
        path=target,
    )


def _kept(path: Path) -> UserError:
    if names := platforms.here().holders(path):
        return UserError(
            "{path} cannot be removed: {programs} has it open.",
            "Close it there and try again.",
            path=path,
            programs=", ".join(names),
        )
    return UserError(
        "{path} cannot be removed: another program has it open, or it is write-protected.",
        "Close programs that show this folder, let the virus scanner leave it out, and try again.",
        path=path,
    )
