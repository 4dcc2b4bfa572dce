"""Real trainings that are interrupted: by the person, by a crash of the engine, by the death of the window."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_desktop import FakeDesktop
from gui_parts import japanese, open_window, texts
from long_work_parts import own_places, press
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from aegis_core.engine.command import engine_command
from aegis_core.events import StepStarted
from aegis_core.freshness import State
from aegis_core.journal import replay
from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory
from aegis_core.training.metrics import read_metrics
from aegis_gui.flow import Status
from aegis_gui.window import Window

PATIENCE = 200_000
STEPS = 60
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_places(monkeypatch, tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, pico_model: Path) -> RunDirectory:
    """A tiny run whose data is packed; each test trains a copy of it."""
    folder = tmp_path_factory.mktemp("real 本物")
    data = folder / "data.txt"
    data.write_text(
        "\n\n".join(f"Wave {n} moves {n} atoms at once and then rests." for n in range(40)), encoding="utf-8"
    )
    plan = changed(
        Plan(),
        {
            "model.source": str(pico_model), "data.source": str(data), "data.sequence_length": 32, "lora.rank": 4,
            "train.steps": STEPS, "train.checkpoint_steps": 5, "train.evaluate_steps": 0, "train.warmup_steps": 1,
        },
    )  # fmt: skip
    run = RunDirectory.create(folder / "ri tual", plan)
    subprocess.run(engine_command("run", run.path, "--only", "prepare"), check=True, capture_output=True, timeout=200)
    return run


@pytest.fixture
def run(prepared: RunDirectory, tmp_path: Path) -> RunDirectory:
    import shutil

    return RunDirectory(Path(shutil.copytree(prepared.path, tmp_path / "ri tual 実行")))


@pytest.fixture
def desk() -> FakeDesktop:
    return FakeDesktop(tray=True)


@pytest.fixture
def window(qapp: QApplication, desk: FakeDesktop, run: RunDirectory) -> Iterator[Window]:
    with open_window(qapp, desk) as window:
        window.language.use("en")
        window.state.open(run.path)
        yield window


def train(window: Window, qtbot: QtBot, until: int) -> None:
    """Start the training and wait for a row of that step on disk."""
    window.run_step("train")
    reached(window.state.run, qtbot, until)


def reached(run: RunDirectory | None, qtbot: QtBot, step: int) -> None:
    assert run is not None
    qtbot.waitUntil(lambda: any(row["step"] >= step for row in rows(run)), timeout=PATIENCE)


def rows(run: RunDirectory) -> list[dict[str, float]]:
    path = run.step_folder("train") / "metrics.jsonl"
    return read_metrics(path) if path.is_file() else []


def ended(window: Window, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not window.runner.running, timeout=PATIENCE)


def finished_whole(run: RunDirectory) -> None:
    """One row for each step, and the second attempt went on rather than beginning anew."""
    assert [row["step"] for row in rows(run)] == list(range(1, STEPS + 1))
    starts = [e for e in replay(run.events_path) if isinstance(e, StepStarted) and e.stage == "train"]
    assert [start.resumed for start in starts] == [False, True]


def test_an_engine_killed_in_training_is_a_sentence_and_a_button_that_goes_on_to_the_end(
    window: Window, run: RunDirectory, desk: FakeDesktop, qtbot: QtBot
) -> None:
    train(window, qtbot, 12)
    psutil.Process(window.runner.pid).kill()
    ended(window, qtbot)
    page = window.pages["train"]
    assert page.status is Status.FAILED
    assert page.failure.isVisible()
    assert "The system ended the engine" in page.failure.reason.text()
    assert "Traceback" not in texts(window)
    assert page.failure.button.text() == window.footer.primary.text() == "Continue"
    assert desk.told == ["hold", "release"]
    qtbot.mouseClick(page.failure.button, Qt.MouseButton.LeftButton)
    ended(window, qtbot)
    assert window.state.flow.states["train"] is State.DONE
    assert not page.failure.isVisible()
    finished_whole(run)


def test_stopped_and_continued_a_training_comes_to_its_end(window: Window, run: RunDirectory, qtbot: QtBot) -> None:
    train(window, qtbot, 7)
    window.footer.stop_button.click()
    press(window, "Save and stop now")
    ended(window, qtbot)
    assert window.state.status("train") is Status.CANCELLED
    assert list(run.step_folder("train").glob("checkpoint-*"))
    assert len(rows(run)) < STEPS
    assert window.footer.primary.text() == "Continue"
    qtbot.mouseClick(window.footer.primary, Qt.MouseButton.LeftButton)
    ended(window, qtbot)
    assert window.state.flow.states["train"] is State.DONE
    finished_whole(run)


def test_language_and_theme_change_while_a_training_runs(window: Window, run: RunDirectory, qtbot: QtBot) -> None:
    train(window, qtbot, 3)
    page = window.pages["train"]
    for language, theme in (("ja", "dark"), ("en", "light"), ("ja", "light"), ("ja", "dark")):
        window._use_language(language)
        window._use_theme(theme)
        seen = len(window.state.view.step("train").series["loss"].steps)
        qtbot.waitUntil(
            lambda seen=seen: len(window.state.view.step("train").series["loss"].steps) > seen or not window.state.busy,
            timeout=PATIENCE,
        )
    assert page.title.text() == japanese()["Soul injection"]
    assert window.footer.back_button.text() == japanese()["Back"]
    ended(window, qtbot)
    assert window.state.flow.states["train"] is State.DONE
    assert page.status_word.text() == japanese()["done"]
    assert [row["step"] for row in rows(run)] == list(range(1, STEPS + 1))
    assert window.state.view.step("train").series["loss"].steps.tolist() == list(range(1, STEPS + 1))
    assert window.appearance.theme.is_dark
    window._use_language("en")


def test_a_training_ends_in_the_tray_and_is_shown_when_it_is_asked_for(
    window: Window, run: RunDirectory, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(window.long_work.tray.icon, "showMessage", lambda *said: told.append(said[1]), raising=False)
    train(window, qtbot, 3)
    window.close()
    press(window, "Keep running in the tray")
    assert not window.isVisible()
    ended(window, qtbot)
    assert not window.isVisible(), "it stays where the person put it"
    assert told[-1].startswith("“Soul injection” is done, in ")
    window.show_page("check")
    window.long_work.tray.icon.messageClicked.emit()
    assert window.isVisible() and window.page == "train"
    assert window.state.flow.states["train"] is State.DONE


WINDOW = """
import sys
from pathlib import Path
from PySide6.QtWidgets import QApplication
from aegis_gui.app import build
app = QApplication([]); window = build(app); window.show()
window.state.open(Path(sys.argv[1])); window.run_step("train"); app.exec()
"""


def test_when_the_window_is_killed_the_engine_saves_and_ends_and_reopening_offers_to_go_on(
    qapp: QApplication, run: RunDirectory, qtbot: QtBot
) -> None:
    other = subprocess.Popen([sys.executable, "-c", WINDOW, str(run.path)])
    reached(run, qtbot, 7)
    engines = psutil.Process(other.pid).children(recursive=True)
    assert engines
    saved = len(list(run.step_folder("train").glob("checkpoint-*")))
    other.kill()
    other.wait()
    began = time.monotonic()
    qtbot.waitUntil(lambda: not any(engine.is_running() for engine in engines), timeout=60_000)
    assert time.monotonic() - began < 30
    assert len(rows(run)) < STEPS
    newest = max(int(path.name.removeprefix("checkpoint-")) for path in run.step_folder("train").glob("checkpoint-*"))
    assert saved and newest == rows(run)[-1]["step"], "what was trained last is in the checkpoint"

    with open_window(qapp) as window:
        window.language.use("en")
        window.home.open_run(run.path)
        assert window.banner.isVisible()
        assert window.banner.sentence.text() == "“Soul injection” broke off and can go on from what was saved."
        window._use_language("ja")
        qapp.processEvents()
        assert window.banner.button.text() == japanese()["Continue"]
        assert japanese()["Soul injection"] in window.banner.sentence.text()
        window._use_language("en")
        qtbot.mouseClick(window.banner.button, Qt.MouseButton.LeftButton)
        assert not window.banner.isVisible() and window.runner.running
        ended(window, qtbot)
        assert window.state.flow.states["train"] is State.DONE
    finished_whole(run)
