"""The child's side of the pipe: events out on what was stdout, commands in on what was stdin.

Both streams are taken away from everybody else first. Whatever a library, native or not, prints afterwards goes to
stderr, and no subprocess can read our commands (or, on Windows, hang on a pipe that is being read).
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import platforms
from .cancel import CancelToken
from .events import Event, Log, warning
from .journal import to_line

_ORPHAN_SECONDS = 180.0


@dataclass(frozen=True)
class Pipes:
    """Private file descriptors of the two pipes."""

    commands: int
    events: int


def take_over() -> Pipes:
    """Keep stdin and stdout for the protocol; fd 0 becomes empty, fd 1 becomes stderr.

    To be called before anything reads the commands, and before any library is loaded that might look at its input.
    """
    sys.stdout.flush()
    pipes = Pipes(commands=os.dup(0), events=os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    platforms.here().part_with_streams(pipes.commands, pipes.events)
    return pipes


class EventWriter:
    """Writes events to a pipe, whole lines from any thread; when nobody reads any more, `on_broken` is called once."""

    def __init__(self, handle: int, on_broken: Callable[[], None]) -> None:
        self._handle = handle
        self._on_broken = on_broken
        self._broken = False
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._broken:
                return
            line = memoryview(to_line(event))
            try:
                while line:
                    line = line[os.write(self._handle, line) :]
                return
            except OSError:  # EPIPE; EINVAL on Windows
                self._broken = True
        self._on_broken()


def lines_from(handle: int) -> Iterator[str]:
    """Lines of UTF-8 text from a file descriptor until its end; broken bytes are replaced.

    Reads the descriptor directly: a thread blocked in a Python file object would stop the interpreter from exiting.
    """
    rest = b""
    while block := _read(handle):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", errors="replace").rstrip("\r")
    if rest:
        yield rest.decode("utf-8", errors="replace")


def listen(lines: Iterable[str], cancel: CancelToken, say: Callable[[Log], None]) -> threading.Thread:
    """Obey commands in a thread of its own; the end of the input means save and exit, within 3 minutes at the most."""

    def work() -> None:
        for line in lines:
            if line.strip():
                _obey(line, cancel, say)
        cancel.cancel()
        deadline = threading.Timer(_ORPHAN_SECONDS, os._exit, [130])  # a hung step must not keep the GPU for ever
        deadline.daemon = True
        deadline.start()

    thread = threading.Thread(target=work, name="commands", daemon=True)
    thread.start()
    return thread


def _obey(line: str, cancel: CancelToken, say: Callable[[Log], None]) -> None:
    commands = {
        "cancel": cancel.cancel,
        "stop_after_step": cancel.stop_after_step,
        "pause": cancel.pause,
        "resume": cancel.resume,
    }
    wanted = _wanted(line)
    if isinstance(wanted, str) and wanted in commands:
        commands[wanted]()
    else:
        say(warning("This command was not understood: {line}", line=line[:200]))


def _wanted(line: str) -> Any:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message.get("do") if isinstance(message, dict) else None


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # the other end was torn away
        return b""


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """Append to a file what libraries print, and all that goes to stderr, natively too.

    The terminal belongs to whoever held sys.stdout before: progress, and in the end the one sentence.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
