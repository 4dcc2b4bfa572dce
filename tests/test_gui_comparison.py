"""The training page beyond the training: every setting in a form, the controls beside it, what the gate brought."""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from gui_parts import control_events, control_row, japanese, recorded_events, recorded_run, stamped, texts
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from aegis_core import plan as plans
from aegis_core.events import Log, Metric, Progress, StepFinished, StepStarted, note, warning
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.run_directory import RunDirectory, write_json
from aegis_gui.cockpit import Cockpit, planned_phases
from aegis_gui.comparison import BOTH, Comparison
from aegis_gui.flow import HOME, PAGES
from aegis_gui.form import Form
from aegis_gui.i18n import Language, tr
from aegis_gui.pages.schedule import SchedulePage
from aegis_gui.pages.train import CURVES, RESULT, SETTINGS, TrainPage
from aegis_gui.plan_fields import OPTIONS, UNITS, all_names, plan_field
from aegis_gui.state import AppState
from aegis_gui.theme import DARK, LIGHT


@pytest.fixture
def language(qapp: QApplication) -> Iterator[Language]:
    made = Language(qapp)
    yield made
    made.use("en")


@pytest.fixture
def trained(tmp_path: Path, qapp: QApplication) -> AppState:
    """The recorded demo, its training done."""
    state = AppState()
    state.open(recorded_run(tmp_path / "ri tual 日本語", last="train").path)
    return state


@pytest.fixture
def page(trained: AppState, qtbot: QtBot) -> TrainPage:
    return shown_page(trained, qtbot)


def shown_page(state: AppState, qtbot: QtBot) -> TrainPage:
    made = TrainPage(state)
    qtbot.addWidget(made)
    made.set_theme(LIGHT)
    made.retranslate()
    made.show_run(state.view)
    made.resize(1000, 640)
    made.show()
    return made


def settled(qtbot: QtBot, cockpit: Cockpit) -> None:
    qtbot.waitUntil(lambda: not cockpit._timer.isActive(), timeout=5000)


def compared(state: AppState, row: dict[str, Any]) -> None:
    """The comparison was made with this outcome: its file, and all three trainings."""
    assert state.run is not None
    folder = state.run.step_folder("train")
    write_json(folder / "control.json", row)
    for name in row["arms"]:
        (folder / "control" / name).mkdir(parents=True, exist_ok=True)
        write_json(folder / "control" / name / "quality.json", {})


# ---- settings


def test_every_setting_of_the_plan_can_be_reached_on_some_page(qtbot: QtBot, tmp_path: Path) -> None:
    state = AppState()
    state.create(tmp_path / "run", Plan())
    reached = set()
    for name in PAGES:
        if name != HOME:
            made = getattr(import_module(f"aegis_gui.pages.{name}"), f"{name.capitalize()}Page")(state)
            qtbot.addWidget(made)
            reached |= {setting for form in made.findChildren(Form) for setting in form.rows}
            made.close()
    assert set(all_names()) - reached == set()


@pytest.mark.parametrize("name", all_names())
def test_every_setting_speaks_japanese_in_all_its_parts(name: str) -> None:
    field, known = plan_field(name), japanese()
    said = [field.label, field.help, *(OPTIONS.get(option, option) for option in field.options)]
    if field.unit:
        assert field.unit in UNITS
        said.append(UNITS[field.unit])
    assert [text for text in said if text not in known and text != "Q4_K_M"] == []
    assert all(option in OPTIONS for option in field.options), "an option is shown by its name in plan.json"


def typed(qtbot: QtBot, made: Form, name: str, text: str) -> None:
    line = made.rows[name].control.line  # type: ignore[attr-defined]
    line.setText(text)  # keyClicks knows no Japanese comma
    line.textEdited.emit(text)
    qtbot.keyClick(line, Qt.Key.Key_Return)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lora.targets", "qkv_proj、 o_proj", ("qkv_proj", "o_proj")),
        ("lora.targets", " ", ()),
        ("soul.inner_layers", "0, 11", (0, 11)),
        ("search.batch_sizes", "8", (8,)),
    ],
)
def test_several_names_or_numbers_are_written_with_commas(
    trained: AppState, qtbot: QtBot, name: str, text: str, value: tuple[Any, ...]
) -> None:
    trained.change({"lora.targets": ("q_proj",)})
    made = Form(trained, [name])
    qtbot.addWidget(made)
    made.show()
    typed(qtbot, made, name, text)
    assert plans.get(trained.plan, name) == value
    made.refresh()
    assert made.rows[name].control.value() == list(value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("soul.inner_layers", "-1", "Write whole numbers"),
        ("soul.inner_layers", "last", "Write whole numbers"),
        ("search.batch_sizes", " ", "Must not be empty."),
        ("search.batch_sizes", "0", "Must be between 1 and 1,024."),
    ],
)
def test_a_list_that_is_not_allowed_is_said_and_not_written(
    trained: AppState, qtbot: QtBot, name: str, text: str, said: str
) -> None:
    made = Form(trained, [name])
    qtbot.addWidget(made)
    made.show()
    typed(qtbot, made, name, text)
    assert made.rows[name].help.text().startswith(said)
    assert plans.get(trained.plan, name) == plans.get(Plan(), name)


