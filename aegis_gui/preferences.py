"""What the window remembers between two sittings: language, theme, recent runs, its own size."""

import os
from pathlib import Path

from PySide6.QtCore import QByteArray, QSettings

from .i18n import LANGUAGES, locale_language

KEPT_RECENT = 12


class Preferences:
    """Kept in an ini file of the user; AEGIS_PREFERENCES names another one."""

    def __init__(self) -> None:
        place = os.environ.get("AEGIS_PREFERENCES")
        format_ = QSettings.Format.IniFormat
        scope = QSettings.Scope.UserScope
        self._store = QSettings(place, format_) if place else QSettings(format_, scope, "AEGIS", "window")

    @property
    def language(self) -> str:
        chosen = str(self._store.value("language", ""))
        return chosen if chosen in LANGUAGES else locale_language()

    @language.setter
    def language(self, value: str) -> None:
        self._store.setValue("language", value)

    @property
    def theme(self) -> str:
        return str(self._store.value("theme", "system"))

    @theme.setter
    def theme(self, value: str) -> None:
        self._store.setValue("theme", value)

    @property
    def geometry(self) -> QByteArray:
        value = self._store.value("geometry")
        return value if isinstance(value, QByteArray) else QByteArray()

    @geometry.setter
    def geometry(self, value: QByteArray) -> None:
        self._store.setValue("geometry", value)

    @property
    def plots(self) -> list[str]:
        """Which plots stand in the places of the cockpit; empty while nobody has chosen."""
        stored = self._store.value("plots", [])
        return [str(name) for name in (stored if isinstance(stored, list) else [stored]) if name]

    @plots.setter
    def plots(self, names: list[str]) -> None:
        self._store.setValue("plots", names)

    @property
    def recent(self) -> list[Path]:
        stored = self._store.value("recent", [])
        items = stored if isinstance(stored, list) else [stored]
        return [Path(item) for item in items if isinstance(item, str) and item]

    def note_recent(self, path: Path) -> None:
        others = [str(item) for item in self.recent if item != path]
        self._store.setValue("recent", [str(path), *others][:KEPT_RECENT])
