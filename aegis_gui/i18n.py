"""Japanese and English on screen, switchable while the window is open.

The English sentence is the key. `tr` translates now, `mark` notes a sentence for the collector that is translated
later, `filled` translates a template that arrives with its values. `python -m aegis_gui.i18n --missing` lists
what the Japanese catalogue lacks.
"""

import json
from collections.abc import Mapping

from PySide6.QtCore import QCoreApplication, QEvent, QLibraryInfo, QLocale, QObject, QTranslator

from aegis_core.resources import RESOURCES

LANGUAGES = ("en", "ja")
CONTEXT = "aegis"


def tr(text: str) -> str:
    """The sentence in the language of the window; the sentence itself where there is no translation."""
    return QCoreApplication.translate(CONTEXT, text)


def mark(text: str) -> str:
    """The sentence unchanged: a table of texts is collected here and translated where it is shown."""
    return text


def filled(template: str, values: Mapping[str, object] | None = None, /, **more: object) -> str:
    """The translated template with its values put in."""
    return tr(template).format(**{**(values or {}), **more})


def catalogue(language: str) -> dict[str, str]:
    """English sentence to sentence of that language; English needs none."""
    path = RESOURCES / "translations" / f"{language}.json"
    if language == "en" or not path.is_file():
        return {}
    sentences: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return sentences


def locale_language() -> str:
    """The language the person's system speaks, as far as AEGIS does."""
    return "ja" if QLocale.system().language() == QLocale.Language.Japanese else "en"


class Catalogue(QTranslator):
    """A translator that looks sentences up in a dictionary instead of a compiled file."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sentences: dict[str, str] = {}

    def isEmpty(self) -> bool:
        return False

    def translate(self, context: str, source: str, disambiguation: str | None = None, n: int = -1) -> str | None:
        return self.sentences.get(source)


class Language(QObject):
    """The one language of the application; setting it makes every widget receive LanguageChange."""

    def __init__(self, app: QCoreApplication) -> None:
        super().__init__(app)
        self._app = app
        self.current = "en"
        self._catalogue = Catalogue(self)
        self._qt = QTranslator(self)
        app.installTranslator(self._qt)
        app.installTranslator(self._catalogue)

    def use(self, language: str) -> None:
        self.current = language
        self._catalogue.sentences = catalogue(language)
        folder = QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)
        if not self._qt.load(f"qtbase_{language}", folder):
            self._qt.load("qtbase_en", folder)
        QLocale.setDefault(QLocale(QLocale.Language.Japanese if language == "ja" else QLocale.Language.English))
        QCoreApplication.sendEvent(self._app, QEvent(QEvent.Type.LanguageChange))
