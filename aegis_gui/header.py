"""The line at the top: the run that is open, language, theme, settings, help."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QMenu, QToolButton, QWidget

from . import theme as themes
from .i18n import LANGUAGES, mark, tr
from .panels import label
from .state import AppState
from .theme import Theme

THEME_NAMES = {"system": mark("Like the system"), "light": mark("Light"), "dark": mark("Dark")}
LANGUAGE_NAMES = {"en": "English", "ja": "日本語"}  # each in itself: whoever needs it can read it


class Header(QWidget):
    language_chosen = Signal(str)
    theme_chosen = Signal(str)
    settings_asked = Signal()
    help_asked = Signal()

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("banner")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.state = state
        self.run_name = label(role="strong")
        self.run_model = label(role="secondary")
        self.languages = {code: QToolButton() for code in LANGUAGES}
        group = QButtonGroup(self)
        for code, button in self.languages.items():
            button.setText(LANGUAGE_NAMES[code])
            button.setCheckable(True)
            group.addButton(button)
            button.clicked.connect(lambda _=False, code=code: self.language_chosen.emit(code))
        self.theme_button, self.settings, self.help = QToolButton(), QToolButton(), QToolButton()
        self.theme_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.themes: dict[str, QAction] = {}
        self._menu = QMenu(self)
        kinds = QActionGroup(self)
        for name in THEME_NAMES:
            action = QAction(self)
            action.setCheckable(True)
            kinds.addAction(action)
            action.triggered.connect(lambda _=False, name=name: self.theme_chosen.emit(name))
            self._menu.addAction(action)
            self.themes[name] = action
        self.theme_button.setMenu(self._menu)
        self.settings.clicked.connect(self.settings_asked)
        self.help.clicked.connect(self.help_asked)
        for button in (self.theme_button, self.settings, self.help):
            button.setIconSize(QSize(16, 16))
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 8, 16, 8)
        row.setSpacing(8)
        row.addWidget(label("AEGIS", role="brand"))
        row.addSpacing(24)
        row.addWidget(self.run_name)
        row.addWidget(self.run_model)
        row.addStretch(1)
        for button in (*self.languages.values(), self.theme_button, self.settings, self.help):
            row.addWidget(button)
        state.run_opened.connect(self.refresh)
        state.plan_changed.connect(self.refresh)

    def refresh(self) -> None:
        run = self.state.run
        self.run_name.setText(run.path.name if run else tr("No run is open"))
        self.run_name.setToolTip(str(run.path) if run else "")
        model = self.state.plan.model.source
        self.run_model.setText((tr("embedded demo model") if model == "demo" else model) if run else "")

    def show_choices(self, language: str, theme: str) -> None:
        self.languages[language].setChecked(True)
        self.themes[theme if theme in self.themes else "system"].setChecked(True)

    def set_theme(self, theme: Theme) -> None:
        self.theme_button.setIcon(themes.icon("contrast", theme.text))
        self.settings.setIcon(themes.icon("settings", theme.text))
        self.help.setIcon(themes.icon("help", theme.text))

    def retranslate(self) -> None:
        for name, action in self.themes.items():
            action.setText(tr(THEME_NAMES[name]))
        names = {
            self.theme_button: tr("Light or dark"),
            self.settings: tr("Settings"),
            self.help: tr("Help and shortcuts"),
        }
        for button, name in names.items():
            button.setToolTip(name)
            button.setAccessibleName(name)
        self.refresh()
