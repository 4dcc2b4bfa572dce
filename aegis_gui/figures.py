"""Large numbers that change while one looks at them."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from . import theme as themes


class Figure(QWidget):
    """One large number with its name above and a quiet remark below."""

    def __init__(self) -> None:
        super().__init__()
        self.name = steady_label("small")
        self.value = steady_label("title")
        self.remark = steady_label("small")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for line in (self.name, self.value, self.remark):
            column.addWidget(line)

    def show_value(self, name: str, value: str, remark: str = "") -> None:
        for line, content in ((self.name, name), (self.value, value or "–"), (self.remark, remark or " ")):
            if line.text() != content:
                line.setText(content)
        self.setAccessibleName(f"{name}: {value} {remark}".strip())


def steady_label(role: str) -> QLabel:
    """A label that never widens its column: figures that change must not move their neighbours."""
    made = QLabel(" ", textFormat=Qt.TextFormat.PlainText)
    made.setFont(themes.tabular())
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    made.setProperty("role", role)
    return made
