"""Where the hub's token is entered: what it is for, where it is kept, and what the hub said to it."""

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices, QHideEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from aegis_core.events import StepFailed

from .failure_box import FailureBox
from .hub_token import HubToken, Task
from .i18n import filled, tr
from .pages.check import LINKS
from .panels import label
from .sheet import Sheet

WIDTH = 520


class HubTokenSheet(Sheet):
    """Modeless, and the hub is asked in the background. What was typed is gone once the sheet is closed."""

    def __init__(self, token: HubToken, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.token = token
        self.title, self.lead = label(role="title"), label(role="secondary", wraps=True)
        self.field = QLineEdit(echoMode=QLineEdit.EchoMode.Password, placeholderText="hf_…")
        self.note, self.failure = label(wraps=True), FailureBox()
        self.link, self.close_button, self.save = QPushButton(), QPushButton(), QPushButton()
        self.save.setProperty("role", "primary")
        self.save.setDefault(True)
        for button in (self.link, self.close_button):
            button.setAutoDefault(False)
        self.field.textChanged.connect(self._on_typed)
        self.link.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(LINKS["hub_token"])))
        self.close_button.clicked.connect(self.close)
        self.save.clicked.connect(lambda: token.keep(self.field.text()))
        token.changed.connect(self._draw)
        self._lay_out()
        self.retranslate()

    def begin(self) -> None:
        """Show it empty, whatever was entered before."""
        if self.token.task is not Task.KEEP:
            self.token.forget_failure()
        self.show()
        self.raise_()
        self.field.setFocus()

    def hideEvent(self, event: QHideEvent) -> None:
        if not event.spontaneous():  # closed, not minimised
            self.field.clear()
        super().hideEvent(event)

    def retranslate(self) -> None:
        self.setWindowTitle(tr("Hugging Face token"))
        self.title.setText(tr("Enter a token"))
        self.lead.setText(
            tr(
                "With a token of your account, gated and private models and datasets can be fetched. It is kept on "
                "this computer, where Hugging Face's own programs look for it, and sent to the hub alone."
            )
        )
        self.field.setAccessibleName(tr("Hugging Face token"))
        self.link.setText(tr("Open the page of tokens"))
        self.close_button.setText(tr("Close"))
        self.save.setText(tr("Save"))
        self._draw()

    def _on_typed(self, text: str) -> None:
        if text and (self.token.failure or self.token.account):
            self.token.forget_failure()
        self._draw()

    def _draw(self) -> None:
        token = self.token
        asking = token.task is Task.KEEP
        if token.account:
            self.field.clear()
        self.field.setReadOnly(asking)  # disabled, it would hand the keyboard on to the next button
        self.save.setEnabled(not asking and bool(self.field.text().strip()))
        self.note.setText(self._noted(asking))
        self.note.setVisible(bool(self.note.text()))
        refused = token.failure if token.failed is Task.KEEP else None
        self.failure.setVisible(refused is not None)
        if refused:
            shown = (refused.reason, refused.advice, "", refused.reason_template, refused.advice_template)
            self.failure.show_failure(StepFailed(*shown, refused.values))
        self.failure.button.hide()

    def _noted(self, asking: bool) -> str:
        token = self.token
        if asking:
            return tr("Asking the hub …")
        if token.account and token.variable:
            return filled(
                "The hub knows you as {account}, and the token is kept; but {variable} is set and goes before it.",
                account=token.account,
                variable=token.variable,
            )
        if token.account:
            return filled("The hub knows you as {account}, and the token is kept.", account=token.account)
        return ""

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.link)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        buttons.addWidget(self.save)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(8)
        column.addWidget(self.title)
        column.addWidget(self.lead)
        column.addSpacing(4)
        column.addWidget(self.field)
        column.addWidget(self.note)
        column.addWidget(self.failure)
        column.addStretch(1)
        column.addSpacing(8)
        column.addLayout(buttons)
        self.setMinimumWidth(WIDTH)
