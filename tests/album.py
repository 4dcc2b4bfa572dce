"""Pictures of the window, each looked over as it is taken, for what no eye should have to look for.

Text that has less room than it needs, that lies over other text, that is too faint, or that is not translated. What was
found stands beside the picture, in a text file of the same name.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
from gui_parts import clipped, japanese, recorded_events
from PySide6.QtCore import QLocale, QPoint, QRect
from PySide6.QtGui import QImage, QPixmap
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QWidget,
)

from aegis_core.events import CheckRow
from aegis_gui.plot_legend import Legend
from aegis_gui.theme import contrast

FAINTEST = 4.0  # of a drawn letter: its edges are blended, so a colour of 4.5 can come out a little lower
PROSE = re.compile(r"(?:[A-Za-z]{2,}[ ,;:]+){3}[A-Za-z]{2,}")
KANA_OR_KANJI = re.compile(r"[぀-ヿ㐀-鿿]")
OWN_NAMES = ("English",)  # a language's name in that language
ENGLISH_BY_NATURE = ("Turn", "Samples", "Entry", "LogDrawer", "MarkdownText", "DataPreview", "ChatPrompts")
"""What models and libraries said, data, and the physics questions in the language that the plan asks them in."""


def snap(widget: QWidget, path: Path) -> Path:
    """Save a picture of the widget, and beside it what is wrong with it, if anything is."""
    picture = widget.grab()
    picture.save(str(path))
    found = faults(widget, picture)
    if found:
        path.with_suffix(".txt").write_text("\n".join(found) + "\n", encoding="utf-8")
    return path


def complaints(folder: Path) -> list[str]:
    """All that was found in the pictures of a folder, "picture: what"."""
    return [
        f"{file.stem}: {line}"
        for file in sorted(folder.rglob("*.txt"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def verdict(folder: Path) -> str | None:
    """For sys.exit: every complaint, or None where there is none."""
    return "\n".join(complaints(folder)) or None


def faults(widget: QWidget, picture: QPixmap) -> list[str]:
    """What is wrong with the widget as it is on screen now."""
    found = [*clipped(widget), *overlapping(widget), *faint(widget, picture)]
    if QLocale().language() == QLocale.Language.Japanese:
        found += untranslated(widget)
    return found


def overlapping(window: QWidget) -> list[str]:
    """Pairs of texts or fields that lie over each other."""
    places = [(widget, _place(widget, window)) for widget in _worded(window)]
    return [
        f"{_words(one)!r} lies over {_words(other)!r}"
        for (one, here), (other, there) in combinations(places, 2)
        if here.intersects(there) and not one.isAncestorOf(other) and not other.isAncestorOf(one)
    ]


def untranslated(window: QWidget) -> list[str]:
    """English in a Japanese window: sentences of the catalogue, and whatever else reads like prose."""
    known = japanese()
    found = []
    for widget in [window, *window.findChildren(QWidget)]:
        if not (widget.isVisible() and not _speaks_for_others(widget, window)):
            continue
        said = {_words(widget), widget.toolTip(), widget.accessibleName(), widget.accessibleDescription()}
        if isinstance(widget, QLineEdit):
            said = {widget.placeholderText(), widget.toolTip(), widget.accessibleName()}
        for text in filter(None, said):
            if text in OWN_NAMES or text in _recorded():
                continue
            left = known.get(text, text) != text
            if left or (PROSE.search(text) and not KANA_OR_KANJI.search(text)):
                found.append(f"{text[:80]!r} is not translated")
    return found


def faint(window: QWidget, picture: QPixmap) -> list[str]:
    """Texts whose letters stand out too little from what is behind them; what is disabled may be fainter."""
    image = picture.toImage().convertToFormat(QImage.Format.Format_RGB32)
    height, width, scale = image.height(), image.width(), picture.devicePixelRatio()
    pixels = np.frombuffer(image.constBits(), np.uint32).reshape(height, image.bytesPerLine() // 4)[:, :width]
    found = []
    for widget in window.findChildren(QLabel):
        place = _place(widget, window)
        told = widget.isVisible() and widget.isEnabled() and widget.text().strip()
        if not told or place.height() < widget.height():
            continue  # not on screen, or only in part
        top, left = round(place.top() * scale), round(place.left() * scale)
        part = pixels[top : top + round(place.height() * scale), left : left + round(place.width() * scale)]
        colours, counts = np.unique(part & 0xFFFFFF, return_counts=True)
        if len(colours) < 2:
            continue  # nothing of it is on screen
        ground = _hex(colours[counts.argmax()])
        strongest = max(_contrast(_hex(colour), ground) for colour in colours)
        if strongest < FAINTEST:
            found.append(f"{widget.text()[:60]!r} stands out by {strongest:.1f} only")
    return found


@cache
def _recorded() -> set[str]:
    """What the checks of the recorded ritual found, in the words of the version that recorded it."""
    rows = [event for event in recorded_events() if isinstance(event, CheckRow)]
    return {text for row in rows for text in (row.found, row.fix)}


@cache
def _contrast(one: str, other: str) -> float:
    return contrast(one, other)


def _hex(colour: int) -> str:
    return f"#{int(colour):06x}"


def _worded(window: QWidget) -> Iterator[QWidget]:
    for widget in window.findChildren(QWidget):
        shown = widget.isVisible() and not widget.visibleRegion().isEmpty()
        if isinstance(widget, Legend):
            continue  # its first line leaves room for the title, which is a button over it
        field = isinstance(widget, QComboBox | QAbstractSpinBox)
        if shown and (field or (isinstance(widget, QLabel | QAbstractButton) and widget.text())):
            yield widget


def _words(widget: QWidget) -> str:
    if isinstance(widget, QLabel | QAbstractButton):
        return widget.text()
    return widget.currentText() if isinstance(widget, QComboBox) else ""


def _place(widget: QWidget, window: QWidget) -> QRect:
    """Where it is in the window, as far as its parents let it be seen."""
    place = QRect(widget.mapTo(window, QPoint(0, 0)), widget.size())
    parent = widget.parentWidget()
    while parent is not None and parent is not window:
        place &= QRect(parent.mapTo(window, QPoint(0, 0)), parent.size())
        parent = parent.parentWidget()
    return place


def _speaks_for_others(widget: QWidget | None, window: QWidget) -> bool:
    while widget is not None and widget is not window:
        if widget.objectName() == "foreign words":
            return True
        if any(kind.__name__ in ENGLISH_BY_NATURE for kind in type(widget).__mro__):
            return True
        widget = widget.parentWidget()
    return False
