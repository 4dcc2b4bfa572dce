"""Opens the window: `aegis-gui [RUN_DIR] [--demo]`."""

import argparse
import sys
import threading
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QApplication

from aegis_core import __version__
from aegis_core.failures import UserError
from aegis_core.plan import demo_plan
from aegis_core.resources import cache_folder, runs_folder
from aegis_core.run_directory import RunDirectory

from .desktop import Desktop, announced, this_desktop
from .doorbell import door_of_the_tray, ring
from .i18n import Language, in_window_language
from .output import give_streams
from .preferences import Preferences
from .rehearsal import Rehearsal
from .standing import Kind
from .theme import Appearance
from .tray import picture
from .window import Window, warm_up


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the window until it is closed; returns the exit code."""
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    give_streams(cache_folder() / "window-output.log")
    presence = announced()
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    if options.run_dir is None and ring(door_of_the_tray()):
        return 0  # the window that waits in the tray has come to the front
    window = build(app)
    mishaps = Mishaps(window)
    app.commitDataRequest.connect(window.farewell.end_with_session)
    sys.excepthook, threading.excepthook = mishaps.on_error, mishaps.on_thread_error
    window.show()
    open_first(window, options.run_dir, options.demo)
    if window.engine and window.engine.needed:
        window.sheets.show_engine()
    warm_up(window)
    rehearsal = Rehearsal(window, options.rehearse) if options.rehearse else None
    if rehearsal:
        rehearsal.begin()
    code = app.exec()
    window.shut_down()
    presence.withdraw()
    return code


def build(app: QApplication, desktop: Desktop | None = None) -> Window:
    """The window with the language and theme of last time, not shown yet; `desktop` is this one unless given."""
    app.setApplicationName("AEGIS")
    app.setApplicationVersion(__version__)
    app.setWindowIcon(picture(Kind.IDLE))
    preferences = Preferences()
    language, appearance = Language(app), Appearance(app)
    language.use(preferences.language)
    appearance.use(preferences.theme)
    return Window(language, appearance, preferences, desktop or this_desktop())


def open_first(window: Window, path: Path | None, demo: bool) -> None:
    """Open the run that was asked for; with `demo` it is made if it is not there yet.

    At the first start the demo without a folder waits for the welcome, which offers it.
    """
    if path is None and demo and not window.home.welcoming:  # a person here for the first time chooses it there
        path = runs_folder() / "demo"
    if path is None:
        return
    try:
        if demo and not RunDirectory(path).plan_path.exists():
            RunDirectory.create(path, in_window_language(demo_plan()))
        window.state.open(path)
    except UserError as error:
        window.tell(error)
        return
    except OSError as error:
        window.tell(
            UserError("The folder cannot be written: {problem}.", "Choose another one.", problem=error.strerror)
        )
        return
    window.preferences.note_recent(window.state.run.path if window.state.run else path)
    window.home.opened.emit()


class Mishaps(QObject):
    """An error nobody expected becomes one sentence in the window; its traceback goes to a file."""

    happened = Signal(object)

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self.happened.connect(window.tell)
        self.path = cache_folder() / "window.log"

    def on_error(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, UserError):
            self.happened.emit(error)
            return
        text = "".join(traceback.format_exception(kind, error, trace))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now().isoformat(timespec='seconds')}\n{text}\n")
        except OSError:
            sys.__excepthook__(kind, error, trace)
        if issubclass(kind, KeyboardInterrupt):
            QApplication.quit()
            return
        self.happened.emit(
            UserError(
                "Something unexpected happened in the window: {kind}: {text}",
                "The details are in {path}; your run is not affected.",
                kind=kind.__name__,
                text=" ".join(str(error).split())[:300],
                path=self.path,
            )
        )

    def on_thread_error(self, thrown: threading.ExceptHookArgs) -> None:
        if thrown.exc_value is not None:
            self.on_error(thrown.exc_type, thrown.exc_value, thrown.exc_traceback)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aegis-gui", description="The window of AEGIS.")
    parser.add_argument("run_dir", nargs="?", type=Path, metavar="RUN_DIR", help="the run to open")
    parser.add_argument("--demo", action="store_true", help="open the demo; it is begun if it is not there yet")
    parser.add_argument(
        "--rehearse",
        type=Path,
        metavar="FILE",
        help="for tests: press the button of every step of RUN_DIR, write to FILE what happened, and close",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser.parse_args(arguments)
