"""What AEGIS asks of the desktop: the Windows parts against fakes of Windows, the Linux part with a real process."""

import array
import ctypes
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from aegis_gui.desktop import Bar, Indifferent, this_desktop, tone
from aegis_gui.desktop.linux_awake import SleepInhibitor
from aegis_gui.desktop.windows_awake import ExecutionState
from aegis_gui.desktop.windows_taskbar import TASKBAR_LIST, TASKBAR_LIST_3, TaskbarButton


class FakeKernel32:
    """SetThreadExecutionState, a C function as ctypes sees it."""

    def __init__(self) -> None:
        self.states: list[int] = []

        @ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)
        def set_state(state: int) -> int:
            self.states.append(state)
            return 0x80000000

        self.SetThreadExecutionState = set_state


def test_on_a_fake_windows_the_system_is_needed_while_held_and_not_afterwards() -> None:
    kernel32 = FakeKernel32()
    awake = ExecutionState(kernel32)
    awake.hold()
    awake.release()
    continuous, system_required, display_required = 0x80000000, 0x1, 0x2
    assert kernel32.states == [continuous | system_required, continuous]
    assert not kernel32.states[0] & display_required  # the screen may go dark


class FakeTaskbarList:
    """An object as COM lays it out: a pointer to a table of functions, each taking the object first."""

    def __init__(self, answer: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.asked: list[tuple[bytes, bytes]] = []
        self._answer = answer
        pointer, number = ctypes.c_void_p, ctypes.c_uint64
        methods: dict[int, tuple[str, tuple[Any, ...]]] = {
            3: ("HrInit", ()),
            9: ("SetProgressValue", (pointer, number, number)),
            10: ("SetProgressState", (pointer, ctypes.c_int)),
        }
        self._kept = [self._method(*methods.get(place, ("another method", ()))) for place in range(21)]
        self._table = (ctypes.c_void_p * 21)(*(ctypes.cast(method, ctypes.c_void_p) for method in self._kept))
        self._object = ctypes.c_void_p(ctypes.addressof(self._table))

    def _method(self, name: str, kinds: tuple[Any, ...]) -> Any:
        def called(this: int, *arguments: int) -> int:
            assert this == ctypes.addressof(self._object)
            self.calls.append((name, *arguments))
            return 0

        return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, *kinds)(called)

    def CoCreateInstance(self, kind: Any, outer: None, context: int, interface: Any, out: Any) -> int:
        self.asked.append((bytes(kind._obj), bytes(interface._obj)))
        if self._answer == 0:
            out._obj.value = ctypes.addressof(self._object)
        return self._answer


def test_on_a_fake_windows_the_taskbar_button_shows_how_far_a_step_is_and_how_it_ended() -> None:
    com = FakeTaskbarList()
    button = TaskbarButton(com)
    button.show(0x1234, Bar.NORMAL, 0.4621)
    button.show(0x1234, Bar.UNKNOWN, 0.0)
    button.show(0x1234, Bar.FAILED, 7.0)
    button.show(0x1234, Bar.NONE, 0.0)
    assert com.asked == [(bytes(TASKBAR_LIST), bytes(TASKBAR_LIST_3))]
    assert com.calls == [
        ("HrInit",),
        ("SetProgressValue", 0x1234, 462, 1000), ("SetProgressState", 0x1234, 2),
        ("SetProgressState", 0x1234, 1),
        ("SetProgressValue", 0x1234, 1000, 1000), ("SetProgressState", 0x1234, 4),
        ("SetProgressState", 0x1234, 0),
    ]  # fmt: skip
    assert bytes(TASKBAR_LIST).hex() == "44f3fd566dfdd011958a006097c9a090"
    assert bytes(TASKBAR_LIST_3).hex() == "91fb1aea289e864b90e99e9f8a5eefaf"


def test_a_fake_windows_without_such_an_object_is_asked_once_and_left_alone() -> None:
    com = FakeTaskbarList(answer=-2147221164)  # REGDB_E_CLASSNOTREG
    button = TaskbarButton(com)
    button.show(1, Bar.NORMAL, 0.5)
    button.show(1, Bar.NORMAL, 0.6)
    assert len(com.asked) == 1 and not com.calls


@pytest.fixture
def fake_systemd_inhibit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that, like the real one, holds its lock as long as the command it runs."""
    script = tmp_path / "bin" / "systemd-inhibit"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\necho "$@" > "{tmp_path}/asked"\nwhile [ "${{1#--}}" != "$1" ]; do shift; done\n"$@"\n'
        f'echo released > "{tmp_path}/released"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def wait_for(true: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="logind is Linux's")
def test_with_a_fake_systemd_inhibit_the_hold_ends_with_the_run(fake_systemd_inhibit: Path) -> None:
    awake = SleepInhibitor()
    awake.hold()
    awake.hold()
    wait_for((fake_systemd_inhibit / "asked").exists)
    assert len(psutil.Process().children()) == 1
    assert not (fake_systemd_inhibit / "released").exists()
    awake.release()
    awake.release()
    assert (fake_systemd_inhibit / "released").exists()
    asked = (fake_systemd_inhibit / "asked").read_text(encoding="utf-8")
    assert "--what=sleep:idle" in asked and "--who=AEGIS" in asked


@pytest.mark.skipif(sys.platform != "linux", reason="logind is Linux's")
def test_with_a_fake_systemd_inhibit_a_window_that_is_killed_holds_nothing_any_more(fake_systemd_inhibit: Path) -> None:
    script = (
        "from aegis_gui.desktop.linux_awake import SleepInhibitor; import time\n"
        "awake = SleepInhibitor(); awake.hold(); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script])
    wait_for((fake_systemd_inhibit / "asked").exists)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    wait_for((fake_systemd_inhibit / "released").exists)


def test_a_system_without_an_inhibitor_is_none_the_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    awake = SleepInhibitor()
    awake.hold()
    awake.release()


def test_windows_parts_are_not_even_imported_elsewhere() -> None:
    script = (
        "import sys; from aegis_gui.desktop import this_desktop; this_desktop()\n"
        "sys.exit(str([m for m in sys.modules if '.windows_' in m and 'desktop' in m] or '') or 0)"
    )
    if sys.platform != "win32":
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
        assert isinstance(this_desktop().taskbar, Indifferent)


def test_the_tone_that_travels_along_is_the_one_the_module_makes(tmp_path: Path) -> None:
    tone.write(tmp_path / "again.wav")
    shipped, made = (_samples(path) for path in (tone.DONE, tmp_path / "again.wav"))
    assert len(shipped) == len(made)
    assert max(abs(a - b) for a, b in zip(shipped, made, strict=True)) <= 1  # sines differ in the last place
    assert 4_000 < max(shipped) < 12_000, "neither silent nor loud"
    assert abs(shipped[0]) < 100 and abs(shipped[-1]) < 100, "no click at either end"
    assert tone.DONE.stat().st_size < 64_000


def _samples(path: Path) -> "array.array[int]":
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, tone.RATE)
        return array.array("h", file.readframes(file.getnframes()))
