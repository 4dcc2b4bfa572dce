"""One place of the cockpit: a plot, its title as the way to another plot, and the tools of the plot."""

from collections.abc import Callable, Sequence

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QMenu, QToolButton, QVBoxLayout, QWidget

from . import theme as themes
from .i18n import tr
from .live_plot import LivePlot
from .panels import mark_chosen
from .plot_export import KINDS
from .plot_look import AXIS_WIDTH
from .theme import Theme

BORDER_PX = 4
BUTTON_PX = 22
KIND_WORDS: dict[str, Callable[[], str]] = {
    "png": lambda: tr("Picture (PNG)…"),
    "svg": lambda: tr("Drawing (SVG)…"),
    "csv": lambda: tr("Numbers (CSV)…"),
}


class PlotCard(QFrame):
    """Shows one of the plots offered; asks for another one, or for a file, and leaves both to whoever listens."""

    chosen = Signal(str)  # the name of the plot that shall stand here
    export_asked = Signal(str)  # png, svg or csv

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self.name = self._title = ""
        self.plot: LivePlot | None = None
        self._offered: Callable[[], Sequence[tuple[str, str, bool]]] = lambda: ()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(BORDER_PX, BORDER_PX, BORDER_PX, BORDER_PX)
        self.heading, self.save, self.whole = QToolButton(self), QToolButton(self), QToolButton(self)
        self.heading.setProperty("role", "plot-title")
        self.heading.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self.heading.setFont(themes.font(themes.SMALL, themes.STRONG))
        self.menus = {button: QMenu(button) for button in (self.heading, self.save)}
        for button, menu in self.menus.items():
            button.setMenu(menu)
            button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        for button in (self.heading, self.save, self.whole):
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            button.setIconSize(QSize(14, 14))
        for button in (self.save, self.whole):
            button.setProperty("role", "plot-tool")
            button.setFixedSize(BUTTON_PX, BUTTON_PX)
        self.menus[self.heading].aboutToShow.connect(self._offer_plots)
        self.menus[self.save].aboutToShow.connect(self._offer_files)
        self.whole.clicked.connect(self._show_everything)
        self.set_theme(theme)

    def offer(self, offered: Callable[[], Sequence[tuple[str, str, bool]]]) -> None:
        """Where the menu takes its entries from when it opens: (name, title, whether it is on screen)."""
        self._offered = offered

    def show_plot(self, name: str, plot: LivePlot) -> None:
        """Put a plot here in place of the one that is; that one is hidden, not deleted."""
        if self.plot is not None:
            self.plot.focused.disconnect(self._mark_focus)
            self.plot.zoom_changed.disconnect(self.show_tools)
            self._column.removeWidget(self.plot)
            if self.plot.parent() is self:
                self.plot.hide()
        self.name, self.plot = name, plot
        self._column.addWidget(plot)
        plot.focused.connect(self._mark_focus)
        plot.zoom_changed.connect(self.show_tools)
        plot.show()
        self.retranslate()

    def show_tools(self) -> None:
        """Everything can be asked for where only a part is in view."""
        self.whole.setVisible(self.plot is not None and self.plot.is_zoomed)
        self._place()

    def set_theme(self, theme: Theme) -> None:
        self.save.setIcon(themes.icon("save", theme.secondary))
        self.whole.setIcon(themes.icon("reset", theme.secondary))

    def retranslate(self) -> None:
        if self.plot is None:
            return
        title = self._title = self.plot.title()
        self.heading.setText(f"{title} ▾")
        self.heading.setToolTip(tr("Show another plot here"))
        self.heading.setAccessibleName(f"{title}: {tr('Show another plot here')}")
        self.save.setToolTip(tr("Save this plot"))
        self.save.setAccessibleName(f"{tr('Save this plot')}: {title}")
        self.whole.setToolTip(tr("Show the whole run"))
        self.whole.setAccessibleName(tr("Show the whole run"))
        self.show_tools()

    def follow_title(self) -> None:
        """A title may change with what is measured."""
        if self.plot is not None and self._title != self.plot.title():
            self.retranslate()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place()

    def _place(self) -> None:
        """Title and tools stand over the plot, in the first line of its legend."""
        if self.plot is None:
            return
        width = self.heading.sizeHint().width()
        self.heading.setGeometry(BORDER_PX + AXIS_WIDTH, BORDER_PX + 1, width, BUTTON_PX)
        right = self.width() - BORDER_PX - 8
        shown = [button for button in (self.save, self.whole) if not button.isHidden()]
        for place, button in enumerate(shown, start=1):
            button.move(right - place * BUTTON_PX, BORDER_PX + 1)
        for button in (self.heading, *shown):
            button.raise_()
        legend = self.plot.legend
        room = (width - 4, len(shown) * BUTTON_PX)
        if room != (legend.title_px, legend.tools_px):
            legend.title_px, legend.tools_px = room
            self.plot.retranslate()

    def _offer_plots(self) -> None:
        menu = self.menus[self.heading]
        menu.clear()
        for name, title, on_screen in self._offered():
            action = menu.addAction(title)
            action.setCheckable(True)
            action.setChecked(on_screen)
            action.triggered.connect(lambda _=False, name=name: self.chosen.emit(name))

    def _offer_files(self) -> None:
        menu = self.menus[self.save]
        menu.clear()
        for kind in KINDS:
            menu.addAction(KIND_WORDS[kind]()).triggered.connect(
                lambda _=False, kind=kind: self.export_asked.emit(kind)
            )

    def _show_everything(self) -> None:
        if self.plot is not None:
            self.plot.ask_for_everything()

    def _mark_focus(self, focused: bool) -> None:
        mark_chosen(self, focused)
