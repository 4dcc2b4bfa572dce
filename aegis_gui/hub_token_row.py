"""The hub's token among the settings: whether there is one, entering another, and removing it."""

from PySide6.QtCore import QEvent, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from .hub_token import HubToken, Task
from .i18n import filled, tr
from .panels import label


class HubTokenRow(QWidget):
    """`enter_asked` wants the sheet in which a token is entered; `grown` comes when a line may need more room."""

    enter_asked = Signal()
    grown = Signal()

    def __init__(self, token: HubToken, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.token = token
        self.title, self.state = label(role="heading"), label(role="small", wraps=True)
        self.enter, self.remove = QPushButton(), QPushButton()
        self.enter.clicked.connect(self.enter_asked)
        self.remove.clicked.connect(token.forget)
        token.changed.connect(self._draw)
        buttons = QHBoxLayout()
        buttons.addWidget(self.enter)
        buttons.addWidget(self.remove)
        buttons.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.title)
        column.addWidget(self.state)
        column.addLayout(buttons)
        self.retranslate()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def retranslate(self) -> None:
        self.title.setText(tr("Hugging Face token"))
        self.enter.setText(tr("Enter…"))
        self.enter.setAccessibleName(tr("Enter a token"))
        self.remove.setText(tr("Remove"))
        self.remove.setAccessibleName(tr("Remove the token from this computer"))
        self._draw()

    def _draw(self) -> None:
        self.state.setText(self._said())
        self.remove.setEnabled(self.token.kept and self.token.task is None)
        self.enter.setEnabled(self.token.task is not Task.KEEP)
        self.grown.emit()

    def _said(self) -> str:
        token = self.token
        if token.failure and token.failed is not Task.KEEP:
            return filled(token.failure.reason_template, token.failure.values)
        if not token.known:
            return tr("Looking …")
        if token.variable and token.kept:
            return filled(
                "The environment variable {variable} gives a token and goes before the one kept here.",
                variable=token.variable,
            )
        if token.variable:
            return filled("The environment variable {variable} gives the token.", variable=token.variable)
        if token.kept:
            return tr("A token is kept on this computer.")
        return tr("None is kept. Only gated and private models and datasets need one.")
