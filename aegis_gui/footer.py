"""The actions below the page: pause and stop on the left, the way on, and the one primary action, on the right."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QWidget

from . import text
from . import theme as themes
from .flow import HOME, Action, Do, Flow, Status
from .i18n import filled, mark, tr
from .panels import label
from .runner import Stopping
from .theme import Theme

PRIMARY = {
    Do.NOTHING: mark("Next"),
    Do.RUN: mark("Run this step"),
    Do.RUN_AGAIN: mark("Run again"),
    Do.RESUME: mark("Continue"),
    Do.NEXT: mark("Next"),
}

STOP = {
    Stopping.NO: mark("Stop…"),
    Stopping.AFTER_STEP: mark("Stop…"),
    Stopping.SAVING: mark("Stopping…"),
    Stopping.OVERDUE: mark("End it now…"),
}


class Footer(QWidget):
    acted = Signal(object)  # the Action of the primary button
    run_all = Signal()
    run_again = Signal()
    back = Signal()
    next = Signal()
    paused = Signal(bool)
    stop = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("footer")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._theme = themes.LIGHT
        self._flow, self._page, self._stopping, self._leaving = Flow(), HOME, Stopping.NO, False
        self.action = Action(Do.NOTHING)
        self.pause_button, self.stop_button = QPushButton(), QPushButton()
        self.outlook = label(role="secondary")
        self.all_button, self.again_button = QPushButton(), QPushButton()
        self.back_button, self.next_button, self.primary = QPushButton(), QPushButton(), QPushButton()
        self.primary.setProperty("role", "primary")
        for button in (self.all_button, self.again_button):
            button.setProperty("role", "quiet")
        self.primary.clicked.connect(lambda: self.acted.emit(self.action))
        self.all_button.clicked.connect(self.run_all)
        self.again_button.clicked.connect(self.run_again)
        self.back_button.clicked.connect(self.back)
        self.next_button.clicked.connect(self.next)
        self.pause_button.clicked.connect(lambda: self.paused.emit(not self._flow.paused))
        self.stop_button.clicked.connect(self.stop)
        row = QHBoxLayout(self)
        row.setContentsMargins(24, 8, 24, 16)
        row.setSpacing(8)
        row.addWidget(self.pause_button)
        row.addWidget(self.stop_button)
        row.addSpacing(4)
        row.addWidget(self.outlook)
        row.addStretch(1)
        for button in (self.again_button, self.all_button, self.back_button, self.next_button, self.primary):
            row.addWidget(button)

    def show_flow(self, flow: Flow, page: str, stopping: Stopping, leaving: bool) -> None:
        """Offer what makes sense on this page now; `leaving`: the window closes when the engine is gone."""
        self._flow, self._page, self._stopping, self._leaving = flow, page, stopping, leaving
        saving = stopping in (Stopping.SAVING, Stopping.OVERDUE)
        self.action = flow.primary(page)
        status = flow.status(page)
        self.pause_button.setVisible(flow.busy)
        self.stop_button.setVisible(flow.busy)
        self.pause_button.setEnabled(bool(flow.running) and not saving)
        self.stop_button.setEnabled(stopping is not Stopping.SAVING)
        self.all_button.setVisible(flow.anything_to_run())
        self.again_button.setVisible(status is Status.DONE and flow.runnable(page))
        self.back_button.setEnabled(flow.back(page) is not None)
        self.next_button.setEnabled(flow.next(page) is not None)
        self.next_button.setVisible(self.action.do is not Do.NEXT)
        self.primary.setVisible(self.action.do is not Do.NOTHING)
        self.retranslate()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.stop_button.setIcon(themes.icon("stop", theme.text))
        self._show_pause()

    def retranslate(self) -> None:
        self._show_pause()
        self.stop_button.setText(tr(STOP[self._stopping]))
        self.outlook.setText(self._outlook())
        self.all_button.setText(tr("Run everything"))
        self.all_button.setToolTip(tr("Runs every step that is not done yet, one after the other."))
        self.again_button.setText(tr("Run again"))
        self.back_button.setText(tr("Back"))
        self.next_button.setText(tr("Next"))
        self.primary.setText(self._primary_text())

    def _outlook(self) -> str:
        """What will happen to the run that is going on, where that was decided already."""
        if not self._flow.busy:
            return ""
        if self._leaving:
            return tr("AEGIS closes as soon as this is saved.")
        return tr("It stops after this step.") if self._stopping is Stopping.AFTER_STEP else ""

    def _primary_text(self) -> str:
        if self.action.do is Do.GO and self._page == HOME and self._flow.first_unfinished():
            return filled("Continue with “{step}”", step=tr(text.STEP_TITLES[self.action.page]))
        if self.action.do is Do.GO:
            return filled("Go to “{step}”", step=tr(text.STEP_TITLES[self.action.page]))
        return tr(PRIMARY[self.action.do])

    def _show_pause(self) -> None:
        paused = self._flow.paused
        self.pause_button.setText(tr("Resume") if paused else tr("Pause"))
        self.pause_button.setIcon(themes.icon("play" if paused else "pause", self._theme.text))
