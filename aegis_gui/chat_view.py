"""Talking to the finished model, to the one it came from, or to both side by side."""

import time
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtGui import QKeyEvent, QTextCursor
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from aegis_core.chat import history
from aegis_core.chat.dialogue import Dialogue, Exchange, Reply
from aegis_core.events import Event
from aegis_core.failures import UserError
from aegis_core.plan import ChatPlan
from aegis_core.run_directory import RunDirectory

from . import theme as themes
from .chat_answers import ChatAnswers
from .chat_bar import ChatBar
from .chat_controls import ChatControls
from .chat_exchange import Answer, ExchangeView
from .chat_feed import ChatFeed
from .chat_prompts import ChatPrompts
from .i18n import filled, tr
from .panels import label
from .theme import Theme

RENDER_MS = 80
RENDER_SHARE = 4  # a long answer is drawn less often: at most this part of the window's time goes into it
OPENED_WITH = ("backend", "model_name", "replace_model", "system", "num_ctx")
"""What a chat child reads when it opens its model; where it changes, the model is opened anew."""


class ChatView(QWidget):
    """A conversation that outlives its models: whatever ends a child, what was said stays."""

    def __init__(self, answers: ChatAnswers, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.answers = answers
        self.exchanges: list[ExchangeView] = []
        self.dialogue: Dialogue | None = None
        self._run: RunDirectory | None = None
        self._plan = self._opened_with = ChatPlan()
        self._barred = ""
        self._problem = ""
        self.controls = ChatControls()
        self.bar_above = ChatBar()
        self.bar_above.chosen.connect(self.go_on)
        self.fresh = self.bar_above.fresh
        self.entry = QPlainTextEdit()
        self.entry.setFixedHeight(64)
        self.entry.setTabChangesFocus(True)
        self.entry.installEventFilter(self)
        self.send = QPushButton()
        self.send.clicked.connect(self._send_or_stop)
        self.hint = label(role="small")
        self.prompts = ChatPrompts()
        self.prompts.chosen.connect(self.ask)
        self._feed = ChatFeed(self.prompts)
        self._coming: set[Answer] = set()
        self._render = QTimer(self, singleShot=True, interval=RENDER_MS)
        self._render.timeout.connect(self._show_coming)
        self._lay_out()
        self.entry.textChanged.connect(self._show_state)
        answers.came.connect(self._take)
        answers.ended.connect(self._finish)
        answers.failed.connect(self._tell)
        answers.told.connect(self._tell)
        answers.changed.connect(self._show_state)
        self.retranslate()

    def open_run(self, run: RunDirectory | None, plan: ChatPlan) -> None:
        """Talk with this run's models from now on; an earlier conversation ends."""
        self.answers.close()
        self._run = run
        self.set_plan(plan)
        latest = next(iter(history.conversations(run)), None) if run else None
        self.go_on(latest.id if latest else "")

    def set_plan(self, plan: ChatPlan) -> None:
        """Sampling starts from the plan; what is changed here counts for this conversation only."""
        self._plan = plan
        self.controls.set_plan(plan)
        self.prompts.show_questions(plan.questions)
        self._show_state()

    def bar(self, reason: str) -> None:
        """Nothing can be sent for this reason (a translated sentence); "" lifts it. Models at hand are let go of."""
        self._barred = reason
        if reason:
            self.answers.close()
        self._show_state()

    def go_on(self, id: str) -> None:
        """Show a conversation of the run's history and continue it; "" begins a new one. The models stay loaded."""
        if self.answers.busy:
            self.answers.close()
        self._drop(0)
        self._problem = ""
        self.dialogue = self._opened(id)
        if self.dialogue:
            for exchange in self.dialogue.exchanges:
                self._add(exchange)
            replies = [reply for exchange in self.dialogue.exchanges for reply in exchange.replies]
            sampling = dict(replies[-1].sampling) if replies else {}
            sampling.pop("seed", None)  # "Answer again" draws with others, which nobody chose
            self.controls.begin(self.dialogue.system, sampling)
        self._list_conversations()
        self._show_state()

    def ask(self, question: str) -> None:
        """Put a question to the chosen models; ignored while another is being answered, without a run, or barred."""
        self._ask(question, self.controls.models, self.controls.sampling)

    def repeat(self, shown: ExchangeView) -> None:
        """Ask the last question again, with the next seed; the answers there were stay in the history."""
        if shown in self.exchanges and not self.answers.busy:
            replies, sampling = shown.exchange.replies, self.controls.sampling
            next_seed = 1 + max(int(reply.sampling.get("seed", self._plan.seed)) for reply in replies)
            self._forget_from(self.exchanges.index(shown))
            models = tuple(reply.model for reply in replies)
            self._ask(shown.exchange.question, models, sampling | {"seed": max(next_seed, sampling["seed"])})

    def edit(self, shown: ExchangeView) -> None:
        """Bring a question back to where it can be changed and sent; what followed stays in the history alone."""
        if shown in self.exchanges and not self.answers.busy:
            self._forget_from(self.exchanges.index(shown))
            self.entry.setPlainText(shown.exchange.question)
            self.entry.moveCursor(QTextCursor.MoveOperation.End)
            self.entry.setFocus()
            self._show_state()

    def _ask(self, question: str, models: tuple[str, ...], sampling: dict[str, Any]) -> None:
        if not question.strip() or not self._run or not self.dialogue or self._barred or self.answers.busy:
            return
        if any(getattr(self._plan, name) != getattr(self._opened_with, name) for name in OPENED_WITH):
            self.answers.close()
        self._opened_with = self._plan
        self.dialogue.set_system(self.controls.own_system)
        exchange = self.dialogue.ask(question, models, sampling)
        self._add(exchange)
        self._feed.following = True
        if len(self.exchanges) == 1:
            self._list_conversations()
        self._note_unkept()
        wanted = [(reply, self.dialogue.messages(exchange, reply.model)) for reply in exchange.replies]
        self.answers.ask(self._run, wanted)
        self._show_state()

    # ---- what comes back

    def _take(self, reply: Reply) -> None:
        answer = self._answer(reply)
        answer.take()
        self._coming.add(answer)
        if not self._render.isActive():
            self._render.start()

    def _show_coming(self) -> None:
        began = time.perf_counter()
        for answer in self._coming:
            answer.show_words()
        self._coming.clear()
        took_ms = 1000 * (time.perf_counter() - began)
        self._render.setInterval(round(max(RENDER_MS, RENDER_SHARE * took_ms)))

    def _finish(self, reply: Reply) -> None:
        answer = self._answer(reply)
        self._coming.discard(answer)
        answer.show_words()
        if self.dialogue:
            self.dialogue.finish(reply)
        for waiting in self.exchanges[-1].answers:
            if not waiting.reply.reason:
                waiting.wait(False)
                break
        self._note_unkept()
        self._show_state()

    def _tell(self, reply: Reply, event: Event) -> None:
        self._answer(reply).tell(event)

    def _answer(self, reply: Reply) -> Answer:
        """Only the last exchange's replies are ever asked for."""
        return self.exchanges[-1].answer(reply)

    # ---- the conversation on the disk and on the screen

    def _opened(self, id: str) -> Dialogue | None:
        if self._run is None:
            return None
        try:
            return Dialogue(self._run, id)
        except (UserError, OSError) as error:
            self._problem = _refused(error) if isinstance(error, UserError) else _unkept(error)
            return Dialogue(self._run)

    def _add(self, exchange: Exchange) -> None:
        shown = ExchangeView(exchange, self._plan.num_ctx, self.edit, self.repeat)
        self.exchanges.append(shown)
        self._feed.add(shown)

    def _forget_from(self, index: int) -> None:
        if self.dialogue:
            self.dialogue.drop(index)
            self._note_unkept()
        self._drop(index)

    def _drop(self, first: int) -> None:
        """Take the exchanges from `first` on off the screen."""
        self._coming.clear()
        for shown in self.exchanges[first:]:
            self._feed.drop(shown)
        del self.exchanges[first:]

    def _list_conversations(self) -> None:
        self.bar_above.show_conversations(self._run, self.dialogue.id if self.dialogue else "")

    def _note_unkept(self) -> None:
        if self.dialogue:
            self._problem = _unkept(self.dialogue.unkept) if self.dialogue.unkept else ""

    def _show_state(self) -> None:
        busy = self.answers.busy
        self.send.setText(tr("Stop") if busy else tr("Send"))
        can_ask = self._run is not None and not self._barred
        self.send.setEnabled(busy or (can_ask and bool(self.entry.toPlainText().strip())))
        self.entry.setEnabled(can_ask)
        self.hint.setText(
            self._barred
            or self._problem
            or tr("Enter sends, Shift+Enter begins a new line, Esc stops, ↑ edits the last question.")
        )
        for shown in self.exchanges:
            shown.allow(edit=can_ask and not busy, repeat=can_ask and not busy and shown is self.exchanges[-1])
        self.controls.setEnabled(not busy)
        self.bar_above.set_busy(busy)
        for button in self.prompts.buttons:
            button.setEnabled(can_ask)
        self.prompts.setVisible(not self.exchanges)

    def set_theme(self, theme: Theme) -> None:
        self.send.setIcon(themes.icon("send", theme.text))
        self.controls.set_theme(theme)

    def retranslate(self) -> None:
        for part in (self.controls, self.bar_above, self.prompts):
            part.retranslate()
        for shown in self.exchanges:
            shown.retranslate()
        self.entry.setPlaceholderText(tr("Ask something…"))
        self.entry.setAccessibleName(tr("Your question"))
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
                if not self.answers.busy:
                    self._send_or_stop()
                return True
            if event.key() == Qt.Key.Key_Escape and self.answers.busy:
                self.answers.stop()
                return True
            if event.key() == Qt.Key.Key_Up and not self.entry.toPlainText() and self.exchanges:
                self.edit(self.exchanges[-1])
                return True
        return super().eventFilter(watched, event)

    def _send_or_stop(self) -> None:
        if self.answers.busy:
            self.answers.stop()
            return
        question = self.entry.toPlainText()
        if self.send.isEnabled():
            self.entry.clear()
            self.ask(question)

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
