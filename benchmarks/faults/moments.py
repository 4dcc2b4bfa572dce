"""The moments at which something becomes true on the disk: before and after each forcing, renaming, making, deleting.

`listen` wraps the calls of `os` in this process (a fork that is about to die), at the edge of what Python asks of the
system. What libraries written in C or Rust ask by themselves is not seen.
"""

import os
import signal
from collections.abc import Callable
from functools import wraps
from typing import Any

CALLS = ("fsync", "replace", "rename", "unlink", "remove", "rmdir", "mkdir", "ftruncate", "truncate", "link")
Heard = Callable[[str, str, tuple[Any, ...]], None]
"""(call, "before" or "after", its arguments)"""


def listen(heard: Heard) -> None:
    for name in CALLS:
        setattr(os, name, _wrapped(name, getattr(os, name), heard))


def _wrapped(name: str, call: Callable[..., Any], heard: Heard) -> Callable[..., Any]:
    @wraps(call)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        heard(name, "before", arguments)
        answer = call(*arguments, **options)
        heard(name, "after", arguments)
        return answer

    return wrapper


def at(number: int, act: Callable[[], None]) -> Callable[[], None]:
    """What makes this process `act` at the moment of this number, counted from 0."""

    def prepare() -> None:
        n_heard = -1

        def heard(call: str, when: str, arguments: tuple[Any, ...]) -> None:
            nonlocal n_heard
            n_heard += 1
            if n_heard == number:
                act()

        listen(heard)

    return prepare


def kill_at(number: int) -> Callable[[], None]:
    """What makes this process end itself by kill -9 at the moment of this number."""
    return at(number, lambda: os.kill(os.getpid(), signal.SIGKILL))


def count_into(path: str) -> Callable[[], None]:
    """What makes this process leave one byte in a file for each moment."""

    def prepare() -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        listen(lambda call, when, arguments: os.write(handle, b"."))

    return prepare
