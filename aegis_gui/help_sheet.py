"""What the ritual is in four sentences, and the keyboard."""

from PySide6.QtCore import QEvent
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from .facts import Facts
from .i18n import mark, tr
from .panels import label

SENTENCES = (
    mark("AEGIS trains a small addition (an adapter) to a language model and a gate that lets a rotation in."),
    mark("While training, alpha opens that gate from almost shut to the golden ratio."),
    mark("Afterwards both are folded into the model, which then needs no special program code any more."),
    mark("Everything is measured on the way; the run log shows the figures, whether they are good or bad."),
)
SHORTCUTS = {
    "Ctrl+Enter": mark("The primary action of the page"),
    "Alt+← / Alt+→": mark("Back / Next"),
    "Ctrl+0 … Ctrl+9": mark("Go to the runs or to a step"),
    "Ctrl+P": mark("Pause or resume"),
    "Ctrl+L": mark("Show or hide the log"),
    "← → + − 0": mark("On a plot: move the crosshair, zoom, show everything"),
    "F1": mark("This help"),
}


class HelpSheet(QDialog):
    """Modeless: it can stay open beside the window."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title, self.sentences = label(role="title"), label(wraps=True)
        self.keys_title, self.keys = label(role="heading"), Facts()
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 24)
        column.setSpacing(12)
        for widget in (self.title, self.sentences, self.keys_title, self.keys):
            column.addWidget(widget)
        self.setMinimumWidth(520)
        self.retranslate()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def retranslate(self) -> None:
        self.setWindowTitle(tr("Help and shortcuts"))
        self.title.setText(tr("What happens here"))
        self.sentences.setText("\n\n".join(map(tr, SENTENCES)))
        self.keys_title.setText(tr("Shortcuts"))
        self.keys.show_facts([(keys, tr(meaning)) for keys, meaning in SHORTCUTS.items()])
