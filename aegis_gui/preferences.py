"""What the window remembers between two sittings: language, theme, recent runs, its own size, what the person wants."""

import os
from enum import StrEnum
from pathlib import Path

from PySide6.QtCore import QByteArray, QSettings

from .i18n import LANGUAGES, locale_language

KEPT_RECENT = 12


class AtClose(StrEnum):
    """What closing the window means while a step runs."""

    ASK = "ask"
    TRAY = "tray"
    STOP = "stop"


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
    def welcomed(self) -> bool:
        """Whether the pictures of the first start were shown."""
        return str(self._store.value("welcomed", "")) == "true"

    @welcomed.setter
    def welcomed(self, value: bool) -> None:
        self._store.setValue("welcomed", "true" if value else "false")

    @property
    def runs(self) -> Path | None:
        """The folder for runs that the person chose, as long as it is there."""
        chosen = str(self._store.value("runs", ""))
        return Path(chosen) if chosen and Path(chosen).is_dir() else None

    @runs.setter
    def runs(self, value: Path) -> None:
        self._store.setValue("runs", str(value))

    @property
    def notify(self) -> bool:
        """Whether the system is to tell of the end of a run that nobody looks at."""
        return bool(self._store.value("notify", True, type=bool))

    @notify.setter
    def notify(self, value: bool) -> None:
        self._store.setValue("notify", value)

    @property
    def sound(self) -> bool:
        return bool(self._store.value("sound", False, type=bool))

    @sound.setter
    def sound(self, value: bool) -> None:
        self._store.setValue("sound", value)

    @property
    def at_close(self) -> AtClose:
        stored = str(self._store.value("at_close", AtClose.ASK))
        return AtClose(stored) if stored in set(AtClose) else AtClose.ASK

    @at_close.setter
    def at_close(self, value: AtClose) -> None:
        self._store.setValue("at_close", value.value)

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
