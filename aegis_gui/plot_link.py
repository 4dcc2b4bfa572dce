"""One x axis and one crosshair for several plots."""

import pyqtgraph as pg

from .live_plot import LivePlot


def link(plots: list[LivePlot]) -> None:
    """Zoom, pan, reset and crosshair of one are those of all.

    pyqtgraph's own link matches places on the screen rather than ranges when two plots lie below each other.
    """

    def follow(source: pg.ViewBox, limits: tuple[float, float]) -> None:
        for plot in plots:
            if plot.view is not source and plot.view.viewRange()[0] != list(limits):
                plot.follow(limits)

    for plot in plots:
        plot.view.sigXRangeChanged.connect(follow)
        for other in plots:
            plot.hovered.connect(other.show_crosshair)
            if other is not plot:
                plot.view_reset.connect(other.reset_view)
                plot.zoomed.connect(other.zoom_along)
