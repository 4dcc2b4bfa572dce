"""A long request in a thread of its own: heard piece by piece, and hung up at once when nobody listens any more.

The thread that works for the user never waits for the network, so that a stop is heard while a server is silent, and
while it takes no more data.
"""

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

POLL_SECONDS = 0.1
_CONNECTED = "connection.connect_tcp.complete"
_ENDED = object()


class Line:
    """What the thread that talks to the server is given: `say` passes something on, `trace` goes with the request."""

    def __init__(self) -> None:
        self.said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.hung_up = threading.Event()
        self._socket: socket.socket | None = None

    def say(self, item: object) -> None:
        self.said.put(item)

    def trace(self, name: str, info: dict[str, Any]) -> None:
        """httpx's trace extension: the request's own connection, once it stands."""
        if name == _CONNECTED:
            self._socket = info["return_value"].get_extra_info("socket")
            if self.hung_up.is_set():
                self._cut()

    def hang_up(self) -> None:
        """Whatever the thread waits for fails at once; the server notices that nobody is there any more."""
        self.hung_up.set()
        self._cut()

    def _cut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed already
                self._socket.shutdown(socket.SHUT_RDWR)


def heard(talk: Callable[[Line], None], cancelled: Callable[[], bool]) -> Iterator[Any]:
    """What `talk` says, as it comes; its exception is raised here. Ends early when `cancelled` says so.

    `talk` must use a connection of its own, with the line's `trace`.
    """
    line = Line()

    def run() -> None:
        try:
            talk(line)
        except Exception as error:  # crosses to the thread that listens
            line.say(error)
        line.say(_ENDED)

    threading.Thread(target=run, name="ollama", daemon=True).start()
    try:
        while not cancelled():
            try:
                item = line.said.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if item is _ENDED:
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        line.hang_up()
