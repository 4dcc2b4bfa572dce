"""One sentence across the window, above the page, with a way to dismiss it: never a dialog, never a traceback."""

from collections.abc import Callable, Mapping

from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QToolButton, QWidget

from . import theme as themes
from .i18n import filled, tr
from .panels import label, set_role
from .theme import Theme


class Banner(QFrame):
    """Tells of something that went wrong, or offers one thing to do."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "failure")
        self._sentence: Callable[[], str] = str
        self._offer = ""
        self._then: Callable[[], None] | None = None
        self.sentence = label(wraps=True)
        self.button = QPushButton()
        self.button.clicked.connect(self._act)
        self.dismiss = QToolButton()
        self.dismiss.clicked.connect(self.hide)
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 8, 8, 8)
        row.setSpacing(8)
        row.addWidget(self.sentence, 1)
        row.addWidget(self.button)
        row.addWidget(self.dismiss)
        self.hide()

    def tell(self, values: Mapping[str, object], *templates: str) -> None:
        """Show these sentences (templates, translated here) until dismissed."""
        set_role(self, "failure")
        self._offer, self._then = "", None
        self._show(lambda: " ".join(filled(template, values) for template in templates if template))

    def offer(self, sentence: Callable[[], str], words: str, then: Callable[[], None]) -> None:
        """One sentence, in the language of whenever it is asked, and one button (marked English) that does `then`."""
        set_role(self, "notice")
        self._offer, self._then = words, then
        self._show(sentence)

    def set_theme(self, theme: Theme) -> None:
        self.dismiss.setIcon(themes.icon("cross", theme.secondary))

    def retranslate(self) -> None:
        self.dismiss.setToolTip(tr("Dismiss"))
        self.dismiss.setAccessibleName(tr("Dismiss"))
        self.button.setText(tr(self._offer) if self._offer else "")
        self.button.setVisible(bool(self._offer))
        self.sentence.setText(self._sentence())

    def _show(self, sentence: Callable[[], str]) -> None:
        self._sentence = sentence
        self.retranslate()
        self.show()

    def _act(self) -> None:
        self.hide()
        if self._then:
            self._then()
