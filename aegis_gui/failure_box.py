"""A failure as the person sees it: one sentence, one suggestion, one button; never a traceback."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from aegis_core.events import StepFailed

from .i18n import filled, said, tr
from .panels import label


class FailureBox(QFrame):
    """A failure: one sentence, one suggestion, one button."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "failure")
        self._failure: StepFailed | None = None
        self.reason = label(role="strong", wraps=True)
        self.advice = label(wraps=True)
        for line in (self.reason, self.advice):
            line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.button = QPushButton()
        sentences = QVBoxLayout()
        sentences.setSpacing(4)
        sentences.addWidget(self.reason)
        sentences.addWidget(self.advice)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 12, 16, 12)
        row.setSpacing(16)
        row.addLayout(sentences, 1)
        row.addWidget(self.button)
        self.retranslate()

    def show_failure(self, failure: StepFailed) -> None:
        self._failure = failure
        self.retranslate()
        self.show()

    def retranslate(self) -> None:
        self.button.setText(tr("Try again"))
        if self._failure:
            self.reason.setText(failure_reason(self._failure))
            self.advice.setText(failure_advice(self._failure))
            self.advice.setVisible(bool(self.advice.text()))


def failure_reason(failure: StepFailed) -> str:
    """The sentence in the window's language."""
    template = failure.reason_template
    return filled(template, failure.values) if template else said(failure.reason)


def failure_advice(failure: StepFailed) -> str:
    template = failure.advice_template
    return filled(template, failure.values) if template else said(failure.advice)
