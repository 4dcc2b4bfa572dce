"""The window walks through a run by itself, by its own buttons, and writes down what happened.

For the test of a frozen window, which no test program can reach into. It shows every page, sheet, language and theme on
the way, so that whatever is imported only then is imported once.
"""

import sys
import time
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from PySide6.QtCore import QObject, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QLabel

from aegis_core import __version__, platforms
from aegis_core.run_directory import write_json

from .flow import HOME, PAGES, Status
from .i18n import LANGUAGES
from .window import Window

_SETTLING_MILLISECONDS = 50
_TO_PRESS = (Status.READY, Status.STALE, Status.CANCELLED)


class Rehearsal(QObject):
    """Presses the primary button until the last step is done or one does not end well; then the program ends.

    `account` gets the steps with their seconds, the pages shown, and `failure`, empty if all went well; the exit code
    of the program is 0 then and 1 otherwise.
    """

    def __init__(self, window: Window, account: Path) -> None:
        super().__init__(window)
        self._window, self._account = window, account
        self._steps: list[dict[str, Any]] = []
        self._step, self._began = "", 0.0
        self._shown: list[str] = []

    def begin(self) -> None:
        self._window.runner.ended.connect(self._later)
        self._later()

    def _later(self) -> None:
        """Once the window has taken in what happened."""
        QTimer.singleShot(_SETTLING_MILLISECONDS, self, self._go_on)

    def _go_on(self) -> None:
        window = self._window
        status = window.state.status(window.page)
        if self._step:
            self._steps.append(
                {"step": self._step, "status": status.value, "seconds": round(time.monotonic() - self._began, 2)}
            )
            self._step = ""
        if window.page == PAGES[-1] and status is Status.DONE:
            self._look_around()
            self._end("")
        elif window.page == HOME and window.state.run is None:
            self._end("no run is open: " + self._said())
        elif window.page == HOME or status in (Status.DONE, Status.DISABLED):
            self._press_onward()
        elif status in _TO_PRESS:
            self._press_to_run()
        else:
            self._end(f"{window.page} is {status.value}: {self._said()}")

    def _press_onward(self) -> None:
        before = self._window.page
        self._window.footer.primary.click()
        if self._window.page == before:
            self._end(f"nothing leads on from {before}: {self._said()}")
        else:
            self._later()

    def _press_to_run(self) -> None:
        self._step, self._began = self._window.page, time.monotonic()
        self._window.footer.primary.click()
        if not self._window.runner.running:
            self._end(f"{self._step} did not start: {self._said()}")

    def _look_around(self) -> None:
        """Everything that can be shown of a finished run without an engine."""
        window = self._window
        for language in LANGUAGES:
            for theme in ("light", "dark"):
                window.language.use(language)
                window.appearance.use(theme)
                for page in PAGES:
                    window.show_page(page)
                    window.grab()
                    self._shown.append(f"{page} {language} {theme}")
        window.sheets.show_help()
        window.sheets.show_settings()
        window.toggle_log()
        window.grab()
        QApplication.processEvents()

    def _said(self) -> str:
        """What stands on screen: the only words there are about a failure."""
        labels = self._window.findChildren(QLabel)
        return " | ".join(label.text() for label in labels if label.isVisible() and label.text())[-2000:]

    def _end(self, failure: str) -> None:
        broken = _modules_that_do_not_load()
        failure = failure or "; ".join(f"{name}: {why}" for name, why in broken.items())
        account = {
            "version": __version__,
            "frozen": bool(vars(sys).get("frozen")),
            "platform": QGuiApplication.platformName(),
            "steps": self._steps,
            "shown": self._shown,
            "packages": sorted({name.partition(".")[0] for name in sys.modules}),
            "failure": failure,
        }
        write_json(self._account, account)
        self._window.close()
        QApplication.exit(1 if failure else 0)


def _modules_that_do_not_load() -> dict[str, str]:
    """Every module of the window, but those of another system, with why it cannot be imported."""
    package = __package__ or "aegis_gui"
    found: dict[str, str] = {}
    for name in _names_below(package):
        ours = (".linux_" if platforms.here().name == "win32" else ".windows_") not in name
        if ours and not name.endswith("__main__"):
            try:
                import_module(name)
            except ImportError as error:
                found[name] = str(error)
    return found


def _names_below(package: str) -> list[str]:
    found = []
    for module in iter_modules(import_module(package).__path__, package + "."):
        found.append(module.name)
        if module.ispkg:
            found += _names_below(module.name)
    return found