# ---- curves


def test_the_controls_are_drawn_beside_the_finished_training(page: TrainPage, qtbot: QtBot) -> None:
    page.state.event_arrived.connect(page.on_event)
    page.state.begin()
    for event in control_events(60):
        page.state.receive(event)
    page.state.receive(stamped(Metric("lora_1_loss", 3, 9.9), "train"))
    settled(qtbot, page.cockpit)
    curves = page.cockpit.loss.curves
    assert {name: len(curves[name].series) for name in ("lora", "fixed", "lora held-out", "fixed held-out")} == {
        "lora": 60, "fixed": 60, "lora held-out": 3, "fixed held-out": 3,
    }  # fmt: skip
    assert len(curves["raw"].series) == 80, "the training's own curve stays while its controls run"
    assert page.cockpit.figures["step"].value.text() == "80"
    assert max(curve.series.high for curve in curves.values()) < 9, "only the plan's own data order is drawn"
    legend = page.cockpit.loss._legend.text().replace("\u2060", "").replace("\u00a0", " ")
    assert "without gate" in legend and "gate open from the start" in legend
    looks = {(curve.colour(LIGHT), curve.style) for curve in (curves["smooth"], curves["lora"], curves["fixed"])}
    assert len({colour for colour, _ in looks}) == len({style for _, style in looks}) == 3
    assert "control: gate open from the start" in page.progress_text.text()


def test_the_time_left_of_a_control_is_its_own(page: TrainPage, qtbot: QtBot) -> None:
    cockpit = page.cockpit
    cockpit.on_event(StepStarted(resumed=True, at=1000.0, stage="train"))
    for step in range(1, 6):
        cockpit.on_event(Progress(76 + step, 400, "steps", at=1000.0 + step, stage="train"))
    for step in range(1, 21):
        told = Progress(step, 80, "steps", "control: LoRA without gate", at=1010.0 + step * 10, stage="train")
        cockpit.on_event(told)
    settled(qtbot, cockpit)
    assert cockpit.figures["time"].remark.text() == "about 10 minutes left"
    assert cockpit.figures["step"].value.text() == "81"


def test_a_learned_alpha_has_neither_schedule_nor_critical_point(qtbot: QtBot, tmp_path: Path) -> None:
    state = AppState()
    state.create(tmp_path / "run", changed(demo_plan(), {"soul.alpha": "learned"}))
    page = shown_page(state, qtbot)
    state.event_arrived.connect(page.on_event)
    state.receive(stamped(StepStarted(), "train"))
    for step in range(1, 30):
        state.receive(stamped(Metric("alpha", step, -5 + step / 100), "train"))
        state.receive(stamped(Metric("loss", step, 3.0), "train"))
    settled(qtbot, page.cockpit)
    plot = page.cockpit.alpha
    assert planned_phases(state.plan) == []
    assert not plot.marks and not len(plot.curves["planned"].series) and plot.levels[0].value is None
    assert len(plot.curves["alpha"].series) == 29
    low, high = plot.view.viewRange()[1]
    assert low < -5 < -4.71 < high
    assert page.cockpit.figures["alpha"].remark.text() == "learned"
    schedule = SchedulePage(state)
    qtbot.addWidget(schedule)
    schedule.plan_changed()
    assert "no schedule" in schedule.landmarks.text()
    state.change({"soul.alpha": "scheduled"})
    assert len(plot.marks) == 2 and plot.levels[0].value is not None
    assert "Critical point" in schedule.landmarks.text()


# ---- warnings


DIVERGED = warning("At step {step} the loss {loss} has risen {rise} nats.", step=9, loss="4.1", rise="0.7")


