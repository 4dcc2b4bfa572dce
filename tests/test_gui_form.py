"""Forms made from the plan: what may be entered, what is refused and how, what is written."""

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from aegis_core import plan as plans
from aegis_core.plan import Plan
from aegis_core.run_directory import RunDirectory
from aegis_gui.controls import Choice, Choices, Number, Numbers, Place, Switch, plain
from aegis_gui.form import Form
from aegis_gui.plan_fields import all_names, plan_field
from aegis_gui.state import AppState


@pytest.fixture
def state(tmp_path: Path, qapp: object) -> AppState:
    state = AppState()
    state.create(tmp_path / "ri tual 日本語", Plan())
    return state


def form(qtbot: QtBot, state: AppState, *names: str) -> Form:
    made = Form(state, names)
    qtbot.addWidget(made)
    made.show()
    return made


def typed(qtbot: QtBot, made: Form, name: str, text: str) -> None:
    line = made.rows[name].control.line
    line.setFocus()
    line.selectAll()
    qtbot.keyClicks(line, text)


def test_every_setting_of_the_plan_has_a_control_that_gives_its_value_back(qtbot: QtBot, state: AppState) -> None:
    made = form(qtbot, state, *all_names())
    for name, row in made.rows.items():
        value = row.control.value()
        assert plans.get(plans.changed(Plan(), {name: value}), name) == plans.get(Plan(), name), name
        assert row.label.text()
        assert row.help.text()


def test_the_type_decides_the_widget(qtbot: QtBot, state: AppState) -> None:
    names = {
        "soul.calibrate": Switch,
        "soul.schedule.kind": Choice,
        "export.types": Choices,
        "train.learning_rate": Number,
        "search.batch_sizes": Numbers,
        "model.source": Place,
    }
    made = form(qtbot, state, *names)
    assert {name: type(row.control) for name, row in made.rows.items()} == names


def test_a_finished_edit_is_in_plan_json(qtbot: QtBot, state: AppState) -> None:
    made = form(qtbot, state, "train.learning_rate", "train.steps")
    typed(qtbot, made, "train.learning_rate", "3e-4")
    qtbot.keyClick(made.rows["train.learning_rate"].control.line, Qt.Key.Key_Return)
    assert state.run is not None
    assert RunDirectory(state.run.path).plan().train.learning_rate == 3e-4


def test_a_value_with_more_digits_than_are_shown_stays_what_it_is(qtbot: QtBot, state: AppState) -> None:
    """A search finds such values; leaving the page must not round them."""
    exact = 0.00083113036921281723
    state.change({"train.learning_rate": exact})
    made = form(qtbot, state, "train.learning_rate")
    line = made.rows["train.learning_rate"].control.line
    assert len(line.text()) < 15
    line.setFocus()
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert made.settle() and state.plan.train.learning_rate == exact
    typed(qtbot, made, "train.learning_rate", "8.3e-4")
    assert made.settle() and state.plan.train.learning_rate == 8.3e-4


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train.learning_rate", "2", "Must be above 0 and at most 1."),
        ("train.learning_rate", "0", "Must be above 0 and at most 1."),
        ("train.learning_rate", "abc", "Write a number"),
        ("train.learning_rate", "nan", "Write a number"),
        ("train.steps", "1", "Must be between 2 and 10,000,000."),
        ("train.steps", "2.5", "Write a whole number."),
        ("train.seed", "-1", "Must be at least 0."),
        ("lora.dropout", "1", "Must be at least 0 and below 1."),
        ("chat.model_name", "my model", "Letters, digits"),
        ("model.source", " ", "Must not be empty."),
        ("search.batch_sizes", "1, x", "Write whole numbers"),
    ],
)
def test_what_is_not_allowed_is_said_at_once_and_never_written(
    qtbot: QtBot, state: AppState, name: str, text: str, said: str
) -> None:
    made = form(qtbot, state, name)
    typed(qtbot, made, name, text)
    assert made.rows[name].help.text().startswith(said)
    assert not made.settle()
    assert plans.get(state.plan, name) == plans.get(Plan(), name)


def test_after_a_mistake_a_good_value_brings_the_help_back(qtbot: QtBot, state: AppState) -> None:
    made = form(qtbot, state, "train.steps")
    typed(qtbot, made, "train.steps", "1")
    typed(qtbot, made, "train.steps", "20")
    assert made.rows["train.steps"].help.text() == "Optimiser steps."
    assert made.settle()
    assert state.plan.train.steps == 20


def test_reset_is_offered_only_for_changed_settings_and_brings_the_default_back(qtbot: QtBot, state: AppState) -> None:
    made = form(qtbot, state, "train.steps", "train.seed")
    state.change({"train.steps": 7})
    assert not made.rows["train.steps"].reset.isHidden()
    assert made.rows["train.seed"].reset.isHidden()
    made.rows["train.steps"].reset.click()
    assert state.plan.train.steps == Plan().train.steps
    assert made.rows["train.steps"].reset.isHidden()


def test_the_last_file_type_cannot_be_taken_away(qtbot: QtBot, state: AppState) -> None:
    made = form(qtbot, state, "export.types")
    boxes = made.rows["export.types"].control.boxes
    boxes["f16"].click()
    assert state.plan.export.types == ("q4_k_m",)
    boxes["q4_k_m"].click()
    assert state.plan.export.types == ("q4_k_m",)
    assert made.rows["export.types"].help.text() == "Choose at least one."


def test_settings_cannot_change_while_a_step_runs(qtbot: QtBot, state: AppState) -> None:
    made = form(qtbot, state, "train.steps")
    state.begin()
    assert not made.rows["train.steps"].control.isEnabled()
    with pytest.raises(Exception, match="while a step is running"):
        state.change({"train.steps": 9})
    state.end()
    assert made.rows["train.steps"].control.isEnabled()


def test_advanced_settings_wait_under_a_fold_and_are_found_when_wrong(qtbot: QtBot, state: AppState) -> None:
    made = form(qtbot, state, "train.steps", "train.seed")
    assert not made.rows["train.seed"].control.isVisible()
    made.rows["train.seed"].control.line.setText("-4")
    assert not made.settle()
    assert made.rows["train.seed"].control.isVisible()


def test_arrow_keys_change_whole_numbers_by_one(qtbot: QtBot, state: AppState) -> None:
    made = form(qtbot, state, "lora.rank")
    line = made.rows["lora.rank"].control.line
    line.setFocus()
    qtbot.keyClick(made.rows["lora.rank"].control, Qt.Key.Key_Up)
    assert line.text() == "17"


@pytest.mark.parametrize(
    ("value", "shown"), [(2.7e-4, "2.7e-4"), (1e-6, "1e-6"), (0.05, "0.05"), (12.0, "12"), (-5.0, "-5")]
)
def test_numbers_are_shown_as_a_person_types_them(value: float, shown: str) -> None:
    assert plain(value) == shown
    assert float(shown) == value


def test_bounds_come_from_the_plan() -> None:
    rate = plan_field("train.learning_rate")
    assert (rate.low, rate.low_open, rate.high, rate.high_open) == (0, True, 1, False)
