"""The cockpit's instruments: its plots and their places, moments on the axis, zoom and keyboard, files, answers."""

import csv
import io
import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gui_parts import texts
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QImage, QTextDocumentFragment
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot
from screenshots_cockpit import invented_training

from aegis_core import plan as plans
from aegis_core.events import (
    CheckpointSaved,
    Event,
    Metric,
    Paused,
    Sample,
    StepFinished,
    StepStarted,
    Telemetry,
    warning,
)
from aegis_core.soul import schedule
from aegis_gui.cockpit import Cockpit
from aegis_gui.i18n import Language
from aegis_gui.live_plot import LivePlot
from aegis_gui.loss_plot import LossPlot
from aegis_gui.pages.train import TrainPage
from aegis_gui.plot_export import export, file_name
from aegis_gui.plot_moments import Moment
from aegis_gui.plots import FIRST_CHOICE
from aegis_gui.preferences import Preferences
from aegis_gui.run_view import RunView
from aegis_gui.samples import Samples
from aegis_gui.state import AppState
from aegis_gui.step_clock import StepClock
from aegis_gui.theme import LIGHT

N_STEPS = 300


@pytest.fixture(autouse=True)
def own_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))


@pytest.fixture
def plan() -> plans.Plan:
    return plans.changed(plans.demo_plan(), {"train.steps": N_STEPS})


@pytest.fixture
def cockpit(qtbot: QtBot, plan: plans.Plan) -> Cockpit:
    made = Cockpit(LIGHT)
    qtbot.addWidget(made)
    made.set_plan(plan)
    made.resize(1000, 640)
    made.show()
    return made


@pytest.fixture
def language(qapp: QApplication) -> Iterator[Language]:
    made = Language(qapp)
    yield made
    made.use("en")


def drawn(qtbot: QtBot, cockpit: Cockpit, events: Iterator[Event] | list[Event]) -> None:
    """Told and drawn."""
    for event in events:
        cockpit.on_event(event)
    qtbot.waitUntil(lambda: not cockpit._timer.isActive(), timeout=10_000)


def plain(label: QLabel) -> str:
    shown = QTextDocumentFragment.fromHtml(label.text()).toPlainText()
    return shown.replace("\xa0", " ").replace("\u2060", "").replace("\u200b", "")


def put(cockpit: Cockpit, *names: str) -> None:
    for name, card in zip(names, cockpit.board.cards, strict=False):
        cockpit.board.put(name, card)


# ---- which plots stand where


def test_every_plot_that_is_offered_draws_what_the_training_told(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 120))
    for name, plot in cockpit.plots.items():
        put(cockpit, name)
        qtbot.waitUntil(lambda: not cockpit._timer.isActive())
        assert plot.isVisible(), name
        points = len(plot.table()) - 1
        assert points >= 120, name
        assert not plot.absent() or plot.absent() not in plain(plot.legend), name
    assert len(cockpit.plots) == 11


def test_a_plot_that_is_chosen_for_a_place_swaps_with_the_one_that_stood_there(cockpit: Cockpit) -> None:
    board = cockpit.board
    assert board.names == list(FIRST_CHOICE)
    board.put("rotation", board.cards[0])
    assert board.names == ["rotation", "alpha", "memory", "loss"]
    board.put("gradient", board.cards[1])
    assert board.names == ["rotation", "gradient", "memory", "loss"]
    assert [plot.isVisible() for plot in board.on_screen()] == [True] * 4
    assert sum(plot.isVisible() for plot in cockpit.plots.values()) == 4
    assert cockpit.plots["gradient"].parentWidget() is board.cards[1]


def test_the_menu_of_a_title_offers_every_plot_and_ticks_what_is_on_screen(cockpit: Cockpit) -> None:
    card = cockpit.board.cards[2]
    menu = card.menus[card.heading]
    menu.aboutToShow.emit()
    offered = {action.text(): action.isChecked() for action in menu.actions()}
    assert len(offered) == 11 and sum(offered.values()) == 4
    next(action for action in menu.actions() if action.text() == "Loss against alpha").trigger()
    assert card.name == "portrait" and card.heading.text().startswith("Loss against alpha")


