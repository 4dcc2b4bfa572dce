"""Stop, pause and stop-after-this-step, asked for by another thread and honoured at safe points."""

import threading
from collections.abc import Callable


class Cancelled(Exception):
    """The user asked to stop; raised only from CancelToken.check()."""


class CancelToken:
    """Shared by the thread that listens and the step that works."""

    def __init__(self, on_pause: Callable[[bool], None] = lambda paused: None) -> None:
        self._cancelled = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._stop_after_step = threading.Event()
        self._on_pause = on_pause
        self._change = threading.Lock()

    def cancel(self) -> None:
        with self._change:
            self._cancelled.set()
            self._running.set()

    def pause(self) -> None:
        """Wait at the next check; does nothing once cancelled, or that check would wait for ever."""
        with self._change:
            if not self.cancelled:
                self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def stop_after_step(self) -> None:
        self._stop_after_step.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def stopping_after_step(self) -> bool:
        return self._stop_after_step.is_set()

    def wait_while_paused(self) -> None:
        """Return at once unless paused; then when resumed or cancelled."""
        if not self._running.is_set():
            self._on_pause(True)
            self._running.wait()
            self._on_pause(False)

    def check(self) -> None:
        """Raise Cancelled if asked to stop; while paused, wait here. Called at every batch, trial, tensor, file."""
        self.wait_while_paused()
        if self._cancelled.is_set():
            raise Cancelled
