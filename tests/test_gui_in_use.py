"""A run that somebody else works on: a second window says so and changes nothing; later it can go on there."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_desktop import FakeDesktop
from gui_parts import open_window
from long_work_parts import ENGINE, new_run, own_places, use_tiny_engine
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from aegis_core.failures import UserError
from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory
from aegis_gui.doorbell import Doorbell, door_of, door_of_the_tray, ring
from aegis_gui.flow import Status
from aegis_gui.window import Window


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_places(monkeypatch, tmp_path)


@pytest.fixture
def first(qapp: QApplication, tmp_path: Path) -> Iterator[Window]:
    with open_window(qapp) as window:
        window.language.use("en")
        yield new_run(window, tmp_path)


@pytest.fixture
def second(qapp: QApplication, first: Window) -> Iterator[Window]:
    with open_window(qapp, FakeDesktop()) as window:
        window.language.use("en")
        assert first.state.run is not None
        window.state.open(first.state.run.path)
        yield window


def test_a_second_window_on_a_run_says_that_the_first_has_it(first: Window, second: Window) -> None:
    assert not first.banner.isVisible()
    assert second.banner.isVisible()
    assert second.banner.sentence.text().startswith("Another AEGIS window has ri tual 長い open; ")
    second.banner.hide()
    second.run_step("check")
    assert not second.runner.running and second.banner.isVisible()
    with pytest.raises(UserError, match="Another AEGIS window"):
        second.state.change({"train.steps": 77})
    assert first.state.run is not None and first.state.run.plan().train.steps != 77


def test_when_the_first_window_lets_go_the_second_goes_on_with_what_is_on_disk(
    first: Window, second: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_engine(monkeypatch)
    first.state.change({"train.steps": 77})
    first.run_step("check")
    qtbot.waitUntil(lambda: not first.runner.running, timeout=60_000)
    first.state.close()
    second.state.change({"train.seed": 5})
    assert (second.state.plan.train.steps, second.state.plan.train.seed) == (77, 5)
    assert second.state.status("check") is Status.DONE
    assert not second.banner.isVisible()


def test_opening_another_run_lets_go_of_the_one_before(first: Window, second: Window, tmp_path: Path) -> None:
    first.state.create(tmp_path / "another", Plan())
    assert second.state.obstacle() is None


def test_a_terminal_that_works_on_the_run_is_named_and_waited_for(
    first: Window, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    monkeypatch.setenv("TINY_STEPS", '{"check": "loop"}')
    run = first.state.run
    assert run is not None
    engine = subprocess.Popen(
        [sys.executable, str(ENGINE), "run", str(run.path), "--only", "check", "--events"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        qtbot.waitUntil(lambda: (run.step_folder("check") / "count.txt").is_file(), timeout=60_000)
        first.state.open(run.path)
        assert first.banner.sentence.text().startswith("Another AEGIS is working on ")
        with pytest.raises(UserError, match="Another AEGIS is working"):
            first.state.change({"train.steps": 77})
    finally:
        assert engine.stdin is not None
        engine.stdin.close()
        engine.wait(60)
    first.state.change({"train.steps": 77})
    assert first.state.status("check") is Status.CANCELLED, "what happened meanwhile is known"


def test_a_run_that_cannot_be_written_can_still_be_looked_at(first: Window, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "read only", changed(Plan(), {"train.steps": 9}))
    for name in ("window.lock", "lock"):
        (run.path / name).mkdir()  # what a lock cannot be made of
    first.state.open(run.path)
    assert first.state.plan.train.steps == 9


def test_the_second_window_can_call_the_first_to_the_front(first: Window, second: Window, qtbot: QtBot) -> None:
    assert second.banner.button.text() == "Show that window"
    first.hide()
    second.banner.button.click()
    qtbot.waitUntil(first.isVisible, timeout=60_000)


def test_a_second_start_shows_the_window_that_waits_in_the_tray(
    first: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = [sys.executable, "-m", "aegis_gui"]
    first.farewell.hide()
    second = subprocess.Popen(starting)
    qtbot.waitUntil(lambda: second.poll() is not None, timeout=60_000)
    assert second.returncode == 0
    assert first.isVisible()
    assert not ring(door_of_the_tray()), "a window that is visible is not called by a start that wants a new one"


def test_what_a_killed_window_left_at_its_door_hinders_nobody(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> None:
    script = (
        "import sys, os, signal; from PySide6.QtCore import QCoreApplication; app = QCoreApplication([])\n"
        "from aegis_gui.doorbell import Doorbell; bell = Doorbell(); bell.hang(sys.argv[1])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    door = door_of(tmp_path)
    subprocess.run([sys.executable, "-c", script, door], check=False)
    assert not ring(door)
    bell = Doorbell()
    bell.hang(door)
    with qtbot.waitSignal(bell.rung, timeout=60_000):
        assert ring(door)
    bell.take_down()
    assert not ring(door)


def test_a_window_waits_for_a_run_by_itself(first: Window, second: Window, qtbot: QtBot) -> None:
    assert second.greeting.in_use.isActive()
    first.state.close()
    qtbot.waitUntil(lambda: not second.banner.isVisible(), timeout=60_000)
    assert not second.greeting.in_use.isActive()
    assert second.state.obstacle() is None
