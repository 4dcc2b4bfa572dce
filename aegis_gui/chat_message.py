"""One turn of a conversation on screen, rendered from Markdown that is not trusted."""

from collections.abc import Callable

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import (
    QColor,
    QResizeEvent,
    QTextBlock,
    QTextBlockFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
    QTextOption,
)
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QTextBrowser, QToolButton, QVBoxLayout, QWidget

from . import theme as themes
from .panels import label

PARAGRAPH_GAP, CODE_INDENT = 6, 8  # px
CODE_GROUND = QColor(128, 128, 128, 40)  # on light and dark alike


class MarkdownText(QTextBrowser):
    """As tall as its text. What a model writes is shown, never obeyed: no HTML, no pictures, no links that open."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setOpenLinks(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setStyleSheet("border: none; padding: 0; background: transparent;")
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.document().setDocumentMargin(0)
        self.document().setDefaultFont(themes.font())

    def show_markdown(self, text: str) -> None:
        features = QTextDocument.MarkdownFeature
        self.document().setMarkdown(
            text.replace("![", "!\\["), features.MarkdownDialectGitHub | features.MarkdownNoHTML
        )
        self._dress()
        self._fit()

    def show_plain(self, text: str) -> None:
        self.setPlainText(text)
        self._fit()

    def loadResource(self, kind: int, name: QUrl | str) -> object:
        """Nothing is fetched, neither from the disk nor from anywhere else."""
        return None

    def sizeHint(self) -> QSize:
        return QSize(200, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def wheelEvent(self, event: object) -> None:
        event.ignore()  # type: ignore[attr-defined]  # the conversation scrolls, not the single message

    def _dress(self) -> None:
        """Air between paragraphs, a ground behind code."""
        cursor = QTextCursor(self.document())
        block = self.document().begin()
        while block.isValid():
            look = QTextBlockFormat()
            code, following = _is_code(block), block.next()
            if code:
                look.setBackground(CODE_GROUND)
                look.setLeftMargin(CODE_INDENT)
            if following.isValid() and not (code and _is_code(following)):
                look.setBottomMargin(PARAGRAPH_GAP)
            cursor.setPosition(block.position())
            cursor.mergeBlockFormat(look)
            block = following

    def _fit(self) -> None:
        self.document().setTextWidth(self.viewport().width())
        self.setFixedHeight(max(int(self.document().size().height()) + 2, 20))


def _is_code(block: QTextBlock) -> bool:
    return block.blockFormat().hasProperty(QTextFormat.Property.BlockCodeFence)


class Turn(QFrame):
    """Who said it, what, and a quiet line about how it went."""

    def __init__(self, is_answer: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.is_answer = is_answer
        self.text = ""
        if is_answer:
            self.setProperty("role", "card")
        self.who = label(role="small")
        self.shown = MarkdownText()
        self.remark = label(role="small", wraps=True)
        self.remark.setFont(themes.tabular())
        self.remark.hide()
        self.tools = QWidget()
        self._buttons = QHBoxLayout(self.tools)
        self._buttons.setContentsMargins(0, 0, 0, 0)
        self._buttons.setSpacing(4)
        self._buttons.addStretch(1)
        self.tools.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 8, 16, 12)
        column.setSpacing(4)
        head = QHBoxLayout()
        head.addWidget(self.who)
        head.addWidget(self.tools, 1)
        column.addLayout(head)
        for widget in (self.shown, self.remark):
            column.addWidget(widget)

    def add_action(self, do: Callable[[], None]) -> QToolButton:
        """A quiet button at the turn's upper edge; its words are the caller's to set."""
        button = QToolButton()
        button.setProperty("role", "quiet")
        button.clicked.connect(lambda: do())
        self._buttons.addWidget(button)
        self.tools.show()
        return button

    def show_text(self, text: str) -> None:
        """The person's words as they are, the model's as Markdown."""
        self.text = text
        if self.is_answer:
            self.shown.show_markdown(text)
        else:
            self.shown.show_plain(text)
        self.shown.setAccessibleName(text)

    def show_remark(self, remark: str) -> None:
        self.remark.setText(remark)
        self.remark.setVisible(bool(remark))
