"""The program's icon as the systems want it, drawn from resources/aegis.svg. Run by the window's own environment.

python packaging/pictures.py FOLDER
"""

import os
import struct
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from project import RESOURCES
from PySide6.QtCore import QBuffer, QIODevice, Qt
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

ICON_SIZES = (16, 20, 24, 32, 40, 48, 64, 128, 256)  # px: what Windows shows at 100 to 400 %


def png_of(svg: Path, size: int) -> bytes:
    """The drawing as a square PNG, `size` px, transparent around it. ValueError if it is no SVG."""
    renderer = QSvgRenderer(str(svg))
    if not renderer.isValid():
        raise ValueError(f"{svg} is not an SVG drawing")
    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    renderer.render(painter)
    painter.end()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    return bytes(buffer.data().data())


def ico_of(pictures: dict[int, bytes]) -> bytes:
    """A Windows icon of PNG pictures by their size in px: a header, a table of places, and the pictures (ICO, 2006)."""
    place = 6 + 16 * len(pictures)
    table, body = b"", b""
    for size, picture in pictures.items():
        side = size % 256  # 256 is written as 0
        table += struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(picture), place + len(body))
        body += picture
    return struct.pack("<HHH", 0, 1, len(pictures)) + table + body


def main(folder: Path) -> None:
    app = QGuiApplication.instance() or QGuiApplication(sys.argv[:1])
    svg = RESOURCES / "aegis.svg"
    (folder / "aegis.ico").write_bytes(ico_of({size: png_of(svg, size) for size in ICON_SIZES}))
    (folder / "aegis.png").write_bytes(png_of(svg, 256))
    del app


if __name__ == "__main__":
    main(Path(sys.argv[1]))
