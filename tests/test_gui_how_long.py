"""What a page says of the time its step takes here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gui_parts import open_window, recorded_run
from PySide6.QtWidgets import QApplication

from aegis_core import pace
from aegis_core.plan import demo_plan
from aegis_core.run_directory import RunDirectory
from aegis_gui.window import Window


@pytest.fixture
def window(qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("AEGIS_DATA", str(tmp_path / "data"))
    with open_window(qapp) as window:
        yield window


def test_a_page_says_what_is_known_of_its_time_here(window: Window, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", demo_plan())
    window.state.open(run.path)
    lead = window.step_page("train").lead
    assert lead.text().endswith("How long it takes here is known after the first time.")
    assert "first time" not in window.step_page("check").lead.text(), "its page says that it takes seconds"
    pace.remember(run, run.plan(), "train", 754.0)
    window.state.change({"train.seed": 1})
    assert lead.text().endswith("It takes about 13\N{NO-BREAK SPACE}min here, as it did before.")
    window.state.change({"train.steps": 3 * run.plan().train.steps})
    assert lead.text().endswith("Judging by earlier runs, it takes about 38\N{NO-BREAK SPACE}min here.")
    assert "here" not in window.step_page("search").lead.text(), "a step that is switched off takes no time"


def test_a_page_of_a_finished_step_says_what_it_took(window: Window, tmp_path: Path) -> None:
    window.state.open(recorded_run(tmp_path / "run").path)
    lead = window.step_page("fuse").lead
    assert "It took" in lead.text()
    window.language.use("ja")
    QApplication.processEvents()
    assert "所要時間は" in lead.text()
