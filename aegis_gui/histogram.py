"""A small histogram: one distribution filled, another over it as an outline, and its scale below."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from . import text
from . import theme as themes

HEIGHT = 104
TICK_SIZE = 11  # px


@dataclass(frozen=True)
class Bars:
    """`edges` are one more than `counts`."""

    edges: list[float]
    counts: list[int]

    @classmethod
    def of(cls, row: object) -> "Bars | None":
        """From {"edges", "counts"}; None where that is not a histogram."""
        if not isinstance(row, Mapping):
            return None
        edges, counts = _numbers(row.get("edges")), _numbers(row.get("counts"))
        if not counts or len(edges) != len(counts) + 1 or edges[-1] <= edges[0] or max(counts) <= 0:
            return None
        return cls(edges, [int(count) for count in counts])


class Histogram(QWidget):
    """`colour` and `outline` are tokens of the theme."""

    def __init__(self, colour: str, outline: str = "text", unit: str = "") -> None:
        super().__init__()
        self.theme = themes.LIGHT
        self._colour, self._outline_colour, self._unit = colour, outline, unit
        self.filled: Bars | None = None
        self.outlined: Bars | None = None
        self.setMinimumSize(QSize(160, HEIGHT))
        self.setFixedHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_bars(self, filled: Bars | None, outlined: Bars | None = None) -> None:
        """Both over the same edges; None draws nothing."""
        self.filled, self.outlined = filled, outlined
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        if self.filled is None:
            return
        painter = QPainter(self)
        font = themes.tabular(TICK_SIZE)
        painter.setFont(font)
        floor = float(self.height() - QFontMetrics(font).height() - 4)
        tallest = max(max(bars.counts) for bars in (self.filled, self.outlined) if bars)
        step = self.width() / len(self.filled.counts)
        colour = QColor(getattr(self.theme, self._colour))
        for place, count in enumerate(self.filled.counts):
            height = count / tallest * (floor - 4)
            if count:  # a single row among thousands is still seen
                height = max(height, 1.0)
                painter.fillRect(QRectF(place * step, floor - height, max(step - 1, 1), height), colour)
        if self.outlined:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(getattr(self.theme, self._outline_colour)), 1.5))
            painter.drawPolyline(_stairs(self.outlined.counts, step, floor, tallest))
        painter.setPen(QPen(QColor(self.theme.hairline), 1))
        painter.drawLine(QPointF(0, floor), QPointF(self.width(), floor))
        painter.setPen(QColor(self.theme.secondary))
        below = QRectF(0, floor + 2, self.width(), self.height() - floor - 2)
        low, high = self.filled.edges[0], self.filled.edges[-1]
        for value, side in (
            (low, Qt.AlignmentFlag.AlignLeft),
            ((low + high) / 2, Qt.AlignmentFlag.AlignHCenter),
            (high, Qt.AlignmentFlag.AlignRight),
        ):
            painter.drawText(below, side | Qt.AlignmentFlag.AlignTop, f"{text.number(value, 3)}{self._unit}")
        painter.end()


def _stairs(counts: list[int], step: float, floor: float, tallest: int) -> QPolygonF:
    points = [QPointF(0, floor)]
    for place, count in enumerate(counts):
        height = floor - count / tallest * (floor - 4)
        points += [QPointF(place * step, height), QPointF((place + 1) * step, height)]
    return QPolygonF([*points, QPointF(len(counts) * step, floor)])


def _numbers(found: Any) -> list[float]:
    if not isinstance(found, list) or not all(isinstance(value, int | float) for value in found):
        return []
    return found