def test_the_choice_of_plots_is_remembered(qtbot: QtBot, tmp_path: Path, plan: plans.Plan) -> None:
    state = AppState()
    state.create(tmp_path / "run", plan)
    first = TrainPage(state)
    qtbot.addWidget(first)
    first.cockpit.board.put("power", first.cockpit.board.cards[3])
    again = TrainPage(state)
    qtbot.addWidget(again)
    assert again.cockpit.board.names == ["loss", "alpha", "memory", "power"]
    Preferences().plots = ["nonsense", "power", "power"]
    mended = TrainPage(state)
    qtbot.addWidget(mended)
    assert mended.cockpit.board.names == ["power", "loss", "alpha", "memory"]


def test_plots_that_are_not_on_screen_are_not_drawn_and_catch_up_when_they_are(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 50))
    speed = cockpit.plots["speed"]
    assert len(speed.curves["speed"].series) == 50
    assert speed.curves["speed"].drawn_version < speed.curves["speed"].series.version
    put(cockpit, "speed")
    qtbot.waitUntil(lambda: not cockpit._timer.isActive())
    assert speed.curves["speed"].drawn_version == speed.curves["speed"].series.version


# ---- what single plots say


def test_the_parts_of_the_memory_are_stacked_and_the_legend_reads_each_of_them(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 60))
    memory = cockpit.memory
    heights = [memory.curves[name].series.last for name in ("resting", "peak", "reserved", "own", "used")]
    assert heights == sorted(heights) and heights[:4] == [2.6, 4.7, 5.1, 5.9]
    parts = {name: memory.reading(memory.curves[name], 30.0) for name in ("resting", "peak", "reserved", "own")}
    assert parts == {
        "resting": pytest.approx(2.6), "peak": pytest.approx(2.1), "reserved": pytest.approx(0.4),
        "own": pytest.approx(0.8),
    }  # fmt: skip
    assert [level.value for level in memory.levels] == [12.0, 6.3]
    assert memory.y_range.high >= 12.0


