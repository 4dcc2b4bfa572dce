"""What exporting will take, told before, and what it left: two tables without frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from aegis_core.gguf_export.file_types import FILE_TYPES
from aegis_core.gguf_export.size_estimate import SizeEstimate

from . import text
from . import theme as themes
from .i18n import filled, mark, tr
from .panels import label
from .theme import Theme

RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop
LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop
FORECAST_HEADINGS = (mark("File"), mark("About"), mark("Of which the untied output layer"))
FILE_HEADINGS = (mark("File"), mark("Size"), mark("Checks"), mark("Tensors"), mark("Quantised by"))


class _Table(QWidget):
    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.grid = QGridLayout(self)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(24)
        self.grid.setVerticalSpacing(6)

    def clear(self, headings: Sequence[str], right: Sequence[int]) -> None:
        while item := self.grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        for column, heading in enumerate(headings):
            self.grid.addWidget(label(tr(heading), role="small"), 0, column, RIGHT if column in right else LEFT)

    def put(self, line: int, column: int, content: str, *, role: str = "", right: bool = False) -> QLabel:
        made = label(content, role=role, wraps=not right)
        made.setFont(themes.tabular())
        if right:
            self.grid.addWidget(made, line, column, RIGHT)
        else:
            self.grid.addWidget(made, line, column)
        return made


class ForecastTable(_Table):
    """Chosen types with their sizes, and their sum."""

    def show_sizes(self, sizes: Sequence[SizeEstimate]) -> None:
        untied = any(size.untied_bytes for size in sizes)
        headings = FORECAST_HEADINGS if untied else FORECAST_HEADINGS[:2]
        self.clear(headings, (1, 2))
        rows = [(FILE_TYPES[size.kind].label, size.n_bytes, size.untied_bytes, "") for size in sizes]
        if len(rows) > 1:
            rows.append((tr("Together"), sum(s.n_bytes for s in sizes), sum(s.untied_bytes for s in sizes), "strong"))
        for line, (name, n_bytes, untied_bytes, role) in enumerate(rows, start=1):
            self.put(line, 0, name, role=role)
            self.put(line, 1, text.size(n_bytes), role=role, right=True)
            if untied:
                self.put(line, 2, text.size(untied_bytes), role=role or "secondary", right=True)
        self.grid.setColumnStretch(3, 1)
        self.setVisible(bool(sizes))


class FilesTable(_Table):
    """files.json: a row for each file, with how many tensors have which number format."""

    theme = themes.LIGHT

    def show_files(self, files: Sequence[Mapping[str, Any]]) -> None:
        self.clear(FILE_HEADINGS, (1,))
        for line, file in enumerate(files, start=1):
            checks = file.get("checks") or []
            passed = sum(bool(check.get("passed")) for check in checks)
            name = self.put(line, 0, Path(str(file.get("path", ""))).name, role="strong")
            name.setToolTip(f"SHA-256 {file.get('sha256', '')}")
            self.put(line, 1, text.size(file.get("bytes")), right=True)
            self._put_checks(line, passed, len(checks))
            self.put(line, 3, _formats(file.get("tensor_types") or {}))
            self.put(line, 4, str(file.get("quantiser") or "–"), role="secondary")
        self.grid.setColumnStretch(0, 3)
        self.grid.setColumnStretch(3, 4)
        self.grid.setColumnStretch(4, 2)
        self.setVisible(bool(files))

    def _put_checks(self, line: int, passed: int, total: int) -> None:
        good = passed == total and total > 0
        cell = QWidget()
        row = QGridLayout(cell)
        row.setContentsMargins(0, 0, 0, 0)
        row.setHorizontalSpacing(6)
        shape = QLabel()
        colour = self.theme.success if good else self.theme.danger
        shape.setPixmap(themes.icon("ok" if good else "missing", colour).pixmap(QSize(16, 16)))
        words = label(filled("{passed} of {total} checks passed", passed=passed, total=total))
        words.setProperty("role", "pass" if good else "fail")
        row.addWidget(shape, 0, 0)
        row.addWidget(words, 0, 1)
        self.grid.addWidget(cell, line, 2, LEFT)

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme


def _formats(types: Mapping[str, int]) -> str:
    """ "212 F16, 61 F32", the most frequent first."""
    ordered = sorted(types.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{n}\u00a0{name}" for name, n in ordered)
