"""The frozen window's engine on screen: offered at the first start, set up by one click, stopped, failed, ready."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gui_parts import clipped, open_window, recorded_run
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from aegis_core import __version__
from aegis_core.cancel import CancelToken
from aegis_core.engine.making import Progress, Stage
from aegis_core.engine.parts import this_parts
from aegis_core.engine.place import Marker, Place
from aegis_core.failures import UserError
from aegis_gui import engine_setup
from aegis_gui.engine_sheet import EngineSheet
from aegis_gui.window import Window

MARKER = Marker(__version__, this_parts().sha256, "2.13.0+cpu", "cpu", "3.11")


@pytest.fixture
def frozen(
    qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Window, EngineSheet, Place]]:
    """A window that is frozen in pretence, its engine's sheet, and the place where no engine is yet."""
    folder = tmp_path / "エンジン の"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("AEGIS_ENGINE", str(folder))
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    with open_window(qapp) as window:
        window.sheets.show_engine()
        assert window.sheets.engine is not None
        yield window, window.sheets.engine, Place(folder)


def fake_making(monkeypatch: pytest.MonkeyPatch, work) -> None:
    """A fake in place of fetching and installing: `work(place, cancel, hear)`."""
    monkeypatch.setattr(
        engine_setup,
        "make_engine",
        lambda place, parts, wish, cancel, hear, thorough: work(place, cancel, hear),
    )


def complete(place: Place) -> None:
    place.python.parent.mkdir(parents=True, exist_ok=True)
    place.python.touch()
    place.write_marker(MARKER)


def test_a_window_that_is_not_frozen_has_no_engine_to_set_up(qapp: QApplication) -> None:
    with open_window(qapp) as window:
        window.sheets.show_engine()
        assert window.engine is None and window.sheets.engine is None
        window.sheets.show_settings()
        assert window.sheets.settings is not None and not window.sheets.settings.engine.isVisible()


def test_without_an_engine_the_fake_frozen_window_offers_to_set_it_up_instead_of_starting_a_step(
    frozen: tuple[Window, EngineSheet, Place], tmp_path: Path
) -> None:
    window, sheet, _ = frozen
    sheet.close()
    window.state.open(recorded_run(tmp_path / "run").path)
    window.run_step("check")
    assert not window.runner.running
    assert window.banner.isVisible() and window.banner.button.text() == "Set up the engine"
    window.banner.button.click()
    assert sheet.isVisible()


def test_one_click_sets_it_up_and_shows_how_far_it_is(
    frozen: tuple[Window, EngineSheet, Place], monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    _, sheet, _ = frozen
    go_on = CancelToken()
    go_on.pause()

    def work(place: Place, cancel: CancelToken, hear) -> None:
        hear(Progress(Stage.FETCH, 1_200_000_000, 3_000_000_000))
        go_on.wait_while_paused()
        complete(place)

    fake_making(monkeypatch, work)
    sheet.begin.click()
    qtbot.waitUntil(lambda: "1.2 GB of 3.0 GB fetched" in sheet.doing.text())
    assert (sheet.bar.value(), sheet.bar.maximum()) == (400, 1000)
    assert sheet.stop.isVisible() and not sheet.begin.isVisible()
    with qtbot.waitSignal(sheet.setup.ready):
        go_on.resume()
    assert not sheet.setup.needed and sheet.begin.text() == "Check and repair"
    assert sheet.lead.text().startswith("The engine is ready")


def test_a_stop_ends_the_attempt_and_the_next_one_goes_on(
    frozen: tuple[Window, EngineSheet, Place], monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    _, sheet, _ = frozen

    def work(place: Place, cancel: CancelToken, hear) -> None:
        place.environment.mkdir(parents=True)
        cancel.pause()
        cancel.check()

    fake_making(monkeypatch, work)
    sheet.begin.click()
    qtbot.waitUntil(lambda: sheet.setup.place.environment.is_dir())
    sheet.stop.click()
    qtbot.waitUntil(lambda: not sheet.setup.running)
    assert sheet.setup.failure is None and sheet.begin.text() == "Continue"
    assert "half set up" in sheet.lead.text()


def test_a_failure_is_one_sentence_with_advice(
    frozen: tuple[Window, EngineSheet, Place], monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    _, sheet, _ = frozen

    def work(place: Place, cancel: CancelToken, hear) -> None:
        raise UserError("{file} could not be fetched: {problem}", "Try again.", file="torch.whl", problem="cut")

    fake_making(monkeypatch, work)
    sheet.begin.click()
    qtbot.waitUntil(lambda: not sheet.setup.running)
    assert sheet.failure.isVisible()
    assert (sheet.failure.reason.text(), sheet.failure.advice.text()) == (
        "torch.whl could not be fetched: cut",
        "Try again.",
    )


def test_closing_the_window_ends_the_attempt(
    frozen: tuple[Window, EngineSheet, Place], monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    window, sheet, place = frozen

    def work(place: Place, cancel: CancelToken, hear) -> None:
        place.folder.mkdir()
        cancel.pause()
        cancel.check()

    fake_making(monkeypatch, work)
    sheet.begin.click()
    qtbot.waitUntil(place.folder.is_dir)
    window.close()
    assert not sheet.setup.running


def test_an_engine_that_is_there_is_not_spoken_of(frozen: tuple[Window, EngineSheet, Place]) -> None:
    window, _, place = frozen
    complete(place)
    assert window.engine is not None and not window.engine.needed


def test_the_settings_keep_room_for_every_line_when_the_language_changes(qapp: QApplication) -> None:
    with open_window(qapp) as window:
        window.sheets.show_settings()
        sheet = window.sheets.settings
        assert sheet is not None
        sheet.resize(480, 100)  # as on a screen that is low
        window.language.use("ja")
        QApplication.processEvents()
        assert clipped(sheet) == []
