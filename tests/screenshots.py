"""`python -m tests.screenshots OUT [RUN_DIR] [--small]`: every page and state in both languages and both themes, as
PNG and as contact sheets.

Without RUN_DIR the pages show the recorded ritual of the tests. Nothing needs a screen. --small is the smallest window;
QT_SCALE_FACTOR=2 doubles everything.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

import screenshots_chat
import screenshots_cockpit
import screenshots_engine
import screenshots_hub_token
import screenshots_longwork
from album import snap, verdict
from gui_parts import control_events, control_row, open_window, recorded_events, recorded_run, stamped
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QApplication, QScrollArea
from screenshots_home import shoot_home
from screenshots_ollama import shoot_panel
from screenshots_states import state_pictures
from screenshots_study import study_pictures

from aegis_core import events, hardware
from aegis_core.plan import demo_plan
from aegis_core.run_directory import write_json
from aegis_gui.flow import PAGES
from aegis_gui.form import Form
from aegis_gui.i18n import LANGUAGES
from aegis_gui.pages.train import RESULT, SETTINGS, TrainPage
from aegis_gui.theme import THEMES
from aegis_gui.window import SMALLEST, Window

SIZE = QSize(1280, 800)
SHEET_COLUMNS, SHEET_WIDTH = 2, 960
SETTLING_SECONDS = 0.3
OBSERVED = control_row(
    ("hurt", "no_difference"), outcome="observed", reason="", n_orders=4, n_agreeing=3, step=312, tolerance=25,
    sizes={"lora": 0.0212, "fixed": -0.0184},
)  # fmt: skip
DIVERGED = events.warning(
    "At step {step} the loss {loss} has risen {rise} nats above its lowest: the training diverges. "
    "Lower the learning rate.",
    step=61,
    loss="4.102",
    rise="0.713",
)


def shoot(out: Path, run_dir: Path | None = None, size: QSize = SIZE) -> list[Path]:
    """Write every picture; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AEGIS_PREFERENCES"] = str(Path(scratch) / "window.ini")
        os.environ["AEGIS_RUNS"] = str(Path(scratch) / "AEGIS")
        os.environ["AEGIS_DATA"] = str(Path(scratch) / "data")
        with open_window(app) as window:
            window.machine.shut_down()
            window.resize(size)
            pictures = _states(window, Path(scratch) / "AEGIS", run_dir, out)
            shoot_panel(out, window.language, window.appearance)
        pictures += screenshots_longwork.shoot(out, Path(scratch) / "AEGIS long")
    pictures += screenshots_chat.shoot(out)
    pictures += screenshots_engine.shoot(out)
    pictures += screenshots_hub_token.shoot(out)
    return [*pictures, *_sheets(out, pictures)]


def _states(window: Window, runs: Path, run_dir: Path | None, out: Path) -> list[Path]:
    pictures = shoot_home(window, runs / "home", out)
    window.home.folder = runs
    finished = run_dir or recorded_run(runs / "demo", demo_plan()).path
    window.state.open(finished)
    for look in _looks(window):
        pictures += [_picture(window, out, page, "done", *look) for page in PAGES[1:]]
    pictures += _train_views(window, out)
    window.state.create(runs / "ritual 儀式", demo_plan())
    for look in _looks(window):
        pictures += [_picture(window, out, page, "ready", *look) for page in PAGES[1:]]
    _train_halfway(window)
    pictures += [_picture(window, out, "train", "running", *look) for look in _looks(window)]
    failed = events.StepFailed(
        "",
        "",
        "",
        "The dataset {source} is empty.",
        "Choose one that holds at least a few samples.",
        {"source": "x.jsonl"},
    )
    window.state.receive(stamped(events.StepFailed("", ""), "train"))
    window.state.receive(stamped(events.StepStarted(), "prepare"))
    window.state.receive(stamped(failed, "prepare"))
    window.state.end()
    window.log.show()
    pictures += [_picture(window, out, "prepare", "failed", *look) for look in _looks(window)]
    window.log.hide()
    pictures += study_pictures(window, runs, out, _looks(window), _picture)
    pictures += state_pictures(window, runs, out, _looks(window), _picture)
    return [*pictures, *screenshots_cockpit.shoot(window, runs, out)]


