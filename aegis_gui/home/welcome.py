"""What a person sees first: the ritual in four pictures, and two ways to begin. Shown once; the help brings it back."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from .. import theme as themes
from ..i18n import mark, tr
from ..panels import label, scrolled
from ..theme import Theme
from .pictures import PICTURES, Draw, Picture

CAPTIONS: tuple[tuple[str, str], ...] = (
    (
        mark("1  Learn"),
        mark(
            "You choose a base model and texts. The model itself stands still; a small addition beside each of its "
            "layers (an adapter, LoRA) learns."
        ),
    ),
    (
        mark("2  Open the gate"),
        mark(
            "Meanwhile alpha climbs from −5 to the golden ratio and opens a gate, through which a rotation of the "
            "model's last state takes part."
        ),
    ),
    (
        mark("3  Fuse"),
        mark(
            "Addition and rotation are folded into the weights. What remains is a plain model in one file, which runs "
            "without AEGIS."
        ),
    ),
    (
        mark("4  Talk and measure"),
        mark(
            "You chat with your model. The run log says what was measured at every stage, also where it became "
            "worse or was not measured."
        ),
    ),
)


class Welcome(QWidget):
    """`demo_asked` and `closed` are the two ways on."""

    demo_asked = Signal()
    closed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.title, self.lead = label(role="display", wraps=True), label(role="secondary", wraps=True)
        self.cards = [Caption(*said, draw) for said, draw in zip(CAPTIONS, PICTURES, strict=True)]
        self.note = label(role="small", wraps=True)
        self.demo, self.on = QPushButton(), QPushButton()
        self.demo.setProperty("role", "primary")
        self.demo.clicked.connect(self.demo_asked)
        self.on.clicked.connect(self.closed)
        self._lay_out()
        self.retranslate()
        self.setFocusProxy(self.demo)

    def set_theme(self, theme: Theme) -> None:
        for card in self.cards:
            card.picture.set_theme(theme)
        self.demo.setIcon(themes.icon("demo", theme.on_accent))

    def retranslate(self) -> None:
        self.title.setText(tr("Welcome to AEGIS"))
        self.lead.setText(
            tr(
                "Nine steps lead from a base model to a model of your own that answers in a chat. "
                "This is what happens on the way."
            )
        )
        for card in self.cards:
            card.retranslate()
        self.note.setText(
            tr("The demo needs no GPU, fetches 93 MB once and takes minutes. Help (F1) shows these pictures again.")
        )
        self.demo.setText(tr("Try the demo"))
        self.on.setText(tr("Begin with my own model"))

    def _lay_out(self) -> None:
        pictures = QHBoxLayout()
        pictures.setSpacing(12)
        for card in self.cards:
            pictures.addWidget(card, 1)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.demo)
        buttons.addWidget(self.on)
        buttons.addSpacing(8)
        buttons.addWidget(self.note, 1)
        whole = QVBoxLayout()
        whole.setSpacing(8)
        whole.addWidget(self.title)
        whole.addWidget(self.lead)
        whole.addSpacing(16)
        whole.addLayout(pictures)
        whole.addSpacing(16)
        whole.addLayout(buttons)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.addWidget(scrolled(whole))


class Caption(QFrame):
    """A picture with its heading and two sentences."""

    def __init__(self, heading: str, words: str, draw: Draw) -> None:
        super().__init__()
        self._heading, self._words = heading, words
        self.setProperty("role", "card")
        self.picture = Picture(draw)
        self.heading, self.words = label(role="heading", wraps=True), label(role="secondary", wraps=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 16, 16)
        column.setSpacing(8)
        column.addWidget(self.picture)
        column.addWidget(self.heading)
        column.addWidget(self.words)
        column.addStretch(1)

    def retranslate(self) -> None:
        self.heading.setText(tr(self._heading))
        self.words.setText(tr(self._words))
        self.picture.setAccessibleName(self.words.text())
