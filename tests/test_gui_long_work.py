"""Long runs: what the desktop is told, how they are stopped, and what closing the window means meanwhile."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from fake_desktop import FakeDesktop
from gui_parts import clipped, japanese, open_window, texts
from long_work_parts import choices, new_run, own_places, press, question, use_tiny_engine
from PySide6.QtWidgets import QApplication, QSystemTrayIcon
from pytestqt.qtbot import QtBot

from aegis_gui.closing import Closing, closing
from aegis_gui.desktop import Bar
from aegis_gui.flow import Status
from aegis_gui.preferences import AtClose, Preferences
from aegis_gui.runner import Stopping
from aegis_gui.standing import Kind, Standing
from aegis_gui.window import Window

PATIENCE = 60_000


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_places(monkeypatch, tmp_path)


@pytest.fixture
def desk() -> FakeDesktop:
    return FakeDesktop(tray=True)


@pytest.fixture
def window(qapp: QApplication, desk: FakeDesktop, tmp_path: Path) -> Iterator[Window]:
    with open_window(qapp, desk) as window:
        window.language.use("en")
        yield new_run(window, tmp_path)


@pytest.fixture
def told(window: Window, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The notifications that the system would have shown."""
    found: list[tuple[str, str]] = []
    icon = window.long_work.tray.icon
    monkeypatch.setattr(icon, "showMessage", lambda title, text, *_: found.append((title, text)), raising=False)
    return found


