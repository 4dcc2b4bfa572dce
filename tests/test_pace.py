"""How long a step will take here: measured before, in proportion to its work, or not said."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aegis_core import pace
from aegis_core.cancel import CancelToken
from aegis_core.cli import app
from aegis_core.events import Event, Log, StepFinished
from aegis_core.pipeline import run_steps, selection
from aegis_core.plan import Plan, changed
from aegis_core.resources import data_folder
from aegis_core.run_directory import RunDirectory


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_DATA", str(tmp_path / "data 記録"))


def test_nothing_is_said_of_what_was_never_measured(run: RunDirectory) -> None:
    assert pace.expected(run, run.plan(), "train") is None


def test_the_same_work_with_the_same_model_takes_as_long_again(run: RunDirectory) -> None:
    pace.remember(run, run.plan(), "train", 120.0)
    found = pace.expected(run, run.plan(), "train")
    assert found is not None and found.seconds == pytest.approx(120.0) and found.alike


def test_twice_the_steps_take_twice_as_long_and_control_runs_as_long_again(run: RunDirectory) -> None:
    plan = run.plan()
    pace.remember(run, plan, "train", 100.0)
    longer = pace.expected(run, changed(plan, {"train.steps": 8}), "train")
    controlled = pace.expected(run, changed(plan, {"control.lora": True}), "train")
    assert longer is not None and longer.seconds == pytest.approx(200.0) and not longer.alike
    assert controlled is not None and controlled.seconds == pytest.approx(200.0)


def test_six_steps_say_nothing_of_five_hundred(run: RunDirectory) -> None:
    """What is the same for six steps and for five hundred, loading and measuring, would be taken a hundred times."""
    plan = run.plan()
    pace.remember(run, plan, "train", 100.0)
    assert pace.expected(run, changed(plan, {"train.steps": 500}), "train") is None


def test_the_same_model_counts_before_another_one_and_the_latest_before_an_older_one(run: RunDirectory) -> None:
    plan = run.plan()
    pace.remember(run, plan, "export", 50.0)
    pace.remember(run, plan, "export", 40.0)
    pace.remember(run, changed(plan, {"model.source": "demo"}), "export", 10.0)
    found = pace.expected(run, plan, "export")
    assert found is not None and found.seconds == pytest.approx(40.0)


def test_another_card_is_another_measurement_with_a_fake_device(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace.remember(run, run.plan(), "train", 60.0)
    monkeypatch.setattr(pace, "_device", lambda: "NVIDIA GeForce RTX 3060")
    assert pace.expected(run, run.plan(), "train") is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"train on 2 processors": [{"work": 1}]}', "\0\0"])
def test_a_damaged_record_is_no_measurement_and_is_begun_anew(run: RunDirectory, content: str) -> None:
    data_folder().mkdir(parents=True)
    (data_folder() / "pace.json").write_text(content, encoding="utf-8")
    assert pace.expected(run, run.plan(), "train") is None
    pace.remember(run, run.plan(), "train", 5.0)
    assert pace.expected(run, run.plan(), "train") is not None


def test_a_step_that_ran_through_is_remembered_and_the_terminal_says_so(run: RunDirectory) -> None:
    run_steps(run, selection(only="check"), lambda event: None, CancelToken())
    other = RunDirectory.create(run.path.parent / "another", run.plan())
    rows = json.loads(CliRunner().invoke(app, ["status", str(other.path), "--json"]).stdout)["steps"]
    assert rows[0]["id"] == "check" and rows[0]["seconds"] is None and rows[0]["expected_seconds"] > 0
    assert rows[4]["expected_seconds"] is None
    assert "about" in CliRunner().invoke(app, ["status", str(other.path)]).stdout


def test_a_record_that_cannot_be_written_does_not_fail_the_step(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("", encoding="utf-8")
    monkeypatch.setenv("AEGIS_DATA", str(tmp_path / "a file" / "below it"))
    told: list[Event] = []
    last = run_steps(run, selection(only="check"), told.append, CancelToken())
    assert isinstance(last, StepFinished)
    assert any(isinstance(event, Log) and "next time" in event.text for event in told)


def test_every_step_has_a_measure_of_its_work(run: RunDirectory) -> None:
    for step in selection():
        pace.remember(run, Plan(), step.id, 3.0)
        found = pace.expected(run, Plan(), step.id)
        assert found is not None and found.alike, step.id
