"""Everything the window can show exists in Japanese, with the same placeholders."""

from string import Formatter

import pytest
from gui_parts import japanese
from PySide6.QtWidgets import QApplication, QLabel

from aegis_gui import i18n
from aegis_gui.i18n import Language, filled, said, tr
from aegis_gui.sentences import all_sentences, all_texts, placeholders


@pytest.fixture
def language(qapp: QApplication) -> Language:
    return Language(qapp)


def test_no_sentence_lacks_its_japanese() -> None:
    known = japanese()
    missing = {sentence: place for sentence, place in all_sentences().items() if sentence not in known}
    assert not missing


def test_placeholders_are_the_same_in_both_languages() -> None:
    wrong = {en: ja for en, ja in japanese().items() if placeholders(en) != placeholders(ja)}
    assert not wrong


def test_translations_are_japanese_and_not_left_over() -> None:
    found = all_texts()
    for english, translated in japanese().items():
        assert translated.strip(), english
        assert english in found, f"no longer shown anywhere: {english}"


def test_the_collector_sees_the_window_and_the_engine() -> None:
    found = all_sentences()
    assert found["Run this step"].startswith("aegis_gui/")
    assert found["There is no run in {path}: plan.json is missing."] == "aegis_core/run_directory.py"
    assert found["Optimiser steps."] == "aegis_core/plan.py"
    assert found["{version} at {address}"] == "aegis_core/diagnoses/reach.py"


def test_the_language_changes_while_widgets_are_on_screen(qapp: QApplication, language: Language) -> None:
    class Speaking(QLabel):
        def changeEvent(self, event) -> None:  # type: ignore[no-untyped-def]
            if event.type() == event.Type.LanguageChange:
                self.setText(tr("Run this step"))
            super().changeEvent(event)

    label = Speaking()
    label.show()
    language.use("ja")
    qapp.processEvents()
    assert label.text() == japanese()["Run this step"]
    language.use("en")
    qapp.processEvents()
    assert label.text() == "Run this step"
    label.deleteLater()


def test_values_are_put_in_after_translating(language: Language) -> None:
    language.use("ja")
    assert filled("{done} of {total} steps", done=3, total=8) == japanese()["{done} of {total} steps"].format(
        done=3, total=8
    )
    language.use("en")


def test_a_text_that_arrives_filled_is_recognised_by_its_template(language: Language) -> None:
    language.use("ja")
    here = {"version": "0.14.2", "address": "http://127.0.0.1:11434"}
    expected = japanese()["Ollama {version} answers at {address}."].format(**here)
    assert said("Ollama 0.14.2 answers at http://127.0.0.1:11434.") == expected
    assert said("2.14.3") == "2.14.3"
    language.use("en")
    assert said("nobody answers at here") == "nobody answers at here"


def test_every_template_can_be_parsed() -> None:
    for sentence in all_sentences():
        list(Formatter().parse(sentence))


def test_an_unknown_system_language_becomes_english() -> None:
    assert i18n.locale_language() in i18n.LANGUAGES
