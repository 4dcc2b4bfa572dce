"""What AEGIS asks of the desktop around its window: stay awake, a bar in the taskbar, a sound, room in the tray.

Each wish has one module per system that can grant it, imported on that system only; elsewhere nothing happens.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from PySide6.QtWidgets import QApplication, QSystemTrayIcon


class Awake(Protocol):
    """Keeps the computer from falling asleep between `hold` and `release`; both may be called twice."""

    def hold(self) -> None: ...

    def release(self) -> None: ...


class Bar(StrEnum):
    """How the program's button in the taskbar appears."""

    NONE = "none"
    UNKNOWN = "unknown"  # something moves, nobody knows how far it is
    NORMAL = "normal"
    PAUSED = "paused"
    FAILED = "failed"


class Taskbar(Protocol):
    """The button of a window (its native handle) in the taskbar; `fraction` is 0 to 1."""

    def show(self, window: int, bar: Bar, fraction: float) -> None: ...


class Presence(Protocol):
    """Shows the installer that a window is open, until it is withdrawn or the program ends."""

    def withdraw(self) -> None: ...


@dataclass(frozen=True)
class Desktop:
    awake: Awake
    taskbar: Taskbar
    chime: Callable[[], None]
    has_tray: Callable[[], bool]


class Indifferent:
    """A system without such a thing, or one whose way to it is not known."""

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def show(self, window: int, bar: Bar, fraction: float) -> None:
        pass

    def withdraw(self) -> None:
        pass


def announced() -> Presence:
    """Lets the installer know, where there is one, that this program runs."""
    if sys.platform == "win32":
        from .windows_presence import NamedMutex

        return NamedMutex()
    return Indifferent()


def this_desktop() -> Desktop:
    """The one the program runs on."""
    has_tray, system = QSystemTrayIcon.isSystemTrayAvailable, sys.platform
    if system == "win32":
        from .windows_awake import ExecutionState
        from .windows_sound import play
        from .windows_taskbar import TaskbarButton

        return Desktop(ExecutionState(), TaskbarButton(), play, has_tray)
    if system == "linux":
        from .linux_awake import SleepInhibitor

        return Desktop(SleepInhibitor(), Indifferent(), QApplication.beep, has_tray)
    return Desktop(Indifferent(), Indifferent(), QApplication.beep, has_tray)
