"""Where events wait between the thread that reads them and the pages that draw them."""

import time
from collections import deque
from collections.abc import Callable

from PySide6.QtCore import QObject, QThread, QTimer

from aegis_core.events import Event

INTERVAL_MILLISECONDS = 50
FLOODED_MILLISECONDS = 4  # while more waits than one turn could hand on
SLICE_SECONDS = 0.01
MOST_WAITING = 4_000
PAUSE_SECONDS = 0.005


class Inbox(QObject):
    """Any thread may `put`; the window's thread hands events on 20 times a second, and in a flood turn after turn.

    One turn works for 10 ms at most, so that a flood of events never freezes the window. Whoever brings more than are
    handed on waits: the pipe fills up and the engine becomes slower, instead of the window larger and larger.
    """

    def __init__(self, deliver: Callable[[Event], None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._deliver = deliver
        self._waiting: deque[Event] = deque()
        self._timer = QTimer(self, interval=INTERVAL_MILLISECONDS)
        self._timer.timeout.connect(self._drain)
        self._handing_on = False

    def put(self, event: Event) -> None:
        self._waiting.append(event)
        while self._handing_on and len(self._waiting) > MOST_WAITING and QThread.currentThread() is not self.thread():
            time.sleep(PAUSE_SECONDS)

    def start(self) -> None:
        self._handing_on = True
        self._timer.start()

    def let_everyone_in(self) -> None:
        """Nobody waits from here on: for a window that is about to wait for the one who brings the events."""
        self._handing_on = False

    def stop(self) -> None:
        """Deliver what still waits, then rest."""
        self._handing_on = False
        self._timer.stop()
        while self._waiting:
            self._deliver(self._waiting.popleft())

    def _drain(self) -> None:
        until = time.perf_counter() + SLICE_SECONDS
        while self._waiting and time.perf_counter() < until:
            self._deliver(self._waiting.popleft())
        self._timer.setInterval(FLOODED_MILLISECONDS if self._waiting else INTERVAL_MILLISECONDS)
