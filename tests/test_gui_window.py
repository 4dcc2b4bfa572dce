"""The whole window: opening, walking, switching, running a real engine, stopping it, closing on it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from gui_parts import japanese, open_window, stamped, texts
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QMessageBox
from pytestqt.qtbot import QtBot

from aegis_core import events
from aegis_core.failures import UserError
from aegis_core.freshness import State
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.run_directory import RunDirectory
from aegis_gui.app import Mishaps, open_first
from aegis_gui.flow import HOME, PAGES, Status
from aegis_gui.form import Form
from aegis_gui.window import Window


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs 実行"))
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LANG", "C")


@pytest.fixture
def window(qapp: QApplication) -> Iterator[Window]:
    with open_window(qapp) as window:
        window.language.use("en")
        yield window


@pytest.fixture
def demo(window: Window, tmp_path: Path) -> Window:
    open_first(window, tmp_path / "ri tual 日本語", demo=True)
    return window


def box_of(window: Window) -> QMessageBox:
    return next(box for box in window.findChildren(QMessageBox) if box.isVisible())


def test_a_new_window_shows_the_list_of_runs_and_no_dialog(window: Window) -> None:
    assert window.page == HOME
    assert not window.findChildren(QMessageBox)
    assert not window.rail.items["train"].isEnabled()
    window.home.show_runs()  # the pictures of the first start are tests/test_gui_home.py's
    assert "There are none yet." in texts(window.home)


def test_no_model_library_is_loaded_by_the_window() -> None:
    script = (
        "import sys; from aegis_gui.app import build; from PySide6.QtWidgets import QApplication\n"
        "app = QApplication([]); window = build(app)\n"
        "from aegis_gui import flow; import importlib\n"
        "[importlib.import_module(f'aegis_gui.pages.{page}') for page in flow.PAGES]\n"
        "window.shut_down()\n"
        "heavy = {'torch', 'transformers', 'peft', 'optuna', 'gguf', 'datasets'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_starting_the_demo_opens_its_first_step(window: Window, qtbot: QtBot) -> None:
    qtbot.mouseClick(window.home.begin.demo_button, Qt.MouseButton.LeftButton)
    assert window.page == "check"
    expected = changed(demo_plan(), {"report.language": "en"})  # as the window speaks
    assert window.state.plan == expected
    assert window.state.run is not None
    assert RunDirectory(window.state.run.path).plan() == expected


def test_free_space_is_told_of_the_drive_for_runs_until_one_is_open(window: Window, tmp_path: Path) -> None:
    from aegis_core import hardware
    from aegis_core.resources import runs_folder

    assert window.machine.disk == runs_folder() and hardware.reading(window.machine.disk).disk_free_bytes
    window.state.create(tmp_path / "run", demo_plan())
    assert window.machine.disk == tmp_path / "run"
    window.state.close()
    assert window.machine.disk == runs_folder()


def test_a_name_that_is_no_folder_name_is_refused_in_one_sentence(window: Window, qtbot: QtBot) -> None:
    window.home.begin.name.setText("a/b")
    window.home.begin.create_button.click()
    assert window.page == HOME
    assert "cannot be the name of a folder" in window.home.begin.problem.text()


def test_every_page_opens_and_speaks_both_languages(demo: Window, qapp: QApplication) -> None:
    for page in PAGES[1:]:
        demo.show_page(page)
        assert demo.page == page
    demo.language.use("ja")
    qapp.processEvents()
    for page in PAGES[1:]:
        assert demo.pages[page].title.text() == japanese()[demo_title(page)]
    assert demo.footer.back_button.text() == japanese()["Back"]
    demo.language.use("en")
    qapp.processEvents()
    assert demo.footer.back_button.text() == "Back"


def demo_title(page: str) -> str:
    from aegis_gui.text import STEP_TITLES

    return STEP_TITLES[page]


def test_themes_switch_while_everything_is_open(demo: Window) -> None:
    for page in PAGES[1:]:
        demo.show_page(page)
    for choice in ("dark", "light", "system"):
        demo._use_theme(choice)
    assert demo.preferences.theme == "system"


def test_back_and_next_follow_the_flow(demo: Window) -> None:
    demo.show_page("check")
    for page in PAGES[2:]:
        demo.footer.next.emit()
        assert demo.page == page
    demo.footer.back.emit()
    assert demo.page == PAGES[-2]


def test_keys_reach_every_page(demo: Window, qtbot: QtBot) -> None:
    demo.activateWindow()
    qtbot.keyClick(demo, Qt.Key.Key_5, Qt.KeyboardModifier.ControlModifier)
    assert demo.page == PAGES[5]


def test_a_run_that_cannot_be_read_says_so_in_the_window(window: Window, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plan.json").write_text("{", encoding="utf-8")
    open_first(window, tmp_path / "broken", demo=False)
    assert window.banner.isVisible()
    assert "not readable as a plan" in window.banner.sentence.text()
    assert window.page == HOME


def test_an_unforeseen_error_becomes_one_sentence_and_a_file(window: Window, tmp_path: Path) -> None:
    mishaps = Mishaps(window)
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError as error:
        mishaps.on_error(type(error), error, error.__traceback__)
    assert "ZeroDivisionError" in window.banner.sentence.text()
    assert "Traceback" not in window.banner.sentence.text()
    assert "Traceback" in mishaps.path.read_text(encoding="utf-8")


def test_a_known_error_in_the_window_keeps_its_own_sentence(demo: Window) -> None:
    mishaps = Mishaps(demo)
    folder = demo.state.run.step_folder("check")
    folder.mkdir()
    (folder / "done.json").write_text("{", encoding="utf-8")
    try:
        demo.state.refresh()
    except UserError as error:
        mishaps.on_error(type(error), error, error.__traceback__)
    assert "done.json is damaged" in demo.banner.sentence.text()
    assert not mishaps.path.exists()


def test_a_wrong_setting_on_another_page_keeps_the_engine_from_starting(demo: Window) -> None:
    demo.show_page("train")
    demo.pages["train"].findChild(Form).rows["train.steps"].control.line.setText("1")
    demo.show_page("check")
    demo.footer.acted.emit(demo.footer.action)
    assert demo.page == "train"
    assert not demo.runner.running


def test_a_step_that_begins_comes_to_the_front_unless_the_person_looks_elsewhere(demo: Window) -> None:
    demo._following = True
    demo.state.receive(stamped(events.StepStarted(), "prepare"))
    assert demo.page == "prepare"
    demo._choose_page("check")
    demo.state.receive(stamped(events.StepFinished(1.0), "prepare"))
    demo.state.receive(stamped(events.StepStarted(), "train"))
    assert demo.page == "check"


def test_a_failed_step_shows_sentence_advice_and_button_but_no_traceback(demo: Window, qapp: QApplication) -> None:
    demo.show_page("prepare")
    failed = events.StepFailed(
        "The dataset x is empty.",
        "Choose one that holds at least a few samples.",
        "Traceback (most recent call last): …",
        "The dataset {source} is empty.",
        "Choose one that holds at least a few samples.",
        {"source": "x"},
    )
    demo.state.receive(stamped(events.StepStarted(), "prepare"))
    demo.state.receive(stamped(failed, "prepare"))
    page = demo.pages["prepare"]
    assert page.status is Status.FAILED
    assert page.failure.isVisible()
    assert "Traceback" not in texts(demo)
    demo.language.use("ja")
    qapp.processEvents()
    assert page.failure.reason.text() == japanese()["The dataset {source} is empty."].format(source="x")


def test_an_engine_that_cannot_even_start_is_reported_above_the_page(demo: Window) -> None:
    demo.show_page("check")
    demo.state.receive(events.StepFailed("The engine could not start.", "Try again."))
    assert demo.banner.isVisible()


@pytest.fixture
def pico(window: Window, tmp_path: Path, pico_plan: Plan) -> Window:
    run = tmp_path / "ri tual 実行"
    RunDirectory.create(run, changed(pico_plan, {"train.steps": 4000, "train.evaluate_steps": 0}))
    window.state.open(run)
    return window


def test_a_real_step_runs_from_its_button_to_its_result(pico: Window, qtbot: QtBot) -> None:
    pico.show_page("prepare")
    with qtbot.waitSignal(pico.runner.ended, timeout=120_000):
        qtbot.mouseClick(pico.footer.primary, Qt.MouseButton.LeftButton)
        assert pico.state.busy
    assert pico.state.flow.states["prepare"] is State.DONE
    assert "Model" in texts(pico.pages["prepare"].facts)
    assert pico.footer.primary.text() == "Next"
    assert not pico.runner.running
    began = pico.state.view.step("prepare").started_at
    with qtbot.waitSignal(pico.runner.ended, timeout=120_000):
        qtbot.mouseClick(pico.footer.again_button, Qt.MouseButton.LeftButton)
    assert pico.state.view.step("prepare").started_at > began
    assert pico.state.flow.states["prepare"] is State.DONE


def test_closing_during_a_run_asks_first_and_leaves_nothing_behind(pico: Window, qtbot: QtBot) -> None:
    with qtbot.waitSignal(pico.runner.ended, timeout=120_000):
        pico.run_step("prepare")
    pico.run_step("train")
    qtbot.waitUntil(lambda: "loss" in pico.state.view.step("train").series, timeout=120_000)
    pid = pico.runner.pid
    assert pid is not None
    pico.close()
    assert pico.isVisible(), "closed without asking"
    box_of(pico).buttons()[0].click()
    qtbot.waitUntil(lambda: not pico.isVisible(), timeout=120_000)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not pico.machine.isRunning()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("engine")] == []
    run = RunDirectory.open(pico.state.run.path)
    assert not run.is_locked()
    assert list(run.step_folder("train").glob("checkpoint-*"))


def test_changing_ones_mind_about_closing_lets_the_run_go_on(pico: Window, qtbot: QtBot) -> None:
    pico.run_step("check")
    pico.close()
    box_of(pico).buttons()[1].click()
    assert pico.isVisible()
    assert pico.runner.running
    pico.runner.stop()
    qtbot.waitUntil(lambda: not pico.runner.running, timeout=120_000)
