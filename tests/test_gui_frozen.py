"""What the window does for its frozen form: no streams, an installer that asks, licences, a walk by itself."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ctypes import c_void_p
from pathlib import Path

import pytest
from gui_parts import open_window, recorded_run
from PySide6.QtCore import QCoreApplication, QEvent, QTimer, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QApplication

from aegis_gui import help_sheet, output
from aegis_gui.desktop.windows_presence import NAME, NamedMutex
from aegis_gui.help_sheet import HelpSheet
from aegis_gui.output import give_streams
from aegis_gui.rehearsal import Rehearsal

ROOT = Path(__file__).parent.parent
NO_STREAMS = """
import sys
sys.stdin = sys.stdout = sys.stderr = sys.__stdin__ = sys.__stdout__ = sys.__stderr__ = None  # as on Windows
import logging, warnings
from aegis_gui import app
def opened(window, path, demo):
    print("printed 印刷")
    warnings.warn("warned")
    logging.getLogger("x").error("logged")
    from PySide6.QtCore import QTimer, qWarning
    qWarning("from Qt")
    QTimer.singleShot(0, lambda: 1 / 0)
    QTimer.singleShot(200, window.close)
    QTimer.singleShot(300, app.QApplication.quit)
app.open_first = opened
sys.exit(app.main([]))
"""


def around(folder: Path) -> dict[str, str]:
    own = {"AEGIS_PREFERENCES": "window.ini", "AEGIS_RUNS": "runs", "AEGIS_CACHE": "cache", "AEGIS_DATA": "data"}
    places = {name: str(folder / place) for name, place in own.items()}
    return {**os.environ, **places, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(ROOT)}


def test_a_window_with_fake_missing_streams_prints_warns_and_fails_into_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_STREAMS], env=around(tmp_path), cwd=tmp_path, check=False, timeout=120
    )
    assert done.returncode == 0
    printed = (tmp_path / "cache" / "window-output.log").read_text(encoding="utf-8")
    assert "printed 印刷" in printed and "warned" in printed and "logged" in printed
    assert "ZeroDivisionError" in (tmp_path / "cache" / "window.log").read_text(encoding="utf-8")


def test_streams_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    assert give_streams(tmp_path / "log") is None and not (tmp_path / "log").exists()


def test_a_long_file_of_words_begins_anew_and_one_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(output, "_KEPT_BYTES", 10)
    path = tmp_path / "log"
    path.write_text("old words, many of them", encoding="utf-8")
    stream = give_streams(path)
    assert stream is not None
    print("new", file=stream)
    stream.close()
    assert path.read_text(encoding="utf-8") == "new\n"
    monkeypatch.setattr(sys, "stdout", None)
    nowhere = give_streams(tmp_path / "log" / "below a file")
    assert nowhere is not None
    print("lost", file=nowhere)
    nowhere.close()


class FakeKernel32:
    """Remembers which mutexes are there."""

    class _Function:
        def __init__(self, do: object) -> None:
            self.do, self.restype, self.argtypes = do, None, ()

        def __call__(self, *arguments: object) -> object:
            return self.do(*arguments)  # type: ignore[operator]

    def __init__(self) -> None:
        self.held: dict[int, object] = {}
        self.CreateMutexW = self._Function(self._create)
        self.CloseHandle = self._Function(lambda handle: self.held.pop(handle))

    def _create(self, security: object, owned: bool, name: str) -> int:
        self.held[7] = name
        return 7


def test_the_installer_sees_the_window_by_a_mutex_until_it_has_closed() -> None:
    kernel = FakeKernel32()
    mutex = NamedMutex(kernel)
    assert list(kernel.held.values()) == [NAME]
    assert kernel.CreateMutexW.restype is c_void_p, "a handle has 64 bits"
    mutex.withdraw()
    mutex.withdraw()
    assert not kernel.held


def test_help_opens_the_notices_where_the_installer_put_them(
    qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HelpSheet().licences.isHidden(), "a checkout has none"
    notices = tmp_path / "THIRD-PARTY-NOTICES.txt"
    notices.write_text("x", encoding="utf-8")
    monkeypatch.setattr(help_sheet, "is_frozen", lambda: True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "aegis-window"))
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    sheet = HelpSheet()
    assert not sheet.licences.isHidden()
    sheet.licences.click()
    assert [Path(url.toLocalFile()) for url in opened] == [notices]
    assert "Apache License 2.0" in sheet.about.text()


@pytest.fixture
def lasting(qapp: QApplication) -> Iterator[QApplication]:
    """The application of all tests: that the last window closed must not end the loops of those that come later."""
    qapp.setQuitOnLastWindowClosed(False)
    yield qapp
    QCoreApplication.removePostedEvents(qapp, QEvent.Type.Quit)
    qapp.setQuitOnLastWindowClosed(True)
    QTimer.singleShot(0, qapp.quit)
    qapp.exec()  # only a new beginning makes Qt forget that it was told to quit


def test_a_rehearsal_of_a_finished_run_shows_everything_and_ends_well(
    lasting: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    run = recorded_run(tmp_path / "run 儀式")
    with open_window(lasting) as window:
        window.state.open(run.path)
        window.home.opened.emit()
        Rehearsal(window, tmp_path / "account.json").begin()
        code = lasting.exec()
    account = json.loads((tmp_path / "account.json").read_text(encoding="utf-8"))
    assert (code, account["failure"]) == (0, "")
    assert account["steps"] == [] and "train ja dark" in account["shown"]


def test_a_rehearsal_without_a_run_says_so_and_ends_badly(
    lasting: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    with open_window(lasting) as window:
        Rehearsal(window, tmp_path / "account.json").begin()
        code = lasting.exec()
    assert code == 1
    assert "no run is open" in json.loads((tmp_path / "account.json").read_text(encoding="utf-8"))["failure"]
