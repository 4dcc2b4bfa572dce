"""One conversation with a chat child: opened at the first question, closed when the engine needs the machine."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from aegis_core.child import Child
from aegis_core.engine.command import engine_command
from aegis_core.events import AnswerFinished, Event, Log, StepFailed, Token
from aegis_core.run_directory import RunDirectory

from .i18n import mark
from .inbox import Inbox
from .worker import RunWorker

READY = mark("The model is ready.")  # what the chat child logs once it can answer
CLOSING_SECONDS = 3.0


class Talk(StrEnum):
    CLOSED = "closed"
    LOADING = "loading"
    READY = "ready"
    ANSWERING = "answering"


def chat_command(run: Path, model: str) -> list[str]:
    return engine_command("chat", run, "--events", "--model", model)


class ChatSession(QObject):
    """At most one child and one answer at a time.

    Every `say` is followed by any number of `token` and exactly one `finished`; a child that goes away meanwhile
    makes that one an AnswerFinished with reason "lost". `failed` tells why there is nobody to talk to.
    """

    token = Signal(str)
    finished = Signal(object)  # AnswerFinished
    failed = Signal(object)  # StepFailed
    said = Signal(object)  # Log and Progress while loading
    changed = Signal()  # `talk` is another one

    def __init__(
        self, command: Callable[[Path, str], Sequence[str]] = chat_command, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.talk = Talk.CLOSED
        self.model = ""
        self._command = command
        self._ids = itertools.count(1)
        self._answering = ""
        self._ready = False
        self._worker: RunWorker | None = None
        self._leaving: set[RunWorker] = set()
        self._inbox: Inbox | None = None

    def say(
        self, run: RunDirectory, model: str, messages: Sequence[Mapping[str, str]], sampling: Mapping[str, Any]
    ) -> None:
        """Ask; opens the child if need be. OSError if it cannot be started."""
        assert not self._answering
        if self._worker is None or self.model != model or not self._worker.child.running:
            self._open(run, model)
        assert self._worker is not None
        self._answering = str(next(self._ids))
        self._worker.child.send(
            {"do": "say", "id": self._answering, "messages": list(messages), "sampling": dict(sampling)}
        )
        self._set(Talk.ANSWERING if self._ready else Talk.LOADING)

    def stop(self) -> None:
        """End the answer that is coming; a model that is still loading is let go of."""
        if not self._answering or self._worker is None:
            return
        if self._ready:
            self._worker.child.send({"do": "stop", "id": self._answering})
        else:
            self.close()

    def close(self) -> None:
        """Let the model go. Returns at once; an answer on its way ends as cancelled."""
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        self._leaving.add(worker)
        if self._inbox:
            self._inbox.let_everyone_in()
        worker.child.cancel()
        QTimer.singleShot(round(CLOSING_SECONDS * 1000), worker, worker.child.kill)
        self._end_talk("cancelled")

    def shut_down(self) -> None:
        """For the end of the program: no process and no thread is left when this returns."""
        self.close()
        for worker in list(self._leaving):
            worker.child.stop(CLOSING_SECONDS)
            worker.wait()
            self._leaving.discard(worker)
            worker.deleteLater()

    def _open(self, run: RunDirectory, model: str) -> None:
        self.close()
        child = Child(self._command(run.path, model), run.stderr_path)
        self.model, self._ready = model, False
        inbox = self._inbox = Inbox(lambda event: self._receive(worker, event), self)
        worker = RunWorker(child, inbox.put, self)
        worker.finished.connect(lambda: self._gone(worker, inbox))
        self._worker = worker
        inbox.start()
        worker.start()

    def _gone(self, worker: RunWorker, inbox: Inbox) -> None:
        """A child and its thread have ended: the current one unexpectedly, or one that was let go."""
        inbox.stop()
        inbox.deleteLater()
        if worker is self._worker:
            self._worker = None
            self._end_talk("lost")
        elif worker in self._leaving:
            self._leaving.discard(worker)
        else:
            return  # shut_down has seen to it
        worker.wait()
        worker.deleteLater()

    def _receive(self, worker: RunWorker, event: Event) -> None:
        if worker is not self._worker:
            return
        match event:
            case Token() if event.id == self._answering:
                self._set(Talk.ANSWERING)
                self.token.emit(event.text)
            case AnswerFinished() if event.id == self._answering:
                self._finish(event)
            case StepFailed():
                self.failed.emit(event)
            case Log() if event.template == READY:
                self._ready = True
                self._set(Talk.ANSWERING if self._answering else Talk.READY)
            case _:
                self.said.emit(event)

    def _finish(self, event: AnswerFinished) -> None:
        self._answering = ""
        self._set(Talk.READY if self._worker else Talk.CLOSED)
        self.finished.emit(event)

    def _end_talk(self, reason: str) -> None:
        self._ready = False
        if self._answering:
            self._finish(AnswerFinished(self._answering, reason, 0, 0.0))
        self._set(Talk.CLOSED)

    def _set(self, talk: Talk) -> None:
        if talk is not self.talk:
            self.talk = talk
            self.changed.emit()
