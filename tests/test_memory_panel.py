"""The memory panel of the training page, and the click that applies what a failure suggests."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gui_parts import BUSY_MACHINE, clipped, japanese, mark_done, open_window, stamped, texts
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from aegis_core import events
from aegis_core.failures import OUT_OF_MEMORY
from aegis_core.models import memory_parts
from aegis_core.models.identity import BaseModel, write_base
from aegis_core.models.memory import Capacity, forecast, record
from aegis_core.models.shape import read_shape
from aegis_core.plan import Plan, changed
from aegis_gui.flow import Status
from aegis_gui.memory_panel import SLICES, MemoryPanel
from aegis_gui.window import SMALLEST, Window

PHI = {
    "model_type": "phi3",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32064,
    "tie_word_embeddings": False,
}
RAM_ONLY = events.Telemetry(ram_total_bytes=16 * 10**9, ram_used_bytes=4 * 10**9, ram_own_bytes=10**9)
"""An invented reading of a machine without a card."""
FAILED = events.StepFailed(
    "",
    "",
    reason_template=OUT_OF_MEMORY,
    advice_template="With {settings} it should fit: about {need} of {room}.",
    values={"settings": "train.batch_size = 1", "need": "5.0 GB", "room": "12.0 GB"},
    changes={"train.batch_size": 1, "train.accumulation": 2, "train.gradient_checkpointing": "on"},
)


@pytest.fixture(autouse=True)
def with_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a GPU are those of a machine that has it."""
    monkeypatch.setattr(memory_parts, "has_bitsandbytes", lambda: True)


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module")
def memory_window(qapp: QApplication) -> Iterator[Window]:
    """A window whose machine is not read: the tests say what it has."""
    with open_window(qapp) as window:
        window.machine.shut_down()
        QApplication.processEvents()
        window.language.use("en")
        yield window
        window.language.use("en")


@pytest.fixture
def panel(memory_window: Window, tmp_path: Path) -> MemoryPanel:
    """The panel of a fresh run on a machine with a 12 GB card, nothing prepared."""
    memory_window.language.use("en")
    memory_window.state.create(tmp_path / "run 実行", Plan())
    memory_window.state.read_machine(BUSY_MACHINE)
    memory_window.show_page("train")
    return memory_window.pages["train"].memory  # type: ignore[attr-defined,no-any-return]


def prepare(window: Window, tmp_path: Path) -> None:
    """The files that the preparation of Phi-3.5-mini leaves, as far as the forecast reads them."""
    folder = tmp_path / "phi"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(PHI), encoding="utf-8")
    assert window.state.run is not None
    window.state.run.step_folder("prepare").mkdir(exist_ok=True)
    source = window.state.plan.model.source
    write_base(window.state.run, BaseModel(source, "", str(folder), "", "", "phi3", 1, 3072, 32064, False))
    window.state.refresh()


def test_before_the_model_is_prepared_nothing_is_claimed(panel: MemoryPanel) -> None:
    assert "Not known yet" in texts(panel)
    assert not panel.bar.isVisibleTo(panel) and not panel.word.isVisibleTo(panel)


def test_the_forecast_names_parts_verdict_and_the_chosen_cell(
    panel: MemoryPanel, memory_window: Window, tmp_path: Path
) -> None:
    prepare(memory_window, tmp_path)
    said = texts(panel)
    assert "Training 2 × 1024 tokens should take" in said and "12.0 GB graphics memory" in said
    assert panel.word.text() == "fits" and not panel.icon.pixmap().isNull()
    for piece in SLICES:
        assert piece.name in said
    chosen = [cell for cell in _cells(panel) if cell.endswith(", chosen")]
    assert len(chosen) == 1 and chosen[0].startswith("2 × 1024 tokens:")
    assert {"fits", "too large"} <= {cell.split(", ")[1] for cell in _cells(panel)}


