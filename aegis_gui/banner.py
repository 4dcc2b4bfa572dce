"""One sentence across the window, above the page, with a way to dismiss it: never a dialog, never a traceback."""

from collections.abc import Mapping

from PySide6.QtWidgets import QFrame, QHBoxLayout, QToolButton, QWidget

from . import theme as themes
from .i18n import filled, tr
from .panels import label
from .theme import Theme


class Banner(QFrame):
    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "failure")
        self._templates: tuple[str, ...] = ()
        self._values: Mapping[str, object] = {}
        self.sentence = label(wraps=True)
        self.dismiss = QToolButton()
        self.dismiss.clicked.connect(self.hide)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 8, 8, 8)
        row.addWidget(self.sentence, 1)
        row.addWidget(self.dismiss)
        self.hide()

    def tell(self, values: Mapping[str, object], *templates: str) -> None:
        """Show these sentences (templates, translated here) until dismissed."""
        self._templates, self._values = templates, values
        self.retranslate()
        self.show()

    def set_theme(self, theme: Theme) -> None:
        self.dismiss.setIcon(themes.icon("cross", theme.secondary))

    def retranslate(self) -> None:
        self.dismiss.setToolTip(tr("Dismiss"))
        self.dismiss.setAccessibleName(tr("Dismiss"))
        self.sentence.setText(" ".join(filled(template, self._values) for template in self._templates if template))