def _train_views(window: Window, out: Path) -> list[Path]:
    """Of the finished training: result and settings; then its comparison, as if it ran now."""
    page, run = window.step_page("train"), window.state.run
    assert isinstance(page, TrainPage) and run is not None
    found: list[Path] = []
    control = run.step_folder("train") / "control.json"
    own = control.read_bytes() if control.is_file() else None
    for state, row in (("result", None), ("compared", control_row()), ("observed", OBSERVED)):
        if row:
            write_json(control, row)
            window.state.refresh()
        page.tabs.show_view(RESULT)
        found += [_picture(window, out, "train", state, *look) for look in _looks(window)]
    control.unlink()
    if own is not None:  # the run may be somebody's own
        control.write_bytes(own)
    window.state.refresh()
    page.tabs.show_view(SETTINGS)
    for form in page.findChildren(Form):
        form.fold.setChecked(True)
    area = page.tabs.stack.currentWidget()
    assert isinstance(area, QScrollArea)
    for part in range(4):
        area.verticalScrollBar().setValue(area.verticalScrollBar().maximum() * part // 3)
        found += [_picture(window, out, "train", f"settings{part}", *look) for look in _looks(window)]
    window.state.begin()
    end = recorded_events("train")[-1].at
    for event in [*control_events(52), stamped(DIVERGED, "train")]:
        window.state.receive(replace(event, at=end))
    found += [_picture(window, out, "train", "controls", *look) for look in _looks(window)]
    window.state.end()
    return found


def _looks(window: Window) -> list[tuple[str, str]]:
    return [(language, theme) for language in LANGUAGES for theme in THEMES]


def _picture(window: Window, out: Path, page: str, state: str, language: str, theme: str) -> Path:
    if window.language.current != language:
        window._use_language(language)
    if window.appearance.theme.name != theme:
        window._use_theme(theme)
    window.show_page(page)
    window.strip.show_reading(hardware.reading(out))
    screenshots_cockpit.settle(window, SETTLING_SECONDS)
    path = out / f"{page}-{state}-{language}-{theme}.png"
    return snap(window, path)


def _train_halfway(window: Window) -> None:
    """The recorded training, up to its fiftieth step, as if it ran now."""
    window.state.begin()
    window.show_page("train")
    for event in recorded_events("train"):
        window.state.receive(event)
        if isinstance(event, events.Progress) and event.unit == "steps" and event.done == 50:
            return


def _sheets(out: Path, pictures: list[Path]) -> list[Path]:
    """One contact sheet for each language and theme."""
    sheets = []
    for language in LANGUAGES:
        for theme in THEMES:
            chosen = [path for path in pictures if path.stem.endswith(f"-{language}-{theme}")]
            height = SHEET_WIDTH * SIZE.height() // SIZE.width()
            rows = -(-len(chosen) // SHEET_COLUMNS)
            sheet = QImage(SHEET_WIDTH * SHEET_COLUMNS, height * rows, QImage.Format.Format_RGB32)
            sheet.fill(Qt.GlobalColor.gray)
            painter = QPainter(sheet)
            for place, path in enumerate(chosen):
                image = QImage(str(path)).scaled(
                    SHEET_WIDTH, height, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
                )
                painter.drawImage(place % SHEET_COLUMNS * SHEET_WIDTH, place // SHEET_COLUMNS * height, image)
            painter.end()
            path = out / f"sheet-{language}-{theme}.png"
            sheet.save(str(path))
            sheets.append(path)
    return sheets


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("run_dir", type=Path, nargs="?")
    parser.add_argument("--small", action="store_true", help="the smallest window")
    options = parser.parse_args()
    pictures = shoot(options.out, options.run_dir, QSize(*SMALLEST) if options.small else SIZE)
    sys.stdout.write(f"{len(pictures)} pictures in {options.out}\n")
    sys.exit(verdict(options.out))


if __name__ == "__main__":
    main()
