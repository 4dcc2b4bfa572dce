"""Where words go that are printed by a window without a terminal: a windowed program on Windows has no streams."""

import faulthandler
import os
import sys
from pathlib import Path
from typing import TextIO

_KEPT_BYTES = 1_000_000


def give_streams(path: Path) -> TextIO | None:
    """Let what is printed reach the file `path` where stdout or stderr is None; None where both are there.

    A crash below Python leaves its trace there as well. Where the file cannot be written, words go nowhere, and nothing
    fails for want of a stream.
    """
    if sys.stdout is not None and sys.stderr is not None:
        return None
    stream = _opened(path)
    sys.stdout = sys.stdout or stream
    if sys.stderr is None:
        sys.stderr = stream
        faulthandler.enable(stream)
    return stream


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        too_long = path.is_file() and path.stat().st_size > _KEPT_BYTES
        return path.open("w" if too_long else "a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError:
        return Path(os.devnull).open("w", encoding="utf-8")
