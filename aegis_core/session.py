"""One start of the engine on a run: where its events go, its heartbeat, and the token that stops it."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType

from . import hardware
from .cancel import CancelToken
from .events import TERMINAL, Event, Paused, StepStarted, Telemetry, warning
from .journal import Journal
from .run_directory import RunDirectory

_HEARTBEAT_SECONDS = 1.0


class Session(AbstractContextManager["Session"]):
    """Callable as the pipeline's sink: each event goes to the journal and then to `listener`, one at a time.

    While a step runs, the machine is read every second; no reading follows the end of its step.
    """

    def __init__(self, run: RunDirectory, listener: Callable[[Event], None], telemetry: bool = True) -> None:
        self.cancel = CancelToken(on_pause=lambda paused: self(self._stamped(Paused(paused))))
        self._run = run
        self._listener = listener
        self._telemetry = telemetry
        self._stage = ""
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._journal_broken = False
        self._spill_told = False

    def __enter__(self) -> "Session":
        self._journal = Journal(self._run.events_path)
        self._heart = threading.Thread(target=self._beat, name="telemetry", daemon=True)
        if self._telemetry:
            self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._telemetry:
            self._heart.join()
        self._journal.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, StepStarted):
                self._stage = event.stage
            elif isinstance(event, TERMINAL):
                self._stage = ""
            kept = self._journal.write(event)
            self._listener(event)
            if not kept and not self._journal_broken:
                self._listener(self._stamped(warning("{path} cannot be written.", path=self._run.events_path)))
            self._journal_broken = not kept

    def say(self, event: Event) -> None:
        """Send an event that comes from no step, stamped with the time and the step that happens to run."""
        self(self._stamped(event))

    def _stamped(self, event: Event) -> Event:
        return replace(event, at=time.time(), stage=self._stage)

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_SECONDS):
            if self._stage:
                reading = hardware.reading(self._run.path)
                with self._lock:
                    if self._stage:
                        self.say(reading)
                        self._warn_of_spill(reading)

    def _warn_of_spill(self, reading: Telemetry) -> None:
        """Once: Windows' driver does not fail when the card is full, it becomes slow."""
        spilt = reading.vram_shared_bytes or 0
        if spilt >= hardware.SPILT_BYTES and not self._spill_told:
            self._spill_told = True
            self.say(
                warning(
                    "The card is full: {size} of graphics memory have moved into RAM, where training is many times "
                    "slower. Choose a smaller batch with more accumulation, or a shorter sequence length. With "
                    "“Prefer No Sysmem Fallback” in the NVIDIA control "
                    "panel, training stops there instead of crawling.",
                    size=f"{spilt / 1e9:.1f} GB",
                )
            )