@pytest.fixture
def looked_away(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window is not in front."""
    monkeypatch.setattr(window, "isActiveWindow", lambda: False)


def ticking(window: Window, qtbot: QtBot, step: str = "check") -> None:
    """Wait until the engine is in the middle of the step."""
    qtbot.waitUntil(lambda: window.state.view.step(step).progress is not None, timeout=PATIENCE)


def ended(window: Window, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not window.runner.running, timeout=PATIENCE)


# ---- the desktop is told


def test_the_computer_stays_awake_exactly_while_an_engine_works(
    window: Window, desk: FakeDesktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="ok", prepare="abort")
    window.run_step("check")
    assert desk.told == ["hold"]
    ended(window, qtbot)
    assert desk.told == ["hold", "release"]
    window.run_step("prepare")  # the engine crashes
    ended(window, qtbot)
    assert window.state.status("prepare") is Status.FAILED
    assert desk.told == ["hold", "release"] * 2


@pytest.mark.usefixtures("looked_away")
def test_a_success_is_told_by_notification_and_its_click_shows_the_page(
    window: Window, told: list[tuple[str, str]], desk: FakeDesktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="short_loop")
    window.run_step("check")
    ticking(window, qtbot)
    qtbot.waitUntil(lambda: any(bar is Bar.NORMAL and part > 0 for bar, part in desk.bars), timeout=PATIENCE)
    assert window.long_work.tray.icon.isVisible()
    assert "“Environment check” is at " in window.long_work.tray.icon.toolTip()
    ended(window, qtbot)
    assert told[-1][0] == "ri tual 長い"
    assert told[-1][1].startswith("“Environment check” is done, in ")
    assert desk.bars[-1][0] is Bar.NONE
    assert "chime" not in desk.told, "nobody asked for a sound"
    window.show_page("train")
    window.hide()
    window.long_work.tray.icon.messageClicked.emit()
    assert window.isVisible()
    assert window.page == "check"


@pytest.mark.usefixtures("looked_away")
def test_a_failure_is_told_with_its_reason_and_stays_red_until_it_is_seen(
    window: Window, told: list[tuple[str, str]], desk: FakeDesktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="refuse")
    window.preferences.sound = True
    window.run_step("check")
    ended(window, qtbot)
    assert told[-1][1].startswith("“Environment check” failed: No config.json in ")
    assert desk.bars[-1][0] is Bar.FAILED
    assert window.long_work.tray.icon.toolTip().endswith("“Environment check” failed.")
    assert desk.told[-1] == "chime"
    window.long_work.seen()
    assert desk.bars[-1][0] is Bar.NONE
    assert window.long_work.standing.kind is Kind.IDLE


def test_nobody_who_looks_at_the_window_is_notified(
    window: Window, told: list[tuple[str, str]], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch)
    monkeypatch.setattr(window, "isActiveWindow", lambda: True)
    window.run_step("check")
    ended(window, qtbot)
    assert told == []


@pytest.mark.usefixtures("looked_away")
def test_whoever_wants_no_notification_gets_none_and_a_stop_is_no_news(
    window: Window, told: list[tuple[str, str]], desk: FakeDesktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, prepare="loop")
    window.preferences.notify = False
    window.run_step("check")
    ended(window, qtbot)
    window.preferences.notify = True
    window.run_step("prepare")
    ticking(window, qtbot, "prepare")
    window.runner.stop()
    ended(window, qtbot)
    assert told == []
    assert window.long_work.standing.kind is Kind.IDLE


@pytest.mark.usefixtures("looked_away")
def test_several_steps_make_one_notification(
    window: Window, told: list[tuple[str, str]], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch)
    window.run_all()
    ended(window, qtbot)
    assert len(told) == 1
    assert told[0][1].startswith("7 steps are done, in ")  # the two searches are switched off in a plan of defaults


def test_the_tray_s_menu_pauses_resumes_and_stops(
    window: Window, desk: FakeDesktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="loop")
    tray = window.long_work.tray
    assert [action.isVisible() for action in (tray.pause_action, tray.after_action, tray.stop_action)] == [False] * 3
    window.run_step("check")
    ticking(window, qtbot)
    tray.pause_action.trigger()
    qtbot.waitUntil(lambda: window.state.status("check") is Status.PAUSED, timeout=PATIENCE)
    qtbot.waitUntil(lambda: desk.bars[-1][0] is Bar.PAUSED, timeout=PATIENCE)
    assert tray.pause_action.text() == "Resume"
    assert " is paused at " in tray.icon.toolTip()
    tray.pause_action.trigger()
    qtbot.waitUntil(lambda: window.state.status("check") is Status.RUNNING, timeout=PATIENCE)
    qtbot.waitUntil(lambda: tray.pause_action.text() == "Pause", timeout=PATIENCE)
    assert not tray.after_action.isEnabled(), "no step follows"
    tray.stop_action.trigger()
    ended(window, qtbot)
    assert window.state.status("check") is Status.CANCELLED
    assert tray.quit_action.text() == "Quit"


def test_the_tray_speaks_the_window_s_language(qapp: QApplication, window: Window) -> None:
    tray = window.long_work.tray
    tray.show_standing(Standing(Kind.WORKING, "train", 0.46), "儀式", True)
    window.language.use("ja")
    qapp.processEvents()
    assert tray.stop_action.text() == japanese()["Save and stop now"]
    assert "46 %" in tray.icon.toolTip() and "AEGIS – 儀式" in tray.icon.toolTip()
    window.language.use("en")


@pytest.mark.parametrize("reason", ["Trigger", "DoubleClick"])
def test_a_click_on_the_icon_brings_the_window_back(window: Window, reason: str) -> None:
    window.hide()
    window.long_work.tray.icon.activated.emit(QSystemTrayIcon.ActivationReason[reason])
    assert window.isVisible()


def test_a_right_click_only_opens_the_menu(window: Window) -> None:
    window.hide()
    window.long_work.tray.icon.activated.emit(QSystemTrayIcon.ActivationReason.Context)
    assert not window.isVisible()


def test_every_state_of_the_tray_has_a_picture_of_its_own(qapp: QApplication) -> None:
    from aegis_gui.tray import picture

    seen = {bytes(picture(kind).pixmap(32, 32).toImage().constBits()) for kind in Kind}
    assert len(seen) == len(Kind)


# ---- stopping


def test_stop_after_this_step_lets_it_finish_and_begins_no_other(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="short_loop")
    window.run_all()
    ticking(window, qtbot)
    window.footer.stop_button.click()
    assert choices(window) == ["Save and stop now", "Stop after this step", "Cancel"]
    press(window, "Stop after this step")
    assert window.footer.outlook.text() == "It stops after this step."
    ended(window, qtbot)
    assert window.state.status("check") is Status.DONE
    assert window.state.status("prepare") is Status.READY
    assert window.footer.outlook.text() == ""


def test_a_single_step_cannot_be_stopped_after_itself(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="loop")
    window.run_step("check")
    ticking(window, qtbot)
    window.footer.stop_button.click()
    assert choices(window) == ["Save and stop now", "Cancel"]
    press(window, "Save and stop now")
    ended(window, qtbot)
    assert window.state.status("check") is Status.CANCELLED


def test_an_engine_that_does_not_stop_can_be_ended_by_force(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step never listens and has a child of its own in another session; its Progress names that child."""
    use_tiny_engine(monkeypatch, check="deaf")
    window.runner._overdue.setInterval(200)
    window.run_step("check")
    ticking(window, qtbot)
    progress = window.state.view.step("check").progress
    assert progress is not None
    family = [psutil.Process(window.runner.pid), psutil.Process(int(progress.done))]
    window.runner.stop()
    assert not window.footer.stop_button.isEnabled()
    qtbot.waitUntil(window.footer.stop_button.isEnabled, timeout=PATIENCE)
    assert window.footer.stop_button.text() == "End it now…"
    window.footer.stop_button.click()
    began = time.monotonic()
    press(window, "End it now")
    ended(window, qtbot)
    assert time.monotonic() - began < 5
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
    assert window.state.status("check") is Status.CANCELLED


# ---- closing


@pytest.mark.parametrize(
    ("running", "stopping", "tray", "wanted", "expected"),
    [
        (False, Stopping.NO, True, AtClose.TRAY, Closing.NOW),
        (True, Stopping.NO, True, AtClose.ASK, Closing.ASK),
        (True, Stopping.NO, False, AtClose.ASK, Closing.ASK),
        (True, Stopping.NO, True, AtClose.TRAY, Closing.HIDE),
        (True, Stopping.AFTER_STEP, True, AtClose.TRAY, Closing.HIDE),
        (True, Stopping.NO, False, AtClose.TRAY, Closing.ASK),
        (True, Stopping.NO, True, AtClose.STOP, Closing.STOP_FIRST),
        (True, Stopping.SAVING, True, AtClose.TRAY, Closing.WAIT),
        (True, Stopping.OVERDUE, True, AtClose.TRAY, Closing.ASK),
        (True, Stopping.OVERDUE, True, AtClose.STOP, Closing.ASK),
    ],
)
def test_what_closing_leads_to(
    running: bool, stopping: Stopping, tray: bool, wanted: AtClose, expected: Closing
) -> None:
    assert closing(running, stopping, tray, wanted) is expected


def test_the_window_can_go_into_the_tray_while_the_run_goes_on_and_come_back(
    window: Window, told: list[tuple[str, str]], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="loop")
    window.run_step("check")
    ticking(window, qtbot)
    window.close()
    assert window.isVisible(), "closed without asking"
    assert choices(window) == ["Keep running in the tray", "Save, stop and close", "Cancel"]
    press(window, "Keep running in the tray")
    assert not window.isVisible() and window.runner.running
    assert told == [("AEGIS", "The step goes on; AEGIS waits here beside the clock.")]
    assert not QApplication.quitOnLastWindowClosed()
    done = window.state.view.step("check").progress
    qtbot.waitUntil(lambda: window.state.view.step("check").progress is not done, timeout=PATIENCE)
    window.long_work.tray.show_action.trigger()
    assert window.isVisible() and window.runner.running
    assert QApplication.quitOnLastWindowClosed()
    assert window.preferences.at_close is AtClose.ASK
    window.runner.stop()
    ended(window, qtbot)


def test_from_the_tray_a_run_is_saved_stopped_and_left(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="loop")
    window.preferences.at_close = AtClose.TRAY
    window.run_step("check")
    ticking(window, qtbot)
    engine = psutil.Process(window.runner.pid)
    window.close()
    assert not window.isVisible() and question(window) is None
    assert window.long_work.tray.quit_action.text() == "Save, stop and quit"
    window.long_work.tray.quit_action.trigger()
    assert window.footer.outlook.text() == "AEGIS closes as soon as this is saved."
    ended(window, qtbot)
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
    assert not window.machine.isRunning(), "shut down with the window"
    assert not window.long_work.tray.icon.isVisible()
    assert int((window.state.run.step_folder("check") / "count.txt").read_text(encoding="utf-8")) > 0


def test_a_choice_that_is_to_last_is_not_asked_for_again(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="loop")
    window.run_step("check")
    ticking(window, qtbot)
    window.close()
    box = question(window)
    assert box is not None
    box.checkBox().setChecked(True)
    press(window, "Keep running in the tray")
    assert Preferences().at_close is AtClose.TRAY
    window.come_to_front()
    window.close()
    assert not window.isVisible() and question(window) is None
    window.runner.stop()
    ended(window, qtbot)


def test_where_there_is_no_tray_it_is_not_offered_and_said(
    window: Window, desk: FakeDesktop, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="loop")
    desk.tray = False
    window.preferences.at_close = AtClose.TRAY
    window.run_step("check")
    ticking(window, qtbot)
    window.close()
    assert choices(window) == ["Save, stop and close", "Cancel"]
    box = question(window)
    assert box is not None and "This desktop has no tray" in box.informativeText()
    window.close()
    assert sum(b.isVisible() for b in window.findChildren(type(box))) == 1, "one question is enough"
    press(window, "Save, stop and close")
    qtbot.waitUntil(lambda: not window.isVisible(), timeout=PATIENCE)
    assert not window.runner.running


def test_a_run_that_ends_by_itself_takes_the_question_with_it(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="short_loop")
    window.run_step("check")
    ticking(window, qtbot)
    window.close()
    assert question(window)
    ended(window, qtbot)
    qtbot.waitUntil(lambda: question(window) is None)
    assert window.isVisible()


def test_when_the_computer_shuts_down_the_run_is_saved_without_asking(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch, check="loop")
    window.run_step("check")
    ticking(window, qtbot)
    window.farewell.end_with_session()
    assert not window.runner.running and question(window) is None
    assert window.state.status("check") is Status.CANCELLED
    window.close()
    assert not window.isVisible()


PROGRAM = """
import sys
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from fake_desktop import FakeDesktop
from aegis_gui import app, runner
from aegis_core.plan import Plan
from long_work_parts import ENGINE, press
from pathlib import Path
runner.engine_command = lambda *arguments: [sys.executable, str(ENGINE), *map(str, arguments)]
application = QApplication([])
app.this_desktop = lambda: FakeDesktop(tray=True).desktop()
def then(milliseconds, act): QTimer.singleShot(milliseconds, window, act)
build = app.build
def built(*arguments):
    global window
    window = build(*arguments)
    window.long_work.show_tray()
    SCENE
    return window
app.build = built
code = app.main([])
print("visible" if window.isVisible() else "hidden", window.state.status("check").value)
sys.exit(code)
"""


def program(scene: str, tmp_path: Path) -> str:
    """What the whole program says at its end when this happens in it."""
    script = PROGRAM.replace("SCENE", scene.replace("FOLDER", repr(str(tmp_path / "run"))))
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(Path(here).parent), here))}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_icon_in_the_tray_does_not_keep_the_program_alive(tmp_path: Path) -> None:
    assert program("then(300, window.close)", tmp_path) == "hidden empty"