def test_it_follows_the_plan_and_a_measured_step(panel: MemoryPanel, memory_window: Window, tmp_path: Path) -> None:
    prepare(memory_window, tmp_path)
    memory_window.state.change({"train.batch_size": 8, "data.sequence_length": 4096})
    assert panel.word.text() == "too large"
    assert "Computed from" in texts(panel)
    assert memory_window.state.run is not None
    folder = memory_window.state.run.step_folder("train")
    folder.mkdir()
    expected = forecast(read_shape(tmp_path / "phi"), memory_window.state.plan, device="cuda")
    record(folder, expected, 6 * 10**9, Capacity("cuda", 12 * 10**9))
    memory_window.state.refresh()
    assert "Corrected by a measured training step." in texts(panel)
    assert panel.word.text() == "fits"
    memory_window.state.change({"model.source": "another/model"})
    assert "Not known yet" in texts(panel)


def test_a_machine_without_a_card_speaks_of_its_ram(panel: MemoryPanel, memory_window: Window, tmp_path: Path) -> None:
    memory_window.state.read_machine(RAM_ONLY)
    prepare(memory_window, tmp_path)
    assert "of this machine's 16.0 GB RAM" in texts(panel)
    assert panel.word.text() == "too large"  # 15.3 GB of weights in float32 alone


def test_while_a_step_runs_the_panel_stands_still(panel: MemoryPanel, memory_window: Window, tmp_path: Path) -> None:
    prepare(memory_window, tmp_path)
    before = texts(panel)
    memory_window.state.begin()
    memory_window.state.read_machine(RAM_ONLY)
    assert texts(panel) == before
    memory_window.state.end()


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_has_room_and_is_translated(
    panel: MemoryPanel, memory_window: Window, tmp_path: Path, language: str, theme: str
) -> None:
    prepare(memory_window, tmp_path)
    memory_window.appearance.use(theme)
    memory_window.language.use(language)
    memory_window.resize(*SMALLEST)
    for _ in range(5):  # a new width moves line breaks, and those move heights
        QApplication.processEvents()
    assert clipped(panel) == []
    if language == "ja":
        assert japanese()["fits"] in texts(panel)
        assert "Training" not in texts(panel) and "tokens" not in " ".join(_cells(panel))
    memory_window.language.use("en")


def test_one_click_or_key_applies_the_settings_of_a_failure_and_runs_up_to_the_step(
    panel: MemoryPanel, memory_window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(memory_window.runner, "start", lambda arguments: started.append(tuple(arguments)))
    _fail(memory_window, FAILED)
    box = memory_window.pages["train"].failure
    assert box.isVisibleTo(memory_window) and box.mend.text() == "Apply and run again"
    assert "With Batch size 1, Gradient accumulation 2, Gradient checkpointing On it should fit" in box.advice.text()
    box.mend.setFocus()
    assert box.mend.focusPolicy() & Qt.FocusPolicy.TabFocus
    qtbot.keyClick(box.mend, Qt.Key.Key_Space)
    assert started == [("--to", "train")]
    plan = memory_window.state.plan
    assert (plan.train.batch_size, plan.train.accumulation, plan.train.gradient_checkpointing) == (1, 2, "on")
    assert memory_window.state.run is not None and memory_window.state.run.plan() == plan


def test_a_failure_without_settings_has_one_button(panel: MemoryPanel, memory_window: Window) -> None:
    _fail(memory_window, events.StepFailed("The disk is full.", "Free some space."))
    box = memory_window.pages["train"].failure
    assert box.button.isVisibleTo(memory_window) and not box.mend.isVisibleTo(memory_window)


def _fail(window: Window, failed: events.StepFailed) -> None:
    run = window.state.run
    assert run is not None
    for step in ("check", "prepare"):
        mark_done(run, window.state.plan, step)
    window.state.begin()
    window.state.receive(stamped(events.StepStarted(), "train"))
    window.state.receive(stamped(failed, "train"))
    window.state.end()
    assert window.state.status("train") is Status.FAILED


def _cells(panel: MemoryPanel) -> list[str]:
    widgets = (panel.grid.itemAt(index).widget() for index in range(panel.grid.count()))
    return [widget.accessibleName() for widget in widgets if widget and widget.accessibleName()]


def test_the_note_of_changed_settings_is_in_the_windows_language(panel: MemoryPanel, memory_window: Window) -> None:
    memory_window.language.use("ja")
    _fail(memory_window, FAILED)
    shown = memory_window.pages["train"].failure.advice.text()
    memory_window.language.use("en")
    assert "train.batch_size" not in shown and "、" in shown and "収まる" in shown
    assert changed(Plan(), FAILED.changes)
