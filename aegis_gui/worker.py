"""The thread that listens to the engine's process, so that the window never waits for it."""

from collections.abc import Callable

from PySide6.QtCore import QObject, QThread

from aegis_core.child import Child
from aegis_core.events import Event


class RunWorker(QThread):
    """Reads one child's events until it is gone; `finished` (QThread's own signal) comes after the last event."""

    def __init__(self, child: Child, put: Callable[[Event], None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.child = child
        self._put = put

    def run(self) -> None:
        for event in self.child.events():
            self._put(event)
