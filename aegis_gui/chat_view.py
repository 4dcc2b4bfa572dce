"""Talking to the finished model, or to the one it came from."""

import time
from dataclasses import dataclass, field

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from aegis_core.events import AnswerFinished, Event, Log, Progress, StepFailed
from aegis_core.plan import ChatPlan
from aegis_core.run_directory import RunDirectory

from . import text
from . import theme as themes
from .chat_message import Turn
from .chat_session import ChatSession, Talk
from .failure_box import failure_advice, failure_reason
from .i18n import filled, mark, said, tr
from .panels import label
from .theme import Theme

RENDER_MS = 80
MODELS = (("aegis", mark("the new model")), ("base", mark("the base model")))
REASONS = {
    "length": mark("cut at the longest length"),
    "cancelled": mark("stopped"),
    "error": mark("broken off"),
    "lost": mark("The connection to the model was lost; what came is kept."),
}


@dataclass
class Exchange:
    """A question and what came back, with the two widgets that show it."""

    question: str
    model: str
    asked: Turn
    answered: Turn
    answer: str = ""
    began: float = 0.0
    n_pieces: int = 0
    end: AnswerFinished | None = None
    failure: StepFailed | None = None
    notes: list[Event] = field(default_factory=list)


class ChatView(QWidget):
    """A conversation that outlives its model: whatever ends the child, what was said stays."""

    def __init__(self, session: ChatSession, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.exchanges: list[Exchange] = []
        self._run: RunDirectory | None = None
        self._plan = ChatPlan()
        self._barred = ""
        self._following = True
        self._theme = themes.LIGHT
        self.model = QComboBox()
        for name, _ in MODELS:
            self.model.addItem(name, name)
        self.temperature = QDoubleSpinBox(minimum=0, maximum=2, singleStep=0.1, decimals=2)
        self.top_p = QDoubleSpinBox(minimum=0.01, maximum=1, singleStep=0.05, decimals=2)
        self.max_tokens = QSpinBox(minimum=16, maximum=8192, singleStep=16)
        self.temperature.setFixedWidth(56)
        self.top_p.setFixedWidth(56)
        self.max_tokens.setFixedWidth(112)
        self.fresh = QPushButton()
        self.fresh.setProperty("role", "quiet")
        self.fresh.clicked.connect(self.clear)
        self.entry = QPlainTextEdit()
        self.entry.setFixedHeight(64)
        self.entry.setTabChangesFocus(True)
        self.entry.installEventFilter(self)
        self.send = QPushButton()
        self.send.clicked.connect(self._send_or_stop)
        self.hint = label(role="small")
        self.empty = label(role="secondary", wraps=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._labels = {name: label(role="secondary") for name in ("model", "temperature", "top_p", "max_tokens")}
        self._render = QTimer(self, singleShot=True, interval=RENDER_MS)
        self._render.timeout.connect(self._show_coming)
        self._lay_out()
        self.entry.textChanged.connect(self._show_state)
        session.token.connect(self._take)
        session.finished.connect(self._finish)
        session.failed.connect(self._fail)
        session.said.connect(self._note)
        session.changed.connect(self._show_state)
        self.retranslate()

    def open_run(self, run: RunDirectory | None, plan: ChatPlan) -> None:
        """Talk with this run's model from now on; an earlier conversation ends."""
        self.session.close()
        self.clear()
        self._run = run
        self.set_plan(plan)

    def set_plan(self, plan: ChatPlan) -> None:
        """Sampling starts from the plan; what is changed here counts for this conversation only."""
        self._plan = plan
        self.temperature.setValue(plan.temperature)
        self.top_p.setValue(plan.top_p)
        self.max_tokens.setValue(plan.max_tokens)
        self._show_state()

    def bar(self, reason: str) -> None:
        """Nothing can be sent for this reason (a translated sentence); "" lifts it. A model at hand is let go of."""
        self._barred = reason
        if reason:
            self.session.close()
        self._show_state()

    def clear(self) -> None:
        """Start a new conversation; the model stays loaded."""
        if self.session.talk in (Talk.LOADING, Talk.ANSWERING):
            self.session.close()
        for exchange in self.exchanges:
            for turn in (exchange.asked, exchange.answered):
                self._column.removeWidget(turn)
                turn.deleteLater()
        self.exchanges = []
        self._show_state()

    def messages(self) -> list[dict[str, str]]:
        """The conversation as the model gets it; questions that found no answer are left out."""
        said = [{"role": "system", "content": self._plan.system}] if self._plan.system else []
        for exchange in self.exchanges:
            if exchange.answer.strip():
                said.append({"role": "user", "content": exchange.question})
                said.append({"role": "assistant", "content": exchange.answer})
        return said

    def ask(self, question: str) -> None:
        """Send a question; ignored while another is being answered, without a run, or while barred."""
        if not question.strip() or self._run is None or self._barred or self._busy():
            return
        sampling = {
            "temperature": round(self.temperature.value(), 2),
            "top_p": round(self.top_p.value(), 2),
            "max_tokens": self.max_tokens.value(),
        }
        messages = [*self.messages(), {"role": "user", "content": question}]
        model = str(self.model.currentData())
        exchange = Exchange(question, model, Turn(False), Turn(True))
        self._following = True
        exchange.asked.show_text(question)
        self.exchanges.append(exchange)
        for turn in (exchange.asked, exchange.answered):
            self._column.insertWidget(self._column.count() - 1, turn)
        self._name(exchange)
        try:
            self.session.say(self._run, model, messages, sampling)
        except OSError as error:
            exchange.end = AnswerFinished("", "error", 0, 0.0, str(error))
        self._describe(exchange)
        self._show_state()

    # ---- what comes back

    def _take(self, piece: str) -> None:
        exchange = self.exchanges[-1]
        exchange.began = exchange.began or time.monotonic()
        exchange.answer += piece
        exchange.n_pieces += 1
        if not self._render.isActive():
            self._render.start()

    def _show_coming(self) -> None:
        if not self.exchanges:
            return
        exchange = self.exchanges[-1]
        exchange.answered.show_text(exchange.answer)
        self._describe(exchange)

    def _finish(self, event: AnswerFinished) -> None:
        if not self.exchanges:
            return
        self.exchanges[-1].end = event
        self._render.stop()
        self._show_coming()
        self._show_state()

    def _fail(self, failure: StepFailed) -> None:
        if self.exchanges:
            self.exchanges[-1].failure = failure
            self._describe(self.exchanges[-1])

    def _note(self, event: Event) -> None:
        if self.exchanges and isinstance(event, Log | Progress):
            self.exchanges[-1].notes = [event]
            self._describe(self.exchanges[-1])

    # ---- showing

    def _describe(self, exchange: Exchange) -> None:
        """The quiet line below the answer: loading, speed, how it ended."""
        exchange.answered.show_remark(self._remark(exchange))

    def _remark(self, exchange: Exchange) -> str:
        end = exchange.end
        if exchange.failure:
            return f"▲ {failure_reason(exchange.failure)} {failure_advice(exchange.failure)}".strip()
        if end is None:
            if exchange.began:
                return _speed(exchange.n_pieces, time.monotonic() - exchange.began)
            return _loading(exchange.notes)
        parts = [_speed(end.n_tokens, end.seconds)] if end.n_tokens else []
        if end.reason in REASONS:
            shape = "▲ " if end.reason in ("error", "lost") else ""
            parts.append(shape + tr(REASONS[end.reason]))
        if end.error:
            parts.append(said(end.error))
        return " · ".join(parts)

    def _show_state(self) -> None:
        busy = self._busy()
        self.send.setText(tr("Stop") if busy else tr("Send"))
        can_ask = self._run is not None and not self._barred
        self.send.setEnabled(busy or (can_ask and bool(self.entry.toPlainText().strip())))
        self.entry.setEnabled(can_ask)
        self.hint.setText(self._barred or tr("Enter sends, Shift+Enter begins a new line."))
        self.fresh.setEnabled(bool(self.exchanges))
        self.model.setEnabled(not busy)
        self.empty.setVisible(not self.exchanges)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.send.setIcon(themes.icon("send", theme.text))

    def retranslate(self) -> None:
        for index, (_, words) in enumerate(MODELS):
            self.model.setItemText(index, tr(words))
        names = {
            "model": tr("Talk to"),
            "temperature": tr("Temperature"),
            "top_p": tr("Top p"),
            "max_tokens": tr("At most"),
        }
        for name, made in self._labels.items():
            made.setText(names[name])
        for name, control in self._controls().items():
            control.setAccessibleName(names[name])
        self.max_tokens.setSuffix(" " + tr("tokens"))
        self.entry.setPlaceholderText(tr("Ask something…"))
        self.entry.setAccessibleName(tr("Your question"))
        self.fresh.setText(tr("New conversation"))
        self.empty.setText(tr("Ask the model anything. It is loaded at your first question."))
        for exchange in self.exchanges:
            self._name(exchange)
            self._describe(exchange)
        self._show_state()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Enter sends, Shift+Enter begins a line; an Enter that ends a Japanese conversion never arrives here."""
        if watched is self.entry and isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
            if enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
                if not self._busy():
                    self._send_or_stop()
                return True
        return super().eventFilter(watched, event)

    def _send_or_stop(self) -> None:
        if self._busy():
            self.session.stop()
            return
        question = self.entry.toPlainText()
        if self.send.isEnabled():
            self.entry.clear()
            self.ask(question)

    def _busy(self) -> bool:
        return bool(self.exchanges) and self.exchanges[-1].end is None

    def _name(self, exchange: Exchange) -> None:
        exchange.asked.who.setText(tr("You"))
        exchange.answered.who.setText(tr(dict(MODELS)[exchange.model]))

    def _follow(self, smallest: int, largest: int) -> None:
        """Stay at the newest words, unless the person has scrolled back to read."""
        if self._following:
            self._area.verticalScrollBar().setValue(largest)

    def _note_place(self, value: int) -> None:
        self._following = value >= self._area.verticalScrollBar().maximum() - 24

    def _controls(self) -> dict[str, QWidget]:
        return {
            "model": self.model,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(8)
        for name, control in self._controls().items():
            top.addWidget(self._labels[name])
            top.addWidget(control)
            top.addSpacing(8)
        top.addStretch(1)
        top.addWidget(self.fresh)
        inner = QWidget()
        inner.setObjectName("scrolled")
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 8, 0)
        self._column.setSpacing(8)
        self._column.addWidget(self.empty, 1)
        self._column.addStretch(0)
        self._area = QScrollArea(widgetResizable=True)
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setWidget(inner)
        self._area.verticalScrollBar().rangeChanged.connect(self._follow)
        self._area.verticalScrollBar().sliderMoved.connect(self._note_place)
        self._area.verticalScrollBar().actionTriggered.connect(
            lambda: self._note_place(self._area.verticalScrollBar().sliderPosition())
        )
        line = QHBoxLayout()
        line.setSpacing(8)
        line.addWidget(self.entry, 1)
        line.addWidget(self.send, 0, Qt.AlignmentFlag.AlignBottom)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(8)
        page.addLayout(top)
        page.addWidget(self._area, 1)
        page.addLayout(line)
        page.addWidget(self.hint)


def _speed(n_tokens: int, seconds: float) -> str:
    if seconds < 0.2 or n_tokens < 2:
        return ""
    return filled("{count} tokens, {speed} tokens/s", count=f"{n_tokens:,}", speed=text.number(n_tokens / seconds, 3))


def _loading(notes: list[Event]) -> str:
    match notes:
        case [Log() as log]:
            return filled(log.template, log.values) if log.template else tr(log.text)
        case [Progress() as progress] if progress.total > 0:
            done = filled("{part} % done", part=round(100 * progress.done / progress.total))
            return f"{tr(progress.phase)} · {done}" if progress.phase else done
    return tr("The model is being loaded…")
