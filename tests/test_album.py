"""What the pictures of the window are looked over for is found when it is there."""

from collections.abc import Iterator

import pytest
from album import complaints, faults, snap
from gui_parts import japanese
from PySide6.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from aegis_gui.i18n import Language


@pytest.fixture
def language(qapp: QApplication) -> Iterator[Language]:
    made = Language(qapp)
    yield made
    made.use("en")


@pytest.fixture
def sheet(qtbot: QtBot) -> QWidget:
    """A white page with one good sentence on it."""
    made = QWidget()
    qtbot.addWidget(made)
    made.setStyleSheet("background: #ffffff; color: #222222;")
    column = QVBoxLayout(made)
    column.addWidget(QLabel("Good and plain to read"))
    made.resize(400, 200)
    made.show()
    return made


def found(sheet: QWidget) -> list[str]:
    QApplication.processEvents()
    return faults(sheet, sheet.grab())


def test_a_good_page_has_nothing_wrong_with_it(sheet: QWidget, language: Language) -> None:
    language.use("en")
    assert found(sheet) == []


def test_text_with_too_little_room_over_other_text_and_too_faint_is_found(sheet: QWidget, language: Language) -> None:
    language.use("en")
    narrow = QLabel("much longer than it is wide", sheet)
    narrow.setGeometry(10, 150, 40, 20)
    for words in ("below", "above"):
        QLabel(words, sheet).setGeometry(200, 10, 90, 20)
    pale = QLabel("hardly there", sheet)
    pale.setGeometry(10, 120, 120, 20)
    pale.setStyleSheet("color: #c8c8c8;")
    for made in sheet.findChildren(QLabel):
        made.show()
    said = found(sheet)
    assert any("much longer" in line and "wide" in line for line in said)
    assert "'below' lies over 'above'" in said
    assert any("hardly there" in line and "stands out by 1." in line for line in said)


def test_english_in_a_japanese_window_is_found_and_what_is_no_sentence_is_not(
    sheet: QWidget, language: Language
) -> None:
    language.use("ja")
    known = next(text for text, ja in japanese().items() if ja != text and len(text) < 12)
    label = sheet.findChild(QLabel)
    for words, wrong in (
        (known, True),
        ("No one has translated this one", True),
        ("SmolLM2-135M-Instruct", False),
        ("日本語 with some English words in it", False),
    ):
        label.setText(words)
        assert bool(found(sheet)) is wrong, words


def test_what_was_found_stands_beside_the_picture(sheet: QWidget, language: Language, tmp_path) -> None:
    language.use("en")
    snap(sheet, tmp_path / "good.png")
    sheet.findChild(QLabel).setStyleSheet("color: #dddddd;")
    QApplication.processEvents()
    snap(sheet, tmp_path / "bad.png")
    (said,) = complaints(tmp_path)
    assert said.startswith("bad: 'Good and plain to read' stands out by 1.")
