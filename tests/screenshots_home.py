"""`python -m tests.screenshots_home OUT`: the first page in all its states, both languages and both themes, as PNG.

QT_SCALE_FACTOR=2 and --size 1100x720 show it otherwise. `tests.screenshots` takes the same pictures among its own.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

from album import snap
from gui_parts import open_window
from home_runs import age, finished, several
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication, QWidget

from aegis_core import hardware
from aegis_core.plan import demo_plan
from aegis_core.presets import preset_folder, save_preset
from aegis_core.run_directory import RunDirectory
from aegis_gui.flow import HOME
from aegis_gui.home.card import Act
from aegis_gui.home.discard import confirmation
from aegis_gui.i18n import LANGUAGES
from aegis_gui.theme import THEMES
from aegis_gui.window import Window

LONG = "とても長い名前の実験：黄金比へ向かうアルファの焼きなましと回転の学習率を変えた比較のための三回目の実行"
SETTLING_SECONDS = 0.3

State = tuple[str, Callable[[Window], QWidget]]
"""Name of the picture, and what brings the window there and says what is to be taken."""


def shoot_home(window: Window, folder: Path, out: Path) -> list[Path]:
    """Every state of the first page of this window; `folder` is an empty folder for runs."""
    window.home.folder = folder
    pictures = _take(window, out, ("welcome", _welcome))
    pictures += _take(window, out, ("empty", _list))
    runs = several(folder)
    pictures += _take(window, out, ("runs", _list))
    window.state.open(runs[1].path)
    pictures += _take(window, out, ("open", _list))
    window.state.close()
    pictures += _take(window, out, ("focus", _focus))
    pictures += _take(window, out, ("duplicate", lambda w: _unfold(w, runs[1], Act.DUPLICATE)))
    pictures += _take(window, out, ("preset", lambda w: _unfold(w, runs[2], Act.SAVE_PRESET)))
    pictures += _take(window, out, ("command", lambda w: _unfold(w, runs[2], Act.SHOW_COMMAND)))
    finished(folder / LONG, {"train.steps": 81, "soul.schedule.kind": "cosine"}, 0.062)
    pictures += _take(window, out, ("compared", lambda w: _compare(w, runs, folder)))
    pictures += _take(window, out, ("delete", lambda w: _ask(w, runs[1])))
    pictures += _take(window, out, ("refused", _refused))
    for number in range(30):
        age(RunDirectory.create(folder / f"sweep-{number:03}", demo_plan()), 40 * 86400 + number)
    pictures += _take(window, out, ("many", _list))
    pictures += _take(window, out, ("searched", _search))
    pictures += _take(window, out, ("help", _help))
    return pictures


def _take(window: Window, out: Path, state: State) -> list[Path]:
    """The state in both languages and themes."""
    made = []
    name, reach = state
    for language in LANGUAGES:
        for theme in THEMES:
            if window.language.current != language:
                window._use_language(language)
            if window.appearance.theme.name != theme:
                window._use_theme(theme)
            QApplication.processEvents()  # so that the switch is over before something is unfolded
            window.show_page(HOME)
            window.home.show_runs()
            window.home.shelf.search.clear()
            target = reach(window)
            window.strip.show_reading(hardware.reading(out))
            _settle(window)
            path = out / f"home-{name}-{language}-{theme}.png"
            snap(target, path)
            if target is not window:
                target.close()
            made.append(path)
    return made


def _welcome(window: Window) -> QWidget:
    window.home.show_welcome()
    return window


def _list(window: Window) -> QWidget:
    window.home.refresh()
    window.setFocus()
    return window


def _focus(window: Window) -> QWidget:
    window.home.refresh()
    list(window.home.shelf.list.rows.values())[1].setFocus()
    return window


def _unfold(window: Window, run: RunDirectory, act: Act) -> QWidget:
    window.home.refresh()
    shelf = window.home.shelf
    shelf.do(shelf.list.rows[run.path.resolve()], act)
    return window


def _compare(window: Window, runs: list[RunDirectory], folder: Path) -> QWidget:
    window.home.compare([runs[1].path, runs[2].path, folder / LONG])
    return window


def _ask(window: Window, run: RunDirectory) -> QWidget:
    from aegis_core.removal import Removal

    box = confirmation(Removal(run.path, 1_340_000_000, (Path("/mnt/gguf/demo-2026-11-25"),)), window)
    box.show()
    return box


def _refused(window: Window) -> QWidget:
    preset_folder().mkdir(parents=True, exist_ok=True)
    (preset_folder() / "夜間.json").write_text("{", encoding="utf-8")
    if not (preset_folder() / "rank 32.json").exists():
        save_preset("rank 32", demo_plan())
    window.home.refresh()
    window.home.begin.show_presets("rank 32")
    window.home.begin.name.setText("a/b")
    window.home.begin.create_button.click()
    window.home.begin.name.setModified(False)
    return window


def _search(window: Window) -> QWidget:
    window.home.begin.show_problem(None)
    window.home.refresh()
    window.home.shelf.search.setText("demo rank")
    return window


def _help(window: Window) -> QWidget:
    window.sheets.show_help()
    assert window.sheets.help is not None
    return window.sheets.help


def _settle(window: Window) -> None:
    """Until every card is read and laid out."""
    until = time.monotonic() + SETTLING_SECONDS
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.02)
        if window.home.shelf.list.reading:
            until = time.monotonic() + SETTLING_SECONDS


@contextmanager
def _own_places() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        places = {"AEGIS_PREFERENCES": "window.ini", "AEGIS_RUNS": "AEGIS", "AEGIS_DATA": "data"}
        os.environ.update({name: str(Path(scratch) / place) for name, place in places.items()})
        yield Path(scratch) / "AEGIS"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots_home", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="1280x800")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    app = QApplication(sys.argv[:1])
    width, height = map(int, options.size.split("x"))
    with _own_places() as runs, open_window(app) as window:
        window.machine.shut_down()
        window.resize(QSize(width, height))
        sys.stdout.write(f"{len(shoot_home(window, runs, options.out))} pictures in {options.out}\n")


if __name__ == "__main__":
    main()
