"""The turns of a conversation below each other, scrolled to the newest words unless the person has scrolled back."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QScrollArea, QVBoxLayout, QWidget

NEAR_PX = 24


class ChatFeed(QScrollArea):
    """`following`: stay at the newest words. `empty` is what stands there before anything was said."""

    def __init__(self, empty: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.following = True
        inner = QWidget()
        inner.setObjectName("scrolled")
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 8, 0)
        self._column.setSpacing(8)
        self._column.addWidget(empty, 1)
        self._column.addStretch(0)
        self.setWidgetResizable(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(inner)
        bar = self.verticalScrollBar()
        bar.rangeChanged.connect(self._follow)
        bar.sliderMoved.connect(self._note_place)
        bar.actionTriggered.connect(lambda: self._note_place(self.verticalScrollBar().sliderPosition()))

    def add(self, turn: QWidget) -> None:
        self._column.insertWidget(self._column.count() - 1, turn)

    def drop(self, turn: QWidget) -> None:
        self._column.removeWidget(turn)
        turn.hide()
        turn.deleteLater()

    def _follow(self, smallest: int, largest: int) -> None:
        if self.following:
            self.verticalScrollBar().setValue(largest)

    def _note_place(self, value: int) -> None:
        self.following = value >= self.verticalScrollBar().maximum() - NEAR_PX
