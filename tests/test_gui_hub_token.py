"""The hub's token in the window: entered in a sheet, asked about by the engine's own process, shown by nobody."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_hub import ACCOUNT, TOKEN, FakeHub
from gui_parts import clipped, japanese, open_window, recorded_run, stamped, texts
from PySide6.QtWidgets import QApplication, QLineEdit, QPushButton
from pytestqt.qtbot import QtBot

from aegis_core import events
from aegis_gui import hub_token
from aegis_gui.hub_token_sheet import HubTokenSheet
from aegis_gui.i18n import tr
from aegis_gui.window import Window

PATIENCE = 60_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home 倉庫"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[FakeHub]:
    """A fake hub that every engine started from here takes for the real one, with a store of its own."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with FakeHub() as served:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{served.port}")
        monkeypatch.setenv("HF_HOME", str(home))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield served


@pytest.fixture
def window(qapp: QApplication, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    with open_window(qapp) as opened:
        yield opened


@pytest.fixture
def sheet(window: Window) -> HubTokenSheet:
    window.sheets.show_token()
    assert window.sheets.token is not None
    return window.sheets.token


def settled(window: Window, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: window.hub_token.task is None, timeout=PATIENCE)


def entered(window: Window, sheet: HubTokenSheet, qtbot: QtBot, token: str) -> None:
    sheet.field.setText(token)
    sheet.save.click()
    settled(window, qtbot)


def holding(folder: Path) -> set[str]:
    """The names of the files that hold the token."""
    return {p.name for p in folder.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()}


def test_a_token_that_the_hub_knows_is_kept_and_told_by_the_account_alone(
    window: Window, sheet: HubTokenSheet, home: Path, qtbot: QtBot
) -> None:
    assert sheet.field.echoMode() is QLineEdit.EchoMode.Password and not sheet.save.isEnabled()
    sheet.field.setText(TOKEN)
    sheet.save.click()
    assert "Asking the hub" in texts(sheet) and not sheet.save.isEnabled(), "it is asked in the background"
    assert sheet.field.isReadOnly() and sheet.focusWidget() is sheet.field, "Enter opens no web page meanwhile"
    settled(window, qtbot)
    assert f"The hub knows you as {ACCOUNT}, and the token is kept." in texts(sheet)
    assert sheet.field.text() == "" and not sheet.failure.isVisible()
    assert (home / "token").read_text(encoding="utf-8") == TOKEN


def test_a_refused_token_is_one_sentence_in_the_sheet_and_nothing_is_kept(
    window: Window, sheet: HubTokenSheet, hub: FakeHub, home: Path, qtbot: QtBot
) -> None:
    entered(window, sheet, qtbot, "hf_falsch")
    assert sheet.failure.isVisible() and sheet.failure.reason.text() == "The hub does not accept this token."
    assert sheet.failure.button.isHidden() and not (home / "token").exists()
    window.language.use("ja")
    QApplication.processEvents()
    assert sheet.failure.reason.text() == japanese()["The hub does not accept this token."]
    window.language.use("en")
    QApplication.processEvents()
    sheet.field.setText("hf_falsch2")
    assert not sheet.failure.isVisible(), "the next one is not refused yet"
    hub.go_down()
    entered(window, sheet, qtbot, TOKEN)
    assert sheet.failure.reason.text() == "The hub cannot be reached, so the token is not kept."
    assert window.hub_token.failure is not None and TOKEN not in repr(window.hub_token.failure)
    assert holding(home) == set()


def test_the_token_goes_to_the_engine_through_a_pipe_and_into_no_file_but_the_store(
    window: Window, sheet: HubTokenSheet, tmp_path: Path, qtbot: QtBot
) -> None:
    window.state.open(recorded_run(tmp_path / "run").path)
    sheet.field.setText(TOKEN)
    sheet.save.click()
    process = window.hub_token._process
    assert process is not None
    told = [process.program(), *process.arguments(), *process.processEnvironment().toStringList()]
    assert process.waitForStarted(PATIENCE)
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(process.processId())
        told += [*child.cmdline(), *child.environ().values()]
    settled(window, qtbot)
    told += [texts(window), texts(sheet), repr(vars(window.hub_token))]
    assert window.hub_token.account == ACCOUNT and not [text for text in told if TOKEN in text]
    assert holding(tmp_path) == {"token", "stored_tokens"}


def test_what_was_typed_is_gone_once_the_sheet_is_closed(window: Window, sheet: HubTokenSheet) -> None:
    sheet.field.setText(TOKEN)
    sheet.close_button.click()
    assert sheet.field.text() == ""


def test_the_settings_say_whether_there_is_one_and_remove_it(
    window: Window, sheet: HubTokenSheet, home: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    sheet.close()
    window.sheets.show_settings()
    assert window.sheets.settings is not None
    row = window.sheets.settings.token
    assert row.state.text() == "Looking …"
    settled(window, qtbot)
    assert row.state.text().startswith("None is kept.") and not row.remove.isEnabled()
    row.enter.click()
    assert sheet.isVisible()
    entered(window, sheet, qtbot, TOKEN)
    assert row.state.text() == "A token is kept on this computer." and row.remove.isEnabled()
    row.remove.click()
    settled(window, qtbot)
    assert row.state.text().startswith("None is kept.") and holding(home) == set()
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    window.sheets.show_settings()
    settled(window, qtbot)
    assert row.state.text() == "The environment variable HF_TOKEN gives the token." and not row.remove.isEnabled()


def test_the_check_s_finding_leads_to_the_sheet_and_the_sheet_to_the_page_of_tokens(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("aegis_gui.hub_token_sheet.QDesktopServices.openUrl", lambda url: opened.append(url.toString()))
    window.state.open(recorded_run(tmp_path / "run").path)
    window.show_page("check")
    window.state.begin()
    window.state.receive(stamped(events.StepStarted(), "check"))
    row = events.CheckRow("model hub", "warning", "a/b asks for a token, and none is set", "Make one.", "hub_token")
    window.state.receive(stamped(row, "check"))
    window.state.end()
    (button,) = [b for b in window.pages["check"].findChildren(QPushButton) if b.text() == "Enter a token"]
    button.click()
    assert window.sheets.token is not None and window.sheets.token.isVisible() and window.page == "check"
    window.sheets.token.link.click()
    assert opened == ["https://huggingface.co/settings/tokens"]


def test_the_fake_frozen_window_without_an_engine_says_so_in_a_sentence(
    window: Window, sheet: HubTokenSheet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("AEGIS_ENGINE", str(tmp_path / "no engine"))
    sheet.field.setText(TOKEN)
    sheet.save.click()
    assert sheet.failure.reason.text() == "The engine, which does the work, is not set up yet."
    window.sheets.show_settings()
    assert window.sheets.settings is not None
    assert window.sheets.settings.token.state.text() == "The engine, which does the work, is not set up yet."


def test_an_engine_that_does_not_start_or_says_nothing_is_told(
    window: Window, sheet: HubTokenSheet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    monkeypatch.setattr(hub_token, "engine_command", lambda *words: [str(tmp_path / "no program")])
    entered(window, sheet, qtbot, TOKEN)
    assert sheet.failure.reason.text().startswith("The engine could not be started")
    monkeypatch.setattr(hub_token, "engine_command", lambda *words: [sys.executable, "-c", "raise SystemExit('ouch')"])
    entered(window, sheet, qtbot, TOKEN)
    assert sheet.failure.reason.text() == "The engine stopped: ouch"


def test_closing_the_window_leaves_no_question_behind(window: Window, sheet: HubTokenSheet) -> None:
    sheet.field.setText(TOKEN)
    sheet.save.click()
    process = window.hub_token._process
    assert process is not None and process.waitForStarted(PATIENCE)
    pid = process.processId()
    window.shut_down()
    assert not psutil.pid_exists(pid) and window.hub_token.task is None


def test_every_line_of_the_sheet_has_room_in_both_languages(window: Window, sheet: HubTokenSheet, qtbot: QtBot) -> None:
    entered(window, sheet, qtbot, "hf_falsch")
    for language in ("ja", "en"):
        window.language.use(language)
        QApplication.processEvents()
        assert sheet.failure.reason.text() == tr("The hub does not accept this token.")
        qtbot.waitUntil(lambda: clipped(sheet) == [], timeout=PATIENCE)


def test_the_window_knows_the_hub_s_library_by_its_engine_alone() -> None:
    for path in (Path(hub_token.__file__).parent).rglob("*.py"):
        assert "huggingface_hub" not in path.read_text(encoding="utf-8"), path.name
