"""The log: what the engine said, line by line, in the window's language."""

from datetime import datetime

from PySide6.QtGui import QColor, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QPlainTextEdit, QWidget

from aegis_core.events import (
    Event,
    Log,
    PlanChanged,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
)

from . import text
from . import theme as themes
from .failure_box import failure_advice, failure_reason
from .i18n import filled, tr
from .run_view import KEPT_LOG_LINES, RunView
from .theme import Theme


class LogDrawer(QPlainTextEdit):
    """Read-only, selectable, bounded."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("log")
        self.setReadOnly(True)
        self.setMaximumBlockCount(KEPT_LOG_LINES)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.setFont(themes.tabular(themes.SMALL))
        self._theme = themes.LIGHT
        self._view = RunView()

    def show_run(self, view: RunView) -> None:
        self._view = view
        self.clear()
        for event in view.log:
            self.on_event(event)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.show_run(self._view)

    def retranslate(self) -> None:
        self.setAccessibleName(tr("Log"))
        self.show_run(self._view)

    def on_event(self, event: Event) -> None:
        if not (sentence := line(event)):
            return
        stage = tr(text.STEP_TITLES[event.stage]) if event.stage in text.STEP_TITLES else ""
        clock = datetime.fromtimestamp(event.at).strftime("%H:%M:%S") if event.at else "--:--:--"
        loud = isinstance(event, StepFailed) or (isinstance(event, Log) and event.level == "warning")
        look = QTextCharFormat()
        look.setForeground(QColor(self._theme.warning if loud else self._theme.text))
        at_end = self.verticalScrollBar().value() >= self.verticalScrollBar().maximum() - 4
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        if not self.document().isEmpty():
            cursor.insertBlock()
        cursor.insertText(f"{clock}  {stage}  {sentence}" if stage else f"{clock}  {sentence}", look)
        if at_end:
            self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())


def line(event: Event) -> str:
    """The event as a sentence; "" for those that are not for the log."""
    match event:
        case Log():
            said = filled(event.template, event.values) if event.template else event.text
            return filled("Warning: {text}", text=said) if event.level == "warning" else said
        case StepStarted():
            return tr("continues") if event.resumed else tr("begins")
        case StepSkipped():
            return tr("is done already") if event.reason == "fresh" else tr("is switched off")
        case StepFinished():
            return filled("done in {duration}", duration=text.duration(event.seconds))
        case StepFailed():
            return f"{failure_reason(event)} {failure_advice(event)}".strip()
        case StepCancelled():
            return tr("stopped")
        case PlanChanged():
            changes = ", ".join(f"{name} = {value}" for name, value in event.new.items())
            return filled("settings found and written: {changes}", changes=changes)
    return ""
