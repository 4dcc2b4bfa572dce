"""Step 1 on screen: what this machine has, and how to mend what it lacks."""

from PySide6.QtCore import QSize, QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QGridLayout, QLabel, QPushButton, QToolButton, QWidget

from aegis_core.engine.place import is_frozen
from aegis_core.events import CheckRow, Event

from .. import theme as themes
from ..i18n import filled, mark, said, tr
from ..panels import Section, label
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from .step_page import StepPage

WORDS = {"ok": mark("ok"), "warning": mark("warning"), "missing": mark("missing")}
ICONS = {"ok": "ok", "warning": "warning", "missing": "missing"}
ROLES = {"ok": "pass", "warning": "warn", "missing": "fail"}
URGENCY = {"missing": 0, "warning": 1, "ok": 2}


# What the window does about a finding, by the name that the engine gives it: a page of its own, or one of the web.
# Fixed here, so that no run from elsewhere can make a button lead anywhere else.
LINKS = {
    "nvidia_driver": "https://www.nvidia.com/Download/index.aspx",
    "visual_cpp": "https://aka.ms/vs/17/release/vc_redist.x64.exe",
    "ollama_download": "https://ollama.com/download",
    "hub_token": "https://huggingface.co/settings/tokens",
}
PAGES = {"ollama": "chat", "engine": "engine", "hub_token": "hub_token"}
ONLY_FROZEN = "engine"  # any other window has no engine of its own to repair
MENDS = {
    "nvidia_driver": mark("Open NVIDIA's driver page"),
    "visual_cpp": mark("Get the runtime from Microsoft"),
    "ollama_download": mark("Open the download page"),
    "hub_token": mark("Enter a token"),
    "ollama": mark("Go to Ollama's panel"),
    "engine": mark("Repair the engine"),
}


class CheckPage(StepPage):
    step = "check"
    sentence = mark(
        "Looks at this computer before anything is downloaded: what is there, what is missing, and how to mend it."
    )

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        self._rows: dict[str, CheckRow] = {}
        self.empty = label(role="secondary", wraps=True)
        self.summary = Section(mark("What was found"))
        self.count = label(role="secondary", wraps=True)
        self.grid = QGridLayout()
        self.grid.setHorizontalSpacing(12)
        self.grid.setVerticalSpacing(8)
        self.grid.setColumnStretch(3, 1)
        self.summary.body.addWidget(self.count)
        self.summary.body.addLayout(self.grid)
        self.body.addWidget(self.empty)
        self.body.addWidget(self.summary)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, CheckRow):
            self._rows[event.name] = event
            self._draw()

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._rows = dict(view.step(self.step).rows)
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self._draw()

    def retranslate(self) -> None:
        super().retranslate()
        self.empty.setText(tr("Nothing has been checked yet. It takes a few seconds and changes nothing."))
        self._draw()

    def _draw(self) -> None:
        while item := self.grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        self.empty.setVisible(not self._rows)
        self.summary.setVisible(bool(self._rows))
        self.count.setText(self._counts())
        order = sorted(self._rows.values(), key=lambda row: URGENCY.get(row.status, 1))
        for place, row in enumerate(order):
            self._draw_row(2 * place, row)

    def _draw_row(self, line: int, row: CheckRow) -> None:
        """What was found, and under it what mends it."""
        status = row.status if row.status in WORDS else "warning"
        colour = {"ok": self.theme.success, "warning": self.theme.warning, "missing": self.theme.danger}[status]
        shape = QLabel()
        shape.setPixmap(themes.icon(ICONS[status], colour).pixmap(QSize(16, 16)))
        self.grid.addWidget(shape, line, 0)
        self.grid.addWidget(label(tr(WORDS[status]), role=ROLES[status]), line, 1)
        self.grid.addWidget(label(said(row.name), role="strong"), line, 2)
        self.grid.addWidget(label(said(row.found), wraps=True), line, 3, 1, 3)
        if row.fix:
            self._draw_fix(line + 1, row)

    def _draw_fix(self, line: int, row: CheckRow) -> None:
        self.grid.addWidget(label(said(row.fix), role="small", wraps=True), line, 3)
        copy = QToolButton()
        copy.setIcon(themes.icon("copy", self.theme.secondary))
        copy.setToolTip(tr("Copy"))
        copy.setAccessibleName(filled("Copy how to mend “{name}”", name=said(row.name)))
        copy.clicked.connect(lambda _=False, text=row.fix: QGuiApplication.clipboard().setText(text))
        self.grid.addWidget(copy, line, 4)
        if row.mend in MENDS and (row.mend != ONLY_FROZEN or is_frozen()):
            button = QPushButton(tr(MENDS[row.mend]))
            button.setAccessibleDescription(said(row.fix))
            button.clicked.connect(lambda _=False, mend=row.mend: self._mend(mend))
            self.grid.addWidget(button, line, 5)

    def _mend(self, mend: str) -> None:
        if mend in PAGES:
            self.go_requested.emit(PAGES[mend])
        else:
            QDesktopServices.openUrl(QUrl(LINKS[mend]))

    def _counts(self) -> str:
        found = [row.status for row in self._rows.values()]
        if "missing" in found:
            return filled(
                "{missing} missing, {warnings} to look at, {fine} in order.",
                missing=found.count("missing"),
                warnings=found.count("warning"),
                fine=found.count("ok"),
            )
        if "warning" in found:
            return filled(
                "{warnings} to look at, {fine} in order.", warnings=found.count("warning"), fine=found.count("ok")
            )
        return tr("Everything is in order.")
