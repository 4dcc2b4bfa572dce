"""`python -m tests.screenshots_engine OUT`: where the frozen window's engine is set up, in every state, as PNG.

The window is frozen in pretence only; machine, progress and failure are invented, nothing is fetched.
"""

import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

from album import snap, verdict
from gui_parts import open_window
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication, QWidget

from aegis_core import __version__, hardware
from aegis_core.engine.making import Progress, Stage
from aegis_core.engine.parts import this_parts
from aegis_core.engine.place import Marker
from aegis_core.engine.room import Need
from aegis_core.engine.torch_build import CPU, CUDA
from aegis_core.failures import UserError, explain
from aegis_gui import engine_sheet
from aegis_gui.engine_setup import EngineSetup
from aegis_gui.i18n import LANGUAGES
from aegis_gui.theme import THEMES
from aegis_gui.window import Window

CARD = hardware.Gpu("NVIDIA GeForce RTX 3060", "581.42", "13.0", 12_000_000_000, 0, 0, 0.0, 40.0, 20.0)
SETTLING_SECONDS = 0.3


def shoot(out: Path) -> list[Path]:
    """Every state in both languages and themes."""
    out.mkdir(parents=True, exist_ok=True)
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    made: list[Path] = []
    with tempfile.TemporaryDirectory() as scratch, frozen(Path(scratch)), open_window(app) as window:
        window.machine.shut_down()
        window.resize(QSize(1280, 800))
        window.sheets.show_engine()
        for name, reach in STATES.items():
            for language in LANGUAGES:
                for theme in THEMES:
                    window._use_language(language)
                    window._use_theme(theme)
                    QApplication.processEvents()  # the switch is over before anything is invented
                    target = reach(window)
                    _settle(target)
                    made.append(snap(target, out / f"engine-{name}-{language}-{theme}.png"))
        _end(window)
    return made


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """A pretended frozen window on a machine with a card and room, its engine in this folder."""
    names = {"AEGIS_ENGINE": str(folder / "AppData" / "Local" / "aegis" / "engine")}
    names |= {"AEGIS_PREFERENCES": str(folder / "window.ini"), "AEGIS_RUNS": str(folder), "AEGIS_DATA": str(folder)}
    wanted = Need(CUDA[0], 3_200_000_000, 9_800_000_000, 212_000_000_000)
    with (
        patch.dict(os.environ, names),
        patch.object(sys, "frozen", True, create=True),
        patch.object(engine_sheet, "need", lambda *_: wanted),
        patch.object(engine_sheet, "gpu", lambda: CARD),
    ):
        yield


def _sheet(window: Window) -> QWidget:
    sheet = window.sheets.engine
    assert sheet is not None
    sheet.refresh()
    return sheet


def _setup(window: Window) -> EngineSetup:
    assert window.engine is not None
    return window.engine


def _absent(window: Window) -> QWidget:
    return _sheet(window)


def _no_card(window: Window) -> QWidget:
    wanted = Need(CPU, 400_000_000, 2_100_000_000, 1_200_000_000)
    with patch.object(engine_sheet, "need", lambda *_: wanted), patch.object(engine_sheet, "gpu", lambda: None):
        return _sheet(window)


def _silent_card(window: Window) -> QWidget:
    with patch.object(engine_sheet, "gpu", lambda: None):
        return _sheet(window)


def _chosen_processor(window: Window) -> QWidget:
    wanted = Need(CPU, 400_000_000, 2_100_000_000, 212_000_000_000)
    level = hardware.CudaCard((13, 0), (8, 6))
    with (
        patch.object(engine_sheet, "need", lambda *_: wanted),
        patch.object(engine_sheet, "cuda_card", lambda: level),
    ):
        return _sheet(window)


def _busy(window: Window, progress: Progress) -> QWidget:
    setup = _setup(window)
    now = time.monotonic()
    setup._attempt = setup._attempt or _Pretended(setup)
    setup.progress = progress
    setup._pace = deque([(now - 10, progress.done_bytes - 52_000_000), (now, progress.done_bytes)])
    return _sheet(window)


def _fetching(window: Window) -> QWidget:
    return _busy(window, Progress(Stage.FETCH, 1_240_000_000, 3_180_000_000))


def _unpacking(window: Window) -> QWidget:
    return _busy(window, Progress(Stage.INSTALL))


def _failed(window: Window) -> QWidget:
    _end(window)
    setup = _setup(window)
    setup.place.environment.mkdir(parents=True, exist_ok=True)
    setup.failure = explain(
        UserError(
            "{file} could not be fetched: {problem}",
            "Check the internet connection or the proxy and try again; what was fetched is kept.",
            file="torch-2.13.0+cu130-cp311-cp311-win_amd64.whl",
            problem="timed out",
        )
    )
    return _sheet(window)


def _outdated(window: Window) -> QWidget:
    setup = _setup(window)
    setup.failure = None
    setup.place.write_marker(Marker("0.0.9", "0" * 64, "2.13.0+cu130", "cu130", "3.11"))
    return _sheet(window)


def _ready(window: Window) -> QWidget:
    setup = _setup(window)
    setup.place.python.parent.mkdir(parents=True, exist_ok=True)
    setup.place.python.touch()
    setup.place.write_marker(Marker(__version__, this_parts().sha256, "2.13.0+cu130", "cu130", "3.11"))
    return _sheet(window)


def _settings(window: Window) -> QWidget:
    window.sheets.show_settings()
    assert window.sheets.settings is not None
    return window.sheets.settings


STATES: dict[str, Callable[[Window], QWidget]] = {
    "absent": _absent,
    "no-card": _no_card,
    "silent-card": _silent_card,
    "chosen-processor": _chosen_processor,
    "fetching": _fetching,
    "unpacking": _unpacking,
    "failed": _failed,
    "outdated": _outdated,
    "ready": _ready,
    "settings": _settings,
}


class _Pretended:
    """An attempt that does nothing."""

    def __init__(self, setup: EngineSetup) -> None:
        self._setup = setup

    def wait(self) -> None:
        pass


def _end(window: Window) -> None:
    _setup(window)._attempt = None


def _settle(target: QWidget) -> None:
    until = time.monotonic() + SETTLING_SECONDS
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    shoot(folder)
    sys.exit(verdict(folder))