def test_a_warning_stands_on_the_page_while_it_runs_whichever_view_is_open(page: TrainPage, qtbot: QtBot) -> None:
    page.state.event_arrived.connect(page.on_event)
    page.state.begin()
    page.state.receive(stamped(StepStarted(), "train"))
    assert not page.warnings.isVisible()
    page.state.receive(stamped(note("Continuing from step {step}.", step=4), "train"))
    assert not page.warnings.isVisible()
    page.state.receive(stamped(DIVERGED, "train"))
    for view in (CURVES, SETTINGS, RESULT):
        page.tabs.show_view(view)
        assert page.warnings.isVisible() and "0.7 nats" in page.warnings.text()
    page.state.receive(stamped(StepStarted(resumed=True), "train"))
    assert page.warnings.isVisible()
    page.state.receive(stamped(StepStarted(), "train"))
    assert not page.warnings.isVisible()


def test_a_page_that_opens_later_shows_the_warnings_too(trained: AppState, qtbot: QtBot) -> None:
    trained.receive(stamped(DIVERGED, "train"))
    assert "0.7 nats" in shown_page(trained, qtbot).warnings.text()


def test_a_warning_is_never_taken_for_markup(trained: AppState, qtbot: QtBot) -> None:
    trained.receive(stamped(Log("warning", "<b>5 < 6</b>"), "train"))
    assert "&lt;b&gt;5 &lt; 6" in shown_page(trained, qtbot).warnings.text()


# ---- what came of it


def test_the_result_tells_memory_and_an_early_end(page: TrainPage, trained: AppState) -> None:
    assert trained.run is not None
    path = trained.run.step_folder("train") / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    known = {"steps_planned": 500, "steps_done": 340, "stopped_early": True, "peak_vram_bytes": 7.4e9,
             "peak_ram_bytes": None, "critical_step": None, "half_open_step": None}  # fmt: skip
    write_json(path, summary | known)
    page.retranslate()
    page.tabs.show_view(RESULT)
    said = texts(page.facts)
    assert "340 of 500 steps; stopped early" in said and "7.4 GB" in said and "none: alpha was learned" in said
    assert "Most memory\n" not in said, "what was not measured is no line"


def test_before_any_training_the_result_is_an_empty_state(qtbot: QtBot, tmp_path: Path) -> None:
    state = AppState()
    state.create(tmp_path / "run", demo_plan())
    page = shown_page(state, qtbot)
    page.tabs.show_view(RESULT)
    assert "Nothing yet" in texts(page)
    assert {row.outcome for row in page.comparison.rows.values()} == {"not_measured"}
    assert not page.comparison.button.isEnabled() and "Possible once this step is done" in page.comparison.cost.text()


@pytest.mark.parametrize("spoken", ["en", "ja"])
@pytest.mark.parametrize(
    ("verdict", "word", "role"),
    [("helped", "helped", "pass"), ("hurt", "hurt", "warn"), ("no_difference", "made no difference", "secondary")],
)
def test_a_verdict_is_a_word_with_its_difference_and_error(
    page: TrainPage, language: Language, spoken: str, verdict: str, word: str, role: str
) -> None:
    language.use(spoken)
    compared(page.state, control_row((verdict, "no_difference")))
    page.state.refresh()
    row = page.comparison.rows["gated_minus_lora"]
    assert row.word.text() == tr(word) and row.word.property("role") == role
    size = {"helped": "−0.0123", "hurt": "+0.0208", "no_difference": "+0.0004"}[verdict]
    assert f"{size} ± 0.0031" in row.detail.text() and "2,032" in row.detail.text()
    page.tabs.show_view(RESULT)
    assert "2.9614 ± 0.0211" in texts(page.comparison)


def test_an_error_too_small_for_four_decimals_is_not_shown_as_zero(page: TrainPage) -> None:
    row = control_row()
    row["paired"]["gated_minus_lora"] |= {"nats": -0.00012, "standard_error": 0.0000213}
    compared(page.state, row)
    page.state.refresh()
    assert page.comparison.rows["gated_minus_lora"].detail.text().startswith("−0.000120 ± 0.000021 nats")


OBSERVED = dict(
    outcome="observed", reason="", n_orders=4, n_agreeing=3, step=312, tolerance=25,
    sizes={"lora": -0.021, "fixed": -0.018},
)  # fmt: skip


