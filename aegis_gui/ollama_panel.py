"""Ollama at a glance: whether it is there and what to do if not, its models, and what it holds in memory."""

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import QEvent, QSize, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QShowEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QMessageBox, QPushButton, QVBoxLayout, QWidget

from aegis_core.chat.ollama import full_name
from aegis_core.chat.ollama_state import Presence
from aegis_core.failures import Failure

from . import ollama_inquiry as inquiry
from . import text
from . import theme as themes
from .elided import Elided
from .i18n import filled, mark, tr
from .ollama_inquiry import Found, Inquiries, ModelRow
from .panels import Section, label
from .theme import Theme

ICON = QSize(14, 14)
DOWNLOAD = QUrl("https://ollama.com/download")
HEADINGS = (mark("Model"), mark("On disk"), mark("Made by"), mark("In memory"), mark("On the card"))
MEANS = {Presence.RUNNING: ("check", "success"), Presence.STOPPED: ("circle", "secondary")}
MEANS |= {Presence.ABSENT: ("circle", "secondary")}
LOOKING, STARTING, WORKING = mark("Asking Ollama …"), mark("Starting Ollama …"), mark("Ollama is at work …")


class OllamaPanel(Section):
    """Looks when it is shown for the first time, and whenever `refresh` is called.

    `found` tells what was found (a Found); `replace_allowed` carries the name of a model that AEGIS did not make and
    that the person allows it to replace, for the setting chat.replace_model. Call `shut_down` before the program ends.
    """

    found = Signal(object)
    replace_allowed = Signal(str)
    _is_built = False

    def __init__(self, theme: Theme = themes.LIGHT, parent: QWidget | None = None) -> None:
        super().__init__(mark("Ollama"), parent)
        self.theme = theme
        self._found: Found | None = None
        self._failure: Failure | None = None
        self._doing = ""
        self._wanted, self._allowed = "", ""
        self._inquiries = Inquiries(self)
        self._inquiries.found.connect(self._on_found)
        self._inquiries.refused.connect(self._on_refused)
        self.icon, self.sentence = QLabel(), label(wraps=True)
        self.advice, self.refusal = label(role="secondary", wraps=True), label(role="fail", wraps=True)
        self.start, self.download, self.again = QPushButton(), QPushButton(), QPushButton()
        self.unload_all = QPushButton()
        self.allow = QPushButton()
        self.taken = label(wraps=True)
        self.notice = QFrame()
        self.models = QWidget()
        self._grid = QGridLayout(self.models)
        self._lay_out()
        self.start.clicked.connect(self._start)
        self.download.clicked.connect(lambda: QDesktopServices.openUrl(DOWNLOAD))
        self.again.clicked.connect(self.refresh)
        self.unload_all.clicked.connect(lambda: self._unload(*(model.name for model in self._loaded())))
        self.allow.clicked.connect(self._ask_to_replace)
        self._is_built = True
        self.retranslate()

    def refresh(self) -> None:
        """Ask again, in the background."""
        self._do(LOOKING, inquiry.find)

    def set_wanted(self, name: str, allowed: str) -> None:
        """The name that the run's model is to have (chat.model_name), and the one that may be replaced
        (chat.replace_model)."""
        self._wanted, self._allowed = name, allowed
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        self._draw()

    def shut_down(self) -> None:
        self._inquiries.shut_down()

    def retranslate(self) -> None:
        super().retranslate()
        if not self._is_built:
            return  # the section's own beginning
        self.start.setText(tr("Start Ollama"))
        self.download.setText(tr("Open the download page"))
        self.again.setText(tr("Look again"))
        self.unload_all.setText(tr("Free the memory"))
        self.allow.setText(tr("Allow replacing …"))
        self._draw()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._found is None and not self._doing:
            self.refresh()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    # ---- what is asked of Ollama

    def _start(self) -> None:
        self._do(STARTING, lambda: inquiry.start(lambda: self._inquiries.cancelled))

    def _unload(self, *names: str) -> None:
        self._do(WORKING, lambda: inquiry.unload(*names))

    def _do(self, what: str, job: Callable[[], Found]) -> None:
        self._doing, self._failure = what, None
        self._inquiries.ask(job)
        self._draw()

    def _on_found(self, found: Found) -> None:
        self._doing, self._found = "", found
        self._draw()
        self.found.emit(found)

    def _on_refused(self, failure: Failure) -> None:
        self._doing, self._failure = "", failure
        self._draw()

    # ---- questions before something is lost

    def _ask_to_delete(self, model: ModelRow) -> None:
        explanation = (
            mark("It takes {size} of the disk. The run's GGUF file stays, so that AEGIS can make it again.")
            if model.ours
            else mark("It takes {size} of the disk. AEGIS did not make it and cannot bring it back.")
        )
        self._ask(
            filled("Delete {name} from Ollama?", name=model.name),
            filled(explanation, size=text.size(model.size_bytes)),
            tr("Delete"),
            lambda: self._do(WORKING, lambda: inquiry.delete(model.name)),
        )

    def _ask_to_replace(self) -> None:
        name = self._wanted
        self._ask(
            filled("Replace {name} in Ollama?", name=name),
            tr(
                "AEGIS did not make the model of that name. It is lost when the run's model takes its place; "
                "another name in the settings keeps both."
            ),
            tr("Replace it"),
            lambda: self.replace_allowed.emit(name),
        )

    def _ask(self, question: str, explanation: str, yes: str, then: Callable[[], None]) -> None:
        """The window goes on working while the question stands there."""
        box = QMessageBox(self)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle("AEGIS")
        box.setText(question)
        box.setInformativeText(explanation)
        box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
        stay = box.addButton(tr("Cancel"), QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(stay)
        box.setEscapeButton(stay)
        box.accepted.connect(then)
        box.open()

    # ---- drawing

    def _draw(self) -> None:
        found, busy = self._found, bool(self._doing)
        state = found.state if found else None
        self.icon.setVisible(state is not None and not busy)
        if state is not None:
            name, colour = MEANS.get(state.presence, ("warning", "warning"))
            colours = {"success": self.theme.success, "secondary": self.theme.secondary, "warning": self.theme.warning}
            self.icon.setPixmap(themes.icon(name, colours[colour]).pixmap(ICON))
            said = state.sentence()
            self.sentence.setText(filled(said.template, said.values))
        if busy:
            self.sentence.setText(tr(self._doing))
        problem = state.problem if state else None
        self.advice.setText(filled(problem.advice_template, problem.values) if problem else "")
        self.advice.setVisible(problem is not None and not busy)
        self.refusal.setText(_sentences(self._failure) if self._failure else "")
        self.refusal.setVisible(self._failure is not None)
        self.start.setVisible(state is not None and state.can_start)
        self.download.setVisible(state is not None and state.presence in (Presence.ABSENT, Presence.TOO_OLD))
        self.unload_all.setVisible(bool(self._loaded()))
        for button in (self.start, self.again, self.unload_all):
            button.setEnabled(not busy)
        self._draw_taken()
        self._draw_models(found.models if found else (), busy)

    def _draw_taken(self) -> None:
        name = full_name(self._wanted)
        models = self._found.models if self._found else ()
        taken = bool(self._wanted) and any(full_name(m.name) == name and not m.ours for m in models)
        allowed = taken and bool(self._allowed) and full_name(self._allowed) == name
        template = (
            mark("AEGIS may replace {name}, which it did not make, with this run's model.")
            if allowed
            else mark("Ollama already has a model {name} that AEGIS did not make.")
        )
        self.taken.setText(filled(template, name=self._wanted) if taken else "")
        self.allow.setVisible(not allowed)
        self.notice.setVisible(taken)

    def _draw_models(self, models: tuple[ModelRow, ...], busy: bool) -> None:
        while item := self._grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        self.models.setVisible(bool(models))
        for column, heading in enumerate(HEADINGS if models else ()):
            self._grid.addWidget(label(tr(heading), role="small"), 0, column, _side(column))
        for line, model in enumerate(models, start=1):
            held = [text.size(n) if model.loaded_bytes else "–" for n in (model.loaded_bytes, model.vram_bytes)]
            words = (text.size(model.size_bytes), "AEGIS" if model.ours else tr("others"), *held)
            name = Elided("strong" if model.ours else "")
            name.show_text(model.name)
            name.setFont(themes.tabular(weight=themes.STRONG if model.ours else themes.REGULAR))
            self._grid.addWidget(name, line, 0)
            for column, word in enumerate(words, start=1):
                shown = label(word)
                shown.setFont(themes.tabular())
                self._grid.addWidget(shown, line, column, _side(column))
            unload = self._button(mark("Unload"), model, partial(self._unload, model.name), busy)
            unload.setVisible(bool(model.loaded_bytes))
            self._grid.addWidget(unload, line, len(HEADINGS))
            delete = self._button(mark("Delete …"), model, partial(self._ask_to_delete, model), busy)
            self._grid.addWidget(delete, line, len(HEADINGS) + 1)

    def _button(self, word: str, model: ModelRow, then: Callable[[], None], busy: bool) -> QPushButton:
        made = QPushButton(tr(word))
        made.setProperty("role", "quiet")
        made.setAccessibleName(f"{tr(word)} {model.name}")
        made.setEnabled(not busy)
        made.clicked.connect(lambda: then())
        return made

    def _loaded(self) -> list[ModelRow]:
        return [model for model in self._found.models if model.loaded_bytes] if self._found else []

    def _lay_out(self) -> None:
        said = QHBoxLayout()
        said.setSpacing(8)
        said.addWidget(self.icon)
        said.addWidget(self.sentence, 1)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addLayout(said)
        words.addWidget(self.advice)
        words.addWidget(self.refusal)
        for line in (self.sentence, self.advice, self.refusal):
            line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addLayout(words, 1)
        for button in (self.start, self.download, self.unload_all, self.again):
            top.addWidget(button, 0, Qt.AlignmentFlag.AlignTop)
        self.notice.setProperty("role", "notice")
        row = QHBoxLayout(self.notice)
        row.setContentsMargins(16, 8, 8, 8)
        row.addWidget(self.taken, 1)
        row.addWidget(self.allow)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(16)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(0, 1)
        self.body.addLayout(top)
        self.body.addWidget(self.notice)
        self.body.addWidget(self.models)


def _side(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column in (1, 3, 4) else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


def _sentences(failure: Failure) -> str:
    reason, advice = failure.reason_template, failure.advice_template
    return " ".join(filled(template, failure.values) for template in (reason, advice) if template)
