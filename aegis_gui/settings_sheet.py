"""A small sheet for how AEGIS behaves on this desktop, for the hub's token, and the way to the engine."""

from PySide6.QtCore import QEvent, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from .desktop import Desktop
from .hub_token import HubToken
from .hub_token_row import HubTokenRow
from .i18n import mark, tr
from .panels import label
from .preferences import AtClose, Preferences

AT_CLOSE = {
    AtClose.ASK: mark("Ask me"),
    AtClose.TRAY: mark("Keep running in the tray"),
    AtClose.STOP: mark("Save, stop and close"),
}


class SettingsSheet(QDialog):
    """Modeless; every choice counts at once. `engine_asked` wants the engine's sheet, shown where one is set up, and
    `token_asked` the one in which a token is entered."""

    engine_asked = Signal()
    token_asked = Signal()

    def __init__(
        self,
        preferences: Preferences,
        desktop: Desktop,
        token: HubToken,
        has_engine: bool,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.preferences, self._has_tray = preferences, desktop.has_tray
        self.title = label(role="title")
        self.at_end, self.at_close_title = label(role="heading"), label(role="heading")
        self.notify, self.sound = QCheckBox(), QCheckBox()
        self.notify_help, self.close_help = label(role="small", wraps=True), label(role="small", wraps=True)
        self.listen = QPushButton()
        self.at_close = QComboBox()
        for choice in AT_CLOSE:
            self.at_close.addItem("", choice.value)
        self.notify.clicked.connect(self._keep)
        self.sound.clicked.connect(self._keep)
        self.at_close.activated.connect(self._keep)
        self.listen.clicked.connect(desktop.chime)
        self.token = HubTokenRow(token)
        self.token.enter_asked.connect(self.token_asked)
        self.engine_title, self.engine = label(role="heading"), QPushButton()
        self.engine.clicked.connect(self.engine_asked)
        self._lay_out()
        self.token.grown.connect(self._fit)
        for part in (self.engine_title, self.engine):
            part.setVisible(has_engine)
        self.retranslate()

    def refresh(self) -> None:
        """Show what is remembered: a question may have changed it."""
        self.notify.setChecked(self.preferences.notify)
        self.sound.setChecked(self.preferences.sound)
        self.at_close.setCurrentIndex(list(AT_CLOSE).index(self.preferences.at_close))
        self.notify_help.setText(
            tr("Only while the window is not in front; a click on the message shows the page.")
            if self._has_tray()
            else tr("This desktop has no tray, so the taskbar alone points at the window.")
        )
        self.close_help.setText(
            tr("When nothing is running, closing the window ends AEGIS.")
            if self._has_tray()
            else tr("This desktop has no tray, so AEGIS cannot keep running without its window.")
        )

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
            self._fit()
        super().changeEvent(event)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._fit()

    def retranslate(self) -> None:
        self.setWindowTitle(tr("Settings"))
        self.title.setText(tr("Settings"))
        self.at_end.setText(tr("When a run ends or fails"))
        self.notify.setText(tr("Show a notification"))
        self.sound.setText(tr("Play a sound"))
        self.listen.setText(tr("Listen"))
        self.at_close_title.setText(tr("When the window is closed while a step runs"))
        for index, words in enumerate(AT_CLOSE.values()):
            self.at_close.setItemText(index, tr(words))
        self.at_close.setAccessibleName(tr("When the window is closed while a step runs"))
        self.engine_title.setText(tr("Engine"))
        self.engine.setText(tr("Set up or repair the engine"))
        self.refresh()

    def _keep(self) -> None:
        self.preferences.notify = self.notify.isChecked()
        self.preferences.sound = self.sound.isChecked()
        self.preferences.at_close = AtClose(self.at_close.currentData())

    def _fit(self) -> None:
        """Room for every line: Qt gives a new sheet two thirds of the screen at most, and none when words grow."""
        layout = self.layout()
        assert layout is not None
        layout.activate()
        self.resize(self.width(), max(self.height(), layout.totalHeightForWidth(self.width())))

    def _lay_out(self) -> None:
        sound = QHBoxLayout()
        sound.addWidget(self.sound)
        sound.addStretch(1)
        sound.addWidget(self.listen)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 24)
        column.setSpacing(8)
        column.addWidget(self.title)
        column.addSpacing(8)
        column.addWidget(self.at_end)
        column.addWidget(self.notify)
        column.addWidget(self.notify_help)
        column.addLayout(sound)
        column.addSpacing(16)
        column.addWidget(self.at_close_title)
        column.addWidget(self.at_close)
        column.addWidget(self.close_help)
        column.addSpacing(16)
        column.addWidget(self.token)
        column.addSpacing(16)
        column.addWidget(self.engine_title)
        engine = QHBoxLayout()
        engine.addWidget(self.engine)
        engine.addStretch(1)
        column.addLayout(engine)
        self.setMinimumWidth(480)