def test_without_a_card_the_machine_stands_in_and_power_says_why_it_is_empty(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    put(cockpit, "memory", "load", "power")
    drawn(qtbot, cockpit, invented_training(plan, 40, card=False))
    assert cockpit.memory.title() == "Memory (GB)"
    assert "this run 3.3" in plain(cockpit.memory.legend)
    assert "CPU" in plain(cockpit.plots["load"].legend) and "GPU" not in plain(cockpit.plots["load"].legend)
    assert "does not tell the GPU's power" in plain(cockpit.plots["power"].legend)


def test_the_phase_portrait_goes_through_alpha_and_loss_of_the_same_step(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    put(cockpit, "portrait")
    drawn(qtbot, cockpit, invented_training(plan, 200))
    portrait = cockpit.plots["portrait"]
    steps, alphas, losses = cockpit._plots.portrait.points()
    assert steps.tolist() == list(range(1, 201))
    assert np.array_equal(alphas, cockpit.alpha.curves["alpha"].series.y)
    assert np.array_equal(losses, cockpit.loss.curves["smooth"].series.y)
    critical = schedule.curve(N_STEPS, plan.soul)[schedule.critical_step(N_STEPS, plan.soul)]
    assert cockpit._plots.portrait._line.value() == pytest.approx(critical)
    cockpit.loss.hovered.emit(77.0)
    here = cockpit._plots.portrait._here
    assert (here.xData[0], here.yData[0]) == (alphas[76], losses[76])
    assert "step 77" in plain(portrait.legend)


def test_the_mouse_on_the_phase_portrait_leads_the_crosshair_of_all_plots(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    put(cockpit, "portrait", "alpha")
    drawn(qtbot, cockpit, invented_training(plan, 200))
    portrait = cockpit._plots.portrait
    _, alphas, losses = portrait.points()
    portrait.scene().sigMouseMoved.emit(portrait.view.mapViewToScene(QPointF(alphas[149], losses[149])))
    assert cockpit.alpha.cursor == 150
    assert f"{alphas[149]:.3f}" in plain(cockpit.alpha.legend)


def test_a_learned_alpha_leaves_the_portrait_without_a_critical_point(cockpit: Cockpit, plan: plans.Plan) -> None:
    line = cockpit._plots.portrait._line
    assert line.isVisibleTo(None) or line.isVisible() or cockpit._plots.portrait._critical is not None
    cockpit.set_plan(plans.changed(plan, {"soul.alpha": "learned"}))
    assert cockpit._plots.portrait._critical is None and not line.isVisible()


# ---- moments


def test_what_happened_is_marked_on_the_axis_and_named_by_the_crosshair(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 240))
    kinds = [(moment.kind, round(moment.x)) for moment in cockpit._moments]
    assert kinds == [
        ("checkpoint", 100), ("paused", 170), ("resumed", 171), ("checkpoint", 200), ("warning", 230),
    ]  # fmt: skip
    cockpit.loss.hovered.emit(100.4)
    assert "step 100 · checkpoint" in plain(cockpit.loss.legend)
    cockpit.loss.hovered.emit(130.0)
    assert "checkpoint" not in plain(cockpit.loss.legend)


def test_each_kind_of_moment_has_a_shape_of_its_own(qtbot: QtBot) -> None:
    plot = LossPlot(LIGHT)
    qtbot.addWidget(plot)
    plot.set_span(N_STEPS)
    plot.resize(300, 160)

    def picture(kind: str) -> QImage:
        plot.set_moments([Moment(N_STEPS / 2, kind)])
        return plot.grab().toImage()

    picture("checkpoint")
    assert picture("checkpoint") == picture("checkpoint")
    pictures = [picture(kind) for kind in ("checkpoint", "warning", "paused", "continued")]
    assert not any(one == other for one, other in itertools.combinations(pictures, 2))


def test_a_resumed_training_marks_where_it_went_on_and_forgets_what_it_goes_through_again(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 210))
    again = [
        StepStarted(resumed=True, at=1_790_010_000.0, stage="train"),
        Metric("loss", 201, 3.0, at=1_790_010_002.0, stage="train"),
        CheckpointSaved(150, stage="train"),
    ]
    drawn(qtbot, cockpit, again[:2])
    assert cockpit._moments[-1].kind == "continued" and cockpit._moments[-1].x == 210
    drawn(qtbot, cockpit, again[2:])
    assert [m.x for m in cockpit._moments] == [100, 150], "marks beyond a step that comes again are gone"


def test_a_condensed_past_keeps_moments_and_readings_where_they_were(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    view = RunView()
    told = [*invented_training(plan, 240), StepStarted(resumed=True, at=1_790_009_000.0, stage="train")]
    told += [Metric("loss", 241, 3.0, at=1_790_009_002.0, stage="train")]
    for event in told:
        view.apply(event)
    again = Cockpit(LIGHT)
    qtbot.addWidget(again)
    again.set_plan(plan)
    again.show()
    drawn(qtbot, cockpit, told)
    drawn(qtbot, again, view.step("train").events())
    assert again._moments == cockpit._moments and len(again._moments) == 6
    for name, plot in cockpit.plots.items():
        for key, curve in plot.curves.items():
            assert np.array_equal(curve.series.x, again.plots[name].curves[key].series.x), (name, key)
            assert np.array_equal(curve.series.y, again.plots[name].curves[key].series.y), (name, key)


def test_a_reading_lies_between_the_steps_it_was_taken_in() -> None:
    clock = StepClock()
    clock.start(1000.0)
    assert clock.place(1005.0) == 0
    clock.step_ended(1, 1010.0)
    clock.step_ended(2, 1012.0)
    assert clock.place(1013.0) == pytest.approx(2.5)
    assert clock.place(2000.0) == pytest.approx(2.99), "a pause does not reach the next step"
    clock.start(5000.0)
    clock.step_ended(2, 5002.0)
    clock.step_ended(3, 5004.0)
    assert clock.place(5005.0) == pytest.approx(3.5)


# ---- zoom, pan, keyboard


def test_a_chosen_part_is_shown_at_a_height_that_fits_it_on_all_plots_and_reset_brings_all_back(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    put(cockpit, "loss", "learning_rate", "speed", "gradient")
    drawn(qtbot, cockpit, invented_training(plan, 200))
    rate = cockpit.plots["learning_rate"]
    whole = rate.view.viewRange()
    cockpit.loss.show_part(150, 180)
    assert all(plot.view.viewRange()[0] == [150, 180] for plot in cockpit.board.on_screen())
    low, high = rate.view.viewRange()[1]
    part = rate.curves["rate"].series.y[149:180]
    assert 0 < low < part.min() and part.max() < high < whole[1][1]
    assert all(card.whole.isVisible() for card in cockpit.board.cards)
    cockpit.board.cards[2].whole.click()
    assert rate.view.viewRange() == [pytest.approx(whole[0]), pytest.approx(whole[1])]
    assert not any(card.whole.isVisible() for card in cockpit.board.cards)


def test_no_zoom_leads_out_of_the_run(cockpit: Cockpit) -> None:
    cockpit.loss.show_part(-500, 9000)
    low, high = cockpit.loss.view.viewRange()[0]
    assert low > -0.02 * N_STEPS and high < 1.02 * N_STEPS


def test_the_keyboard_moves_the_crosshair_zooms_pans_and_shows_everything(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 200))
    loss = cockpit.loss
    cockpit.activateWindow()
    loss.setFocus()
    qtbot.keyClick(loss, Qt.Key.Key_Right)
    first = cockpit.alpha.cursor
    qtbot.keyClick(loss, Qt.Key.Key_Right)
    assert first is not None and cockpit.alpha.cursor is not None and cockpit.alpha.cursor > first
    qtbot.keyClick(loss, Qt.Key.Key_Plus)
    low, high = cockpit.alpha.view.viewRange()[0]
    assert high - low < N_STEPS * 0.85
    qtbot.keyClick(loss, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert cockpit.alpha.view.viewRange()[0][0] > low
    qtbot.keyClick(loss, Qt.Key.Key_0)
    assert cockpit.alpha.view.viewRange()[0][1] > N_STEPS * 0.99
    qtbot.keyClick(loss, Qt.Key.Key_Escape)
    assert cockpit.alpha.cursor is None


def test_the_plot_with_the_keyboard_has_a_strong_frame(cockpit: Cockpit) -> None:
    card = cockpit.board.cards[0]
    cockpit.loss.focused.emit(True)
    assert card.property("chosen") == "true"
    cockpit.loss.focused.emit(False)
    assert card.property("chosen") == "false"


def test_a_legend_never_covers_more_than_its_part_of_a_low_plot(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 100))
    cockpit.resize(820, 420)
    for name in cockpit.plots:
        cockpit.board.put(name, cockpit.board.cards[2])
        qtbot.waitUntil(lambda: not cockpit._timer.isActive())
        cockpit.loss.hovered.emit(100.0)
        plot = cockpit.plots[name]
        assert plot.legend.height() <= max(plot.height() * 0.45, 24), name
        assert plot.legend.geometry().right() <= plot.width(), name


# ---- files


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def test_the_table_of_a_plot_holds_exactly_what_is_in_view(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan, tmp_path: Path
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 200))
    path = tmp_path / "損失.csv"
    export(cockpit.loss, path)
    rows = rows_of(path)
    raw = cockpit.loss.curves["raw"].series
    assert [float(row["each step"]) for row in rows if row["each step"]] == raw.y.tolist(), "to the same bits"
    assert [row["step"] for row in rows if row["held-out"]] == ["50", "100", "150", "200"]
    assert {row["base model 3.303"] for row in rows} == {"3.303"}
    assert [row["step"] for row in rows if row["event"] == "checkpoint"] == ["100", "200"]
    cockpit.loss.show_part(60, 90)
    export(cockpit.loss, path)
    assert [int(row["step"]) for row in rows_of(path)] == list(range(60, 91))
    assert not list(tmp_path.glob("*.part"))


def test_the_table_of_the_portrait_has_steps_alphas_and_losses(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan, tmp_path: Path
) -> None:
    drawn(qtbot, cockpit, invented_training(plan, 80))
    export(cockpit.plots["portrait"], tmp_path / "portrait.csv")
    rows = rows_of(tmp_path / "portrait.csv")
    assert [float(row["alpha"]) for row in rows] == cockpit.alpha.curves["alpha"].series.y.tolist()


@pytest.mark.parametrize("name", ["loss", "alpha", "portrait", "memory"])
def test_a_plot_is_saved_as_a_picture_and_as_a_drawing_with_its_title(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan, tmp_path: Path, name: str
) -> None:
    put(cockpit, name)
    drawn(qtbot, cockpit, invented_training(plan, 200))
    plot: LivePlot = cockpit.plots[name]
    export(plot, tmp_path / "a.png")
    export(plot, tmp_path / "a.svg")
    image = QImage(str(tmp_path / "a.png"))
    assert image.width() == 2 * plot.width()
    colours = {image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)}
    assert len(colours) > 20
    drawing = ElementTree.parse(tmp_path / "a.svg")
    words = " ".join("".join(element.itertext()) for element in drawing.iter() if element.tag.endswith("text"))
    assert plot.title().split()[0] in words
    assert sum(1 for element in drawing.iter() if element.tag.endswith(("polyline", "path"))) > 3
    assert not any(element.tag.endswith("image") for element in drawing.iter()), "nothing is a picture in a drawing"


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing_behind(cockpit: Cockpit, tmp_path: Path) -> None:
    said: list[str] = []
    cockpit.board.saved.connect(said.append)
    (tmp_path / "taken.csv").mkdir()
    cockpit.board.save("loss", tmp_path / "taken.csv")
    assert "could not be written" in said[0] and not list(tmp_path.glob("*.part"))
    cockpit.board.save("loss", tmp_path / "fine.csv")
    assert said[1].startswith("Saved as") and (tmp_path / "fine.csv").is_file()


