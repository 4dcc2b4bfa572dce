"""What the engine warns of while a step runs, on the page itself: nobody should have to open the log to see it."""

import html
from collections import deque

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QLabel, QWidget

from aegis_core.events import Event, Log, StepStarted

from . import theme as themes
from .i18n import filled, tr
from .theme import Theme

KEPT = 3


class WarningLines(QLabel):
    """The newest warnings, each with a sign and a word; hidden while there is none. Give it every event of the step."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, textFormat=Qt.TextFormat.RichText, wordWrap=True)
        self._theme = themes.LIGHT
        self._warnings: deque[Log] = deque(maxlen=KEPT)
        self.retranslate()

    def on_event(self, event: Event) -> None:
        if isinstance(event, StepStarted) and not event.resumed:
            self.forget()
        elif isinstance(event, Log) and event.level == "warning":
            self._warnings.append(event)
            self.retranslate()

    def forget(self) -> None:
        self._warnings.clear()
        self.retranslate()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.retranslate()

    def retranslate(self) -> None:
        sentences = [filled(log.template, log.values) if log.template else log.text for log in self._warnings]
        sign = f'<span style="color:{self._theme.warning}">▲ {tr("Note")}</span>&nbsp; '
        self.setText("<br>".join(sign + html.escape(sentence) for sentence in sentences))
        self.setVisible(bool(sentences))

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)
