"""What stands in a plot: curves, reference lines, named points, phases, and what happened on the way."""

from collections.abc import Callable, Sequence

import pyqtgraph as pg
from PySide6.QtWidgets import QGraphicsLineItem, QGraphicsSimpleTextItem, QWidget

from .plot_labels import place_bands, place_levels, place_marks
from .plot_look import paint_band, paint_curve, paint_level, prepare_axes
from .plot_moments import Moment, MomentRow
from .plot_parts import Colour, Curve, Level, Mark
from .theme import Theme, tabular


class PlotCanvas(pg.PlotWidget):
    """Takes things to draw and keeps their looks and the places of their names; it reads nothing and moves nothing."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=theme.surface, enableMenu=False)
        self.theme = theme
        self.curves: dict[str, Curve] = {}
        self.levels: list[Level] = []
        self.marks: list[Mark] = []
        self._bands: list[tuple[pg.LinearRegionItem, QGraphicsSimpleTextItem, str]] = []
        self._moments = MomentRow(self.view, theme)
        prepare_axes(self)

    @property
    def view(self) -> pg.ViewBox:
        return self.getPlotItem().getViewBox()

    def add_curve(self, name: str, colour: Colour, view: pg.ViewBox | None = None, **look: object) -> Curve:
        item = pg.PlotDataItem(skipFiniteCheck=True, autoDownsample=True, clipToView=True, connect="all")
        curve = Curve(name, colour, item, **look)  # type: ignore[arg-type]
        # Drawing, not arithmetic, is what costs time: a smooth curve needs one point per two pixels, a noisy one its
        # lowest and highest value per pixel, and only the former is worth soft edges.
        item.opts["autoDownsampleFactor"] = 1.0 if curve.noisy else 0.5
        item.opts["downsampleMethod"] = "peak" if curve.noisy else "subsample"
        item.opts["antialias"] = not curve.noisy
        item.curve.setSegmentedLineMode("off")
        item.setZValue(len(self.curves))
        self.curves[name] = curve
        # not through the plot item, which would put its own idea of downsampling in place
        (view or self.view).addItem(item, ignoreBounds=True)
        paint_curve(curve, self.theme)
        return curve

    def add_level(self, colour: Colour, text: Callable[[float], str]) -> Level:
        line = QGraphicsLineItem(self.view)
        line.setZValue(1)
        level = Level(colour, line, self._label(), text)
        self.levels.append(level)
        paint_level(level, self.theme)
        return level

    def set_level(self, level: Level, value: float | None) -> None:
        level.value = value
        self.place_labels()

    def set_marks(self, marks: list[tuple[Callable[[], str], float, float]]) -> None:
        """Named points (text, x, y), replacing earlier ones."""
        for mark in self.marks:
            self.scene().removeItem(mark.label)
        self.marks = [Mark(text, self._label(), x, y) for text, x, y in marks]
        self._paint_texts()
        self.place_labels()

    def set_bands(self, bands: list[tuple[float, float, str]]) -> None:
        """Phases behind the curves: (first x, last x, latent | critical | settled), replacing earlier ones."""
        for region, label, _ in self._bands:
            self.removeItem(region)
            self.scene().removeItem(label)
        self._bands = []
        for first, last, phase in bands:
            region = pg.LinearRegionItem((first, last), movable=False, pen=pg.mkPen(None))
            region.setZValue(-20)
            self.addItem(region, ignoreBounds=True)
            self._bands.append((region, self._label(), phase))
        self._paint_texts()
        self.place_labels()

    def set_moments(self, moments: Sequence[Moment]) -> None:
        """What happened on the way, in order of x; the sequence is kept, not copied."""
        self._moments.show_moments(moments)

    def moments_near(self, x: float) -> list[str]:
        return self._moments.near(x)

    @property
    def moments(self) -> Sequence[Moment]:
        return self._moments.moments

    @property
    def has_bands(self) -> bool:
        return bool(self._bands)

    def set_theme(self, theme: Theme) -> None:
        self.theme = self._moments.theme = theme
        self.setBackground(theme.surface)
        for axis in ("left", "bottom", "right"):
            self.getAxis(axis).setPen(pg.mkPen(theme.hairline))
            self.getAxis(axis).setTextPen(pg.mkPen(theme.secondary))
        for curve in self.curves.values():
            paint_curve(curve, theme)
        for level in self.levels:
            paint_level(level, theme)
        self._paint_texts()

    def retranslate(self) -> None:
        self._paint_texts()
        self.place_labels()

    def place_labels(self) -> None:
        """Put every name where it has room, now that ranges or sizes are others."""
        place_bands(self.view, [(region, label) for region, label, _ in self._bands])
        place_levels(self.view, self.levels)
        place_marks(self.view, self.marks)
        self._moments.prepareGeometryChange()

    def _label(self) -> QGraphicsSimpleTextItem:
        """A text inside the plot whose place is kept in pixels."""
        label = QGraphicsSimpleTextItem(self.view)
        label.setFont(tabular(11))
        label.setZValue(40)
        label.hide()
        return label

    def _paint_texts(self) -> None:
        for region, label, phase in self._bands:
            paint_band(region, label, phase, self.theme)
        for mark in self.marks:
            mark.label.setText(mark.text())
            mark.label.setBrush(pg.mkBrush(self.theme.secondary))
