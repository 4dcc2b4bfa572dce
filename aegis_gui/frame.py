"""How the parts of the window stand to each other; what they do is the window's business."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QSplitter, QVBoxLayout, QWidget


def framed(
    header: QWidget, rail: QWidget, banner: QWidget, pages: QWidget, footer: QWidget, log: QWidget, strip: QWidget
) -> QWidget:
    """Header above all, strip below all; between them the rail, and beside it banner, page and footer. The log opens
    below these and takes its room from the page."""
    right = QWidget()
    column = QVBoxLayout(right)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(0)
    above = QHBoxLayout()
    above.setContentsMargins(24, 12, 24, 0)
    above.addWidget(banner)
    column.addLayout(above)
    column.addWidget(pages, 1)
    column.addWidget(footer)
    middle = QWidget()
    row = QHBoxLayout(middle)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(0)
    row.addWidget(rail)
    row.addWidget(right, 1)
    splitter = QSplitter(Qt.Orientation.Vertical)
    splitter.addWidget(middle)
    splitter.addWidget(log)
    splitter.setStretchFactor(0, 1)
    splitter.setSizes([600, 160])
    splitter.setChildrenCollapsible(False)
    whole = QWidget()
    outer = QVBoxLayout(whole)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.setSpacing(0)
    outer.addWidget(header)
    outer.addWidget(splitter, 1)
    outer.addWidget(strip)
    return whole
