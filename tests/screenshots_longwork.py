"""Pictures of long work: the banner of a run that broke off, the questions, the settings, the tray's menu and icon.

`shoot` is called by tests.screenshots; `python -m tests.screenshots_longwork OUT` alone.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

from album import snap
from fake_desktop import FakeDesktop
from gui_parts import open_window, recorded_events, recorded_run, stamped
from long_work_parts import question
from PySide6.QtCore import QPoint, QRect, QSize
from PySide6.QtGui import QColor, QPainter, QPixmap
from PySide6.QtWidgets import QApplication, QWidget

from aegis_core import events
from aegis_core.plan import demo_plan
from aegis_core.run_directory import BEGUN, RunDirectory, write_json
from aegis_gui.i18n import LANGUAGES
from aegis_gui.runner import Runner, Stopping
from aegis_gui.standing import Kind, Standing
from aegis_gui.theme import THEMES
from aegis_gui.tray import picture as tray_picture
from aegis_gui.window import Window

SIZE = QSize(1280, 800)
SETTLING_SECONDS = 0.4


def shoot(out: Path, folder: Path) -> list[Path]:
    """Every picture, from a window of its own whose runs lie in `folder`."""
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    desk = FakeDesktop(tray=True)
    found: list[Path] = []
    with open_window(app, desk) as window:
        window.machine.shut_down()
        window.resize(SIZE)
        run = _broken_off(folder / "ritual 儀式")
        for language in LANGUAGES:
            for theme in THEMES:
                window._use_language(language)
                window._use_theme(theme)
                name = f"{language}-{theme}"
                window.state.open(run.path)
                window.show_page("train")
                found.append(_save(window, out / f"longwork-banner-{name}.png"))
                with _as_if_running(window, run):
                    for tray, words in ((True, "closing"), (False, "closing_without_tray")):
                        desk.tray = tray
                        window.farewell.may_close()
                        found.append(_question(window, out / f"longwork-{words}-{name}.png"))
                    desk.tray = True
                    window.farewell.ask_to_stop()
                    found.append(_question(window, out / f"longwork-stopping-{name}.png"))
                    window.runner._set(Stopping.OVERDUE)
                    window.farewell.leaving = True
                    window._show_flow()
                    window.farewell.ask_to_stop()
                    found.append(_question(window, out / f"longwork-overdue-{name}.png"))
                    window.farewell.leaving = False
                    window.runner._set(Stopping.NO)
                    found.append(_menu(window, out / f"longwork-menu-{name}.png"))
                window.sheets.show_settings()
                assert window.sheets.settings is not None
                found.append(_save(window.sheets.settings, out / f"longwork-settings-{name}.png"))
                window.sheets.settings.hide()
    return found


def _broken_off(path: Path) -> RunDirectory:
    """The recorded run with a training that broke off at its fiftieth step."""
    run = recorded_run(path, demo_plan(), last="schedule")
    from aegis_core import freshness

    step, plan = freshness.BY_ID["train"], run.plan()
    run.step_folder("train").mkdir()
    settings = {"settings": freshness.settings_of(plan, step), "inputs": freshness.input_digests(run, plan, step)}
    write_json(run.step_folder("train") / BEGUN, settings)
    with run.events_path.open("a", encoding="utf-8") as file:
        for event in recorded_events("train"):
            file.write(events.encode(event) + "\n")
            if isinstance(event, events.Progress) and event.unit == "steps" and event.done == 50:
                break
    return run


@contextmanager
def _as_if_running(window: Window, run: RunDirectory) -> Iterator[None]:
    """No engine works, but the window believes it."""
    real = Runner.running
    Runner.running = property(lambda self: True)  # type: ignore[assignment,method-assign]
    window.banner.hide()
    window.state.begin()
    window.state.receive(stamped(events.StepStarted(resumed=True), "train"))
    window.runner.several = True
    try:
        yield
    finally:
        Runner.running = real  # type: ignore[method-assign]
        window.state.end()


def _question(window: Window, path: Path) -> Path:
    """The window with the question where the system would put it."""
    box = question(window)
    assert box is not None
    _settle()
    snap(box, path)
    shot = window.grab()
    painter = QPainter(shot)
    place = QRect(QPoint(0, 0), box.size())
    place.moveCenter(shot.rect().center())
    painter.fillRect(shot.rect(), QColor(0, 0, 0, 60))
    box.render(painter, place.topLeft())
    painter.end()
    shot.save(str(path))
    box.reject()
    _settle()
    return path


def _menu(window: Window, path: Path) -> Path:
    """The tray's menu, and above it the icon in every state as a dark and a light taskbar shows it."""
    tray = window.long_work.tray
    tray.show_standing(Standing(Kind.WORKING, "train", 0.46), "ritual 儀式", True)
    menu = tray.menu
    menu.ensurePolished()
    menu.resize(menu.sizeHint())
    shot = QPixmap(max(menu.width(), 320) + 40, menu.height() + 130)
    shot.fill(QColor("#F3F3F3"))
    painter = QPainter(shot)
    painter.fillRect(0, 0, shot.width(), 40, QColor("#202020"))
    for place, kind in enumerate(Kind):
        for row in (12, 52):
            painter.drawPixmap(20 + place * 40, row, tray_picture(kind).pixmap(16, 16))
    menu.render(painter, QPoint(20, 100))
    painter.end()
    shot.save(str(path))
    return path


def _save(widget: QWidget, path: Path) -> Path:
    _settle()
    return snap(widget, path)


def _settle() -> None:
    until = time.monotonic() + SETTLING_SECONDS
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.02)


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AEGIS_PREFERENCES"] = str(Path(scratch) / "window.ini")
        os.environ["AEGIS_RUNS"] = str(Path(scratch) / "AEGIS")
        found = shoot(out, Path(scratch) / "AEGIS")
    sys.stdout.write(f"{len(found)} pictures in {out}\n")


if __name__ == "__main__":
    main()
