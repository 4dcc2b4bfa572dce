"""Talking to the finished model, or to the one it came from."""

import time
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QKeyEvent, QTextCursor
from PySide6.QtWidgets import (
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from aegis_core.chat import history
from aegis_core.events import AnswerFinished, Event, Log, Progress, StepFailed
from aegis_core.failures import UserError
from aegis_core.plan import ChatPlan
from aegis_core.run_directory import RunDirectory

from . import theme as themes
from .chat_bar import ChatBar
from .chat_controls import MODELS, ChatControls
from .chat_exchange import Exchange, pairs
from .chat_feed import ChatFeed
from .chat_message import Turn
from .chat_session import ChatSession, Talk
from .i18n import filled, tr
from .panels import label
from .theme import Theme

RENDER_MS = 80


class ChatView(QWidget):
    """A conversation that outlives its model: whatever ends the child, what was said stays."""

    def __init__(self, session: ChatSession, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.exchanges: list[Exchange] = []
        self._run: RunDirectory | None = None
        self._plan = ChatPlan()
        self._barred = ""
        self._unwritten = ""
        self.controls = ChatControls()
        self.bar_above = ChatBar()
        self.bar_above.chosen.connect(self.go_on)
        self.fresh = self.bar_above.fresh
        self._id = history.new_id()
        self.entry = QPlainTextEdit()
        self.entry.setFixedHeight(64)
        self.entry.setTabChangesFocus(True)
        self.entry.installEventFilter(self)
        self.send = QPushButton()
        self.send.clicked.connect(self._send_or_stop)
        self.hint = label(role="small")
        self.empty = label(role="secondary", wraps=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._feed = ChatFeed(self.empty)
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
        self._run = run
        self.set_plan(plan)
        latest = next(iter(history.conversations(run)), None) if run else None
        self.go_on(latest.id if latest else "")

    def set_plan(self, plan: ChatPlan) -> None:
        """Sampling starts from the plan; what is changed here counts for this conversation only."""
        self._plan = plan
        self.controls.set_plan(plan)
        self._show_state()

    def bar(self, reason: str) -> None:
        """Nothing can be sent for this reason (a translated sentence); "" lifts it. A model at hand is let go of."""
        self._barred = reason
        if reason:
            self.session.close()
        self._show_state()

    def clear(self) -> None:
        """Start a new conversation; the model stays loaded."""
        self.go_on("")

    def go_on(self, id: str) -> None:
        """Show a conversation of the run's history and continue it; "" begins a new one. The model stays loaded."""
        if self.session.talk in (Talk.LOADING, Talk.ANSWERING):
            self.session.close()
        self._drop(0)
        self._id = id or history.new_id()
        self._unwritten = ""
        if id and self._run:
            try:
                for question, answer in pairs(history.conversation(self._run, id).messages):
                    self._show_again(question, answer)
            except (UserError, OSError) as error:
                self._id = history.new_id()
                self._unwritten = _refused(error) if isinstance(error, UserError) else _unkept(error)
        self.bar_above.show_conversations(self._run, self._id)
        self._show_state()

    def _drop(self, first: int) -> None:
        """Take the exchanges from `first` on off the screen."""
        for exchange in self.exchanges[first:]:
            for turn in (exchange.asked, exchange.answered):
                self._feed.drop(turn)
        del self.exchanges[first:]

    def _show_again(self, question: dict[str, Any], answer: dict[str, Any] | None) -> None:
        """An exchange from the history; a question whose answer a kill took away says so."""
        exchange = self._exchange(question["content"], str(question.get("model", "aegis")))
        exchange.n_rows = 1 if answer is None else 2
        found = answer or {"content": "", "reason": "lost"}
        exchange.answer = found["content"]
        exchange.end = AnswerFinished(
            "",
            str(found.get("reason", "stop")),
            int(found.get("n_tokens", 0)),
            float(found.get("seconds", 0.0)),
            str(found.get("error", "")),
            int(found.get("n_prompt_tokens", 0)),
        )
        exchange.answered.show_text(exchange.answer)
        self._describe(exchange)

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
        messages = [*self.messages(), {"role": "user", "content": question}]
        model, sampling = self.controls.model_name, self.controls.sampling
        exchange = self._exchange(question, model)
        exchange.sent, exchange.sampling = time.monotonic(), sampling
        self._feed.following = True
        self._write(exchange, "user", question, model=model)
        try:
            self.session.say(self._run, model, messages, sampling)
        except OSError as error:
            exchange.end = AnswerFinished("", "error", 0, 0.0, str(error))
        self._describe(exchange)
        self._show_state()

    def repeat(self) -> None:
        """Ask the last question again; the answer there was stays in the history."""
        if self.exchanges and not self._busy():
            self._again(len(self.exchanges) - 1, self.exchanges[-1].question)

    def edit(self, exchange: Exchange) -> None:
        """Bring a question back to where it can be changed and sent; what followed stays in the history alone."""
        if exchange in self.exchanges and not self._busy():
            self._forget_from(self.exchanges.index(exchange))
            self.entry.setPlainText(exchange.question)
            self.entry.moveCursor(QTextCursor.MoveOperation.End)
            self.entry.setFocus()
            self._show_state()

    def _again(self, index: int, question: str) -> None:
        if self._run is None or self._barred:
            return
        self._forget_from(index)
        self.ask(question)

    def _forget_from(self, index: int) -> None:
        if self._run and any(exchange.n_rows for exchange in self.exchanges[index:]):
            n_kept = sum(exchange.n_rows for exchange in self.exchanges[:index])
            try:
                history.go_back(self._run, self._id, n_kept)
            except OSError as error:
                self._unwritten = _unkept(error)
        self._drop(index)

    def _exchange(self, question: str, model: str) -> Exchange:
        """A question and room for its answer, on the screen."""
        exchange = Exchange(question, model, Turn(False), Turn(True))
        exchange.asked.show_text(question)
        exchange.actions = {
            "edit": exchange.asked.add_action(lambda: self.edit(exchange)),
            "copy": exchange.answered.add_action(lambda: QGuiApplication.clipboard().setText(exchange.answer)),
            "repeat": exchange.answered.add_action(self.repeat),
        }
        self.exchanges.append(exchange)
        for turn in (exchange.asked, exchange.answered):
            self._feed.add(turn)
        self._name(exchange)
        return exchange

    def _write(self, exchange: Exchange, role: str, content: str, **facts: Any) -> None:
        """Into the history; where that cannot be written the conversation goes on, and says so."""
        if self._run is None:
            return
        try:
            history.add(self._run, self._id, role, content, **facts)
            exchange.n_rows += 1
            self._unwritten = ""
        except OSError as error:
            self._unwritten = _unkept(error)
        self.bar_above.show_conversations(self._run, self._id)

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
        exchange = self.exchanges[-1]
        exchange.end = event
        self._render.stop()
        self._show_coming()
        self._write(
            exchange,
            "assistant",
            exchange.answer,
            model=exchange.model,
            sampling=exchange.sampling,
            reason=event.reason,
            n_tokens=event.n_tokens,
            n_prompt_tokens=event.n_prompt_tokens,
            seconds=round(event.seconds, 3),
            first_token_seconds=round(exchange.began - exchange.sent, 3) if exchange.began else None,
            error=event.error,
        )
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
        exchange.answered.show_remark(exchange.remark(self._plan.num_ctx))

    def _show_state(self) -> None:
        busy = self._busy()
        self.send.setText(tr("Stop") if busy else tr("Send"))
        can_ask = self._run is not None and not self._barred
        self.send.setEnabled(busy or (can_ask and bool(self.entry.toPlainText().strip())))
        self.entry.setEnabled(can_ask)
        self.hint.setText(
            self._barred
            or self._unwritten
            or tr("Enter sends, Shift+Enter begins a new line, Esc stops, ↑ edits the last question.")
        )
        for exchange in self.exchanges:
            last = exchange is self.exchanges[-1]
            exchange.actions["repeat"].setVisible(last and not busy and can_ask)
            exchange.actions["edit"].setVisible(not busy and can_ask)
            exchange.actions["copy"].setVisible(bool(exchange.answer) and exchange.end is not None)
        self.controls.model.setEnabled(not busy)
        self.empty.setVisible(not self.exchanges)

    def set_theme(self, theme: Theme) -> None:
        self.send.setIcon(themes.icon("send", theme.text))

    def retranslate(self) -> None:
        self.controls.retranslate()
        self.entry.setPlaceholderText(tr("Ask something…"))
        self.entry.setAccessibleName(tr("Your question"))
        self.bar_above.retranslate()
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
            if event.key() == Qt.Key.Key_Escape and self._busy():
                self.session.stop()
                return True
            if event.key() == Qt.Key.Key_Up and not self.entry.toPlainText() and self.exchanges:
                self.edit(self.exchanges[-1])
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
        exchange.answered.who.setText(tr(dict(MODELS).get(exchange.model, exchange.model)))
        words = {"edit": tr("Edit"), "copy": tr("Copy"), "repeat": tr("Answer again")}
        for name, button in exchange.actions.items():
            button.setText(words[name])
            button.setAccessibleName(words[name])

    def _lay_out(self) -> None:
        line = QHBoxLayout()
        line.setSpacing(8)
        line.addWidget(self.entry, 1)
        line.addWidget(self.send, 0, Qt.AlignmentFlag.AlignBottom)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(8)
        page.addWidget(self.bar_above)
        page.addWidget(self.controls)
        page.addWidget(self._feed, 1)
        page.addLayout(line)
        page.addWidget(self.hint)


def _refused(error: UserError) -> str:
    return f"{filled(error.reason_template, error.values)} {filled(error.advice_template, error.values)}"


def _unkept(error: OSError) -> str:
    return filled("This conversation cannot be kept: {problem}", problem=str(error))
