"""A window whose engine is the real one with tiny steps in place of the nine (tiny_engine.py): no model is loaded."""

import json
import sys
from pathlib import Path

import pytest
from PySide6.QtWidgets import QMessageBox, QPushButton

from aegis_core.plan import Plan
from aegis_gui.window import Window

ENGINE = Path(__file__).parent / "tiny_engine.py"


def use_tiny_engine(monkeypatch: pytest.MonkeyPatch, **steps: str) -> None:
    """From now on the window starts this engine; a step that is not named just leaves one file."""
    monkeypatch.setenv("TINY_STEPS", json.dumps(steps))
    monkeypatch.setattr(
        "aegis_gui.runner.engine_command", lambda *arguments: [sys.executable, str(ENGINE), *map(str, arguments)]
    )


def own_places(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nothing of the person's own is read or written."""
    monkeypatch.setenv("AEGIS_PREFERENCES", str(folder / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(folder / "runs 実行"))
    monkeypatch.setenv("AEGIS_CACHE", str(folder / "cache"))
    monkeypatch.setenv("LANG", "C")


def new_run(window: Window, folder: Path) -> Window:
    window.state.create(folder / "ri tual 長い", Plan())
    return window


def question(window: Window) -> QMessageBox | None:
    return next((box for box in window.findChildren(QMessageBox) if box.isVisible()), None)


def press(window: Window, words: str) -> None:
    """Click the button with these words in the question that stands there."""
    box = question(window)
    assert box is not None, "nothing is asked"
    button = next(button for button in box.findChildren(QPushButton) if button.text() == words)
    button.click()


def choices(window: Window) -> list[str]:
    box = question(window)
    return [] if box is None else [button.text() for button in box.buttons()]
