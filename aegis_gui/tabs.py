"""Several views of one page, one at a time."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QStackedWidget, QToolButton, QVBoxLayout, QWidget

from .i18n import tr


class Tabs(QWidget):
    """Quiet buttons above a stack; add views in the order of the buttons."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons: list[QToolButton] = []
        self._names: list[str] = []
        self._group = QButtonGroup(self)
        self._group.idClicked.connect(self.show_view)
        self.stack = QStackedWidget()
        self._row = QHBoxLayout()
        self._row.setSpacing(4)
        self._row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(self._row)
        column.addWidget(self.stack, 1)

    def add(self, name: str, view: QWidget) -> None:
        """`name` is marked English."""
        button = QToolButton()
        button.setCheckable(True)
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._group.addButton(button, len(self.buttons))
        self._row.insertWidget(len(self.buttons), button)
        self.buttons.append(button)
        self._names.append(name)
        self.stack.addWidget(view)
        button.setChecked(len(self.buttons) == 1)
        self.retranslate()

    def add_corner(self, widget: QWidget) -> None:
        """Something that stands at the right end of the row of buttons."""
        self._row.addWidget(widget)

    def show_view(self, index: int) -> None:
        self.stack.setCurrentIndex(index)
        self.buttons[index].setChecked(True)

    def retranslate(self) -> None:
        for button, name in zip(self.buttons, self._names, strict=True):
            button.setText(tr(name))
