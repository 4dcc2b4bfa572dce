"""A question and its answers on the screen, side by side where both models were asked."""

import time
from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from aegis_core.chat.dialogue import LOST, Exchange, Reply
from aegis_core.events import Event, Log, Progress, StepFailed

from . import text
from .chat_message import Turn
from .failure_box import failure_advice, failure_reason
from .i18n import filled, mark, said, tr

FULL = 0.85  # of the context; beyond that it is said
MODEL_WORDS = {"aegis": mark("the new model"), "base": mark("the base model")}
REASONS = {
    "length": mark("cut at the longest length"),
    "cancelled": mark("stopped"),
    "error": mark("broken off"),
    LOST: mark("The connection to the model was lost; what came is kept."),
}


class Answer(Turn):
    """A reply: its words so far, and a quiet line below: loading, speed, context used, how it ended."""

    def __init__(self, reply: Reply, num_ctx: int) -> None:
        super().__init__(True)
        self.reply, self._num_ctx = reply, num_ctx
        self.failure: StepFailed | None = None
        self._told: Event | None = None
        self._n_pieces, self._began, self._waits = 0, 0.0, False
        self.copy = self.add_action(lambda: QGuiApplication.clipboard().setText(self.reply.text))
        self.show_words()

    def take(self) -> None:
        """The reply has another piece; it is drawn by the next `show_words`."""
        self._began = self._began or time.monotonic()
        self._n_pieces += 1

    def tell(self, event: Event) -> None:
        """What happens while its model is loaded, or why it cannot be."""
        if isinstance(event, StepFailed):
            self.failure = event
        else:
            self._told = event
        self._describe()

    def show_words(self) -> None:
        self.show_text(self.reply.text)
        self._describe()

    def retranslate(self) -> None:
        self.who.setText(tr(MODEL_WORDS.get(self.reply.model, self.reply.model)))
        name_button(self.copy, tr("Copy"))
        self._describe()

    def _describe(self) -> None:
        self.show_remark(self._remark())
        self.copy.setVisible(bool(self.reply.text and self.reply.reason))

    def _remark(self) -> str:
        reply = self.reply
        if self.failure:
            return f"▲ {failure_reason(self.failure)} {failure_advice(self.failure)}".strip()
        if not reply.reason:
            return self._progress()
        parts = []
        if reply.tokens_per_second:
            parts.append(_speed(reply.n_tokens, reply.tokens_per_second))
        if reply.first_token_seconds is not None:
            first = text.fixed(reply.first_token_seconds, 1)
            parts.append(filled("first token after {seconds} s", seconds=first))
        if reply.n_prompt_tokens:
            used, room = reply.n_prompt_tokens + reply.n_tokens, self._num_ctx
            shape = "▲ " if used > FULL * room else ""
            parts.append(shape + filled("{used} of {room} tokens of context", used=f"{used:,}", room=f"{room:,}"))
        if reply.reason in REASONS:
            shape = "▲ " if reply.reason in ("error", LOST) else ""
            parts.append(shape + tr(REASONS[reply.reason]))
        if reply.error:
            parts.append(" ".join(said(sentence) for sentence in (reply.error, reply.advice) if sentence))
        return " · ".join(parts)

    def _progress(self) -> str:
        """While it comes: its speed as it reaches the window, or what is done before the first word."""
        seconds = time.monotonic() - self._began if self._began else 0.0
        if self._began:
            return _speed(self._n_pieces, self._n_pieces / seconds) if seconds > 0.2 and self._n_pieces > 1 else ""
        match self._told:
            case Log() as log:
                return filled(log.template, log.values) if log.template else tr(log.text)
            case Progress() as progress if progress.total > 0:
                done = filled("{part} % done", part=round(100 * progress.done / progress.total))
                return f"{tr(progress.phase)} · {done}" if progress.phase else done
        return tr("It answers when the other has.") if self._waits else tr("The model is being loaded…")

    def wait(self, waits: bool) -> None:
        """Whether another model answers before this one."""
        self._waits = waits
        self._describe()


class ExchangeView(QWidget):
    """`edit` and `repeat` are what its buttons do; they are shown by `allow`."""

    def __init__(
        self,
        exchange: Exchange,
        num_ctx: int,
        edit: Callable[["ExchangeView"], None],
        repeat: Callable[["ExchangeView"], None],
    ) -> None:
        super().__init__()
        self.exchange = exchange
        self.asked = Turn(False)
        self.asked.show_text(exchange.question)
        self.answers = [Answer(reply, num_ctx) for reply in exchange.replies]
        for later in self.answers[1:]:
            later.wait(True)
        self.edit = self.asked.add_action(lambda: edit(self))
        self.repeat: QToolButton = self.answers[-1].add_action(lambda: repeat(self))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.asked)
        abreast = QHBoxLayout()
        abreast.setSpacing(8)
        for answer in self.answers:
            abreast.addWidget(answer, 1, Qt.AlignmentFlag.AlignTop)
        column.addLayout(abreast)
        self.retranslate()

    def answer(self, reply: Reply) -> Answer:
        """The widget of one of its replies."""
        return next(answer for answer in self.answers if answer.reply is reply)

    def allow(self, edit: bool, repeat: bool) -> None:
        self.edit.setVisible(edit)
        self.repeat.setVisible(repeat)

    def retranslate(self) -> None:
        self.asked.who.setText(tr("You"))
        name_button(self.edit, tr("Edit"))
        name_button(self.repeat, tr("Answer again"))
        for answer in self.answers:
            answer.retranslate()


def name_button(button: QToolButton, words: str) -> None:
    """Its text, which a screen reader says too."""
    button.setText(words)
    button.setAccessibleName(words)


def _speed(n_tokens: int, per_second: float) -> str:
    return filled("{count} tokens, {speed} tokens/s", count=f"{n_tokens:,}", speed=text.number(per_second, 3))
