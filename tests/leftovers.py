"""What a test may not leave behind: a running QThread, a ticking QTimer that lives on, a process it started."""

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import psutil
import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, QThread, QTimer

PATIENCE_MILLISECONDS = 5_000  # for what was told to end and is about to
# Python's own, which outlive whoever needed them first.
LASTING = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


class Started:
    """Every QThread and QTimer that Python code starts, from now on, as weak references."""

    def __init__(self) -> None:
        self._found: list[weakref.ref[Any]] = []
        for kind in (QThread, QTimer):
            kind.start = self._noting(kind.start)  # type: ignore[method-assign]

    def forget(self) -> None:
        self._found.clear()

    def threads(self) -> list[QThread]:
        """Those that still run when they have had time to end."""
        return [t for t in self._alive(QThread) if t.isRunning() and not t.wait(PATIENCE_MILLISECONDS)]

    def timers(self) -> list[QTimer]:
        """Those that still tick though everything that can go has gone."""
        if any(timer.isActive() for timer in self._alive(QTimer)):
            if QCoreApplication.instance():
                QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            gc.collect()
        return [timer for timer in self._alive(QTimer) if timer.isActive()]

    def _alive(self, kind: type) -> list[Any]:
        known = (reference() for reference in self._found)
        return [thing for thing in known if isinstance(thing, kind) and shiboken6.isValid(thing)]

    def _noting(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def noted(thing: Any, *arguments: Any) -> Any:
            self._found.append(weakref.ref(thing))
            return start(thing, *arguments)

        return noted


def children() -> set[psutil.Process]:
    """The processes below this one that work; a dead one that nobody has asked about is none."""
    return {process for process in psutil.Process().children(recursive=True) if _works(process)}


def left_processes(before: Iterable[psutil.Process]) -> list[str]:
    """Command lines of processes that are new and stay; they are ended, so that the next test begins clean."""
    new = children() - set(before)
    _, alive = psutil.wait_procs(new, timeout=PATIENCE_MILLISECONDS / 1000)
    left = [process for process in alive if _works(process)]
    lines = [_command_line(process) for process in left]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=PATIENCE_MILLISECONDS / 1000)
    return lines


def _works(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and not any(name in _command_line(process) for name in LASTING)
    except psutil.NoSuchProcess:
        return False


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return f"process {process.pid}"
