"""Which Python runs the child: this one, or for the frozen window the one of the engine's own environment."""

import os
import sys
from pathlib import Path

import pytest

from aegis_core import __version__
from aegis_core.command_line import new_command
from aegis_core.engine.command import engine_command, engine_environment, engine_python, typed
from aegis_core.engine.place import Marker, Place
from aegis_core.engine.terminal import main as terminal
from aegis_core.failures import UserError
from aegis_core.plan import Plan

PYTHON = sys.executable
WHOLE = Marker(version=__version__, lock_sha256="1" * 64, torch="2.13.0+cpu", build="cpu", python="3.11.7")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """A fake frozen window without an engine; the place where its engine would be."""
    folder = tmp_path / "利用者 の" / "engine"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "aegis.exe"))
    monkeypatch.setenv("AEGIS_ENGINE", str(folder))
    return Place(folder)


def make(place: Place, marker: Marker | None = WHOLE) -> None:
    place.python.parent.mkdir(parents=True)
    place.python.write_text("", encoding="utf-8")
    if marker is not None:
        place.write_marker(marker)


def test_a_program_that_is_not_frozen_runs_the_engine_in_its_own_python() -> None:
    assert engine_command("status", Path("run 日本語")) == [sys.executable, "-m", "aegis_core", "status", "run 日本語"]


def test_the_fake_frozen_window_runs_the_engine_in_its_environment_and_never_itself(frozen: Place) -> None:
    make(frozen)
    assert engine_python() == frozen.python
    assert sys.executable not in engine_command("status", "run")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda place: None, "is not set up yet"),
        (lambda place: make(place, None), "not completely set up"),
        (lambda place: (make(place), place.python.unlink()), "its Python is missing"),
        (lambda place: (make(place), place.marker_path.write_text("{", encoding="utf-8")), "not completely set up"),
        (lambda place: make(place, Marker("0.0.9", "1" * 64, "2.13.0", "cpu", "3.11.7")), "of version 0.0.9"),
    ],
    ids=["absent", "half", "no Python", "damaged marker", "older"],
)
def test_the_fake_frozen_window_says_what_is_wrong_with_its_engine(frozen: Place, damage, said: str) -> None:
    damage(frozen)
    with pytest.raises(UserError, match=said) as refused:
        engine_command("status", "run")
    assert "Set up the engine" in refused.value.advice


def test_the_fake_frozen_window_passes_none_of_its_own_libraries_and_none_of_the_users_on(
    frozen: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(frozen)
    for name in ("PYTHONPATH", "PYTHONHOME", "_PYI_ARCHIVE_FILE", "CONDA_PREFIX", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "/opt/other")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/usr/lib/cuda")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    environment = engine_environment({"MORE": "1"})
    assert "/opt/other" not in environment.values()
    assert environment["LD_LIBRARY_PATH"] == "/usr/lib/cuda"
    assert (environment["PYTHONUTF8"], environment["PYTHONNOUSERSITE"], environment["MORE"]) == ("1", "1", "1")
    assert environment["HTTPS_PROXY"] == "http://127.0.0.1:1"


def test_the_fake_frozen_window_hands_on_no_folder_of_its_own_and_says_what_is_typed(
    frozen: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(frozen)
    own = tmp_path / "AEGIS 窓" / "_internal"
    monkeypatch.setattr(sys, "_MEIPASS", str(own), raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join([str(own / "PySide6"), "/usr/bin", str(own)]))
    environment = engine_environment()
    assert environment["PATH"] == "/usr/bin"
    assert environment["AEGIS_PROGRAM"] == typed()


def test_a_program_that_is_not_frozen_keeps_the_users_paths_behind_its_own_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/opt/mine")
    first, *rest = engine_environment()["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "aegis_core" / "child.py").is_file() and rest == ["/opt/mine"]


def test_the_terminal_beside_the_fake_frozen_window_hands_commands_to_the_engine(
    frozen: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert terminal(["status", "run"]) == 1
    assert "is not set up yet" in capfd.readouterr().err
    program = [PYTHON, "-c", "import sys; print(sys.argv[1:]); raise SystemExit(7)"]
    monkeypatch.setattr("aegis_core.engine.terminal.engine_command", lambda *words: [*program, *words])
    assert terminal(["status", "run 日本語"]) == 7
    assert "['status', 'run 日本語']" in capfd.readouterr().out


def test_the_terminal_beside_the_fake_frozen_window_sets_the_engine_up_itself(
    frozen: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    assert terminal(["engine", "status"]) == 1
    assert "The engine is not set up" in capfd.readouterr().out


def test_commands_to_copy_name_a_program_that_the_fake_frozen_windows_person_has(
    frozen: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed() == str(frozen.python.with_name("aegis")), "the engine's own, where nothing lies beside the window"
    beside = Path(sys.executable).with_name("aegis")
    beside.write_text("#!/bin/sh\n", encoding="utf-8")
    assert typed() == str(beside)
    monkeypatch.setenv("AEGIS_ENGINE", "")
    assert new_command(Path("run"), Plan(), "sh").startswith(f"{beside} new run")


@pytest.mark.parametrize("word", ["it''s", "with 空白"])
def test_powershell_runs_a_program_in_quotes(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr("aegis_core.command_line.typed", lambda: f"C:\\Users\\{word}\\aegis.exe")
    assert new_command(Path("run"), Plan(), "powershell").startswith("& 'C:\\Users\\")
    monkeypatch.setattr("aegis_core.command_line.typed", lambda: "C:\\Users\\taro\\aegis.exe")
    assert new_command(Path("run"), Plan(), "powershell").startswith("C:\\Users\\taro\\aegis.exe new run")
