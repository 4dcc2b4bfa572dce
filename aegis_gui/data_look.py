"""Asks the engine what the dataset of the open run would be read as; the window itself reads no data."""

import json
from dataclasses import asdict
from typing import Any

from PySide6.QtCore import QObject, QProcess, QTimer, Signal

from aegis_core.data.place import on_the_hub
from aegis_core.engine.command import engine_command
from aegis_core.failures import UserError, explain
from aegis_core.plan import Plan

from .engine_process import EngineProcess
from .state import AppState

PAUSE_MILLISECONDS = 400  # after the latest edit
_END_MILLISECONDS = 2000


class DataLook(QObject):
    """At most one look at a time. `changed` comes when `row` (the engine's answer), `running` or `asks` is another.

    What lies on this machine is looked at by itself, soon after it was chosen; for a dataset on the hub `asks` is
    true: it is looked at when `look()` is called, since that goes online.
    """

    changed = Signal()

    def __init__(self, state: AppState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.row: dict[str, Any] | None = None
        self.asks = False
        self._of = ""
        self._process: EngineProcess | None = None
        self._pause = QTimer(self, singleShot=True, interval=PAUSE_MILLISECONDS)
        self._pause.timeout.connect(self._start)

    @property
    def running(self) -> bool:
        return self._process is not None or self._pause.isActive()

    def follow(self) -> None:
        """The plan or the run may be another: forget what no longer holds, and look again where nobody need ask."""
        of = _described(self.state)
        if of == self._of:
            return
        self.stop()
        self._of, self.row = of, None
        self.asks = bool(of) and on_the_hub(self.state.plan.data.source)
        if of and not self.asks:
            self._pause.start()
        self.changed.emit()

    def look(self) -> None:
        """Look now, also once more."""
        self.stop()
        self._of, self.row, self.asks = _described(self.state), None, False
        if self._of:
            self._start()

    def stop(self) -> None:
        """End a look that has not ended; no process of it is left when this returns."""
        self._pause.stop()
        process, self._process = self._process, None
        if process:
            process.finished.disconnect()
            process.kill()
            process.waitForFinished(_END_MILLISECONDS)
            process.deleteLater()

    def _start(self) -> None:
        if self.state.run is None:
            return
        try:
            command = engine_command("preview", self.state.run.path, "--only", "data", "--json")
        except UserError as error:
            self.row = {"failure": asdict(explain(error))}
            self.changed.emit()
            return
        self._process = EngineProcess(self)
        self._process.finished.connect(self._end)
        self._process.errorOccurred.connect(self._fail)
        self._process.begin(command)
        self.changed.emit()

    def _fail(self, error: QProcess.ProcessError) -> None:
        """What cannot even start does not finish either."""
        if error is not QProcess.ProcessError.FailedToStart or self._process is None:
            return
        cause = self._process.errorString()
        self._process.deleteLater()
        self._process = None
        self.row = {"failure": asdict(explain(UserError("The engine could not start: {cause}.", cause=cause)))}
        self.changed.emit()

    def _end(self) -> None:
        assert self._process is not None
        answer = bytes(self._process.readAllStandardOutput().data())
        words = bytes(self._process.readAllStandardError().data()).decode("utf-8", errors="replace")
        self._process.deleteLater()
        self._process = None
        self.row = _row(answer, words)
        self.changed.emit()


def _described(state: AppState) -> str:
    """The run and its data settings, as text to compare; "" while no run is open."""
    if state.run is None:
        return ""
    data = {name: value for name, value in Plan.model_dump(state.plan)["data"].items() if name not in _AFTERWARDS}
    return json.dumps([str(state.run.path), data])


# Settings that say what is done with the samples once they are read.
_AFTERWARDS = ("sequence_length", "held_out_fraction", "seed", "packing", "over_long")


def _row(answer: bytes, words: str) -> dict[str, Any]:
    """The engine's answer, or a failure made of its last words."""
    try:
        row: dict[str, Any] = json.loads(answer)["data"]
    except (ValueError, KeyError, TypeError):
        last = next((line.strip() for line in reversed(words.splitlines()) if line.strip()), "")
        return {"failure": {"reason": last[:300], "advice": ""}}
    return row
