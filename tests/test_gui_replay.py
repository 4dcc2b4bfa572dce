"""A recording is read and played: at its own speed, faster, back and forth, and never taken for a running training."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gui_parts import open_window, recorded_events, recorded_run, texts
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from aegis_core import plan as plans
from aegis_core.events import (
    Event,
    Log,
    Metric,
    Progress,
    Sample,
    StepCancelled,
    StepFinished,
    StepStarted,
    Telemetry,
    encode,
)
from aegis_gui.cockpit import Cockpit
from aegis_gui.pages.train import CURVES, TrainPage
from aegis_gui.recording import LONGEST_GAP_SECONDS, Recording
from aegis_gui.replay import AS_FAST_AS_POSSIBLE, Replay
from aegis_gui.replay_bar import SPEEDS
from aegis_gui.state import AppState
from aegis_gui.theme import LIGHT
from aegis_gui.window import Window

START = 1_790_000_000.0


@pytest.fixture(autouse=True)
def own_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "AEGIS"))


@pytest.fixture
def state(tmp_path: Path) -> AppState:
    made = AppState()
    made.open(recorded_run(tmp_path / "記録 1", plans.demo_plan()).path)
    return made


@pytest.fixture
def page(state: AppState, qtbot: QtBot) -> Iterator[TrainPage]:
    made = TrainPage(state)
    qtbot.addWidget(made)
    state.event_arrived.connect(made.on_event)
    made.set_theme(LIGHT)
    made.retranslate()
    made.show_run(state.view)
    made.resize(1000, 700)
    made.show()
    yield made
    made.close()


def written(path: Path, events: list[Event]) -> Path:
    path.write_text("".join(encode(event) + "\n" for event in events), encoding="utf-8")
    return path


def steps(first: int, last: int, at: float) -> list[Event]:
    return [Metric("loss", n, 3.0, at=at + n - first, stage="train") for n in range(first, last + 1)]


# ---- the recording


def test_a_recording_holds_every_event_of_its_step_and_of_no_other(state: AppState) -> None:
    assert state.run is not None
    recording = Recording(state.run.events_path, "train")
    expected = [e for e in recorded_events("train")]
    begin = max(i for i, e in enumerate(expected) if isinstance(e, StepStarted))
    assert list(recording.events()) == expected[begin:]
    assert recording.began_at == expected[begin].at
    assert len(recording) == len(expected) - begin


def test_moments_begin_at_zero_never_go_back_and_no_night_is_waited_for(tmp_path: Path) -> None:
    told: list[Event] = [StepStarted(at=START, stage="train"), *steps(1, 3, START + 1)]
    told += [StepCancelled(at=START + 4, stage="train"), StepStarted(resumed=True, at=START + 40_000, stage="train")]
    told += [*steps(3, 5, START + 40_001), Metric("loss", 6, 3.0, at=START - 500, stage="train")]
    recording = Recording(written(tmp_path / "events.jsonl", told), "train")
    moments = [recording.moment(index) for index in range(len(recording))]
    assert moments[:5] == [0, 1, 2, 3, 4]
    assert moments[5] == 4 + LONGEST_GAP_SECONDS and moments == sorted(moments)
    assert recording.seconds == moments[-1] and recording.moment(len(recording)) == float("inf")


def test_only_the_latest_attempt_is_played(tmp_path: Path) -> None:
    told: list[Event] = [StepStarted(at=START, stage="train"), *steps(1, 3, START)]
    told += [StepStarted(at=START + 100, stage="train"), *steps(1, 2, START + 101)]
    recording = Recording(written(tmp_path / "events.jsonl", told), "train")
    assert len(recording) == 3 and recording.began_at == START + 100


def test_torn_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "events.jsonl", [StepStarted(at=START, stage="train"), *steps(1, 2, START)])
    spaced = '{"stage":"train","name":"loss","step":3,"value":2.5,"event":"Metric","at":1790000009.0}\n'
    torn = '{"event": "Metric", "at": 1790000010.0, "stage": "train", "name": "lo'
    with path.open("ab") as file:
        file.write(b"\xff\xfe not json\n[1, 2]\n" + spaced.encode() + torn.encode())
    assert [e.step for e in Recording(path, "train").events() if isinstance(e, Metric)] == [1, 2, 3]
    assert len(Recording(path, "train")) == 4
    assert len(Recording(tmp_path / "none.jsonl", "train")) == 0


def test_a_recording_can_be_read_from_any_place(state: AppState) -> None:
    assert state.run is not None
    recording = Recording(state.run.events_path, "train")
    everything = list(recording.events())
    for index in random.Random(0).sample(range(len(recording)), 10):
        assert next(recording.events(index)) == everything[index]
        at = recording.moment(index)
        assert recording.index_at(at) > index and recording.moment(recording.index_at(at)) > at


# ---- the player


def played(recording: Recording) -> tuple[Replay, list[Event]]:
    heard: list[Event] = []
    return Replay(recording, heard.append, heard.clear), heard


def test_as_fast_as_possible_plays_everything_in_order(state: AppState, qtbot: QtBot) -> None:
    assert state.run is not None
    recording = Recording(state.run.events_path, "train")
    replay, heard = played(recording)
    replay.set_speed(AS_FAST_AS_POSSIBLE)
    replay.play()
    qtbot.waitUntil(lambda: not replay.playing, timeout=10_000)
    assert heard == list(recording.events()) and replay.position == recording.seconds
    assert not replay._timer.isActive()


def test_a_speed_is_kept_by_the_clock(tmp_path: Path, qtbot: QtBot) -> None:
    told: list[Event] = [StepStarted(at=START, stage="train"), *steps(1, 400, START + 1)]
    replay, heard = played(Recording(written(tmp_path / "e.jsonl", told), "train"))
    replay.set_speed(100.0)
    began = time.perf_counter()
    replay.play()
    qtbot.waitUntil(lambda: replay.position > 100, timeout=20_000)
    replay.pause()
    qtbot.waitUntil(lambda: not replay._timer.isActive())
    here = replay.position
    assert 100 < here <= 100 * (time.perf_counter() - began)
    assert here < 400 and len(heard) == replay.recording.index_at(here)
    qtbot.wait(60)
    assert replay.position == here, "nothing moves while it is paused"


def test_seeking_shows_what_was_known_then_in_either_direction(state: AppState, qtbot: QtBot) -> None:
    assert state.run is not None
    recording = Recording(state.run.events_path, "train")
    replay, heard = played(recording)
    everything = list(recording.events())
    for part in (0.7, 0.2, 0.9, 0.0, 1.0):
        replay.seek(recording.seconds * part)
        qtbot.waitUntil(lambda: replay.caught_up and not replay._timer.isActive(), timeout=10_000)
        assert heard == everything[: recording.index_at(recording.seconds * part)], part


def test_playing_at_the_end_begins_again(tmp_path: Path, qtbot: QtBot) -> None:
    told: list[Event] = [StepStarted(at=START, stage="train"), *steps(1, 9, START + 1)]
    heard: list[Event] = []
    replay = Replay(Recording(written(tmp_path / "e.jsonl", told), "train"), heard.append, lambda: None)
    replay.set_speed(AS_FAST_AS_POSSIBLE)
    for n_rounds in (1, 2):
        replay.play()
        qtbot.waitUntil(lambda: not replay.playing)
        assert len(heard) == 10 * n_rounds
    replay.stop()


def test_an_empty_recording_ends_at_once(tmp_path: Path, qtbot: QtBot) -> None:
    replay, heard = played(Recording(tmp_path / "none.jsonl", "train"))
    replay.play()
    qtbot.waitUntil(lambda: not replay.playing and not replay._timer.isActive())
    assert heard == []


# ---- the page


def known(cockpit: Cockpit, qtbot: QtBot) -> dict[str, list[float]]:
    """What its curves hold, once they have drawn it."""
    qtbot.waitUntil(lambda: not cockpit._timer.isActive(), timeout=10_000)
    return {
        f"{name} {key}": curve.series.y.tolist()
        for name, plot in cockpit.plots.items()
        for key, curve in plot.curves.items()
    }


def test_a_replay_draws_in_the_same_widgets_what_the_run_had_drawn(page: TrainPage, qtbot: QtBot) -> None:
    before = known(page.cockpit, qtbot)
    page.replay_button.click()
    replay = page.replay
    assert replay is not None and replay.playing and page.replay_bar.isVisible()
    assert not page.replay_button.isVisible()
    page.replay_bar.speeds.button(SPEEDS.index(AS_FAST_AS_POSSIBLE)).click()
    qtbot.waitUntil(lambda: not replay.playing, timeout=15_000)
    assert known(page.cockpit, qtbot) == before
    qtbot.waitUntil(lambda: page.cockpit.figures["step"].value.text() == "80")


def test_in_the_middle_only_the_past_is_known_and_ending_it_brings_the_run_back(page: TrainPage, qtbot: QtBot) -> None:
    before = known(page.cockpit, qtbot)
    page.begin_replay()
    assert page.replay is not None
    page.replay.pause()
    page.replay_bar.slider.setValue(500)
    qtbot.waitUntil(lambda: page.replay is not None and page.replay.caught_up, timeout=10_000)
    half = known(page.cockpit, qtbot)
    assert 0 < len(half["loss raw"]) < 80
    assert half["loss raw"] == before["loss raw"][: len(half["loss raw"])]
    page.replay_bar.end.click()
    assert page.replay is None and known(page.cockpit, qtbot) == before
    assert not page.replay_bar.isVisible() and page.replay_button.isVisible()


def test_a_replay_says_that_it_is_one_and_the_step_does_not_run(page: TrainPage) -> None:
    page.begin_replay()
    said = texts(page)
    assert "Replay of" in said
    assert page.status_word.text() == "done" and not page.bar.isVisible()
    assert "nothing is being trained" in page.replay_bar.accessibleName()
    assert page.state.busy is False


def test_a_training_that_starts_ends_the_replay(page: TrainPage, qtbot: QtBot) -> None:
    page.begin_replay()
    page.state.begin()
    page.state.receive(StepStarted(at=START, stage="train"))
    page.state.receive(Metric("loss", 1, 3.5, at=START + 1, stage="train"))
    assert page.replay is None and not page.replay_bar.isVisible()
    assert page.tabs.stack.currentIndex() == CURVES
    assert page.cockpit.loss.curves["raw"].series.y.tolist() == [3.5]
    page.state.refresh()
    assert not page.replay_button.isVisible(), "what runs is watched itself"
    page.state.receive(StepFinished(1.0, at=START + 2, stage="train"))
    page.state.end()
    assert page.replay_button.isVisible()


def test_nothing_is_offered_where_nothing_was_recorded(tmp_path: Path, qtbot: QtBot) -> None:
    state = AppState()
    state.create(tmp_path / "fresh", plans.demo_plan())
    page = TrainPage(state)
    qtbot.addWidget(page)
    page.show_run(state.view)
    page.show()
    assert not page.replay_button.isVisible()


def test_another_run_ends_the_replay_of_this_one(page: TrainPage, tmp_path: Path) -> None:
    page.begin_replay()
    page.state.create(tmp_path / "other", plans.demo_plan())
    page.show_run(page.state.view)
    assert page.replay is None and not len(page.cockpit.loss.curves["raw"].series)


def test_closing_the_window_in_a_replay_leaves_no_timer(qapp: QApplication, tmp_path: Path) -> None:
    with open_window(qapp) as window:
        window.machine.shut_down()
        replay = begun(window, tmp_path)
        timer = replay._timer
        assert timer.isActive()
        window.close()
        assert not timer.isActive()


def test_language_and_theme_may_change_in_a_replay(qapp: QApplication, tmp_path: Path, qtbot: QtBot) -> None:
    with open_window(qapp) as window:
        window.machine.shut_down()
        replay = begun(window, tmp_path)
        window._use_language("ja")
        window._use_theme("dark")
        QApplication.processEvents()
        page = window.step_page("train")
        assert isinstance(page, TrainPage)
        assert "記録を再生中" in page.replay_bar.says.text() and page.replay is replay
        assert page.cockpit.loss.theme.is_dark
        window._use_language("en")
        window._use_theme("system")


def begun(window: Window, folder: Path) -> Replay:
    window.state.open(recorded_run(folder / "recorded", plans.demo_plan()).path)
    window.show_page("train")
    page = window.step_page("train")
    assert isinstance(page, TrainPage)
    page.begin_replay()
    assert page.replay is not None
    return page.replay


def test_every_kind_of_event_survives_the_recording(tmp_path: Path) -> None:
    told: list[Event] = [
        StepStarted(at=START, stage="train"),
        Progress(1, 2, "steps", at=START, stage="train"),
        Sample("なぜ?", "「因果」のため\u2028。", 1, at=START, stage="train"),
        Telemetry(gpu_name="RTX", at=START, stage="train"),
        Log("warning", "x", "x", {}, at=START, stage="train"),
    ]
    assert list(Recording(written(tmp_path / "e.jsonl", told), "train").events()) == told
    assert np.isfinite(Recording(tmp_path / "e.jsonl", "train").seconds)
