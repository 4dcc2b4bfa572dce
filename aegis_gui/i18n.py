"""Japanese and English on screen, switchable while the window is open.

The English sentence is the key. `tr` translates now, `mark` notes a sentence for the collector that is translated
later, `filled` translates a template that arrives with its values, `said` a text that arrives already filled.
`python -m aegis_gui.i18n --missing` lists what the Japanese catalogue lacks.
"""

import json
import sys
from collections.abc import Mapping
from functools import lru_cache

from PySide6.QtCore import QCoreApplication, QEvent, QLibraryInfo, QLocale, QObject, QTranslator

from aegis_core.plan import Plan, changed
from aegis_core.recognise import Recogniser
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


def said(text: str) -> str:
    """The text in the language of the window, also where the engine has put the values in already."""
    translated = tr(text)
    if translated != text or QLocale().language() != QLocale.Language.Japanese:
        return translated
    return _japanese().translated(text)


@lru_cache(maxsize=1)
def _japanese() -> Recogniser:
    return Recogniser(catalogue("ja"))


def catalogue(language: str) -> dict[str, str]:
    """English sentence to sentence of that language; English needs none.

    The run log's own table is known as well, for the figures that the report page quotes.
    """
    sentences: dict[str, str] = {}
    for folder in ("report", "translations"):
        path = RESOURCES / folder / f"{language}.json"
        if language != "en" and path.is_file():
            sentences |= json.loads(path.read_text(encoding="utf-8"))
    return sentences


def locale_language() -> str:
    """The language the person's system speaks, as far as AEGIS does."""
    return "ja" if QLocale.system().language() == QLocale.Language.Japanese else "en"


def in_window_language(plan: Plan) -> Plan:
    """The plan with its run log in the language that the window shows now."""
    japanese = QLocale().language() == QLocale.Language.Japanese
    return changed(plan, {"report.language": "ja" if japanese else "en"})


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


def _missing() -> dict[str, str]:
    """Sentences the window can show that have no Japanese yet, and where they are."""
    from .sentences import all_sentences

    known = catalogue("ja")
    return {sentence: place for sentence, place in all_sentences().items() if sentence not in known}


if __name__ == "__main__":
    lacking = _missing() if "--missing" in sys.argv else {}
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    json.dump(lacking, sys.stdout, ensure_ascii=False, indent=1)
    sys.stdout.write("\n")
