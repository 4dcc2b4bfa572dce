"""The whole ritual clicked through in the window, on a real model of two layers, with the real engine."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gui_parts import open_window, texts
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory, read_json
from aegis_gui.flow import PAGES, Status
from aegis_gui.window import Window

ROOT = Path(__file__).parent.parent
STEP_MILLISECONDS = 240_000
SEARCHED = {"search.enabled": True, "search.n_trials": 4, "search.tokens_per_trial": 512}
FILES = (
    "check/check.json",
    "prepare/base.json",
    "prepare/train.safetensors",
    "train/adapter/adapter_model.safetensors",
    "train/soul.safetensors",
    "train/metrics.jsonl",
    "fuse/proof.json",
    "export/files.json",
    "chat/transcript.jsonl",
    "report.json",
    "report.html",
)


@pytest.fixture
def window(qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs"))
    with open_window(qapp) as window:
        window.language.use("en")
        yield window


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_clicking_through_every_page_gives_every_file(
    window: Window, qtbot: QtBot, tmp_path: Path, pico_plan: Plan
) -> None:
    plan = changed(pico_plan, {"chat.n_questions": 1, "chat.max_tokens": 16, "schedule.enabled": True} | SEARCHED)
    run = RunDirectory.create(tmp_path / "ri tual 儀式", plan)
    window.home.open_run(run.path)
    walked = []
    while window.page != PAGES[-1] or window.state.status(PAGES[-1]) is not Status.DONE:
        page, status = window.page, window.state.status(window.page)
        if status in (Status.DONE, Status.DISABLED):
            qtbot.mouseClick(window.footer.primary, Qt.MouseButton.LeftButton)
            continue
        assert status is Status.READY, (page, status, texts(window.pages[page]))
        with qtbot.waitSignal(window.runner.ended, timeout=STEP_MILLISECONDS):
            qtbot.mouseClick(window.footer.primary, Qt.MouseButton.LeftButton)
        assert window.page == page
        assert window.state.status(page) is Status.DONE, texts(window.pages[page])
        walked.append(page)
    assert walked == list(PAGES[1:])
    assert [name for name in FILES if not (run.path / name).is_file()] == []
    report = read_json(run.path / "report.json")
    assert report["indicators"]["training_completed"]["status"] == "pass"
    assert report["indicators"]["alpha_reached"]["status"] == "pass"
    assert report["indicators"]["fusion_equal"]["status"] == "pass"
    assert report["indicators"]["gguf_verified"]["status"] == "pass"
    assert "passed" in texts(window.pages["fuse"])
    assert window.state.plan.soul.schedule == RunDirectory(run.path).plan().soul.schedule
    other = in_the_terminal(tmp_path / "terminal", plan)
    assert weights_of(run) == weights_of(other)
    assert trials_of(run) == trials_of(other) and len(trials_of(run)) == SEARCHED["search.n_trials"]


def trials_of(run: RunDirectory) -> list[dict[str, object]]:
    """Everything about every trial but how long it took."""
    rows = read_json(run.step_folder("search") / "trials.json")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def in_the_terminal(folder: Path, plan: Plan) -> RunDirectory:
    """The same ritual without a window."""
    run = RunDirectory.create(folder, plan)
    command = [sys.executable, "-m", "aegis_core", "run", str(run.path), "--to", "export"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return run


def weights_of(run: RunDirectory) -> dict[str, str]:
    """The hash of everything that training, fusion and export made of the same plan."""
    outputs = [artifact for step in ("prepare", "train", "fuse", "export") for artifact in run.done(step).outputs]
    return {a.path: a.sha256 for a in outputs if a.path.endswith((".safetensors", ".gguf"))}
