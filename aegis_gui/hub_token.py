"""The hub's token as the window sees it: asked of the engine, in a process of its own, and never held here."""

import json
from enum import StrEnum
from typing import Any

from PySide6.QtCore import QObject, QProcess, Signal

from aegis_core.engine.command import engine_command
from aegis_core.failures import Failure, UserError, explain

from .engine_process import EngineProcess

_END_MILLISECONDS = 2000


class Task(StrEnum):
    """By the name of the command that does it."""

    LOOK = "status"
    KEEP = "login"
    FORGET = "logout"


class HubToken(QObject):
    """One task at a time. `changed` comes when `task` (None while nothing is done), `failure` or the state is another.

    `known` turns true with the first answer: `variable` is what gives a token in the environment or "", `kept` whether
    one is stored here, `account` whose it is, told when the hub has just confirmed it. `failed` is the task that
    `failure` is about.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.task: Task | None = None
        self.failed: Task | None = None
        self.failure: Failure | None = None
        self.known, self.kept, self.variable, self.account = False, False, "", ""
        self._process: EngineProcess | None = None

    def look(self) -> None:
        """Ask where the token comes from, unless something is being asked."""
        if self.task is None:
            self._ask(Task.LOOK)

    def keep(self, token: str) -> None:
        """Have the hub asked about this token, and keep it if the hub knows it."""
        self._ask(Task.KEEP, " ".join(token.split()))

    def forget(self) -> None:
        self._ask(Task.FORGET)

    def forget_failure(self) -> None:
        """What went wrong has been read, and what went well too."""
        self.failure, self.failed, self.account = None, None, ""
        self.changed.emit()

    def shut_down(self) -> None:
        """No process is left when this returns."""
        process, self._process = self._process, None
        self.task = None
        if process:
            process.finished.disconnect()
            process.errorOccurred.disconnect()
            process.kill()
            process.waitForFinished(_END_MILLISECONDS)
            process.deleteLater()

    def _ask(self, task: Task, typed: str = "") -> None:
        """The token goes through a pipe: a command line and an environment can be read by other programs."""
        self.shut_down()
        self.task, self.failed, self.failure, self.account = task, None, None, ""
        try:
            command = engine_command("hub", task.value, "--json")
        except UserError as error:
            self._fail(explain(error))
            return
        process = self._process = EngineProcess(self)
        process.finished.connect(self._end)
        process.errorOccurred.connect(self._on_error)
        process.begin(command)
        process.write(f"{typed}\n".encode())
        process.closeWriteChannel()
        self.changed.emit()

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error is QProcess.ProcessError.FailedToStart and self._process:
            problem = self._process.errorString()
            self._leave()
            self._fail(explain(UserError("The engine could not be started: {problem}.", "Try again.", problem=problem)))

    def _end(self) -> None:
        assert self._process is not None
        answer = bytes(self._process.readAllStandardOutput().data())
        words = bytes(self._process.readAllStandardError().data()).decode("utf-8", errors="replace")
        self._leave()
        row = _row(answer, words)
        if "failure" in row:
            self._fail(Failure(**row["failure"]))
            return
        self.task, self.known = None, True
        self.kept, self.variable = bool(row["kept"]), str(row["variable"])
        self.account = str(row.get("account", ""))
        self.changed.emit()

    def _leave(self) -> None:
        if self._process:
            self._process.deleteLater()
        self._process = None

    def _fail(self, failure: Failure) -> None:
        self.failed, self.task, self.failure = self.task, None, failure
        self.changed.emit()


def _row(answer: bytes, words: str) -> dict[str, Any]:
    """The engine's answer, or a failure made of its last words."""
    try:
        row: dict[str, Any] = json.loads(answer)
    except ValueError:
        last = next((line.strip() for line in reversed(words.splitlines()) if line.strip()), "")[:300]
        return {"failure": vars(explain(UserError("The engine stopped: {problem}", "Try again.", problem=last)))}
    return row
