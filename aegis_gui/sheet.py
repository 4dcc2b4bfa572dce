"""A dialog that stays as high as what is to be read in it."""

from PySide6.QtCore import QEvent
from PySide6.QtWidgets import QDialog


class Sheet(QDialog):
    """Its subclasses say their words in `retranslate`, which comes again with another language."""

    def retranslate(self) -> None:
        raise NotImplementedError

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def event(self, event: QEvent) -> bool:
        """Grow with what is to be read: lines that wrap tell their height only once their width is known."""
        done = super().event(event)
        layout = self.layout()
        if event.type() == QEvent.Type.LayoutRequest and layout is not None:
            height = layout.totalHeightForWidth(self.width())
            if height != self.minimumHeight():
                self.setMinimumHeight(height)
                self.resize(self.width(), height)
        return done
