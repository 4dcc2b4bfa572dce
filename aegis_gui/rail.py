"""The step rail: where you are, and the state of every step as shape and word."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from . import text
from . import theme as themes
from .flow import HOME, PAGES, Status
from .i18n import filled, tr
from .panels import label, status_colour
from .state import AppState
from .theme import Theme

WIDTH = 228


class Rail(QWidget):
    chosen = Signal(str)

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("rail")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedWidth(WIDTH)
        self.state = state
        self._theme = themes.LIGHT
        self._group = QButtonGroup(self)
        self.items = {page: RailItem(page) for page in PAGES}
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 12, 8, 12)
        column.setSpacing(2)
        for page, item in self.items.items():
            self._group.addButton(item)
            item.clicked.connect(lambda _=False, page=page: self.chosen.emit(page))
            column.addWidget(item)
            if page == HOME:
                column.addSpacing(8)
        column.addStretch(1)
        state.flow_changed.connect(self.refresh)

    def show_page(self, page: str) -> None:
        self.items[page].setChecked(True)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.refresh()

    def retranslate(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        flow = self.state.flow
        for page, item in self.items.items():
            item.show_status(flow.status(page), self._theme)
            item.setEnabled(flow.reachable(page))


class RailItem(QPushButton):
    """One step: shape, number and title, and the word for its state below."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
        self.setCheckable(True)
        self.setProperty("page", page)
        self._shape = QLabel()
        self._title = label()
        self._word = label(role="small")
        words = QVBoxLayout()
        words.setContentsMargins(0, 0, 0, 0)
        words.setSpacing(0)
        words.addWidget(self._title)
        words.addWidget(self._word)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 2, 4, 2)
        row.setSpacing(10)
        row.addWidget(self._shape)
        row.addLayout(words, 1)
        for part in (self._shape, self._title, self._word):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.toggled.connect(self._embolden)

    def show_status(self, status: Status, theme: Theme) -> None:
        title = tr(text.STEP_TITLES[self.page])
        name = "home" if self.page == HOME else text.STATUS_ICONS[status]
        colour = theme.secondary if self.page == HOME else status_colour(status, theme)
        self._shape.setPixmap(themes.icon(name, colour).pixmap(QSize(16, 16)))
        self._title.setText(title if self.page == HOME else f"{PAGES.index(self.page)}  {title}")
        self._word.setVisible(status is not Status.EMPTY)
        self._word.setText(tr(text.STATUS_WORDS[status]))
        spoken = title if self.page == HOME else filled("{step}: {state}", step=title, state=self._word.text())
        self.setAccessibleName(spoken)

    def _embolden(self, chosen: bool) -> None:
        self._title.setProperty("role", "strong" if chosen else "")
        self._title.style().unpolish(self._title)
        self._title.style().polish(self._title)
