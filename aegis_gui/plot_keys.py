"""A plot by keyboard: move the crosshair, pan, zoom, show everything."""

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent

if TYPE_CHECKING:
    from .live_plot import LivePlot

STRIDES = 100  # so many presses of an arrow lead from one end to the other; Shift pans by a tenth
ZOOM = 0.8


def handle(plot: "LivePlot", event: QKeyEvent) -> bool:
    """Do what the key says; False if it says nothing here."""
    low, high = plot.view.viewRange()[0]
    key, shift = Qt.Key(event.key()), bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
    direction = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(key)
    if direction and shift:
        plot.show_part(low + direction * (high - low) / 10, high + direction * (high - low) / 10)
    elif direction:
        first, last = plot.cursor_range()
        here = (first + last) / 2 if plot.cursor is None else plot.cursor
        stride = max((last - first) / STRIDES, 1.0)
        plot.hovered.emit(min(max(here + direction * stride, first), last))
    elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal, Qt.Key.Key_Minus):
        centre = (low + high) / 2
        factor = 1 / ZOOM if key == Qt.Key.Key_Minus else ZOOM
        plot.show_part(centre - (centre - low) * factor, centre + (high - centre) * factor)
    elif key in (Qt.Key.Key_0, Qt.Key.Key_Home):
        plot.ask_for_everything()
    elif key == Qt.Key.Key_Escape and plot.cursor is not None:
        plot.hovered.emit(None)
    else:
        return False
    return True
