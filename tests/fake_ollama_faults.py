"""What can go wrong on the way to an Ollama: pages that others send in its place, and answers that break off."""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

ERROR = "an error was encountered while running the model"


@dataclass(frozen=True)
class Page:
    status: int
    kind: str
    text: str
    headers: dict[str, str] = field(default_factory=dict)


PAGES = {
    "html": Page(200, "text/html; charset=utf-8", "<!DOCTYPE html><title>Sign in</title>"),
    "gateway": Page(502, "text/html", "<html>Bad Gateway</html>", {"Via": "1.1 squid"}),
    "407": Page(407, "text/html", "<html>Who are you?</html>", {"Proxy-Authenticate": "Basic"}),
    "another program": Page(200, "application/json", '{"name": "another"}', {"Server": "Another/1.0"}),
    "foreign version": Page(200, "application/json", '{"version": 3}'),
}


def spoiled(lines: list[str], fault: str, wait: Callable[[], None]) -> Iterator[str | None]:
    """The lines as they arrive; None where the connection is cut."""
    yield lines[0]
    if fault == "silent":
        wait()
    spoilt: dict[str, str | None] = {
        "error line": json.dumps({"error": ERROR}),
        "malformed": '{"model": "aegis", "mess',
        "cut": None,
    }
    if fault in spoilt:
        yield spoilt[fault]
    if fault in spoilt or fault == "ends early":
        return
    yield from lines[1:]


def hung_up(connection: socket.socket) -> bool:
    """Whether nobody is there any more; waits a twentieth of a second for it."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(None)
