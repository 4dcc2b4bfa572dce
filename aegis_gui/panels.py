"""The plain pieces pages are made of: labels in a role, cards, sections with a heading."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QLabel, QLayout, QScrollArea, QVBoxLayout, QWidget

from .flow import Status
from .i18n import tr
from .theme import Theme


def label(content: str = "", *, role: str = "", wraps: bool = False) -> QLabel:
    """A label in one of the roles of the style sheet."""
    made = QLabel(content)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setWordWrap(wraps)
    if role:
        made.setProperty("role", role)
    return made


def card() -> QFrame:
    """A quiet box with a hairline; give it a layout."""
    made = QFrame()
    made.setProperty("role", "card")
    return made


class Section(QFrame):
    """A card with a heading; put the content into `body`."""

    def __init__(self, heading: str, parent: QWidget | None = None) -> None:
        """`heading` is marked English."""
        super().__init__(parent)
        self.setProperty("role", "card")
        self._heading = heading
        self.heading = label(role="heading")
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(16, 12, 16, 16)
        self.body.setSpacing(12)
        self.body.addWidget(self.heading)
        self.retranslate()

    def retranslate(self) -> None:
        self.heading.setText(tr(self._heading))


def scrolled(content: QWidget | QLayout) -> QScrollArea:
    """The content at its own height, scrollable where the page is lower."""
    inner = QWidget()
    inner.setObjectName("scrolled")
    column = QVBoxLayout(inner)
    column.setContentsMargins(0, 0, 8, 0)
    if isinstance(content, QWidget):
        column.addWidget(content)
    else:
        column.addLayout(content)
    column.addStretch(1)
    area = QScrollArea(widgetResizable=True)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inner)
    return area


def set_role(widget: QWidget, role: str) -> None:
    """Give a widget another role of the style sheet."""
    if widget.property("role") != role:
        widget.setProperty("role", role)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def mark_chosen(card: QFrame, chosen: bool) -> None:
    """Draw a card's frame strong, as where the keyboard is, or quiet again."""
    card.setProperty("chosen", "true" if chosen else "false")
    card.style().unpolish(card)
    card.style().polish(card)


def status_colour(status: Status, theme: Theme) -> str:
    colours = {
        Status.DONE: theme.success,
        Status.FAILED: theme.danger,
        Status.STALE: theme.warning,
        Status.CANCELLED: theme.warning,
        Status.RUNNING: theme.text,
        Status.PAUSED: theme.text,
    }
    return colours.get(status, theme.secondary)
