"""What one step of a run told, read again from events.jsonl at any place, without keeping it in memory. Qt-free."""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from aegis_core.events import Event, StepStarted, decode

LONGEST_GAP_SECONDS = 5.0  # a night between a stop and its continuation is not waited for
_HEAD = re.compile(rb'\{"event": "(\w+)", "at": ([\d.e+]+), "stage": "(\w*)"')


class Recording:
    """The latest attempt of a step, as far as it was continued: `len()` events, each with a moment in seconds.

    The moments begin with 0 and never go back; waits of more than `LONGEST_GAP_SECONDS` are cut to that. Lines that
    are torn or no events are left out, as they are everywhere. Nothing is there if the file is not.
    """

    def __init__(self, path: Path, step: str) -> None:
        self.path, self.step = path, step
        self.began_at = 0.0  # Unix time
        self._offsets, self._moments = array("q"), array("d")
        if path.is_file():
            self._scan()

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def seconds(self) -> float:
        """How long it takes at the speed at which it happened."""
        return self._moments[-1] if self._moments else 0.0

    def moment(self, index: int) -> float:
        """When the event with this index is due; infinity past the last."""
        return self._moments[index] if index < len(self._moments) else float("inf")

    def index_at(self, seconds: float) -> int:
        """How many events have happened by then."""
        return bisect_right(self._moments, seconds)

    def events(self, first: int = 0) -> Iterator[Event]:
        """The events from this index on."""
        if first >= len(self):
            return
        with self.path.open("rb") as file:
            for offset in self._offsets[first:]:
                file.seek(offset)
                try:
                    yield decode(file.readline().decode("utf-8"))
                except ValueError:
                    continue

    def _scan(self) -> None:
        last_at = 0.0
        with self.path.open("rb") as file:
            offset = 0
            for line in file:
                here, offset = offset, offset + len(line)
                head = _head(line)
                if head is None or head[2] != self.step:
                    continue
                name, at, _ = head
                if name == StepStarted.__name__ and not _resumed(line):
                    self._offsets, self._moments, self.began_at = array("q"), array("d"), at
                elif not self._offsets:
                    self.began_at = at
                gap = min(max(at - last_at, 0.0), LONGEST_GAP_SECONDS) if self._moments else 0.0
                self._offsets.append(here)
                self._moments.append(self.seconds + gap)
                last_at = max(at, last_at) if gap else at


def _head(line: bytes) -> tuple[str, float, str] | None:
    """(kind, time, step) of a line; its whole JSON is only read where it is not written as AEGIS writes it."""
    if (found := _HEAD.match(line)) and line.endswith(b"}\n"):
        return found[1].decode(), float(found[2]), found[3].decode()
    try:
        event = decode(line.decode("utf-8"))
    except ValueError:
        return None
    return type(event).__name__, event.at, event.stage


def _resumed(line: bytes) -> bool:
    event = decode(line.decode("utf-8"))
    return isinstance(event, StepStarted) and event.resumed
