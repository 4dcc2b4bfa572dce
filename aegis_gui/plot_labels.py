"""Where the names in a plot stand, so that none covers another: of bands, of reference lines, of marked points."""

from collections.abc import Sequence

import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtWidgets import QGraphicsSimpleTextItem

from .plot_moments import MARK_PX
from .plot_parts import Level, Mark


def place_bands(view: pg.ViewBox, bands: Sequence[tuple[pg.LinearRegionItem, QGraphicsSimpleTextItem]]) -> None:
    """Each name at the foot of the middle of its band, above what is marked there, if the band is wide enough."""
    for region, label in bands:
        first, last = (_pixel(view, x, 0).x() for x in region.getRegion())
        size = label.boundingRect()
        label.setVisible(last - first > size.width() + 8)
        label.setPos((first + last - size.width()) / 2, view.height() - size.height() - MARK_PX - 2)


def place_levels(view: pg.ViewBox, levels: Sequence[Level]) -> None:
    """Each line and, at its right end, its name, above it or else below; where it lies outside the view the legend
    tells of it."""
    taken: list[QRectF] = []
    for level in levels:
        seen = level.value is not None and is_in_view(view, level.value)
        level.label.setVisible(seen)
        level.line.setVisible(seen)
        if level.value is None or not seen:
            continue
        y = _pixel(view, 0, level.value).y()
        level.line.setLine(0, y, view.width(), y)
        level.label.setText(level.text(level.value))
        size = level.label.boundingRect().size()
        place = QRectF(QPointF(view.width() - size.width() - 6, y - size.height() - 1), size)
        if any(place.intersects(other) for other in taken):
            place.moveTop(y + 1)
        level.label.setPos(place.topLeft())
        taken.append(place)


def place_marks(view: pg.ViewBox, marks: Sequence[Mark]) -> None:
    """The latest first; one that finds no room has no name."""
    taken: list[QRectF] = []
    for mark in reversed(marks):
        place = _place_of(view, mark, taken)
        inside = 0 <= _pixel(view, mark.x, mark.y).x() <= view.width()
        mark.label.setVisible(place is not None and inside)
        if place is not None:
            mark.label.setPos(place.topLeft())
            taken.append(place)


def is_in_view(view: pg.ViewBox, value: float) -> bool:
    low, high = view.viewRange()[1]
    return bool(low <= value <= high)


def _place_of(view: pg.ViewBox, mark: Mark, taken: Sequence[QRectF]) -> QRectF | None:
    """Left above its point, or else right below it, where no other name stands; None if there is no room."""
    spot, size = _pixel(view, mark.x, mark.y), mark.label.boundingRect().size()
    corners = (QPointF(spot.x() - 8 - size.width(), spot.y() - size.height()), QPointF(spot.x() + 8, spot.y()))
    places = [QRectF(corner, size) for corner in corners]
    free = (p for p in places if p.left() > 0 and not any(p.intersects(other) for other in taken))
    return next(free, None)


def _pixel(view: pg.ViewBox, x: float, y: float) -> QPointF:
    return view.mapFromView(QPointF(x, y))
