"""The files of the run log in the window: opened, copied, kept elsewhere; a partial log names its gaps."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QApplication, QFileDialog, QMessageBox
from pytestqt.qtbot import QtBot

from aegis_core.events import StepFinished
from aegis_core.plan import demo_plan
from aegis_gui.i18n import Language
from aegis_gui.pages.report import ReportPage
from aegis_gui.run_log_files import RunLogFiles
from aegis_gui.state import AppState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with a log and a model card."""
    run = tmp_path / "実行 1"
    (run / "report").mkdir(parents=True)
    (run / "report.html").write_text("<p>page 頁</p>", encoding="utf-8")
    (run / "report.md").write_text("# text 文\n", encoding="utf-8")
    (run / "report" / "model-card.md").write_text("---\n---\n# card\n", encoding="utf-8")
    return run


@pytest.fixture
def files(qtbot: QtBot, folder: Path) -> RunLogFiles:
    made = RunLogFiles()
    qtbot.addWidget(made)
    made.show_run(folder)
    return made


def choosing(monkeypatch: pytest.MonkeyPatch, path: Path | str) -> list[str]:
    """The person chooses this path; what was suggested is kept."""
    suggested: list[str] = []

    def choose(parent: object, title: str, place: str, kinds: str) -> tuple[str, str]:
        suggested.append(Path(place).name)
        return str(path), kinds

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    return suggested


def test_page_and_card_are_saved_elsewhere_as_they_are(
    files: RunLogFiles, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suggested = choosing(monkeypatch, tmp_path / "copy")
    files.save_copy.click()
    assert (tmp_path / "copy").read_bytes() == (folder / "report.html").read_bytes()
    files.save_card.click()
    assert (tmp_path / "copy").read_bytes() == (folder / "report" / "model-card.md").read_bytes()
    assert suggested == ["実行 1.html", "README.md"]


def test_choosing_the_log_itself_or_nothing_leaves_it_whole(
    files: RunLogFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chosen in (folder / "report.html", ""):
        choosing(monkeypatch, chosen)
        files.save_copy.click()
        assert (folder / "report.html").read_text(encoding="utf-8") == "<p>page 頁</p>"


def test_a_copy_that_cannot_be_saved_is_told(
    files: RunLogFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(QMessageBox, "warning", lambda parent, title, text: told.append(text))
    choosing(monkeypatch, tmp_path / "nowhere" / "copy.html")
    files.save_copy.click()
    assert len(told) == 1 and "nowhere" in told[0]


def test_the_log_is_opened_and_copied(files: RunLogFiles, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    files.open_log.click()
    files.open_folder.click()
    assert [Path(url.toLocalFile()) for url in opened] == [folder / "report.html", folder]
    files.copy_text.click()
    assert QGuiApplication.clipboard().text() == "# text 文\n"
    files.copy_path.click()
    assert QGuiApplication.clipboard().text() == str(folder / "report.html")


def test_without_a_log_only_the_folder_can_be_opened(files: RunLogFiles, folder: Path, tmp_path: Path) -> None:
    buttons = (files.open_log, files.save_copy, files.copy_text, files.copy_path, files.save_card, files.open_folder)
    assert all(button.isEnabled() for button in buttons)
    (folder / "report.html").unlink()  # as the pipeline does when another step begins
    files.show_run(folder)
    assert [button.isEnabled() for button in buttons] == [False] * 5 + [True]
    files.show_run(tmp_path)
    assert [button.isEnabled() for button in buttons] == [False] * 5 + [True]
    files.show_run(None)
    assert not any(button.isEnabled() for button in buttons)


@pytest.fixture
def language(qapp: QApplication) -> Iterator[Language]:
    made = Language(qapp)
    yield made
    made.use("en")


def test_a_partial_log_names_its_gaps(qtbot: QtBot, language: Language, tmp_path: Path) -> None:
    state = AppState()
    state.create(tmp_path / "run", demo_plan())
    assert state.run is not None
    page = ReportPage(state)
    qtbot.addWidget(page)
    page.retranslate()
    page.show()
    assert not page.gaps.isVisibleTo(page)
    (state.run.path / "report.json").write_text(json.dumps({"gaps": ["train", "chat"]}), encoding="utf-8")
    page.on_event(StepFinished(1.0, stage="report"))
    assert page.gaps.isVisibleTo(page) and "Soul injection, Ollama test" in page.gaps.text()
    language.use("ja")
    page.retranslate()
    assert "魂の注入トレーニング" in page.gaps.text()
