"""A plot as a file: PNG, SVG, or the numbers that are drawn as CSV. Files are built aside and renamed."""

import csv
import io
import re
from pathlib import Path

import pyqtgraph as pg
from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QRectF
from PySide6.QtGui import QAbstractTextDocumentLayout, QColor, QImage, QImageWriter, QPainter, QPalette, QTextDocument
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QGraphicsItem

from aegis_core.run_directory import atomic

from . import theme as themes
from .live_plot import LivePlot
from .plot_legend import LEFT, title_of

KINDS = ("png", "svg", "csv")
PNG_SCALE = 2  # so that it stays sharp in a document


def file_name(run: str, plot: str, kind: str) -> str:
    """RUN-PLOT.KIND, without what a file name may not hold."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", f"{run}-{plot}" if run else plot) + f".{kind}"


def export(plot: LivePlot, path: Path) -> None:
    """Write what is drawn, in the format of the file's ending (png, svg, csv); OSError if it cannot be written."""
    content = {".png": png, ".svg": svg, ".csv": csv_bytes}[path.suffix.lower()](plot)
    with atomic(path) as draft:
        draft.write_bytes(content)


def png(plot: LivePlot) -> bytes:
    image = QImage(plot.size() * PNG_SCALE, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(PNG_SCALE)
    painter = QPainter(image)
    _paint(plot, painter)
    painter.end()
    found = QByteArray()
    buffer = QBuffer(found)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    QImageWriter(buffer, b"PNG").write(image)
    return bytes(found.data())


def svg(plot: LivePlot) -> bytes:
    found = QByteArray()
    buffer = QBuffer(found)
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(plot.size())
    generator.setViewBox(QRectF(plot.rect()))
    generator.setTitle(plot.title())
    painter = QPainter(generator)
    _paint(plot, painter)
    painter.end()
    return bytes(found.data())


def csv_bytes(plot: LivePlot) -> bytes:
    """Every point of every curve in the part of the x axis that is in view, at full resolution.

    One row for each x; reference lines stand in columns of their own, what happened on the way in the last one.
    Numbers read back to the same bits; the byte order mark tells spreadsheets that it is UTF-8.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows(plot.table())
    return text.getvalue().encode("utf-8-sig")


def _paint(plot: LivePlot, painter: QPainter) -> None:
    """The plot with its title and legend, the way it stands on screen, as lines and letters where the painter can."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.fillRect(plot.rect(), QColor(plot.theme.surface))
    axes = [plot.getAxis(name) for name in ("left", "bottom")]
    points = [item for item in plot.scene().items() if isinstance(item, pg.ScatterPlotItem)]
    for axis in axes:  # what is cached is a picture already
        axis.setCacheMode(QGraphicsItem.CacheMode.NoCache)
    for item in points:
        item.setExportMode(True, {"antialias": True})
    plot.render(painter, QRectF(plot.rect()), plot.rect())
    for item in points:
        item.setExportMode(False)
    for axis in axes:
        axis.setCacheMode(QGraphicsItem.CacheMode.DeviceCoordinateCache)
    legend = QTextDocument()
    legend.setDefaultFont(themes.tabular(themes.SMALL))
    legend.setDocumentMargin(0)
    legend.setTextWidth(plot.width() - LEFT - 12)
    legend.setHtml(f"{title_of(plot)}&nbsp; {plot.legend.entries}")
    context = QAbstractTextDocumentLayout.PaintContext()
    context.palette.setColor(QPalette.ColorRole.Text, QColor(plot.theme.text))
    painter.translate(LEFT, 4)
    legend.documentLayout().draw(painter, context)
