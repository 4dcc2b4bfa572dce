"""The Ollama panel: says what is there, does what its buttons say, asks before something is lost, never blocks."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_ollama import FakeOllama, Model
from gui_parts import clipped, japanese, texts
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QApplication, QMessageBox, QPushButton
from screenshots_ollama import drawn, shown

from aegis_core.chat import ollama_state
from aegis_core.chat.ollama_made import remember
from aegis_core.chat.ollama_state import Presence
from aegis_gui import ollama_inquiry
from aegis_gui.elided import Elided
from aegis_gui.i18n import Language, filled
from aegis_gui.ollama_panel import DOWNLOAD, OllamaPanel
from aegis_gui.sentences import sentences_of
from aegis_gui.theme import DARK, LIGHT


@pytest.fixture(scope="module")
def app() -> QApplication:
    return QApplication.instance() or QApplication([])  # type: ignore[return-value]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeOllama]:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    with FakeOllama(vram_bytes=1_500_000_000) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        for name, digest in (("aegis:latest", "a1"), ("llama3:8b", "b2")):
            fake.models[name] = Model("sha256:0", digest, "", {}, size=2_400_000_000)
        fake.loaded.add("llama3:8b")
        remember(fake.address, "aegis", {"digest": "a1"})
        yield fake


@pytest.fixture
def panel(app: QApplication) -> Iterator[OllamaPanel]:
    made = OllamaPanel()
    yield made
    made.shut_down()
    made.close()
    made.deleteLater()
    app.processEvents()


def until(app: QApplication, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "it did not come about"
        app.processEvents()
        time.sleep(0.01)


def looked(app: QApplication, panel: OllamaPanel, ask: Callable[[], None] | None = None) -> str:
    """All that it says once an answer, to its own first look or to what is asked now, has come."""
    answered: list[object] = []
    panel.found.connect(answered.append)
    (ask or panel.show)()
    until(app, lambda: bool(answered) and panel.again.isEnabled())
    return texts(panel)


def press(app: QApplication, panel: OllamaPanel, word: str) -> None:
    """A button in the row of a model, or of the question that stands there."""
    found = [b for b in panel.findChildren(QPushButton) if b.accessibleName() == word and not b.isHidden()]
    found[-1].click()


def question(panel: OllamaPanel) -> QMessageBox:
    return panel.findChildren(QMessageBox)[-1]


def answer(panel: OllamaPanel, accept: bool) -> None:
    box = question(panel)
    role = QMessageBox.ButtonRole.AcceptRole if accept else QMessageBox.ButtonRole.RejectRole
    next(button for button in box.buttons() if box.buttonRole(button) == role).click()


def test_it_shows_version_models_sizes_and_what_is_loaded(
    app: QApplication, panel: OllamaPanel, server: FakeOllama
) -> None:
    said = looked(app, panel)
    assert f"Ollama 0.14.2 answers at {server.address}." in said
    assert "aegis:latest" in said and "llama3:8b" in said and "2.4 GB" in said
    assert "On the card" in said and "1.5 GB" in said and "others" in said
    assert panel.start.isHidden() and panel.download.isHidden() and not panel.unload_all.isHidden()


def test_an_absent_ollama_is_told_with_its_download_page(
    app: QApplication, panel: OllamaPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setattr(ollama_state, "find_program", lambda: None)
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    said = looked(app, panel)
    assert "not installed" in said and "built-in llama.cpp" in said
    panel.download.click()
    assert opened == [DOWNLOAD]
    assert panel.start.isHidden() and panel.models.isHidden()


def test_an_installed_one_is_started_by_its_button(
    app: QApplication, panel: OllamaPanel, server: FakeOllama, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = server.address
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setattr(ollama_state, "find_program", lambda: tmp_path / "ollama")
    assert "does not run" in looked(app, panel)
    assert not panel.start.isHidden()

    def starts(**options: object) -> None:
        monkeypatch.setenv("OLLAMA_HOST", here)

    monkeypatch.setattr(ollama_inquiry, "start_ollama", starts)
    assert "0.14.2 answers" in looked(app, panel, panel.start.click)


def test_a_start_that_fails_is_a_sentence_with_its_advice(
    app: QApplication, panel: OllamaPanel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path))
    monkeypatch.setattr(ollama_state, "find_program", lambda: tmp_path / "gone" / "ollama")
    looked(app, panel)
    panel.start.click()
    until(app, lambda: not panel.refusal.isHidden())
    assert "could not be started" in texts(panel) and "by hand" in texts(panel)
    assert panel.start.isEnabled()


def test_unloading_frees_one_model_or_all(app: QApplication, panel: OllamaPanel, server: FakeOllama) -> None:
    server.loaded.add("aegis:latest")
    looked(app, panel)
    looked(app, panel, lambda: press(app, panel, "Unload llama3:8b"))
    assert server.loaded == {"aegis:latest"}
    looked(app, panel, panel.unload_all.click)
    assert server.loaded == set() and panel.unload_all.isHidden()


def test_a_model_is_deleted_only_after_the_question(app: QApplication, panel: OllamaPanel, server: FakeOllama) -> None:
    looked(app, panel)
    press(app, panel, "Delete … llama3:8b")
    assert "cannot bring it back" in question(panel).informativeText()
    answer(panel, accept=False)
    app.processEvents()
    assert set(server.models) == {"aegis:latest", "llama3:8b"}
    press(app, panel, "Delete … aegis:latest")
    assert "can make it again" in question(panel).informativeText()
    looked(app, panel, lambda: answer(panel, accept=True))
    assert set(server.models) == {"llama3:8b"} and "aegis:latest" not in texts(panel)


def test_consent_to_replace_is_asked_for_and_passed_on(
    app: QApplication, panel: OllamaPanel, server: FakeOllama
) -> None:
    agreed: list[str] = []
    panel.replace_allowed.connect(agreed.append)
    panel.set_wanted("llama3:8b", "")
    assert "already has a model llama3:8b" in looked(app, panel)
    panel.allow.click()
    answer(panel, accept=False)
    assert agreed == []
    panel.allow.click()
    assert "lost" in question(panel).informativeText()
    answer(panel, accept=True)
    assert agreed == ["llama3:8b"]
    panel.set_wanted("llama3:8b", "llama3:8b")
    assert "may replace llama3:8b" in texts(panel) and panel.allow.isHidden()


def test_our_own_model_of_that_name_needs_no_consent(app: QApplication, panel: OllamaPanel, server: FakeOllama) -> None:
    panel.set_wanted("aegis", "")
    looked(app, panel)
    assert panel.notice.isHidden()


def test_what_ollama_refuses_is_told_and_the_buttons_come_back(
    app: QApplication, panel: OllamaPanel, server: FakeOllama
) -> None:
    looked(app, panel)
    server.faults["generate"] = "500"
    press(app, panel, "Unload llama3:8b")
    until(app, lambda: not panel.refusal.isHidden())
    assert "refuses" in texts(panel) and panel.again.isEnabled()


def test_the_window_goes_on_while_ollama_is_silent_and_can_be_closed(
    app: QApplication, panel: OllamaPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, reached, over = threading.Event(), threading.Event(), threading.Event()

    def hangs() -> ollama_inquiry.Found:
        reached.set()
        let_go.wait(20)
        over.set()
        raise AssertionError("nobody waits for this")

    monkeypatch.setattr(ollama_inquiry, "find", hangs)
    panel.show()
    until(app, reached.is_set)
    assert "Asking Ollama" in texts(panel) and not panel.again.isEnabled()
    panel.shut_down()
    assert not panel._inquiries.isRunning() and not over.is_set()
    let_go.set()


def test_everything_is_said_in_japanese_too(app: QApplication, panel: OllamaPanel, server: FakeOllama) -> None:
    looked(app, panel)
    language = Language(app)
    try:
        language.use("ja")
        panel.set_theme(DARK)
        said = texts(panel)
        assert "応答しています" in said and "answers" not in said and panel.again.text() != "Look again"
    finally:
        language.use("en")
        language.deleteLater()
    known = japanese()
    folder = Path(ollama_inquiry.__file__).parent
    for name in ("ollama_panel.py", "ollama_inquiry.py"):
        assert [s for s in sentences_of(folder / name) if s not in known] == []


@pytest.mark.parametrize("tongue", ["en", "ja"])
def test_every_state_is_shown_whole_in_both_languages_even_where_the_window_is_narrow(
    app: QApplication, tongue: str
) -> None:
    language = Language(app)
    seen = set()
    try:
        language.use(tongue)
        for one in shown():
            with drawn(one, 640, LIGHT) as panel:
                assert clipped(panel) == [], one.name
                said = one.state.sentence()
                assert filled(said.template, said.values) in texts(panel) or one.busy
            seen.add(one.state.presence)
    finally:
        language.use("en")
        language.deleteLater()
    assert seen == set(Presence)


def test_a_long_name_gives_way_in_its_middle_and_is_its_own_tool_tip(app: QApplication) -> None:
    whole = "hf.co/someone/a-rather-long-name-of-a-model-GGUF:Q4_K_M"
    name = Elided()
    name.show_text(whole)
    name.resize(120, 20)
    name.show()
    assert name.toolTip() == whole
    assert name.text().startswith("hf.co") and "…" in name.text() and name.text().endswith("_M")
    assert name.fontMetrics().horizontalAdvance(name.text()) <= 120
    name.deleteLater()
