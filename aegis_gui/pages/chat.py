"""Step 8 on screen: a conversation with the model, and the physics questions with their verdicts."""

from PySide6.QtCore import QCoreApplication, QTimer
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QInputDialog, QMessageBox, QScrollArea, QWidget

from aegis_core.chat import overruling
from aegis_core.events import Event, Progress, StepFinished, StepStarted, Token, Verdict
from aegis_core.failures import UserError

from ..chat_answers import ChatAnswers
from ..chat_view import RENDER_MS, ChatView
from ..form import Form
from ..i18n import filled, mark, tr
from ..ollama_panel import OllamaPanel
from ..panels import Section, scrolled
from ..run_view import RunView
from ..state import AppState
from ..tabs import Tabs
from ..theme import Theme
from ..transcript import Transcript, read_transcript
from .step_page import StepPage

TALK, QUESTIONS, SETTINGS, OLLAMA = 0, 1, 2, 3
FIELDS = (
    "chat.backend",
    "chat.model_name",
    "chat.questions",
    "chat.n_questions",
    "chat.temperature",
    "chat.max_tokens",
    "chat.system",
    "chat.top_p",
    "chat.top_k",
    "chat.num_ctx",
    "chat.repeat_penalty",
    "chat.seed",
    "chat.compare_base",
    "chat.measure_surprise",
    "chat.replace_model",
)


class ChatPage(StepPage):
    step = "chat"
    sentence = mark(
        "Creates the model in Ollama where that runs, else loads it here, and asks it about physics. Talk to it, too."
    )
    scrolls = False

    def __init__(self, state: AppState, parent: QWidget | None = None, answers: ChatAnswers | None = None) -> None:
        super().__init__(state, parent)
        self.answers = answers or ChatAnswers(parent=self)
        self.conversation = ChatView(self.answers)
        self.transcript = Transcript()
        self.transcript.overruled.connect(self._overrule)
        settings = Section(mark("Questions and sampling"))
        settings.body.addWidget(Form(state, FIELDS))
        self.tabs = Tabs()
        self.tabs.add(mark("Conversation"), self.conversation)
        self.tabs.add(mark("Physics questions"), self._questions())
        self.tabs.add(mark("Settings"), scrolled(settings))
        self.ollama = OllamaPanel()
        self.ollama.replace_allowed.connect(lambda name: state.change({"chat.replace_model": name}))
        self.tabs.add(mark("Ollama"), scrolled(self.ollama))
        self.body.addWidget(self.tabs)
        self._coming = ""
        self._render = QTimer(self, singleShot=True, interval=RENDER_MS)
        self._render.timeout.connect(self._show_coming)
        state.run_opened.connect(self._open_run)
        state.flow_changed.connect(self._show_bar)
        app = QCoreApplication.instance()
        if app:
            app.aboutToQuit.connect(self.shut_down)
        self._open_run()

    def shut_down(self) -> None:
        """No chat child and no thread is left when this returns."""
        self.answers.shut_down()
        self.ollama.shut_down()

    def closeEvent(self, event: QCloseEvent) -> None:
        """The window closes its pages before it goes."""
        self.shut_down()
        super().closeEvent(event)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        match event:
            case StepStarted():
                self.tabs.show_view(QUESTIONS)
                self._show_transcript()
            case Token():
                self._coming += event.text
                if not self._render.isActive():
                    self._render.start()
            case Progress() | Verdict() | StepFinished():
                self._show_transcript()
                if isinstance(event, StepFinished) and self.ollama.isVisible():
                    self.ollama.refresh()

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._show_transcript()

    def plan_changed(self) -> None:
        super().plan_changed()
        self._show_plan()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.conversation.set_theme(theme)
        self.transcript.set_theme(theme)
        self.ollama.set_theme(theme)

    def retranslate(self) -> None:
        super().retranslate()
        self.tabs.retranslate()
        self.conversation.retranslate()
        self.transcript.retranslate()
        self.ollama.retranslate()
        self._show_bar()

    def _questions(self) -> QScrollArea:
        return scrolled(self.transcript)

    def _open_run(self) -> None:
        self.conversation.open_run(self.state.run, self.state.plan.chat)
        self._show_plan()
        self._show_bar()

    def _show_plan(self) -> None:
        plan = self.state.plan.chat
        self.conversation.set_plan(plan)
        self.ollama.set_wanted(plan.model_name, plan.replace_model)

    def _show_bar(self) -> None:
        """The engine and a conversation would take each other's memory and cores."""
        self.conversation.bar(
            tr("A step is working. You can talk when it has finished or been stopped.") if self.state.busy else ""
        )

    def _show_transcript(self) -> None:
        """The rows on disk; a new one takes the place of the answer that was coming."""
        run = self.state.run
        self._render.stop()
        self._coming = ""
        if run is None:
            self.transcript.show_rows([])
            return
        folder = run.step_folder(self.step)
        rows = read_transcript(folder / "transcript.jsonl")
        own: dict[str, overruling.Overrule] = {}
        self.transcript.show_notice("")
        try:
            own = overruling.overrules(run)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.transcript.show_notice(filled("Your own verdicts cannot be read: {problem}", problem=str(error)))
        decisions = {i: own[id] for i, row in enumerate(rows) if (id := overruling.answered_id(row)) in own}
        self.transcript.show_rows(rows, read_transcript(folder / "base_transcript.jsonl"), decisions)

    def _overrule(self, place: int, passed: bool | None) -> None:
        """The person's own verdict, with a reason, beside the measured one."""
        run = self.state.run
        if run is None or self.state.busy:
            return
        rows = read_transcript(run.step_folder(self.step) / "transcript.jsonl")
        title = tr("Take my verdict back") if passed is None else tr("Your own verdict")
        wish = (
            tr("Why do you take it back?")
            if passed is None
            else tr("Why is this a meaningful answer?")
            if passed
            else tr("Why is this not a meaningful answer?")
        )
        reason, agreed = QInputDialog.getText(self, title, wish)
        if not agreed or not reason.strip() or place >= len(rows):
            return
        try:
            overruling.overrule(run, overruling.answered_id(rows[place]), passed, reason)
        except (UserError, OSError) as error:
            QMessageBox.warning(self, title, filled("It could not be saved: {problem}", problem=str(error)))
        self._show_transcript()
        self.state.refresh()  # the run log shows the verdicts as they were

    def _show_coming(self) -> None:
        self.transcript.show_coming(self._coming)
