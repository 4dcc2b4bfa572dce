"""Plays a recording into whatever takes events, as fast as is wished."""

import time
from collections.abc import Callable, Iterator

from PySide6.QtCore import QObject, QTimer, Signal

from aegis_core.events import Event

from .recording import Recording

TURN_MS = 25
SLICE_SECONDS = 0.015  # one turn works no longer than this, so that the window stays free
AS_FAST_AS_POSSIBLE = float("inf")


class Replay(QObject):
    """`deliver` takes the events and `forget` takes everything back, for going backwards. It begins at rest at 0."""

    moved = Signal()  # position, playing or speed have changed

    def __init__(
        self,
        recording: Recording,
        deliver: Callable[[Event], object],
        forget: Callable[[], object],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.recording, self.speed, self.playing = recording, 1.0, False
        self.position = 0.0  # seconds since the beginning
        self._deliver, self._forget = deliver, forget
        self._index = 0
        self._stream: Iterator[Event] = recording.events()
        self._turned_at = 0.0
        self._timer = QTimer(self, interval=TURN_MS)
        self._timer.timeout.connect(self._turn)

    @property
    def at_end(self) -> bool:
        return self._index >= len(self.recording)

    @property
    def caught_up(self) -> bool:
        """Whether everything up to the position has been delivered."""
        return self.recording.moment(self._index) > self.position

    def play(self) -> None:
        """Go on from here; from the beginning where the end was reached."""
        if self.at_end:
            self.seek(0.0)
        self.playing, self._turned_at = True, time.perf_counter()
        self._timer.start()
        self.moved.emit()

    def pause(self) -> None:
        self.playing = False
        self.moved.emit()

    def set_speed(self, speed: float) -> None:
        """1 is as it happened; `AS_FAST_AS_POSSIBLE` waits for nothing."""
        self.speed, self._turned_at = speed, time.perf_counter()
        self.moved.emit()

    def seek(self, seconds: float) -> None:
        """Show how it was then. Backwards everything is told anew, in slices like everything else."""
        seconds = min(max(seconds, 0.0), self.recording.seconds)
        index = self.recording.index_at(seconds)
        if index < self._index:
            self._forget()
            self._index, self._stream = 0, self.recording.events()
        self.position = seconds
        self._timer.start()
        self.moved.emit()

    def stop(self) -> None:
        """No timer is left running."""
        self.playing = False
        self._timer.stop()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self.playing and self.caught_up:
            if self.speed == AS_FAST_AS_POSSIBLE:
                self.position = self.recording.seconds
            else:
                self.position = min(self.position + (now - self._turned_at) * self.speed, self.recording.seconds)
        self._turned_at = now
        self._deliver_until(now + SLICE_SECONDS)
        if self.at_end:
            self.playing = False
        if self.caught_up and not self.playing:
            self._timer.stop()
        self.moved.emit()

    def _deliver_until(self, deadline: float) -> None:
        while not self.caught_up and time.perf_counter() < deadline:
            event = next(self._stream, None)
            self._index = len(self.recording) if event is None else self._index + 1
            if event is not None:
                self._deliver(event)
