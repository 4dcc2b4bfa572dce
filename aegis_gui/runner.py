"""Starts the engine for the open run, listens to it, and ends it for certain."""

import threading
from collections.abc import Sequence
from enum import StrEnum

from PySide6.QtCore import QObject, QTimer, Signal

from aegis_core.child import Child
from aegis_core.engine.command import engine_command
from aegis_core.events import Event, StepFailed
from aegis_core.models.memory_advice import with_smaller_settings

from .inbox import Inbox
from .state import AppState
from .worker import RunWorker

PATIENCE_MILLISECONDS = 60_000
OVERDUE_MILLISECONDS = 5_000


class Stopping(StrEnum):
    """How far a stop has come; `overdue` is one that takes so long that the person may want to end it by force."""

    NO = "no"
    AFTER_STEP = "after_step"
    SAVING = "saving"
    OVERDUE = "overdue"


class Runner(QObject):
    """At most one engine at a time. `ended` comes when its process and its thread are gone.

    `several` says whether the engine was told to do more than one step.
    """

    started = Signal()
    ended = Signal()
    stopping_changed = Signal()

    def __init__(self, state: AppState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.stopping = Stopping.NO
        self.several = False
        self._worker: RunWorker | None = None
        self._inbox = Inbox(state.receive, self)
        self._patience = QTimer(self, singleShot=True, interval=PATIENCE_MILLISECONDS)
        self._patience.timeout.connect(self.kill)
        self._overdue = QTimer(self, singleShot=True, interval=OVERDUE_MILLISECONDS)
        self._overdue.timeout.connect(lambda: self._set(Stopping.OVERDUE))

    @property
    def running(self) -> bool:
        return self._worker is not None

    @property
    def pid(self) -> int | None:
        return self._worker.child.pid if self._worker else None

    def start(self, arguments: Sequence[str]) -> None:
        """Run `aegis run RUN_DIR ARGUMENTS --events`; OSError if it cannot be started."""
        assert self.state.run is not None and not self.running
        command = engine_command("run", self.state.run.path, *arguments, "--events")
        child = Child(command, self.state.run.stderr_path)
        self._worker = RunWorker(child, self._hear, self)
        self._worker.finished.connect(self._finish)
        self.stopping, self.several = Stopping.NO, "--only" not in arguments
        self.state.begin()
        self._inbox.start()
        self._worker.start()
        self.started.emit()

    def pause(self, paused: bool) -> None:
        if self._worker:
            self._worker.child.send({"do": "pause" if paused else "resume"})

    def stop_after_step(self) -> None:
        if self._worker and self.stopping is Stopping.NO:
            self._worker.child.send({"do": "stop_after_step"})
            self._set(Stopping.AFTER_STEP)

    def stop(self) -> None:
        """Ask the engine to save and exit; if it has not within a minute, end it."""
        if self._worker and self.stopping in (Stopping.NO, Stopping.AFTER_STEP):
            self._worker.child.cancel()
            self._patience.start()
            self._overdue.start()
            self._set(Stopping.SAVING)

    def kill(self) -> None:
        """End the engine at once, without waiting for it here; what its last checkpoint holds is kept."""
        if self._worker:
            threading.Thread(target=self._worker.child.kill, name="engine-kill", daemon=True).start()

    def shut_down(self) -> None:
        """For the end of the program: no process and no thread is left when this returns."""
        if self._worker:
            self._inbox.let_everyone_in()
            self._worker.child.stop(timeout=10)
            self._worker.wait()
            self._finish()

    def _hear(self, event: Event) -> None:
        """In the worker's thread. An engine that the system killed could not say which settings would have fitted."""
        run = self.state.run
        if isinstance(event, StepFailed) and run is not None:
            event = with_smaller_settings(event, run, run.plan())
        self._inbox.put(event)

    def _finish(self) -> None:
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        self._patience.stop()
        self._overdue.stop()
        worker.wait()
        self._inbox.stop()
        worker.deleteLater()
        self.stopping = Stopping.NO
        self.state.end()
        self.ended.emit()

    def _set(self, stopping: Stopping) -> None:
        self.stopping = stopping
        self.stopping_changed.emit()
