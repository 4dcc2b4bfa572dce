"""`python -m tests.screenshots_hub_token OUT`: where the hub's token is entered, and its row in the settings, as PNG.

What the engine said is invented; nothing is asked.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

from album import snap, verdict
from gui_parts import open_window, recorded_run, stamped
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication, QWidget

from aegis_core import events
from aegis_core.failures import UserError, explain
from aegis_gui.hub_token import Task
from aegis_gui.i18n import LANGUAGES
from aegis_gui.theme import THEMES
from aegis_gui.window import Window

SETTLING_SECONDS = 0.3
FOUND = "Qwen/Qwen3-4B asks for a token, and none is set"
FIX = "Make a token on the hub's page, then enter it in the settings, or write aegis hub login in a terminal."


def shoot(out: Path) -> list[Path]:
    """Every state in both languages and themes."""
    out.mkdir(parents=True, exist_ok=True)
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    made: list[Path] = []
    with tempfile.TemporaryDirectory() as scratch, _apart(Path(scratch)), open_window(app) as window:
        window.machine.shut_down()
        window.resize(QSize(1280, 800))
        window.state.open(recorded_run(Path(scratch) / "run").path)
        for name, reach in STATES.items():
            for language in LANGUAGES:
                for theme in THEMES:
                    window._use_language(language)
                    window._use_theme(theme)
                    QApplication.processEvents()
                    target = reach(window)
                    _settle()
                    made.append(snap(target, out / f"hub-token-{name}-{language}-{theme}.png"))
    return made


def _apart(folder: Path) -> AbstractContextManager[object]:
    return patch.dict(os.environ, {"AEGIS_PREFERENCES": str(folder / "window.ini"), "AEGIS_DATA": str(folder)})


def _sheet(window: Window) -> QWidget:
    window.sheets.show_token()
    assert window.sheets.token is not None
    return window.sheets.token


def _said(window: Window, **state: object) -> None:
    """As if the engine had answered so."""
    token = window.hub_token
    token.shut_down()
    new = {"task": None, "failed": None, "failure": None, "known": True, "kept": False, "variable": "", "account": ""}
    vars(token).update(new | state)
    token.changed.emit()


def _empty(window: Window) -> QWidget:
    sheet = _sheet(window)
    _said(window)
    return sheet


def _asking(window: Window) -> QWidget:
    sheet = _sheet(window)
    window.sheets.token.field.setText("hf_" + "x" * 34)  # type: ignore[union-attr]
    _said(window, task=Task.KEEP)
    return sheet


def _refused(window: Window) -> QWidget:
    sheet = _sheet(window)
    advice = "Copy it once more from the hub's page, whole, or make a new one there."
    _said(window, failed=Task.KEEP, failure=explain(UserError("The hub does not accept this token.", advice)))
    return sheet


def _kept(window: Window) -> QWidget:
    sheet = _sheet(window)
    _said(window, kept=True, account="kenkyuusha", variable="HF_TOKEN")
    return sheet


def _settings(window: Window) -> QWidget:
    if window.sheets.token:
        window.sheets.token.close()
    window.sheets.show_settings()
    _said(window, kept=True)
    assert window.sheets.settings is not None
    return window.sheets.settings


def _both(window: Window) -> QWidget:
    sheet = _settings(window)
    _said(window, kept=True, variable="HF_TOKEN")
    return sheet


def _check(window: Window) -> QWidget:
    if window.sheets.settings:
        window.sheets.settings.close()
    window.show_page("check")
    window.state.begin()
    window.state.receive(stamped(events.StepStarted(), "check"))
    window.state.receive(stamped(events.CheckRow("model hub", "warning", FOUND, FIX, "hub_token"), "check"))
    window.state.end()
    return window


STATES: dict[str, Callable[[Window], QWidget]] = {
    "empty": _empty,
    "asking": _asking,
    "refused": _refused,
    "kept": _kept,
    "settings": _settings,
    "settings-both": _both,
    "check": _check,
}


def _settle() -> None:
    until = time.monotonic() + SETTLING_SECONDS
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    shoot(folder)
    sys.exit(verdict(folder))
