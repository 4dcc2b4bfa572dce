"""The ritual in four drawings: learn, open the gate, fuse, talk and measure. Drawn, so that they are sharp at any size
and follow the theme; what they show is said in words beside them."""

import math
from collections.abc import Callable, Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from .. import theme as themes
from ..theme import Theme

WIDTH, HEIGHT = 240.0, 150.0  # what the drawings think in
LAYERS = (30.0, 50.0, 70.0, 90.0, 110.0)  # upper edges of the layers of a model
LAYER_HEIGHT = 13.0
Draw = Callable[[QPainter, Theme], None]


class Picture(QWidget):
    """One drawing, as large as there is room, in its own proportions."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self._draw, self._theme = draw, themes.LIGHT
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(int(WIDTH), int(HEIGHT))

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return round(width * HEIGHT / WIDTH)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        scale = min(self.width() / WIDTH, self.height() / HEIGHT)
        painter.translate((self.width() - WIDTH * scale) / 2, (self.height() - HEIGHT * scale) / 2)
        painter.scale(scale, scale)
        self._draw(painter, self._theme)


def learning(painter: QPainter, theme: Theme) -> None:
    """Texts flow into a model whose layers stand still; a thin addition beside each of them learns."""
    for place, top in enumerate((40.0, 66.0, 92.0)):
        _page(painter, theme, 14 + 5 * (place % 2), top)
        _arrow(painter, theme.secondary, QPointF(58, top + 10), QPointF(86, 76 + (top - 66) * 0.35))
    for top in LAYERS:
        _layer(painter, theme, 96, top, 84)
        _box(painter, QRectF(188, top, 14, LAYER_HEIGHT), theme.accent, 3)
        painter.setPen(_pen(theme.control, 1))
        painter.drawLine(QPointF(180, top + LAYER_HEIGHT / 2), QPointF(188, top + LAYER_HEIGHT / 2))


def opening(painter: QPainter, theme: Theme) -> None:
    """Alpha climbs from −5 through its steepest point to the golden ratio: gone so far solid, to come dotted."""
    left, right, low, high = 34.0, 214.0, 118.0, 36.0
    painter.setPen(_pen(theme.hairline, 1))
    painter.drawLine(QPointF(left, low + 8), QPointF(right, low + 8))
    painter.setPen(_pen(theme.secondary, 1, Qt.PenStyle.DashLine))
    painter.drawLine(QPointF(left, high), QPointF(right, high))
    way = [_point(step / 100, left, right, low, high) for step in range(101)]
    _gate(painter, theme, way)
    painter.setPen(_pen(theme.accent, 3))
    painter.drawPath(_line(way[:63]))
    painter.setPen(_pen(theme.accent, 3, Qt.PenStyle.DotLine))
    painter.drawPath(_line(way[62:]))
    _dot(painter, theme, way[62])
    painter.setPen(QColor(theme.secondary))
    painter.setFont(themes.font(13))
    painter.drawText(QRectF(left, low - 24, 60, 18), Qt.AlignmentFlag.AlignLeft, "α = −5")
    painter.drawText(QRectF(left, high - 22, right - left, 18), Qt.AlignmentFlag.AlignRight, "φ = 1.618")


def fusing(painter: QPainter, theme: Theme) -> None:
    """The layers and what they learned become one plain block, in which nothing is left over."""
    for top in LAYERS:
        _layer(painter, theme, 16, top, 56)
        _box(painter, QRectF(76, top, 11, LAYER_HEIGHT), theme.accent, 3)
    _arrow(painter, theme.secondary, QPointF(100, 76), QPointF(132, 76))
    block = QRectF(146, LAYERS[0], 78, LAYERS[-1] + LAYER_HEIGHT - LAYERS[0])
    _box(painter, block, theme.sunken, 8, theme.control)
    painter.setPen(_pen(theme.accent, 2))
    for height in (LAYERS[1] - 3.5, LAYERS[4] - 3.5):
        painter.drawLine(QPointF(block.left() + 14, height), QPointF(block.right() - 14, height))
    painter.setPen(QColor(theme.text))
    painter.setFont(themes.font(13, themes.STRONG))
    painter.drawText(QRectF(block.left(), 66, block.width(), 22), Qt.AlignmentFlag.AlignCenter, "GGUF")


def talking(painter: QPainter, theme: Theme) -> None:
    """A question, an answer, and what was measured: the loss of base, fused model and file as bars."""
    _box(painter, QRectF(16, 30, 74, 26), theme.sunken, 9, theme.control)
    _lines(painter, theme.secondary, 26, 40, (52, 34))
    _box(painter, QRectF(36, 66, 92, 56), theme.surface, 9, theme.control)
    _lines(painter, theme.text, 48, 80, (66, 54, 68, 38))
    base = 122.0
    painter.setPen(_pen(theme.hairline, 1))
    painter.drawLine(QPointF(146, base), QPointF(226, base))
    for place, height in enumerate((88.0, 58.0, 61.0)):
        colour = theme.control_run if place == 0 else theme.loss
        _box(painter, QRectF(152 + 26 * place, base - height, 16, height), colour, 3)
        if place:
            _tick(painter, theme, QPointF(160 + 26 * place, base - height - 12))


PICTURES: Sequence[Draw] = (learning, opening, fusing, talking)


def _point(progress: float, left: float, right: float, low: float, high: float) -> QPointF:
    """A place on the renormalised logistic, steepness 12."""
    edge = 1 / (1 + math.exp(6))
    rise = (1 / (1 + math.exp(-12 * (progress - 0.5))) - edge) / (1 - 2 * edge)
    return QPointF(left + (right - left) * progress, low + (high - low) * rise)


def _gate(painter: QPainter, theme: Theme, way: list[QPointF]) -> None:
    """How far the gate is open, as a soft level under the way gone so far."""
    area = _line(way[:63])
    area.lineTo(QPointF(way[62].x(), 126))
    area.lineTo(QPointF(way[0].x(), 126))
    area.closeSubpath()
    painter.fillPath(area, QColor(theme.accent_soft))


def _line(points: Sequence[QPointF]) -> QPainterPath:
    path = QPainterPath(points[0])
    for point in points[1:]:
        path.lineTo(point)
    return path


def _layer(painter: QPainter, theme: Theme, left: float, top: float, width: float) -> None:
    _box(painter, QRectF(left, top, width, LAYER_HEIGHT), theme.sunken, 3, theme.control)


def _page(painter: QPainter, theme: Theme, left: float, top: float) -> None:
    _box(painter, QRectF(left, top, 34, 21), theme.surface, 3, theme.control)
    _lines(painter, theme.secondary, left + 7, top + 7, (20, 14))


def _lines(painter: QPainter, colour: str, left: float, top: float, widths: Sequence[float]) -> None:
    painter.setPen(_pen(colour, 1.5))
    for place, width in enumerate(widths):
        painter.drawLine(QPointF(left, top + 8 * place), QPointF(left + width, top + 8 * place))


def _arrow(painter: QPainter, colour: str, start: QPointF, end: QPointF) -> None:
    painter.setPen(_pen(colour, 1.5))
    painter.drawLine(start, end)
    angle = math.atan2(end.y() - start.y(), end.x() - start.x())
    for turn in (2.6, -2.6):
        painter.drawLine(end, end + QPointF(7 * math.cos(angle + turn), 7 * math.sin(angle + turn)))


def _dot(painter: QPainter, theme: Theme, place: QPointF) -> None:
    painter.setPen(_pen(theme.surface, 2))
    painter.setBrush(QColor(theme.accent))
    painter.drawEllipse(place, 6, 6)
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _tick(painter: QPainter, theme: Theme, place: QPointF) -> None:
    painter.setPen(_pen(theme.success, 2))
    painter.drawPath(_line([place + QPointF(-5, 0), place + QPointF(-1, 4), place + QPointF(6, -4)]))


def _box(painter: QPainter, place: QRectF, fill: str, radius: float, border: str = "") -> None:
    painter.setPen(_pen(border, 1) if border else Qt.PenStyle.NoPen)
    painter.setBrush(QColor(fill))
    painter.drawRoundedRect(place, radius, radius)
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _pen(colour: str, width: float, style: Qt.PenStyle = Qt.PenStyle.SolidLine) -> QPen:
    return QPen(QColor(colour), width, style, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
