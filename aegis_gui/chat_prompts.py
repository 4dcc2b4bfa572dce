"""What stands where nothing was said yet: an invitation, and a few physics questions to begin with at one click."""

from functools import partial

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from aegis_core.chat.questions import load_questions

from .i18n import tr
from .panels import label

N_PROMPTS = 4


class ChatPrompts(QWidget):
    """`chosen` carries a question."""

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = label(role="secondary", wraps=True)
        self.words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.buttons = [QPushButton() for _ in range(N_PROMPTS)]
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addStretch(1)
        column.addWidget(self.words)
        column.addSpacing(8)
        for button in self.buttons:
            button.clicked.connect(partial(self._choose, button))
            column.addWidget(button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)

    def show_questions(self, language: str) -> None:
        """The first questions of the ritual in "en" or "ja", the language of its physics questions."""
        for button, question in zip(self.buttons, load_questions(language), strict=False):
            button.setText(question.question)

    def retranslate(self) -> None:
        self.words.setText(tr("Ask the model anything. It is loaded at your first question."))

    def _choose(self, button: QPushButton) -> None:
        self.chosen.emit(button.text())
