"""The models of a run, asked one after the other: each in a chat child of its own, never two at work at once."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from aegis_core.chat.dialogue import MODELS, Messages, Reply
from aegis_core.events import AnswerFinished, Event, Log, Progress, StepFailed
from aegis_core.failures import UserError, explain
from aegis_core.run_directory import RunDirectory

from .chat_session import ChatSession, Talk, chat_command


class ChatAnswers(QObject):
    """Every reply that is handed to `ask` gets its words and then its end, in turn, whatever becomes of the children.

    A child stays with its model loaded while it is asked; one that is not among those asked is let go of.
    """

    came = Signal(object)  # Reply: it has more words
    ended = Signal(object)  # Reply: it has its reason
    failed = Signal(object, object)  # Reply, StepFailed: why there is nobody to ask
    told = Signal(object, object)  # Reply, Log or Progress while its model is loaded
    changed = Signal()  # who is busy with what

    def __init__(
        self, command: Callable[[Path, str], Sequence[str]] = chat_command, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.sessions = {model: ChatSession(command, self) for model in MODELS}
        self._run: RunDirectory | None = None
        self._reply: Reply | None = None
        self._waiting: deque[tuple[Reply, Messages]] = deque()
        for session in self.sessions.values():
            session.token.connect(self._take)
            session.finished.connect(self._finish)
            session.failed.connect(self._fail)
            session.said.connect(self._tell)
            session.changed.connect(self.changed)

    @property
    def busy(self) -> bool:
        return self._reply is not None

    def talk(self, model: str) -> Talk:
        return self.sessions[model].talk

    def ask(self, run: RunDirectory, wanted: Sequence[tuple[Reply, Messages]]) -> None:
        """Have these replies, each to its messages; only while not busy."""
        assert not self.busy
        self._run = run
        asked = {reply.model for reply, _ in wanted}
        for model, session in self.sessions.items():
            if model not in asked:
                session.close()
        self._waiting.extend(wanted)
        self._next()

    def stop(self) -> None:
        """End the answer that is coming; those that have not begun end at once."""
        if self._reply:
            self._give_up_waiting()
            self.sessions[self._reply.model].stop()

    def close(self) -> None:
        """Let the models go. Returns at once; answers on their way end as cancelled."""
        self._give_up_waiting()
        for session in self.sessions.values():
            session.close()

    def shut_down(self) -> None:
        """For the end of the program: no process and no thread is left when this returns."""
        self._give_up_waiting()
        for session in self.sessions.values():
            session.shut_down()

    def _next(self) -> None:
        """Ask for the next reply; one whose child cannot be started ends with the reason."""
        if not self._waiting:
            self.changed.emit()
            return
        self._reply, messages = self._waiting.popleft()
        assert self._run is not None
        try:
            self.sessions[self._reply.model].say(self._run, self._reply.model, messages, self._reply.sampling)
        except (UserError, OSError) as error:
            failure = explain(error)
            self._finish(AnswerFinished("", "error", 0, 0.0, failure.reason, advice=failure.advice))

    def _take(self, piece: str) -> None:
        if self._reply:
            self._reply.text += piece
            self.came.emit(self._reply)

    def _finish(self, event: AnswerFinished) -> None:
        reply, self._reply = self._reply, None
        if reply:
            reply.end(event)
            self.ended.emit(reply)
            self._next()

    def _fail(self, failure: StepFailed) -> None:
        if self._reply:
            self.failed.emit(self._reply, failure)

    def _tell(self, event: Event) -> None:
        if self._reply and isinstance(event, Log | Progress):
            self.told.emit(self._reply, event)

    def _give_up_waiting(self) -> None:
        while self._waiting:
            reply, _ = self._waiting.popleft()
            reply.reason = "cancelled"
            self.ended.emit(reply)