def test_the_program_outlives_its_hidden_window_until_it_is_quit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_STEPS", '{"check": "short_loop"}')
    scene = (
        "window.state.create(Path(FOLDER), Plan()); window.language.use('en'); "
        "then(0, lambda: (window.run_step('check'), window.close(), window.sheets.show_settings())); "
        "then(200, lambda: (press(window, 'Keep running in the tray'), print(window.isVisible(), flush=True))); "
        "window.runner.ended.connect(lambda: then(500, window.long_work.tray.quit_action.trigger))"
    )
    assert program(scene, tmp_path) == "False\nhidden done"


# ---- settings


def test_the_settings_sheet_keeps_what_is_chosen_and_lets_the_sound_be_heard(
    window: Window, desk: FakeDesktop, qapp: QApplication
) -> None:
    window.header.settings.click()
    sheet = window.sheets.settings
    assert sheet is not None and sheet.isVisible()
    assert (sheet.notify.isChecked(), sheet.sound.isChecked()) == (True, False)
    sheet.notify.click()
    sheet.sound.click()
    sheet.listen.click()
    sheet.at_close.setCurrentIndex(2)
    sheet.at_close.activated.emit(2)
    kept = Preferences()
    assert (kept.notify, kept.sound, kept.at_close) == (False, True, AtClose.STOP)
    assert desk.told == ["chime"]
    assert "has no tray" not in texts(sheet)
    desk.tray = False
    window.sheets.show_settings()
    assert "AEGIS cannot keep running without its window." in texts(sheet)
    window.language.use("ja")
    qapp.processEvents()
    assert sheet.title.text() == japanese()["Settings"]
    assert sheet.at_close.currentText() == japanese()["Save, stop and close"]
    window.language.use("en")


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("tray", [True, False])
def test_nothing_that_long_work_says_is_clipped(
    window: Window, desk: FakeDesktop, qapp: QApplication, language: str, tray: bool
) -> None:
    desk.tray = tray
    window.language.use(language)
    window.resize(window.minimumSize())
    window.sheets.show_settings()
    qapp.processEvents()
    assert window.sheets.settings is not None
    assert clipped(window.sheets.settings) == []
    flow = replace(window.state.flow, running="check", busy=True)
    for stopping in Stopping:
        for leaving in (False, True):
            window.footer.show_flow(flow, "train", stopping, leaving)
            qapp.processEvents()
            assert clipped(window.footer) == []
    window.language.use("en")


def test_how_one_run_ended_is_not_said_of_the_next(window: Window) -> None:
    window.long_work.tray.show_standing(Standing(Kind.FAILED, "check"), "ri tual 長い", False)
    window.state.close()
    assert window.long_work.tray.icon.toolTip() == "AEGIS\nNothing is running."