def test_files_are_named_after_run_and_plot() -> None:
    assert file_name("儀式 1", "loss", "svg") == "儀式 1-loss.svg"
    assert file_name('a/b:c?"', "alpha", "csv") == "a_b_c__-alpha.csv"
    assert file_name("", "alpha", "png") == "alpha.png"


# ---- answers


def test_the_newest_answer_is_shown_until_the_slider_is_drawn_back(qtbot: QtBot) -> None:
    samples = Samples()
    qtbot.addWidget(samples)
    for step in (20, 40, 60):
        samples.add(Sample("Why?", f"Answer number {step}.", step))
    samples.refresh()
    assert "60" in samples.text.toPlainText() and samples.title.text() == "What it says now"
    samples.slider.setValue(0)
    assert "20" in samples.text.toPlainText() and samples.title.text() == "What it said then"
    assert samples.when.text() == "step 20"
    samples.add(Sample("Why?", "Answer number 80.", 80))
    samples.refresh()
    assert "20" in samples.text.toPlainText(), "who looks back is not pulled away"
    samples.slider.setValue(3)
    samples.add(Sample("Why?", "Answer number 100.", 100))
    samples.refresh()
    assert "100" in samples.text.toPlainText()


def test_what_the_answer_before_did_not_say_is_marked(qtbot: QtBot) -> None:
    samples = Samples()
    qtbot.addWidget(samples)
    samples.set_theme(LIGHT)
    samples.add(Sample("Why?", "Entropy grows & <time> flows.", 20))
    samples.add(Sample("Why?", "Entropy shrinks & <time> flows.", 40))
    samples.add(Sample("なぜ?", "エントロピーが増える。", 60))
    samples.refresh()
    samples.slider.setValue(1)
    assert samples.text.toPlainText() == "Entropy shrinks & <time> flows."
    marked = [part for part in samples.text.toHtml().split("<span") if LIGHT.hover.lower() in part]
    assert len(marked) == 1 and "shrinks" in marked[0] and "Entropy" not in marked[0]


