"""The sheets beside the window: help, settings, the engine's set-up, the hub's token. Each is made when first shown."""

from typing import TYPE_CHECKING

from .engine_sheet import EngineSheet
from .flow import HOME
from .help_sheet import HelpSheet
from .hub_token_sheet import HubTokenSheet
from .settings_sheet import SettingsSheet

if TYPE_CHECKING:
    from .window import Window


class Sheets:
    """`help`, `settings`, `engine` and `token` are None until they were shown."""

    def __init__(self, window: "Window") -> None:
        self._window = window
        self.help: HelpSheet | None = None
        self.settings: SettingsSheet | None = None
        self.engine: EngineSheet | None = None
        self.token: HubTokenSheet | None = None

    def show_help(self) -> None:
        if self.help is None:
            self.help = HelpSheet(self._window)
            self.help.welcome_asked.connect(self._show_welcome)
        self.help.show()
        self.help.raise_()

    def show_settings(self) -> None:
        window = self._window
        if self.settings is None:
            has_engine = window.engine is not None
            self.settings = SettingsSheet(window.preferences, window.desktop, window.hub_token, has_engine, window)
            self.settings.engine_asked.connect(self.show_engine)
            self.settings.token_asked.connect(self.show_token)
        self.settings.refresh()
        window.hub_token.look()
        self.settings.show()
        self.settings.raise_()

    def show_engine(self) -> None:
        """Where the frozen window's engine is set up; for any other window there is nothing to show."""
        window = self._window
        if window.engine is None:
            return
        self.engine = self.engine or EngineSheet(window.engine, lambda: window.state.busy, window)
        self.engine.refresh()
        self.engine.show()
        self.engine.raise_()

    def show_token(self) -> None:
        """Where a token for gated and private models is entered."""
        self.token = self.token or HubTokenSheet(self._window.hub_token, self._window)
        self.token.begin()

    def _show_welcome(self) -> None:
        """The ritual in four pictures once more."""
        self._window.show_page(HOME)
        self._window.home.show_welcome()
        self._window.activateWindow()
