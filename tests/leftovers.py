"""What a test may not leave behind: a running QThread, a ticking QTimer that lives on, a process it started."""

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import psutil
import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, QObject, QThread, QTimer
from PySide6.QtWidgets import QApplication

PATIENCE_MILLISECONDS = 5_000  # for what was told to end and is about to
# Python's own, which outlive whoever needed them first.
LASTING = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


class Started:
    """Every QThread and QTimer that Python code starts, from now on, as weak references."""

    def __init__(self) -> None:
        self._found: list[weakref.ref[Any]] = []
        self._older: set[int] = set()
        for kind in (QThread, QTimer):
            kind.start = self._noting(kind.start)  # type: ignore[method-assign]

    def begin(self) -> None:
        """A test begins: what was started so far is not its own, nor will timers of windows be that are there already.

        A window that several tests share is its module's to clear away.
        """
        self._found.clear()
        app = QApplication.instance()
        windows = app.topLevelWidgets() if isinstance(app, QApplication) else []
        self._older = set(map(_address, windows))

    def threads(self) -> list[QThread]:
        """Those that still run when they have had time to end."""
        return [t for t in self._alive(QThread) if t.isRunning() and not t.wait(PATIENCE_MILLISECONDS)]

    def timers(self) -> list[QTimer]:
        """Those that still tick though everything that can go has gone."""
        if self._ticking():
            if QCoreApplication.instance():
                QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            gc.collect()
        return self._ticking()

    def _ticking(self) -> list[QTimer]:
        return [t for t in self._alive(QTimer) if t.isActive() and _address(_root(t)) not in self._older]

    def _alive(self, kind: type) -> list[Any]:
        known = {id(thing): thing for reference in self._found if (thing := reference()) is not None}
        return [thing for thing in known.values() if isinstance(thing, kind) and shiboken6.isValid(thing)]

    def _noting(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def noted(thing: Any, *arguments: Any) -> Any:
            self._found.append(weakref.ref(thing))
            return start(thing, *arguments)

        return noted


def named(thing: QObject) -> str:
    """An object with its parents, so that it can be found in the source text."""
    names = []
    while thing is not None:
        names.append(type(thing).__name__)
        thing = thing.parent()
    return " of ".join(names)


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


def _root(thing: QObject) -> QObject:
    while (parent := thing.parent()) is not None:
        thing = parent
    return thing


def _address(thing: QObject) -> int:
    return int(shiboken6.getCppPointer(thing)[0])


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