def test_a_resumed_training_answers_again_from_where_it_went_on(qtbot: QtBot) -> None:
    samples = Samples()
    qtbot.addWidget(samples)
    for step in (20, 40, 60, 40):
        samples.add(Sample("Why?", f"{step}", step))
    samples.refresh()
    assert samples.slider.maximum() == 1 and samples.when.text() == "step 40"


@pytest.mark.parametrize("spoken", ["en", "ja"])
def test_the_whole_cockpit_speaks_the_language_of_the_window(
    cockpit: Cockpit, qtbot: QtBot, plan: plans.Plan, language: Language, spoken: str
) -> None:
    drawn(qtbot, cockpit, [*invented_training(plan, 120), StepFinished(9.0, stage="train")])
    language.use(spoken)
    QApplication.processEvents()
    titles = {plot.title() for plot in cockpit.plots.values()}
    assert all(title.isascii() or "|" in title for title in titles) is (spoken == "en")
    said = texts(cockpit) + " ".join(card.heading.text() + card.save.toolTip() for card in cockpit.board.cards)
    assert ("このグラフを保存" in said) is (spoken == "ja")


def test_events_from_before_these_figures_existed_draw_what_they_have(cockpit: Cockpit, qtbot: QtBot) -> None:
    old: list[Event] = [StepStarted(at=5.0, stage="train")]
    old += [Metric("loss", step, 3.0, at=5.0 + step, stage="train") for step in range(1, 20)]
    old += [Telemetry(at=30.0, stage="train"), Paused(True, at=31.0, stage="train")]
    old += [warning("Something.")]
    drawn(qtbot, cockpit, old)
    assert "Nothing has been read yet." in plain(cockpit.memory.legend)
    assert len(cockpit.loss.curves["raw"].series) == 19
