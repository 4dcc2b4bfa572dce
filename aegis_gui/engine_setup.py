"""Sets the engine up in a thread of its own, so that the window never waits for it."""

import time
from collections import deque
from collections.abc import Callable

from PySide6.QtCore import QObject, QThread, QTimer, Signal

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.engine.condition import Condition, EngineState, glance
from aegis_core.engine.making import Progress, Stage, make_engine
from aegis_core.engine.parts import Parts
from aegis_core.engine.place import Place
from aegis_core.engine.wish import Wish
from aegis_core.failures import Failure, explain

INTERVAL_MILLISECONDS = 200
_PACE_SECONDS = 20.0


class EngineSetup(QObject):
    """At most one attempt at a time. `changed` comes when `progress`, `running` or `failure` is another; `ready` when
    an attempt has succeeded."""

    changed = Signal()
    ready = Signal()

    def __init__(self, place: Place, parts: Parts, wish: Wish, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.place, self.parts, self.wish = place, parts, wish
        self.progress = Progress(Stage.LOOK)
        self.failure: Failure | None = None
        self.stopping = False
        self._attempt: _Attempt | None = None
        self._cancel = CancelToken()
        self._pace: deque[tuple[float, int]] = deque()
        self._timer = QTimer(self, interval=INTERVAL_MILLISECONDS)
        self._timer.timeout.connect(self._look)

    @property
    def running(self) -> bool:
        return self._attempt is not None

    @property
    def state(self) -> EngineState:
        return glance(self.place, self.parts)

    @property
    def needed(self) -> bool:
        """Whether no step can run before the engine has been set up."""
        return self.state.condition is not Condition.READY

    def start(self) -> None:
        """Set up what is missing; an engine that is there already has every file compared with its hash."""
        if self.running:
            return
        thorough = self.state.condition in (Condition.READY, Condition.DAMAGED)
        self._cancel, self.stopping, self.failure = CancelToken(), False, None
        self.progress = Progress(Stage.LOOK)
        self._pace.clear()
        cancel = self._cancel
        self._attempt = _Attempt(
            lambda hear: make_engine(self.place, self.parts, self.wish, cancel, hear, thorough), self
        )
        self._attempt.finished.connect(self._finish)
        self._attempt.start()
        self._timer.start()
        self.changed.emit()

    def stop(self) -> None:
        """Returns at once; what was fetched is kept."""
        self.stopping = self.running
        self._cancel.cancel()
        self.changed.emit()

    def shut_down(self) -> None:
        """For the end of the program: no thread and no process is left when this returns."""
        self._cancel.cancel()
        if self._attempt:
            self._attempt.wait()
            self._finish()

    def seconds_left(self) -> float | None:
        """From the pace of the last 20 s; None while that tells nothing."""
        if len(self._pace) < 2 or self.progress.stage is not Stage.FETCH:
            return None
        (then, before), (now, done) = self._pace[0], self._pace[-1]
        if done <= before or now - then < 1:
            return None
        return (self.progress.total_bytes - done) * (now - then) / (done - before)

    def _look(self) -> None:
        if self._attempt:
            self.progress = self._attempt.latest
        if self.progress.stage is Stage.FETCH:
            now = time.monotonic()
            self._pace.append((now, self.progress.done_bytes))
            while now - self._pace[0][0] > _PACE_SECONDS:
                self._pace.popleft()
        self.changed.emit()

    def _finish(self) -> None:
        if self._attempt is None:
            return
        attempt, self._attempt = self._attempt, None
        attempt.wait()
        self._timer.stop()
        self.failure, self.stopping = attempt.failure, False
        attempt.deleteLater()
        if attempt.succeeded:
            self.ready.emit()
        self.changed.emit()


class _Attempt(QThread):
    """Does the work; `latest` is read by the window's timer, so that a fast download floods nobody with events."""

    def __init__(self, work: Callable[[Callable[[Progress], None]], object], parent: QObject) -> None:
        super().__init__(parent)
        self._work = work
        self.latest = Progress(Stage.LOOK)
        self.failure: Failure | None = None
        self.succeeded = False

    def run(self) -> None:
        try:
            self._work(self._hear)
            self.succeeded = True
        except Cancelled:
            pass
        except Exception as error:  # the boundary of this thread: one sentence, one advice
            self.failure = explain(error)

    def _hear(self, progress: Progress) -> None:
        self.latest = progress
