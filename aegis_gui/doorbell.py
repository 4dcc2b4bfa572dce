"""How a second start reaches a window that is there already: it rings, and the window comes to the front.

Local sockets of this user only; nothing is said through them, being connected to is the whole message.
"""

import hashlib
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

from aegis_core.resources import cache_folder

_PATIENCE_MILLISECONDS = 1_000


class Doorbell(QObject):
    """Hangs at most at one door."""

    rung = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._answer)

    def hang(self, door: str) -> None:
        """Hear whoever rings there. A bell that a killed window left at this door is replaced."""
        self.take_down()
        self._server.listen(door)

    def take_down(self) -> None:
        if self._server.isListening():
            self._server.close()

    def _answer(self) -> None:
        while caller := self._server.nextPendingConnection():
            caller.close()
            caller.deleteLater()
        self.rung.emit()


def ring(door: str) -> bool:
    """Whether somebody heard it."""
    socket = QLocalSocket()
    socket.connectToServer(door)
    heard = socket.waitForConnected(_PATIENCE_MILLISECONDS)
    socket.abort()
    return heard


def door_of(run: Path) -> str:
    """Where the window rings that has this run."""
    return _door(run.resolve())


def door_of_the_tray() -> str:
    """Where this user's window rings that waits in the tray."""
    return _door(cache_folder().absolute() / "tray")


def _door(place: Path) -> str:
    return f"aegis-{hashlib.sha256(str(place).encode()).hexdigest()[:24]}"
