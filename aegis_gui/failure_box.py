"""A failure as the person sees it: one sentence, one suggestion, one click that mends it; never a traceback."""

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from aegis_core.events import StepFailed

from .i18n import filled, said, tr
from .panels import label
from .plan_fields import OPTIONS, plan_field


class FailureBox(QFrame):
    """A failure: one sentence, one suggestion, a button; one more where changed settings would mend it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "failure")
        self._failure: StepFailed | None = None
        self._goes_on = False
        self.reason = label(role="strong", wraps=True)
        self.advice = label(wraps=True)
        for line in (self.reason, self.advice):
            line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.button = QPushButton()
        self.mend = QPushButton()
        sentences = QVBoxLayout()
        sentences.setSpacing(4)
        sentences.addWidget(self.reason)
        sentences.addWidget(self.advice)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 12, 16, 12)
        row.setSpacing(16)
        row.addLayout(sentences, 1)
        row.addWidget(self.mend)
        row.addWidget(self.button)
        self.retranslate()

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that would mend it, "section.field" → value."""
        return self._failure.changes if self._failure else {}

    def set_goes_on(self, goes_on: bool) -> None:
        """Whether the next attempt goes on where this one broke off."""
        self._goes_on = goes_on
        self.button.setText(tr("Continue") if goes_on else tr("Try again"))

    def show_failure(self, failure: StepFailed) -> None:
        self._failure = failure
        self.retranslate()
        self.show()

    def retranslate(self) -> None:
        self.set_goes_on(self._goes_on)
        self.mend.setText(tr("Apply and run again"))
        self.mend.setVisible(bool(self.changes))
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
    values = {**failure.values, "settings": in_words(failure.changes)} if failure.changes else failure.values
    return filled(template, values) if template else said(failure.advice)


def in_words(changes: Mapping[str, Any]) -> str:
    """Settings as the forms name them: Batch size 1, Gradient accumulation 4."""
    shown = {name: OPTIONS.get(value, value) if isinstance(value, str) else value for name, value in changes.items()}
    parts = [
        filled(
            "{setting} {value}",
            setting=tr(plan_field(name).label),
            value=tr(value) if isinstance(value, str) else value,
        )
        for name, value in shown.items()
    ]
    return tr(", ").join(parts)
