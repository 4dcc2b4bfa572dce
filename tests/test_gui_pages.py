"""Every page with a ritual that really happened: opened afterwards, and watched event by event."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gui_parts import (
    BUSY_MACHINE,
    clipped,
    japanese,
    mark_done,
    open_window,
    recorded_events,
    recorded_run,
    stamped,
    texts,
)
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from aegis_core import events
from aegis_core.plan import changed, demo_plan
from aegis_gui.flow import PAGES, Status
from aegis_gui.pages.check import CheckPage
from aegis_gui.pages.prepare import PreparePage
from aegis_gui.pages.train import TrainPage
from aegis_gui.run_view import RunView
from aegis_gui.window import SMALLEST, Window

DRAWN_MILLISECONDS = 500  # curves are drawn in turns


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def shared(qapp: QApplication) -> Iterator[Window]:
    with open_window(qapp) as window:
        window.language.use("en")
        yield window


@pytest.fixture
def finished(shared: Window, tmp_path: Path) -> Iterator[Window]:
    """The recorded ritual, opened after it was over."""
    run = recorded_run(tmp_path / "runs" / "ritual 儀式")
    shared.state.open(run.path)
    yield shared
    shared.state.close()  # what a page has asked the engine meanwhile ends with the run


@pytest.fixture
def begun(shared: Window, tmp_path: Path) -> Iterator[Window]:
    """A run of the demo with nothing done."""
    shared.state.create(tmp_path / "runs" / "begun", demo_plan())
    yield shared
    shared.state.close()


def live(window: Window, stage: str) -> None:
    """Let the page of a step see its recorded events as if they happened now."""
    window.state.begin()
    for event in recorded_events(stage):
        if isinstance(event, events.StepFinished):
            assert window.state.run is not None
            mark_done(window.state.run, window.state.plan, stage)
        window.state.receive(event)
    window.state.end()


def test_the_recorded_ritual_counts_as_done(finished: Window) -> None:
    for page in PAGES[1:]:
        expected = Status.DISABLED if page in ("search", "schedule") else Status.DONE
        assert finished.state.status(page) is expected, page
    assert finished.state.flow.first_unfinished() is None


def test_the_rail_says_the_state_of_every_step_in_words(finished: Window) -> None:
    words = [finished.rail.items[page]._word.text() for page in PAGES[1:]]
    assert words == ["done", "done", "skipped", "skipped", "done", "done", "done", "done", "done"]


def test_the_check_page_lists_every_row_with_shape_and_word(finished: Window) -> None:
    finished.show_page("check")
    said = texts(finished.pages["check"])
    rows = {event.name: event for event in recorded_events("check") if isinstance(event, events.CheckRow)}
    assert len(rows) > 10
    for name, row in rows.items():
        assert name in said
        assert row.found in said
    assert "Ollama" in said
    assert "warning" in said


def test_rows_of_the_check_appear_as_they_are_found(begun: Window) -> None:
    begun.show_page("check")
    page = begun.pages["check"]
    assert "Nothing has been checked yet" in texts(page)
    begun.state.begin()
    begun.state.receive(stamped(events.StepStarted(), "check"))
    begun.state.receive(stamped(events.CheckRow("GPU", "missing", "no NVIDIA GPU", "Buy one."), "check"))
    assert "1 missing, 0 to look at, 0 in order." in texts(page)
    assert page.status is Status.RUNNING
    begun.state.end()
    assert page.status is Status.CANCELLED


def test_what_is_missing_stands_first_and_a_button_leads_where_the_window_can_help(
    begun: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("aegis_gui.pages.check.QDesktopServices.openUrl", lambda url: opened.append(url.toString()))
    begun.show_page("check")
    page = begun.pages["check"]
    begun.state.begin()
    begun.state.receive(stamped(events.StepStarted(), "check"))
    for row in (
        events.CheckRow("RAM", "ok", "32.0 GB"),
        events.CheckRow("clock", "warning", "late", "Set it.", "https://e.vil"),
        events.CheckRow("Ollama", "warning", "Ollama is not installed.", "Get it.", "ollama_download"),
        events.CheckRow("GPU", "warning", "full", "Close others.", "ollama"),
        events.CheckRow("torch", "missing", "not installed", "python start.py"),
    ):
        begun.state.receive(stamped(row, "check"))
    begun.state.end()
    names = [line for line in texts(page).splitlines() if line in ("torch", "clock", "Ollama", "GPU", "RAM")]
    assert names == ["torch", "clock", "Ollama", "GPU", "RAM"]
    assert isinstance(page, CheckPage)
    buttons = {button.text(): button for button in page.summary.findChildren(QPushButton) if not button.isHidden()}
    assert set(buttons) == {"Open the download page", "Go to Ollama's panel"}, "a made-up mend is no button"
    buttons["Open the download page"].click()
    assert opened == ["https://ollama.com/download"]
    buttons["Go to Ollama's panel"].click()
    assert begun.pages["chat"].isVisible()


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "checkout"])
def test_only_the_frozen_window_offers_to_repair_its_engine(
    begun: Window, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    monkeypatch.setattr("aegis_gui.pages.check.is_frozen", lambda: frozen)
    shown: list[str] = []
    monkeypatch.setattr(begun.sheets, "show_engine", lambda: shown.append("engine"))
    begun.show_page("check")
    page = begun.pages["check"]
    assert isinstance(page, CheckPage)
    begun.state.begin()
    begun.state.receive(stamped(events.StepStarted(), "check"))
    row = events.CheckRow("torch", "missing", "DLL load failed", "aegis engine repair", "engine")
    begun.state.receive(stamped(row, "check"))
    begun.state.end()
    assert "aegis engine repair" in texts(page)
    buttons = [button for button in page.summary.findChildren(QPushButton) if not button.isHidden()]
    assert [button.text() for button in buttons] == (["Repair the engine"] if frozen else [])
    for button in buttons:
        button.click()
    assert shown == ["engine"] * frozen
    assert begun.page == "check"


def test_the_preparation_shows_licence_size_and_counts(finished: Window) -> None:
    finished.show_page("prepare")
    said = texts(finished.pages["prepare"])
    assert "135 million parameters" in said
    assert "576" in said
    assert "sequences" in said


def test_progress_is_said_in_words_with_the_time_left(begun: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("aegis_gui.pages.step_page.time.monotonic", lambda: float(next(clock)))
    begun.show_page("fuse")
    begun.state.begin()
    begun.state.receive(stamped(events.StepStarted(), "fuse"))
    for done in (1, 2, 3):
        begun.state.receive(stamped(events.Progress(done, 33, "tensors", "gated"), "fuse"))
    page = begun.pages["fuse"]
    assert page.progress_text.text() == "gated · 3 of 33 tensors · about 5 minutes left"
    assert page.bar.value() == pytest.approx(1000 * 3 / 33, abs=1)
    begun.state.end()
    assert not page.bar.isVisible()


def test_trials_fill_the_table_and_the_best_is_named(begun: Window) -> None:
    begun.show_page("search")
    page = begun.pages["search"]
    begun.state.begin()
    begun.state.receive(stamped(events.StepStarted(), "search"))
    for number, (state, value) in enumerate([("COMPLETE", 3.1), ("FAIL", None), ("COMPLETE", 2.9), ("PRUNED", 3.4)]):
        trial = events.TrialFinished(number, state, value, {"learning_rate": 1e-4 * (number + 1)})
        begun.state.receive(stamped(trial, "search"))
    begun.state.end()
    model = page.study.table.trials
    assert model.rowCount() == 4
    assert model.best().number == 2
    assert "trial 3 with a held-out loss of 2.900" in page.study.best.text()
    assert "complete, best" in [model.data(model.index(row, 1)) for row in range(4)]


def test_the_schedule_page_redraws_the_curve_as_it_is_chosen(begun: Window) -> None:
    begun.show_page("schedule")
    page = begun.pages["schedule"]
    before = page.landmarks.text()
    assert "Critical point at step 41 of 80." in before
    begun.state.change({"soul.schedule.kind": "linear"})
    assert page.landmarks.text() != before
    begun.state.change({"soul.alpha_target": -1.0})
    assert "never opens halfway" in page.landmarks.text()


def test_the_fusion_page_shows_the_formula_with_this_runs_numbers_and_its_proof(finished: Window) -> None:
    finished.show_page("fuse")
    page = finished.pages["fuse"]
    said = texts(page)
    assert "W′ = W + σ(1.618) · W R = W + 0.8345 · W R" in said.splitlines()
    assert "0.5451" in said
    assert said.count("passed") >= 4
    assert "Largest difference of the logits" in said
    finished.state.change({"soul.calibrate": False})
    assert "0.5451" not in texts(page)


@pytest.mark.parametrize("stage", ["fuse", "export"])
def test_verdicts_appear_while_the_step_is_still_running(begun: Window, stage: str) -> None:
    begun.show_page(stage)
    begun.state.begin()
    begun.state.receive(stamped(events.StepStarted(), stage))
    begun.state.receive(stamped(events.Verdict("F16: file size", "fail", "12 bytes", "13 bytes"), stage))
    said = texts(begun.pages[stage])
    assert "F16: file size" in said
    assert "failed" in said
    begun.state.receive(stamped(events.Verdict("F16: file size", "pass", "13 bytes", "13 bytes"), stage))
    assert "failed" not in texts(begun.pages[stage])
    begun.state.end()


def test_the_export_page_lists_files_with_size_and_checks(finished: Window) -> None:
    finished.show_page("export")
    said = texts(finished.pages["export"])
    for name in ("aegis-demo-F16.gguf", "aegis-demo-Q4_K_M.gguf", "Held-out loss", "checks passed"):
        assert name in said


def drawn(window: Window, stage: str, qtbot: QtBot) -> None:
    """Wait until the page of a step shows all it is going to; its look into the data is a process of its own."""
    page = window.pages[stage]
    if isinstance(page, TrainPage):
        qtbot.waitUntil(lambda: page.cockpit._turns_left == 0, timeout=60_000)
    qtbot.wait(DRAWN_MILLISECONDS)
    if isinstance(page, PreparePage):
        qtbot.waitUntil(lambda: not page.look.running, timeout=60_000)


@pytest.mark.parametrize("stage", ["check", "prepare", "train", "fuse", "export", "chat", "report"])
def test_a_page_that_watched_shows_the_same_as_one_that_is_opened_later(
    begun: Window, qtbot: QtBot, stage: str
) -> None:
    assert begun.state.run is not None
    for step in ("check", "prepare", "train", "fuse", "export", "chat"):
        if step == stage:
            break
        live(begun, step)
    begun.show_page(stage)
    live(begun, stage)
    assert begun.state.status(stage) is Status.DONE
    drawn(begun, stage, qtbot)
    watched = texts(begun.pages[stage])
    begun.state.open(begun.state.run.path)
    begun.state.view = RunView()
    for event in recorded_events(stage):
        begun.state.view.apply(event)
    begun.pages[stage].show_run(begun.state.view)
    drawn(begun, stage, qtbot)
    assert sorted(texts(begun.pages[stage]).splitlines()) == sorted(watched.splitlines())


def test_a_changed_setting_makes_later_steps_outdated_and_says_so(finished: Window) -> None:
    finished.show_page("train")
    finished.state.change({"train.learning_rate": 1e-4})
    assert finished.pages["train"].status is Status.STALE
    assert "because this changed: Learning rate" in texts(finished.pages["train"])
    assert finished.state.status("prepare") is Status.DONE
    assert finished.state.status("report") is Status.STALE
    assert finished.footer.primary.text() == "Run again"


def test_home_lists_the_run_with_its_numbers(finished: Window, tmp_path: Path) -> None:
    finished.home.folder = tmp_path / "runs"
    finished.show_page("home")
    said = texts(finished.home)
    assert "ritual 儀式" in said
    assert "finished" in said
    assert "6 of 7 indicators passed" in said


def test_the_log_tells_the_story_in_the_language_of_the_window(finished: Window, qapp: QApplication) -> None:
    english = finished.log.toPlainText()
    assert "done in" in english
    assert "Soul injection" in english
    finished.language.use("ja")
    qapp.processEvents()
    assert japanese()["Soul injection"] in finished.log.toPlainText()
    finished.language.use("en")
    qapp.processEvents()
    assert finished.log.toPlainText() == english


def test_a_resumed_step_keeps_its_curve_and_a_fresh_one_starts_it_anew() -> None:
    view = RunView()
    view.apply(stamped(events.StepStarted(), "train"))
    for step in (1, 2, 3):
        view.apply(stamped(events.Metric("loss", step, 4.0 - step), "train"))
    view.apply(stamped(events.StepCancelled(), "train"))
    view.apply(stamped(events.StepStarted(resumed=True), "train"))
    view.apply(stamped(events.Metric("loss", 3, 0.5), "train"))
    series = view.step("train").series["loss"]
    assert list(series.steps) == [1, 2, 3]
    assert list(series.values) == [3.0, 2.0, 0.5]
    view.apply(stamped(events.StepStarted(), "train"))
    assert not view.step("train").series


def test_a_long_journal_opens_fast_and_holds_little(tmp_path: Path) -> None:
    from time import perf_counter

    from aegis_core.run_directory import RunDirectory
    from aegis_gui.run_view import KEPT_LOG_LINES
    from aegis_gui.state import past

    run = RunDirectory.create(tmp_path / "long", changed(demo_plan(), {"train.steps": 20000}))
    with run.events_path.open("w", encoding="utf-8") as file:
        file.write(events.encode(stamped(events.StepStarted(), "train")) + "\n")
        for step in range(1, 20001):
            file.write(events.encode(stamped(events.Metric("loss", step, 3.0), "train")) + "\n")
            file.write(events.encode(stamped(events.note("line {n}", n=step), "train")) + "\n")
    began = perf_counter()
    view = past(run)
    assert perf_counter() - began < 5
    assert len(view.step("train").series["loss"].steps) == 20000
    assert len(view.log) == KEPT_LOG_LINES


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("state", ["done", "begun"])
def test_no_text_is_clipped_in_the_smallest_window(
    shared: Window, tmp_path: Path, language: str, state: str, qapp: QApplication
) -> None:
    shared.language.use(language)
    shared.machine.shut_down()
    shared.resize(*SMALLEST)
    if state == "done":
        shared.state.open(recorded_run(tmp_path / "runs" / "ritual 儀式").path)
    else:
        shared.state.create(tmp_path / "runs" / "begun", demo_plan())
    found = {}
    for page in PAGES:
        shared.show_page(page)
        shared.strip.show_reading(BUSY_MACHINE)
        for _ in range(3):
            qapp.processEvents()
        found[page] = clipped(shared)
    shared.language.use("en")
    shared.state.close()
    assert {page: texts for page, texts in found.items() if texts} == {}