@pytest.mark.parametrize(
    ("transition", "word", "said"),
    [
        (OBSERVED, "observed", "At step 312 (± 25), against both comparisons in 3 of 4 data orders: −0.0210 nats"),
        (dict(outcome="not_observed", reason="", n_orders=4, n_agreeing=1), "not observed", "In 1 of 4 data orders"),
        (dict(reason="no_control"), "not measured", "It takes both comparisons."),
        (dict(reason="too_few_orders"), "not measured", "It takes at least 3 data orders; 1 could be compared."),
        (dict(reason="too_few_steps"), "not measured", "It takes at least 40 steps."),
        (dict(reason="zero_variance"), "not measured", "differ by no more than rounding"),
        (dict(reason="not_finite"), "not measured", "A loss is not a finite number."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_transition_is_told_with_its_reason(
    page: TrainPage, transition: dict[str, Any], word: str, said: str
) -> None:
    compared(page.state, control_row(**transition))
    page.state.refresh()
    row = page.comparison.rows["transition"]
    assert row.word.text() == word and said in row.detail.text()


def test_not_measured_and_not_observed_are_calm(page: TrainPage) -> None:
    compared(page.state, control_row(("no_difference", "hurt"), outcome="not_observed", n_orders=4, n_agreeing=0))
    page.set_theme(DARK)
    roles = {label.property("role") for label in page.comparison.findChildren(QLabel)}
    assert not roles & {"fail", "error"}
    assert page.comparison.rows["transition"].word.property("role") == "secondary"


def test_a_damaged_control_json_counts_as_none(page: TrainPage) -> None:
    assert page.state.run is not None
    (page.state.run.step_folder("train") / "control.json").write_text('{"paired": [', encoding="utf-8")
    page.state.refresh()
    assert {row.outcome for row in page.comparison.rows.values()} == {"not_measured"}


def test_the_button_asks_for_both_controls_and_a_run_of_this_step(page: TrainPage, qtbot: QtBot) -> None:
    assert page.comparison.button.isEnabled()
    assert "Trainings to be added: 2, together about 11 min." in page.comparison.cost.text()
    with qtbot.waitSignal(page.mend_requested) as asked:
        page.comparison.button.click()
    assert asked.args == ["train", BOTH]
    page.state.change(BOTH)
    assert page.status == "stale" and page.comparison.button.isEnabled(), "the training itself still holds"
    assert page.notice.text().startswith("The settings ask for more: LoRA without gate, Gate open from the start.")
    assert page.notice.property("role") == "secondary"
    page.state.change({"train.learning_rate": 1e-5})
    assert "outdated" in page.notice.text() and page.notice.property("role") == "warn"


def test_the_button_waits_while_something_runs_and_rests_when_all_is_compared(page: TrainPage) -> None:
    button = page.comparison.button
    page.state.begin()
    assert not button.isEnabled() and "nothing is running" in page.comparison.cost.text()
    page.state.end()
    assert button.isEnabled()
    compared(page.state, control_row())
    page.state.refresh()
    assert not button.isEnabled() and "More data orders" in page.comparison.cost.text()
    page.state.change({"control.orders": 3})
    assert button.isEnabled() and "Trainings to be added: 6" in page.comparison.cost.text()


def test_a_comparison_that_was_stopped_can_go_on(page: TrainPage) -> None:
    assert page.state.run is not None
    folder = page.state.run.step_folder("train")
    (folder / "done.json").unlink()  # as the pipeline does when it begins to add
    page.state.refresh()
    assert not page.comparison.button.isEnabled(), "a training without its adapter is not whole"
    (folder / "adapter").mkdir(exist_ok=True)
    write_json(folder / "adapter" / "adapter_config.json", {})
    page.state.refresh()
    assert page.comparison.button.isEnabled()


def test_an_outdated_training_is_not_compared(page: TrainPage) -> None:
    page.state.change({"train.learning_rate": 1e-5})
    assert not page.comparison.button.isEnabled()


def test_the_comparison_follows_the_end_of_the_step(trained: AppState, qtbot: QtBot) -> None:
    made = Comparison(trained)
    qtbot.addWidget(made)
    trained.begin()
    compared(trained, control_row())
    trained.receive(stamped(StepFinished(3.0), "train"))
    assert made.rows["gated_minus_lora"].outcome == "helped"


def test_the_recorded_run_is_whole(trained: AppState) -> None:
    """What the tests above stand on."""
    assert isinstance(trained.run, RunDirectory)
    assert trained.status("train") == "done"
    assert sum(isinstance(event, Metric) and event.name == "loss" for event in recorded_events("train")) == 80
