"""What unfolds below a card: a line that asks for a name, and the plan as a command line."""

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeyEvent
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from aegis_core.command_line import SHELLS, Shell
from aegis_core.failures import UserError

from .. import theme as themes
from ..i18n import tr
from ..panels import label
from .words import sentence, unwritable

SHELL_NAMES: dict[Shell, str] = {"powershell": "PowerShell", "cmd": "cmd", "sh": "sh"}
COMMAND_LINES = 3  # of text that are seen at once


class Drawer(QWidget):
    """`closed` comes when it is done with, by a button or Escape."""

    closed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 4, 4, 4)
        self.column.setSpacing(4)
        rule = QFrame()
        rule.setProperty("role", "rule")
        self.column.addWidget(rule)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.closed.emit()
        else:
            super().keyPressEvent(event)


class NameDrawer(Drawer):
    """Asks for one name; `use` gets it and may refuse it with a UserError, which is shown below the line."""

    def __init__(self, prompt: str, explanation: str, name: str, button: str, use: Callable[[str], None]) -> None:
        super().__init__()
        self._use = use
        self.line = QLineEdit(name)
        self.line.selectAll()
        self.line.setAccessibleName(prompt)
        self.problem = label(role="error", wraps=True)
        self.problem.hide()
        self.done, cancel = QPushButton(button), QPushButton(tr("Cancel"))
        self.done.clicked.connect(self._take)
        self.line.returnPressed.connect(self._take)
        cancel.clicked.connect(self.closed)
        cancel.setProperty("role", "quiet")
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(label(prompt))
        row.addWidget(self.line, 1)
        row.addWidget(self.done)
        row.addWidget(cancel)
        self.column.addLayout(row)
        self.column.addWidget(label(explanation, role="small", wraps=True))
        self.column.addWidget(self.problem)
        self.setFocusProxy(self.line)

    def _take(self) -> None:
        try:
            self._use(self.line.text())
        except UserError as error:
            self._refuse(error)
        except OSError as error:
            self._refuse(unwritable(error))

    def _refuse(self, error: UserError) -> None:
        self.problem.setText(sentence(error))
        self.problem.show()


class CommandDrawer(Drawer):
    """The exact plan as one line for this system's shells, to be copied."""

    def __init__(self, written: Callable[[Shell], str]) -> None:
        super().__init__()
        self._written = written
        self.shells = QComboBox()
        for shell in SHELLS:
            self.shells.addItem(SHELL_NAMES[shell], shell)
        self.shells.setAccessibleName(tr("Kind of terminal"))
        self.shells.setVisible(len(SHELLS) > 1)
        self.line = QPlainTextEdit(readOnly=True)
        self.line.setAccessibleName(tr("The plan as a command line"))
        self.line.setFont(themes.monospaced())
        self.line.setFixedHeight(self.line.fontMetrics().lineSpacing() * COMMAND_LINES + 24)
        self.line.setTabChangesFocus(True)
        self.copy, close = QPushButton(tr("Copy")), QPushButton(tr("Close"))
        close.setProperty("role", "quiet")
        self.copied = label(role="small")
        self.copy.clicked.connect(self._copy)
        self.shells.currentIndexChanged.connect(self._write)
        close.clicked.connect(self.closed)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(label(tr("Begins a run with exactly this plan:"), role="small"), 1)
        row.addWidget(self.copied)
        for widget in (self.shells, self.copy, close):
            row.addWidget(widget)
        self.column.addLayout(row)
        self.column.addWidget(self.line)
        self.setFocusProxy(self.copy)
        self._write()

    def _write(self) -> None:
        self.copied.clear()
        try:
            self.line.setPlainText(self._written(self.shells.currentData()))
            self.copy.setEnabled(True)
        except UserError as error:
            self.line.setPlainText(sentence(error))
            self.copy.setEnabled(False)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.line.toPlainText())
        self.copied.setText(tr("Copied"))
