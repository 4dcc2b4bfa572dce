"""What happened on the way, marked at the foot of a plot: checkpoints, warnings, pauses, continuing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QColor, QPainter, QPolygonF
from PySide6.QtWidgets import QGraphicsItem, QStyleOptionGraphicsItem, QWidget

from .i18n import tr
from .theme import Theme

MARK_PX = 8  # their height; the names of the phases stand above them
GAP_PX = 9  # closer ones are drawn as one, the newest on top
NEAR_PX = 5  # so near to a mark the crosshair names it


@dataclass(frozen=True)
class Moment:
    """`kind` is checkpoint, warning, paused, resumed or continued; x lies on the axis of steps."""

    x: float
    kind: str


WORDS: dict[str, Callable[[], str]] = {
    "checkpoint": lambda: tr("checkpoint"),
    "warning": lambda: tr("warning"),
    "paused": lambda: tr("paused"),
    "resumed": lambda: tr("resumed"),
    "continued": lambda: tr("continued after a stop"),
}


class MomentRow(QGraphicsItem):
    """Signs of different shapes along the lower edge of a view, in its own pixels."""

    def __init__(self, view: pg.ViewBox, theme: Theme) -> None:
        super().__init__(view)
        self.theme = theme
        self.moments: Sequence[Moment] = ()
        self._view = view
        self.setZValue(30)

    def show_moments(self, moments: Sequence[Moment]) -> None:
        """In order of x; the sequence is kept, not copied."""
        self.moments = moments
        self.update()

    def near(self, x: float) -> list[str]:
        """The words of what happened within a few pixels of x."""
        per_pixel = self._view.viewPixelSize()[0] if self._view.width() else 0.0
        found = [WORDS[moment.kind]() for moment in self.moments if abs(moment.x - x) <= NEAR_PX * per_pixel]
        return list(dict.fromkeys(found))

    def boundingRect(self) -> QRectF:
        return QRectF(0, self._view.height() - MARK_PX - 2, self._view.width(), MARK_PX + 2)

    def paint(self, painter: QPainter, option: QStyleOptionGraphicsItem, widget: QWidget | None = None) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width, middle = self._view.width(), self._view.height() - MARK_PX / 2 - 1
        (first, last), taken = self._view.viewRange()[0], width + GAP_PX
        for moment in reversed(self.moments):
            x = (moment.x - first) / (last - first) * width
            # a warning is never hidden behind a checkpoint
            if not 0 <= x <= width or (taken - x < GAP_PX and moment.kind != "warning"):
                continue
            taken = x
            _draw(painter, moment.kind, QPointF(x, middle), self.theme)


def _draw(painter: QPainter, kind: str, at: QPointF, theme: Theme) -> None:
    x, y, half = at.x(), at.y(), MARK_PX / 2 - 0.5
    painter.setPen(QColor(theme.surface))
    painter.setBrush(QColor(theme.warning if kind == "warning" else theme.secondary))
    if kind == "warning":
        shape = [(x - half - 1, y + half), (x + half + 1, y + half), (x, y - half - 1)]
    elif kind == "checkpoint":
        shape = [(x - half, y), (x, y - half), (x + half, y), (x, y + half)]
    elif kind == "paused":
        painter.drawRect(QRectF(x - half, y - half, 3, 2 * half))
        painter.drawRect(QRectF(x + half - 3, y - half, 3, 2 * half))
        return
    else:
        shape = [(x - half + 1, y - half), (x + half, y), (x - half + 1, y + half)]
    painter.drawPolygon(QPolygonF([QPointF(*corner) for corner in shape]))
