"""RUN_DIR/events.jsonl: every event of every start of a run, one line each, readable after any crash."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from .events import TERMINAL, Event, decode, encode

_BLOCK_BYTES = 64 * 1024


def to_line(event: Event) -> bytes:
    """The event as it travels; half a surrogate pair (from a foreign file name) becomes a JSON escape."""
    return encode(event).encode("utf-8", errors="backslashreplace") + b"\n"


class Journal:
    """Appends events to a file. A line torn by an earlier kill is cut off first.

    A full disk never stops the engine: `write` says False and what could not be written is missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+", buffering=0)
        cut_torn_line(self._file.fileno())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, event: Event) -> bool:
        """Append one event and flush it; the end of a step reaches the disk before this returns."""
        line = to_line(event)
        try:
            written = self._file.write(line)
            if written != len(line):
                cut_torn_line(self._file.fileno())
                return False
            if isinstance(event, TERMINAL):
                os.fsync(self._file.fileno())
        except OSError:
            return False
        return True


def replay(path: Path) -> Iterator[Event]:
    """The events of a journal in order; what is torn or not an event is left out. Nothing if there is no file."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                event = decode(line.decode("utf-8"))
            except ValueError:
                continue
            yield event


def cut_torn_line(handle: int) -> None:
    """Shorten the open file to its last line end."""
    end = os.lseek(handle, 0, os.SEEK_END)
    place = end
    while place > 0:
        start = max(0, place - _BLOCK_BYTES)
        os.lseek(handle, start, os.SEEK_SET)
        newline = os.read(handle, place - start).rfind(b"\n")
        if newline >= 0:
            place = start + newline + 1
            break
        place = start
    if place < end:
        os.ftruncate(handle, place)
    os.lseek(handle, 0, os.SEEK_END)


def newest(path: Path, n_bytes: int = _BLOCK_BYTES) -> Iterator[Event]:
    """The events in the last bytes of a journal, the newest first; what is torn or not an event is left out."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - n_bytes))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        try:
            yield decode(line.decode("utf-8"))
        except ValueError:
            continue
