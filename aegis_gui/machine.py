"""Reads the machine once a second in a thread of its own: a slow driver must not hold up the window."""

import threading
from pathlib import Path

from PySide6.QtCore import QObject, QThread, Signal

from aegis_core import hardware

INTERVAL_SECONDS = 1.0


class Machine(QThread):
    """`read` carries a Telemetry. `disk` is the drive to look at, `pid` the engine whose share counts as own."""

    read = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.disk: Path | None = None
        self.pid: int | None = None
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.is_set():
            self.read.emit(hardware.reading(self.disk, self.pid))
            self._end.wait(INTERVAL_SECONDS)

    def shut_down(self) -> None:
        self._end.set()
        self.wait()
